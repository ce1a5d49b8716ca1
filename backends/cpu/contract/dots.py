"""Dot products with lanes along k: matrix times vector, and products with a transposed matrix.

Each result has one vector of partial sums, lane l of which adds the products l, l + width, … in
order; the lanes are combined by the fixed tree of `hreduce`. The bits depend on k alone. A tile of
rows × columns of results shares what it loads; nothing is packed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, Let, LoopKernel, Phase, Store

from .access import masked, stride
from .cost import Machine, Tile, work
from .match import Contract, variables
from .micro import Block, Micro, Place, lane_kind
from .nest import nest

SIDE = 4  # rows and columns of a tile: 4 chains cover the latency of fma, 16 leave room for loads


@dataclass(frozen=True, eq=False)
class Plan:
    """Axis of k for the lanes, axes of rows and columns (None: one), the others; vector width."""

    lane: Expr
    row: Expr | None
    col: Expr | None
    outer: tuple[Expr, ...]
    k: tuple[Expr, ...]
    w: int
    alone: bool = False  # rows one at a time, as they lie in memory

    def extent(self, axis: Expr | None) -> Dim:
        """Results along the row or column axis."""
        return 1 if axis is None else axis.attr.extent


def plan(c: Contract, mach: Machine) -> Plan | None:
    """Whether some axis of k is contiguous in both factors, and which axes make tiles."""
    if c.exists is not None:
        return None
    both = [v for v in c.k if stride(c.a, v) == 1 and stride(c.b, v) == 1 and v not in c.limits]
    if not both:
        return None
    sides = [_longest(c, side) for side in (c.m, c.n)]
    sides.sort(key=lambda v: -1.0 if v is None else -work(v.attr.extent))
    row, col = sorted(sides, key=lambda v: v is None)
    p = _plan(c, both[0], row, col, mach)
    cols = p.extent(col)
    return replace(p, alone=isinstance(cols, int) and streams(c, row, int(cols), mach))


def streams(c: Contract, row: Expr | None, cols: int, mach: Machine) -> bool:
    """Whether one row after the other is best read, in the order of memory.

    So it is where rows come from memory (768 × 50257 times a vector: 30 GB/s; four at once 16) and
    all columns stay in the first cache.
    """
    if row is None:
        return False
    e = c.a if row in variables(c.a) else c.b
    large = e.dtype.size * work(
        *(v.attr.extent for v in (*c.axes, *c.k) if v in variables(e))) >= 2 * mach.l2
    depth = work(*(v.attr.extent for v in c.k))
    return large and cols <= SIDE and cols * depth * e.dtype.size <= mach.l1 // 2


def _plan(c: Contract, lane: Expr, row: Expr | None, col: Expr | None, mach: Machine) -> Plan:
    outer = tuple(v for v in c.axes if v is not row and v is not col)
    return Plan(lane, row, col, outer, tuple(v for v in c.k if v is not lane), mach.lanes(c.acc))


def _longest(c: Contract, side: tuple[Expr, ...]) -> Expr | None:
    free = [v for v in side if v not in c.pinned]
    return max(free, key=lambda v: work(v.attr.extent), default=None)


def price(c: Contract, p: Plan) -> float:
    """Cycles for each multiply-add: arithmetic or loads, and combining the lanes at the end."""
    rows, cols = (min(SIDE, int(work(p.extent(v)))) for v in (p.row, p.col))
    depth = work(p.lane.attr.extent)
    whole = -(-depth // p.w) * p.w
    # vector loads cross cache lines: 2 cycles each
    loads = 2.0 * (rows + cols) / (rows * cols)
    return max(1.05, loads) / p.w * whole / depth + COMBINE / work(
        *(v.attr.extent for v in c.k))


COMBINE = 10.0  # cycles to add up the lanes of a result


def dots(c: Contract, p: Plan) -> LoopKernel:
    """The schedule with lanes along k."""
    d = _Dots(c, p)
    rows, cols = p.extent(p.row), p.extent(p.col)
    most = (1 if p.alone else SIDE, SIDE)
    side = [min(s, n) if isinstance(n, int) and n > 0 else s
            for s, n in zip(most, (rows, cols), strict=True)]
    depth = dims.product(tuple(v.attr.extent for v in c.k))
    n = nest(p.outer, rows, cols, depth, Tile(side[0], side[1], 1), share=48)
    body = n.phase(lambda s, lg, rg: s.tiles(d.place, lg, rg))
    k = c.kernel
    note = f"contract by dot products {side[0]}x{side[1]}, {p.w} lanes along k"
    return LoopKernel(k.name, k.inputs, k.outputs, (), (Phase(body),), "cpu", note)


class _Dots:
    def __init__(self, c: Contract, p: Plan) -> None:
        self.c, self.p = c, p
        self.m = Micro(c, p.row, p.col or ex.var("one", 1), c.k)

    def place(self, at: Place) -> Block:
        """The tiles of a place: columns whose number is known at run time go one by one."""
        if at.lanes is None or isinstance(ex.is_const_index(at.lanes), int):
            return self._tile(at, at.lane0, at.nv)
        n = ex.var("c", at.nv)
        return (For(n, at.lanes, "serial", self._tile(at, at.lane0 + n, 1)),)

    def _tile(self, at: Place, col0: Expr, cols: int) -> Block:
        w = self.p.w
        acc = Buffer("acc", self.c.acc, (at.rows * cols, w), "register")
        zero, n = ex.const(0, acc.dtype), ex.var("n", at.rows * cols)
        begin = For(n, ex.index(at.rows * cols), "unroll",
                    self._lanes(lambda j: (Store(acc, (n, j), zero),)))
        kept = Buffer("cv", self._sides()[0].dtype, (cols, w), "register")
        body: Block = (Alloc(kept, self._along(at, acc, kept, col0)),)
        for v in reversed(self.p.k):
            body = (For(v, self.c.count(v), "serial", body),)

        def finish(row: Expr, i: Expr) -> Block:
            return _each(cols, lambda c: self.m.write_back(
                row, col0 + c, ex.hreduce("sum", acc, (i * cols + c,))))

        return (Alloc(acc, (begin, *body, *self.m.each_row(at, finish, guard=True))),)

    def _lanes(self, fn: object) -> Block:
        assert callable(fn)
        j = ex.var("j", self.p.w)
        return (For(j, ex.index(self.p.w), lane_kind(self.p.w), fn(j), self.p.w),)

    def _sides(self) -> tuple[Expr, Expr]:
        """The factor that columns differ in, which rows share, and the other."""
        a, b, p = self.c.a, self.c.b, self.p
        first = p.row not in variables(a) if p.col is None else p.col in variables(a)
        return (a, b) if first else (b, a)

    def _along(self, at: Place, acc: Buffer, kept: Buffer, col0: Expr) -> Block:
        """The loop over the lane axis: whole vectors, then one that reads 0 beyond the end."""
        w, extent = self.p.w, self.p.lane.attr.extent
        count = dims.floordiv(extent, w)
        kb = ex.var("kb", count)
        out: list[For] = []
        if count != 0:
            body = self._lanes(lambda j: self._products(at, acc, kept, col0, kb * w + j, j, None))
            out.append(For(kb, ex.index(count), "serial", body))
        rest = dims.add(extent, dims.mul(count, -w))
        if rest != 0:
            first, stop = ex.index(dims.mul(count, w)), ex.index(extent)
            body = self._lanes(lambda j: self._products(
                at, acc, kept, col0, first + j, j, first + j < stop))
            once = ex.var("rest", 1)
            out.append(For(once, ex.imin(1, ex.index(rest)), "serial", body))
        return tuple(out)

    def _products(
        self, at: Place, acc: Buffer, kept: Buffer, col0: Expr, k: Expr, j: Expr, ok: Expr | None
    ) -> Block:
        """acc[row, col] += a · b in the current lanes."""
        mine, other = self._sides()
        cols = kept.shape[0]
        assert isinstance(cols, int)

        def factor(e: Expr, row: Expr | None, col: Expr) -> Expr:
            if ok is not None:
                e = masked(e, self.p.lane, ok)
            e = ex.substitute(self.m.at(e, row, col), {self.p.lane: k})
            return e if ok is None else ex.select(ok, e, ex.const(0, e.dtype))

        fetch = _each(cols, lambda c: (Store(kept, (c, j), factor(mine, None, col0 + c)),))

        def one(row: Expr, i: Expr) -> Block:
            x = ex.let_var("x", other.dtype)

            def add(c: Expr) -> Block:
                pair = (kept[(c, j)], x) if mine is self.c.a else (x, kept[(c, j)])
                into = (i * cols + c, j)
                return (Store(acc, into, self.c.step(acc[into], *pair)),)

            return (Let(x, factor(other, row, col0)), *_each(cols, add))

        return (*fetch, *self.m.each_row(at, one))


def _each(count: int, fn: object) -> Block:
    """fn(n) unrolled."""
    assert callable(fn)
    if count == 1:
        out: Block = fn(ex.index(0))
        return out
    n = ex.var("c", count)
    return (For(n, ex.index(count), "unroll", fn(n)),)
