"""The streamed schedule: few rows times a large matrix, which is read from memory once.

Each panel of lanes is packed just before it is used, into a buffer of the thread's own that stays
in the second cache, and each step of the tiles asks for a line of the panel that comes next: by the
time it is packed it has arrived. Measured on Zen 4 (64 rows, 768 × 3072, weights from memory): 105
GFLOP/s; packing all of the matrix first 80, reading it in place 90.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, LoopKernel, Phase, Prefetch, Store

from .access import is_plain, is_windowed, masked, stride
from .blocked import Axes, Draft, collide, prepare, remove_guards, sums_buffer
from .cost import Machine, choose_tile, grain, work
from .match import Contract, variables
from .micro import Block, Micro, Place, lane_kind
from .nest import Nest, cut

DEPTH = 768  # steps of k in a panel: with 48 lanes 147 KB, beside the lines of the next
CHUNKS = 32  # chunks that a long axis of lanes is divided into, at most
MOST_ROWS = 512  # beyond, packing the matrix once for all rows costs nothing


def streams(c: Contract, ax: Axes, mach: Machine) -> bool:
    """Whether the schedule applies: rows share a plain factor too large for the second cache."""
    e = _lane_factor(c, ax)
    used = variables(e)
    if ax.row is None or ax.row in used or c.limits or c.exists is not None or c.is_fixed(e):
        return False
    axes = [v for v in (*c.axes, *c.k) if v in used]
    if not (is_plain(e) or c.pairs) or stride(e, ax.lane) != 1 or not all(
            isinstance(v.attr.extent, int) for v in axes):
        return False
    if isinstance(ax.row.attr.extent, int) and work(
            *(v.attr.extent for v in c.axes if v not in used)) > MOST_ROWS:
        return False
    if not all(v in used for v in ax.outer) and (
            is_windowed(c.b if e is c.a else c.a) or work(ax.row.attr.extent) < 16):
        return False  # a convolution's rows are short: `nest` has panels for those
    nbytes = work(*(v.attr.extent for v in axes)) * e.dtype.size
    return nbytes >= mach.l2 // 2 and _depth(ax) > 0


def _lane_factor(c: Contract, ax: Axes) -> Expr:
    return c.a if ax.lane in variables(c.a) else c.b


def _depth(ax: Axes) -> int:
    """Steps of k in a panel; 0 where k cannot be divided."""
    total = dims.product(tuple(v.attr.extent for v in ax.k))
    assert isinstance(total, int)
    if total <= 2 * DEPTH:
        return total
    if len(ax.k) > 1:
        inner = total // ax.k[0].attr.extent
        return inner if 64 <= inner <= 2 * DEPTH else 0
    blocks = -(-total // DEPTH)
    return -(-total // (16 * blocks)) * 16


def streamed(c: Contract, ax: Axes, mach: Machine) -> LoopKernel:
    """The schedule, where `streams` says that it applies."""
    rows: Dim = 1 if ax.row is None else ax.row.attr.extent
    t = choose_tile(rows, ax.lane.attr.extent, mach.lanes(c.acc), mach, collide(c, ax.lane, ax.row),
                    deep=True)
    d = Draft(c, replace(ax, tile=t), mach, [], [], [])
    side = "a" if ax.lane in variables(c.b) else "b"
    remove_guards(d, side)
    prepare(d, side)
    body = _Streamed(d).phase()
    d.phases.append(Phase(body))
    note = f"contract {t.mr}x{t.nr}, streamed" + "".join(f", {x}" for x in d.notes)
    k = c.kernel
    return LoopKernel(k.name, k.inputs, k.outputs, tuple(d.scratch), tuple(d.phases), "cpu", note)


class _Streamed:
    """The main phase."""

    def __init__(self, d: Draft) -> None:
        self.d, self.t = d, d.ax.tile
        depth, total = _depth(d.ax), dims.product(tuple(v.attr.extent for v in d.ax.k))
        assert isinstance(total, int)
        self.kb = ex.var("kb", 1)
        self.blocks = 1
        if depth < total:
            self.blocks = self._block(depth)
        c, ax = d.c, d.ax
        self.e = _lane_factor(c, ax)
        used = variables(self.e)
        self.around = tuple(v for v in ax.outer if v in used)
        self.inside = tuple(v for v in ax.outer if v not in used)
        plain = c.acc.is_float and not c.casts and not c.pairs
        steps = tuple(v.attr.extent for v in ax.k if v in used)
        self.panel = Buffer("panel", c.acc if plain else self.e.dtype, (*steps, self.t.nr), "local")
        self.into = sums_buffer(d) if self.blocks > 1 else None

    def _block(self, depth: int) -> int:
        """Divides k, its blocks going around the rows; how many there are."""
        c, ax = self.d.c, self.d.ax
        first, *rest = ax.k
        extent: int = first.attr.extent
        if rest:
            self.kb = first
            self.d.ax = replace(ax, k=tuple(rest))
            self.d.c = replace(c, k=tuple(rest))
            return extent
        blocks = -(-extent // depth)
        self.kb, kk = ex.var(first.attr.name + "b", blocks), ex.var(first.attr.name, depth)
        env = {first: self.kb * depth + kk}
        left = ex.imin(depth, ex.index(extent) - self.kb * depth)
        limits = {kk: left} if extent % depth else {}
        self.d.c = replace(c, a=ex.substitute(c.a, env), b=ex.substitute(c.b, env), k=(kk,),
                           limits=limits)
        self.d.ax = replace(ax, k=(kk,))
        return blocks

    def phase(self) -> Block:
        """Chunks of panels; in each panel the blocks of k; in each block packing, then rows."""
        d, t = self.d, self.t
        ax = d.ax
        rows: Dim = 1 if ax.row is None else ax.row.attr.extent
        lanes = ax.lane.attr.extent
        once = 2.0 * t.nr * work(rows, *(v.attr.extent for v in (*self.inside, *ax.k)))
        count = -(-lanes // t.nr)
        group = max(grain(once * self.blocks, count), -(-count // CHUNKS))
        n = Nest(self.around, len(self.around), 1, cut(lanes, t.nr, group), cut(rows, t.mr), t)
        return n.phase(lambda s, lg, rg: (Alloc(self.panel, self._panels(s, lg)),))

    def _panels(self, s: Nest, group: Expr | None) -> Block:
        rest = s.lanes.rest
        assert isinstance(rest, int)
        nv = -(-rest // self.t.w)
        return s.lanes.loop("jt", group, lambda n: self._panel(s, n, self.t.nv, None),
                            lambda n: self._panel(s, n, nv, ex.index(rest)))

    def _panel(self, s: Nest, n: Expr, nv: int, lanes: Expr | None) -> Block:
        lane0, stop = n * self.t.nr, None if lanes is None else ex.index(s.lanes.extent)
        c, ax = self.d.c, self.d.ax
        at = *(v for v in ax.k if v in variables(self.e)), ax.lane - lane0
        read = self.panel[at]
        packed = c.with_factors(read, c.b) if self.e is c.a else c.with_factors(c.a, read)
        ahead = None if lanes is not None else self._ahead(s, n)
        m = Micro(packed, ax.row, ax.lane, ax.k, False, self.into, self.kb,
                  ex.index(self.blocks), ahead=ahead)

        def place(row0: Expr, rows: int, clamp: Expr | None) -> Block:
            return m.tile(Place(row0, rows, clamp, lane0, nv, self.t.w, lanes, stop))

        body = s.rows_of(None, place)
        for v in reversed(self.inside):
            body = (For(v, ex.index(v.attr.extent), "serial", body),)
        body = (*self._pack(lane0, nv, stop), *body)
        if self.blocks == 1:
            return body
        return (For(self.kb, ex.index(self.blocks), "serial", body),)

    def _pack(self, lane0: Expr, nv: int, stop: Expr | None) -> Block:
        w, ax, e = self.t.w, self.d.ax, self.e
        j, v = ex.var("j", w), ex.var("v", nv)
        col = v * w + j if nv > 1 else j
        if stop is not None:
            e = masked(e, ax.lane, ax.lane < stop)
        k = [u for u in ax.k if u in variables(e)]
        value = ex.cast(ex.substitute(e, {ax.lane: lane0 + col}), self.panel.dtype)
        body: Block = (Store(self.panel, (*k, col), value),)
        if nv > 1:
            body = (For(v, ex.index(nv), "unroll", body),)
        body = (For(j, ex.index(w), lane_kind(w), body, w),)
        for u in reversed(k):
            body = (For(u, self.d.c.count(u), "serial", body),)
        return body

    def _ahead(self, s: Nest, n: Expr) -> Callable[[Place], Block]:
        """At tile number q, asks for vectors q·each … of the step's row in the next panel."""
        tiles = work(s.rows.count, *(v.attr.extent for v in self.inside))
        each = -(-self.t.nv // max(1, int(tiles)))
        after = n * self.blocks + self.kb + 1 if self.blocks > 1 else n + 1
        env = {self.d.ax.lane: ex.floordiv(after, self.blocks) * self.t.nr}
        if self.blocks > 1:
            env[self.kb] = ex.mod(after, self.blocks)
        loads = [(b, [ex.substitute(i, env) for i in idx])
                 for b, idx, _ in map(ex.load_parts, ex.loads(self.e))]

        def lines(p: Place) -> Block:
            q: Expr = ex.index(0)
            for v in self.inside:
                q = q * v.attr.extent + v
            q = q * s.rows.count + ex.floordiv(p.row0, self.t.mr)
            q = ex.imin(q * each, ex.index(self.t.nv - each))
            return tuple(Prefetch(buf, (*at[:-1], at[-1] + (q + i) * self.t.w))
                         for buf, at in loads for i in range(each))

        return lines
