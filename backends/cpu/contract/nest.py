"""The loops around the micro-kernel: chunks, panels of lanes, tiles of rows, and their tails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import For, If, Stmt, map_stmts

from .access import size
from .cost import GRAIN, TAIL_ROWS, Tile, grain, work
from .micro import Block, Place

OnTile = Callable[[Place], Block]


@dataclass(frozen=True, eq=False)
class Cut:
    """An axis cut into `full` pieces of `step` and a `rest`; `group` pieces lie in one chunk."""

    extent: Dim
    step: int
    full: Dim
    rest: Dim
    group: Dim

    @property
    def count(self) -> Dim:
        """Pieces, the partial one too."""
        return dims.ceildiv(self.extent, self.step)

    @property
    def groups(self) -> Dim:
        """Groups of pieces."""
        return dims.ceildiv(self.count, self.group) if self.group != 0 else 1

    def loop(
        self, name: str, at: Expr | None, full: Callable[[Expr], Block],
        tail: Callable[[Expr], Block],
    ) -> Block:
        """full(n) for the whole pieces of group `at` (None: of all), then the tail, if any."""
        if at is None:
            n = ex.var(name, self.full)
            return (*_counted(n, ex.index(self.full), full(n)), *self._tail(tail))
        n = ex.var(name, self.group)
        count = ex.imin(self.group, ex.index(self.full) - at * self.group)
        out: list[Stmt] = list(_counted(n, count, full(at * self.group + n)))
        rest = self._tail(tail)
        if rest:
            here = ex.compare("eq", at, ex.index(dims.floordiv(self.full, self.group)))
            out.append(If(here, rest))
        return tuple(out)

    def _tail(self, tail: Callable[[Expr], Block]) -> Block:
        if self.rest == 0:
            return ()
        body = tail(ex.index(self.full))
        if isinstance(self.rest, int) or not body:
            return body
        return (If(ex.index(self.rest) > 0, body),)  # a panel that no lane has is not even read


def cut(extent: Dim, step: int, group: Dim = 0) -> Cut:
    """The axis cut into steps; group 0: not divided among chunks."""
    full = dims.floordiv(extent, step)
    rest = extent % step if isinstance(extent, int) else extent - full * step
    return Cut(extent, step, full, rest, group)


def _counted(n: Expr, count: Expr, body: Block) -> Block:
    known = ex.is_const_index(count)
    if known == 0 or not body:
        return ()
    return (For(n, count, "serial", body),)


@dataclass(frozen=True, eq=False)
class Nest:
    """The iteration space of a schedule.

    outer: axes around the tiles, the first `spread` of them in parallel, and then `group`
    iterations of the next; if all of them are in parallel, lanes and rows may be divided too.
    panels: the chunk's part of the outer axes goes inside the loop over panels of lanes, so that
    a panel is fetched once for all of it.
    """

    outer: tuple[Expr, ...]
    spread: int
    group: int
    lanes: Cut
    rows: Cut
    tile: Tile
    panels: bool = False
    chunk: Expr | None = None  # counts groups of outer[spread]; None: of one each

    @property
    def within(self) -> tuple[Expr, ...]:
        """The outer axes that have more than one iteration in a chunk."""
        return self.outer[self.spread + (self.chunk is None) :]

    def phase(self, body: Callable[[Nest, Expr | None, Expr | None], Block]) -> Block:
        """The parallel loop over chunks; body(self, lane group, row group) inside."""
        parallel: list[tuple[Expr, Dim]] = [
            (v, v.attr.extent) for v in self.outer[: self.spread]
        ]
        lg = ex.var("jc", self.lanes.groups) if self.lanes.group != 0 else None
        rg = ex.var("ic", self.rows.groups) if self.rows.group != 0 else None
        divided = [(v, v.attr.extent) for v in (lg, rg) if v is not None]
        inside = body(self, lg, rg)
        if self.spread == len(self.outer):
            return chunks([*parallel, *divided], inside)
        if not self.panels:
            inside = self._around(inside)
        axis, g = self.outer[self.spread], self.chunk
        parallel.append((axis, axis.attr.extent) if g is None else (g, g.attr.extent))
        return chunks([*parallel, *divided], inside)

    def _around(self, inside: Block) -> Block:
        """The loops over a chunk's part of the outer axes."""
        for v in reversed(self.outer[self.spread + 1 :]):
            inside = (For(v, ex.index(v.attr.extent), "serial", inside),)
        axis, g = self.outer[self.spread], self.chunk
        if g is None:
            return inside
        n = ex.var(axis.attr.name, self.group)
        left = ex.index(axis.attr.extent) - g * self.group
        return (For(n, ex.imin(self.group, left), "serial",
                    substitute_var(inside, axis, g * self.group + n)),)

    def tiles(
        self, on_tile: OnTile, lane_group: Expr | None, row_group: Expr | None,
        blocks: Callable[[Block], Block] = lambda body: body,
    ) -> Block:
        """on_tile at every tile of the chunk: panels of lanes outside, rows inside.

        blocks: puts the loop over blocks of k around tiles: all of the chunk's, or a panel's.
        """
        t = self.tile
        rest = self.lanes.rest

        def panel(lane0: Expr, nv: int, lanes: Expr | None) -> Block:
            stop = None if lanes is None else ex.index(self.lanes.extent)

            def place(row0: Expr, rows: int, clamp: Expr | None) -> Block:
                return on_tile(Place(row0, rows, clamp, lane0, nv, t.w, lanes, stop))

            body = self.rows_of(row_group, place)
            return blocks(self._around(body)) if self.panels else body

        nv_rest = -(-rest // t.w) if isinstance(rest, int) else t.nv
        whole = isinstance(rest, int) and rest % t.w == 0
        out = self.lanes.loop(
            "jt", lane_group, lambda n: panel(n * t.nr, t.nv, None),
            lambda n: panel(n * t.nr, nv_rest, None if whole else ex.index(rest)))
        return out if self.panels else blocks(out)

    def rows_of(
        self, row_group: Expr | None, place: Callable[[Expr, int, Expr | None], Block]
    ) -> Block:
        """place(first row, rows, extent where rows may lie beyond it) at every tile of rows."""
        mr, rest = self.tile.mr, self.rows.rest

        def tail(n: Expr) -> Block:
            if isinstance(rest, int):
                return place(n * mr, rest, None)
            step = min(TAIL_ROWS, mr)
            t = ex.var("t", dims.ceildiv(rest, step))
            body = place(n * mr + t * step, step, ex.index(self.rows.extent))
            return (For(t, ex.index(t.attr.extent), "serial", body),)

        return self.rows.loop("it", row_group, lambda n: place(n * mr, mr, None), tail)


def substitute_var(body: Block, v: Expr, by: Expr) -> Block:
    """A block with a variable replaced by an expression."""
    memo: dict[Expr, Expr] = {}
    return map_stmts(body, lambda e: ex.substitute(e, {v: by}, memo))


def chunks(axes: list[tuple[Expr, Dim]], body: Block) -> Block:
    """One parallel loop over the product of axes, which it takes apart again."""
    if not body:
        return ()
    if len(axes) == 1:
        v, extent = axes[0]
        return (For(v, ex.index(extent), "parallel", body),)
    count = dims.product(tuple(d for _, d in axes))
    c = ex.var("chunk", count)
    rest: Expr = c
    out = body
    for v, extent in reversed(axes):
        last = v is axes[0][0]
        out = substitute_var(out, v, rest if last else ex.mod(rest, extent))
        rest = ex.floordiv(rest, extent)
    return (For(c, ex.index(count), "parallel", out),)


@dataclass(frozen=True)
class Traffic:
    """What the factors are in memory. lanes: bytes of the lane factor, where all outer axes share
    it, else 0; rows: bytes of the row factor for one place of the outer axes; cache: bytes.
    """

    lanes: float
    rows: float
    cache: float


def nest(
    outer: tuple[Expr, ...], rows: Dim, lanes: Dim, k: Dim, t: Tile, share: int = 0,
    traffic: Traffic | None = None,
) -> Nest:
    """Chooses what a chunk is: enough work, from the shape alone.

    share: rows that a chunk should have where there are plenty, for the sake of what they share.
    """
    lane_cut, row_cut = cut(lanes, t.nr), cut(rows, t.mr)
    inner = 2.0 * work(k) * work(lanes) * work(rows)
    if traffic is not None and by_panels(outer, traffic):
        return _panelled(outer, lane_cut, row_cut, t, traffic)
    spread, group = _extend(outer, lambda n, extent: grain(inner * n, extent))
    if outer and (spread < len(outer) - 1 or group > 1):
        return _grouped(outer, spread, group, lane_cut, row_cut, t)
    # a whole matrix each: divide it too
    if isinstance(rows, int) and size(row_cut.count) < 16:
        g_lanes = pieces(dims.product((2 * t.nr * rows, k)), lane_cut.count, 1)
        return Nest(outer, len(outer), 1, cut(lanes, t.nr, g_lanes), row_cut, t)
    eighth = dims.maximum(1, dims.floordiv(row_cut.count, 8))
    g_rows = pieces(dims.product((2 * t.mr, lanes, k)), row_cut.count, 1)
    if not (isinstance(g_rows, int) and g_rows * t.mr >= share):
        g_rows = dims.maximum(g_rows, dims.minimum(max(1, share // t.mr), eighth))
    wide = size(lanes) >= 1024 and not isinstance(rows, int)  # there may be few rows
    g_lanes = -(-size(lane_cut.count) // 4) if wide else 0
    return Nest(outer, len(outer), 1, cut(lanes, t.nr, g_lanes), cut(rows, t.mr, g_rows), t)


def _grouped(
    outer: tuple[Expr, ...], spread: int, group: int, lanes: Cut, rows: Cut, t: Tile,
    panels: bool = False,
) -> Nest:
    axis = outer[spread]
    groups = dims.ceildiv(axis.attr.extent, group)
    chunk = None if group == 1 else ex.var(axis.attr.name + "c", groups)
    return Nest(outer, spread, group, lanes, rows, t, panels, chunk)


def _extend(outer: tuple[Expr, ...], enough: Callable[[float, Dim], int]) -> tuple[int, int]:
    """The innermost axes that make a chunk: where it begins, and how many of that axis.

    enough(n, extent): how many of an axis are wanted, one of which is n places.
    """
    spread, group, n = len(outer), 1, 1.0
    for at in range(len(outer) - 1, -1, -1):
        extent = outer[at].attr.extent
        spread, group = at, enough(n, extent)
        if not (isinstance(extent, int) and group >= extent) or at == 0:
            break
        n *= extent
    return spread, group


SHARED = 4  # a lane factor of more than 1/SHARED of the cache is worth an order of its own
CHUNKS = 8  # chunks that there should be, for the threads


def by_panels(outer: tuple[Expr, ...], traffic: Traffic) -> bool:
    """Whether a panel of lanes should serve all outer axes of a chunk before the next one."""
    return bool(outer) and traffic.lanes > traffic.cache / SHARED


def _panelled(outer: tuple[Expr, ...], lanes: Cut, rows: Cut, t: Tile, traffic: Traffic) -> Nest:
    """Chunks of as many rows as the cache holds, which take the lane factor panel by panel."""
    places = max(1.0, traffic.cache / 2 / max(1.0, traffic.rows))
    spread, group = _extend(
        outer, lambda n, extent: max(1, min(int(places / n), extent) if isinstance(extent, int)
                                     else int(places / n)))
    before = dims.product(tuple(v.attr.extent for v in outer[:spread]))
    have = size(dims.product((before, dims.ceildiv(outer[spread].attr.extent, group))))
    if have < CHUNKS:
        split = -(-size(lanes.count) // -(-CHUNKS // max(1, have)))
        have *= -(-size(lanes.count) // split)
        lanes = cut(lanes.extent, t.nr, split)
    if have < CHUNKS // 2 and isinstance(rows.count, int):
        rows = cut(rows.extent, t.mr, max(1, -(-rows.count // (CHUNKS // (2 * have)))))
    return _grouped(outer, spread, group, lanes, rows, t, True)


def pieces(inner: Dim, count: Dim, least: int) -> Dim:
    """How many of `count` pieces, `inner` operations each, a chunk gets; at least 1."""
    if isinstance(inner, int):
        return max(least, grain(inner, count))
    want = dims.maximum(least, dims.add(dims.floordiv(GRAIN, dims.maximum(inner, 1)), 1))
    return dims.minimum(want, max(1, count)) if isinstance(count, int) else want
