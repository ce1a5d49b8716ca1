"""Row kernels: a block owns a row (or a few short ones) and runs the stages over it in order.

Reductions go through shared memory; results of a whole row that only this kernel reads are kept in
shared memory if they fit, else in global scratch.
"""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, If, Kernel, LoopKernel, Stage, Stmt, Store
from flowc.ir.kernel.patterns import estimate, reduction

from ...cpu.schedule import axes as ax
from .common import THREADS, Rows, serial_reduce, strided

ROW_CACHE = 32 * 1024  # bytes of shared memory for results of whole rows


def schedule_rows(kernel: Kernel) -> LoopKernel:
    """Stages share their leading axes, the rows, and read each other within a row."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    rank = min(len(s.out.shape) for s in stages)
    count = dims.product(stages[0].out.shape[:rank])
    work = max(_row_work(s, rank) for s in stages)
    lanes = min(THREADS, 1 << max(0, (work - 1).bit_length()))
    plan = _Plan(kernel, stages, rank, Rows(count, lanes, THREADS // lanes))
    for s in stages:
        plan.stage(s)
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, tuple(plan.scratch), (plan.rows.phase(),),
        "cuda", f"rows, {lanes} threads each",
    )


def _row_work(s: Stage, rank: int) -> int:
    r = reduction(s)
    inner = dims.product(s.out.shape[rank:])
    reduced = dims.product(tuple(v.attr.extent for v in r.axes)) if r else 1
    return max(1, estimate(inner, 128), estimate(reduced, 128))


class _Plan:
    """Builds the thread loops of all stages."""

    def __init__(self, kernel: Kernel, stages: list[Stage], rank: int, rows: Rows) -> None:
        self.rank, self.rows = rank, rows
        self.shape = stages[0].out.shape[:rank]
        self.kept = set(kernel.outputs)
        self.scalars: dict[Buffer, Buffer] = {}
        self.cached: dict[Buffer, Buffer] = {}  # shared, by row in the block
        self.moved: dict[Buffer, Buffer] = {}  # global scratch
        self.scratch: list[Buffer] = []
        self.room = ROW_CACHE

    def stage(self, s: Stage) -> None:
        """Adds a stage."""
        if len(s.out.shape) == self.rank:
            self._scalar(s)
        else:
            self._fill(s)

    def _at(self, row: Expr) -> tuple[Expr, ...]:
        return tuple(ax.unravel(row, self.shape))

    def _value(self, s: Stage, value: Expr, row: Expr, r: Expr) -> Expr:
        """The value in a thread: at this row, and with loads of what the row has computed."""
        value = ex.substitute(value, dict(zip(s.axes[: self.rank], self._at(row), strict=True)))

        def step(e: Expr) -> Expr | None:
            if e.op != "load":
                return None
            buffer, idx, pred = ex.load_parts(e)
            idx = tuple(ex.rewrite(i, step, memo) for i in idx)
            if buffer in self.scalars:
                return self.scalars[buffer][r]
            if buffer in self.cached:
                return ex.load(self.cached[buffer], (r, *idx[self.rank :]), pred)
            if buffer in self.moved:
                return ex.load(self.moved[buffer], idx, pred)
            return None

        memo: dict[Expr, Expr] = {}
        return ex.rewrite(value, step, memo)

    def _scalar(self, s: Stage) -> None:
        """One value a row: its reductions by all lanes, the rest by lane 0."""
        results: dict[Expr, Buffer] = {}
        top = [e for e in ex.walk(s.value) if e.op == "reduce"]
        nested = any(x.op == "reduce" for e in top for x in ex.walk(e.args[0]))
        if not nested:
            for e in top:
                results[e] = self._reduce(s, e)
        cell = self.rows.new(f"{s.out.name}_row", s.out)

        def finish(row: Expr, r: Expr, lane: Expr) -> list[Stmt]:
            env = {e: b[r] for e, b in results.items()}
            value = self._value(s, ex.substitute(s.value, env), row, r)

            def store(v: Expr) -> list[Stmt]:
                out: list[Stmt] = [Store(cell, (r,), v)]
                if s.out in self.kept:
                    out.append(Store(s.out, self._at(row), cell[r]))
                return out

            return [_only_lane_0(lane, serial_reduce(value, store))]

        self.rows.step(finish)
        self.scalars[s.out] = cell

    def _reduce(self, s: Stage, e: Expr) -> Buffer:
        body, axes = e.args[0], e.args[1:]
        fresh, env = ax.merged(ax.collapse(axes, [body], []), "rst")
        body = ex.substitute(body, env)
        shape = tuple(v.attr.extent for v in fresh)

        def at(row: Expr, r: Expr, i: Expr) -> Expr:
            here = dict(zip(fresh, ax.unravel(i, shape), strict=True))
            return self._value(s, ex.substitute(body, here), row, r)

        total = self.rows.reduce(e.attr, dims.product(shape), at)
        cell = self.rows.new("total", e)
        self.rows.step(lambda row, r, lane: [
            _only_lane_0(lane, [Store(cell, (r,), ex.cast(total(r), cell.dtype))])
        ])
        return cell

    def _fill(self, s: Stage) -> None:
        """A whole row of results, strided over the lanes."""
        inner = s.axes[self.rank :]
        shape = tuple(v.attr.extent for v in inner)
        count = dims.product(shape)
        where = self._home(s)

        def fill(row: Expr, r: Expr, lane: Expr) -> list[Stmt]:
            lead = (r,) if where.scope == "shared" else self._at(row)

            def one(i: Expr) -> list[Stmt]:
                idx = ax.unravel(i, shape)
                value = ex.substitute(s.value, dict(zip(inner, idx, strict=True)))
                return serial_reduce(
                    self._value(s, value, row, r), lambda v: [Store(where, (*lead, *idx), v)]
                )

            return list(strided(count, lane, self.rows.lanes, one))

        self.rows.step(fill)

    def _home(self, s: Stage) -> Buffer:
        """Where the results of a whole row lie."""
        if s.out in self.kept:
            return s.out
        inner = s.out.shape[self.rank :]
        size = dims.mul(dims.product(inner), self.rows.rows * s.out.dtype.size)
        if isinstance(size, int) and size <= self.room:
            self.room -= size
            self.cached[s.out] = self.rows.new(f"{s.out.name}_row", s.out, inner)
            return self.cached[s.out]
        self.moved[s.out] = Buffer(f"{s.out.name}.row", s.out.dtype, s.out.shape)
        self.scratch.append(self.moved[s.out])
        return self.moved[s.out]


def _only_lane_0(lane: Expr, body: list[Stmt]) -> Stmt:
    return If(lane.eq(ex.index(0)), tuple(body))
