"""Dot products with lanes along k: matrix times vector, and few rows times a transposed matrix.

Each result has one vector of partial sums, lane l of which adds the products l, l + width, … in
order; the lanes are combined by the fixed tree of `hreduce`. The bits depend on k alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, LoopKernel, Phase, Stmt, Store

from .access import masked, stride
from .cost import Machine, Tile, work
from .match import Contract
from .micro import Block, Micro, Place, lane_kind
from .nest import nest

VECTORS = 2  # of partial sums for each result: 8 chains with 4 rows cover the latency of fma


@dataclass(frozen=True, eq=False)
class Plan:
    """Axis of k for the lanes, axis of the rows (None: one result), the others; the tile."""

    lane: Expr
    row: Expr | None
    outer: tuple[Expr, ...]
    k: tuple[Expr, ...]
    rows: int
    w: int


def plan(c: Contract, mach: Machine) -> Plan | None:
    """Whether some axis of k is contiguous in both factors, and which axis makes rows."""
    if c.exists is not None:
        return None
    both = [v for v in c.k if stride(c.a, v) == 1 and stride(c.b, v) == 1
            and v not in c.limits]
    if not both:
        return None
    lane = both[0]
    free = [v for v in (*c.m, *c.n) if v not in c.pinned]
    free.sort(key=lambda v: -work(v.attr.extent))
    row = free[0] if free else None
    extent: Dim = 1 if row is None else row.attr.extent
    rows = min(4, extent) if isinstance(extent, int) else 4
    outer = tuple(v for v in c.axes if v is not row)
    k = tuple(v for v in c.k if v is not lane)
    return Plan(lane, row, outer, k, max(1, rows), mach.lanes(c.acc))


def price(c: Contract, p: Plan) -> float:
    """Cycles for each multiply-add."""
    depth = max(1.0, work(p.lane.attr.extent))
    whole = -(-depth // p.w) * p.w
    # vector loads bound it, most of them across cache lines: 35-55 GFLOP/s of 117 on Zen 4
    return (1.0 + 1.0 / p.rows) / p.w * whole / depth * 1.8 + 4.0 / depth


def dots(c: Contract, p: Plan) -> LoopKernel:
    """The schedule with lanes along k."""
    d = _Dots(c, p)
    rows: Dim = 1 if p.row is None else p.row.attr.extent
    depth = dims.product(tuple(v.attr.extent for v in c.k))
    n = nest(p.outer, rows, 1, depth, Tile(p.rows, 1, 1))
    body = n.phase(lambda s, lg, rg: s.tiles(d.tile, lg, rg))
    k = c.kernel
    note = f"contract, {p.rows} dot products of {VECTORS * p.w} lanes"
    return LoopKernel(k.name, k.inputs, k.outputs, (), (Phase(body),), "cpu", note)


class _Dots:
    def __init__(self, c: Contract, p: Plan) -> None:
        self.c, self.p = c, p
        self.zero = ex.index(0)
        self.m = Micro(c, p.row, ex.var("one", 1), c.k)

    def tile(self, at: Place) -> Block:
        """The results of a tile of rows."""
        acc = Buffer("acc", self.c.acc, (at.rows, VECTORS * self.p.w), "register")
        begin = self.m.each_row(at, lambda _, i: self._lanes(
            VECTORS, lambda _, col: (Store(acc, (i, col), ex.const(0, acc.dtype)),)))
        body = (*self._main(at, acc), *self._tail(at, acc))
        for v in reversed(self.p.k):
            body = (For(v, self.c.count(v), "serial", body),)
        end = self.m.each_row(at, lambda row, i: self.m.write_back(
            row, self.zero, ex.hreduce("sum", acc, (i,))), guard=True)
        return (Alloc(acc, (*begin, *body, *end)),)

    def _lanes(self, vectors: int, fn: object) -> Block:
        assert callable(fn)
        w = self.p.w
        j = ex.var("j", w)
        out: list[Stmt] = []
        for v in range(vectors):
            out.extend(fn(j, j + v * w))
        return (For(j, ex.index(w), lane_kind(w), tuple(out), w),)

    def _main(self, at: Place, acc: Buffer) -> Block:
        step = VECTORS * self.p.w
        count = dims.floordiv(self.p.lane.attr.extent, step)
        kb = ex.var("kb", count)
        body = self._lanes(VECTORS, lambda _, col: self._products(
            at, acc, kb * step + col, col, None))
        return (For(kb, ex.index(count), "serial", body),) if count != 0 else ()

    def _tail(self, at: Place, acc: Buffer) -> Block:
        w, extent = self.p.w, self.p.lane.attr.extent
        step = VECTORS * w
        first = dims.mul(dims.floordiv(extent, step), step)
        rest = dims.add(extent, dims.mul(first, -1))
        out: list[Stmt] = []
        for v in range(VECTORS):
            if isinstance(rest, int) and rest <= v * w:
                break
            out.extend(self._lanes(1, lambda j, _, v=v: self._products(
                at, acc, j + v * w + ex.index(first), j + v * w, ex.index(extent))))
        return tuple(out)

    def _products(
        self, at: Place, acc: Buffer, k: Expr, col: Expr, stop: Expr | None
    ) -> Block:
        ok = None if stop is None or ex.within(k, _dim(stop)) else k < stop

        def factor(e: Expr, row: Expr) -> Expr:
            if ok is not None:
                e = masked(e, self.p.lane, ok)
            e = ex.substitute(self.m.at(e, row, None), {self.p.lane: k})
            return e if ok is None else ex.select(ok, e, ex.const(0, e.dtype))

        def one(row: Expr, i: Expr) -> Block:
            a, b = factor(self.c.a, row), factor(self.c.b, row)
            return (Store(acc, (i, col), self.c.step(acc[(i, col)], a, b)),)

        return self.m.each_row(at, one)


def _dim(e: Expr) -> Dim:
    d = ex.is_const_index(e)
    assert d is not None
    return d
