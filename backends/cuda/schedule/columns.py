"""Reductions whose results lie side by side (a thread each), and reductions to one value.

Long ones are cut into pieces of a size that the shape alone tells; a second phase combines the
pieces in rising order. No atomics: the bits do not depend on the order of blocks.
"""

from __future__ import annotations

from collections.abc import Callable

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    If,
    Kernel,
    LoopKernel,
    Phase,
    Stage,
    Stmt,
    Store,
)

from ...cpu.schedule import axes as ax
from ...cpu.schedule.accumulate import acc_dtype, combine, identity
from .common import THREADS, Rows, epilogue, flat_phase, serial_reduce

PIECE = THREADS * 16  # elements of one piece of a reduction to one value
PIECE_ROWS = 128  # rows of one piece of a column reduction
ENOUGH = 1 << 16  # results from which a thread each fills a GPU


def schedule_columns(kernel: Kernel) -> LoopKernel:
    """The first stage reduces; the others are elementwise over its result."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    head = stages[0]
    found = [e for e in ex.walk(head.value) if e.op == "reduce"]
    if len(found) != 1:
        return schedule_points(kernel)
    if not head.axes:
        return _whole(kernel, stages, found[0])
    return _columns(kernel, stages, found[0])


def schedule_points(kernel: Kernel, note: str = "a thread each") -> LoopKernel:
    """Any kernel of stages over one domain: one thread computes one result, serially."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    phase = _points(kernel, stages, stages[0].value)
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (phase,), "cuda", note
    )


def _points(kernel: Kernel, stages: list[Stage], value: Expr) -> Phase:
    """A thread for each point of the first stage's domain."""
    head = stages[0]
    shape = head.out.shape

    def point(i: Expr) -> list[Stmt]:
        at = tuple(ax.unravel(i, shape))
        here = ex.substitute(value, dict(zip(head.axes, at, strict=True)))
        return serial_reduce(here, lambda v: epilogue(kernel, stages, at, at, v))

    return flat_phase(dims.product(shape), point)


def _taken(e: Expr) -> tuple[list[Expr], Expr]:
    """A reduction's axes, joined where they walk memory as one, and its body."""
    axes, body = e.args[1:], e.args[0]
    fresh, env = ax.merged(ax.collapse(axes, [body], []), "rst")
    return fresh, ex.substitute(body, env)


# ---- results side by side

def _columns(kernel: Kernel, stages: list[Stage], e: Expr) -> LoopKernel:
    head = stages[0]
    loops, body = _taken(e)
    outer: Dim = loops[0].attr.extent if loops else 1
    inner = dims.product(tuple(v.attr.extent for v in loops[1:]))
    results = dims.product(head.out.shape)
    rows = max(1, PIECE_ROWS // inner) if isinstance(inner, int) and inner > 0 else 1
    plenty = isinstance(results, int) and results >= ENOUGH
    if plenty or not isinstance(inner, int) or not ax.is_large(outer, rows):
        return schedule_points(kernel, "columns")
    pieces = dims.ceildiv(outer, rows)
    part = Buffer(f"{head.out.name}.part", acc_dtype(e.attr, body.dtype),
                  (pieces, *head.out.shape))
    first = _column_pieces(head, e.attr, loops, body, part, rows)
    n = ex.var("r", pieces)
    at = (n, *head.axes)
    total = ex.reduce(e.attr, (n,), part[at])
    value = ex.substitute(head.value, {e: ex.cast(total, e.dtype)})
    phases = (first, _points(kernel, stages, value))
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (part,), phases, "cuda", "columns in pieces"
    )


def _column_pieces(
    head: Stage, op: str, loops: list[Expr], body: Expr, part: Buffer, rows: int
) -> Phase:
    """part[piece, result] = the reduction of `rows` points of the outermost loop."""
    outer, zero = loops[0], (ex.index(0),)

    def point(i: Expr) -> list[Stmt]:
        piece, *at = ax.unravel(i, part.shape)
        n = ex.var("n", rows)
        where = {outer: piece * rows + n, **dict(zip(head.axes, at, strict=True))}
        fresh = {v: ex.var(v.attr.name, v.attr.extent) for v in loops[1:]}
        acc = Buffer("acc", part.dtype, (1,), "register")

        def add(v: Expr) -> list[Stmt]:
            return [Store(acc, zero, combine(op, acc[zero], ex.cast(v, acc.dtype)))]

        stmts = serial_reduce(ex.substitute(body, {**where, **fresh}), add)
        for v in reversed(tuple(fresh.values())):
            stmts = [For(v, ex.index(v.attr.extent), "serial", tuple(stmts))]
        left = ex.imin(ex.index(rows), ex.index(outer.attr.extent) - piece * rows)
        loop = For(n, left, "serial", tuple(stmts))
        first = Store(acc, zero, identity(op, acc.dtype, body.dtype))
        return [Alloc(acc, (first, loop, Store(part, (piece, *at), acc[zero])))]

    return flat_phase(dims.product(part.shape), point)


# ---- one result

def _whole(kernel: Kernel, stages: list[Stage], e: Expr) -> LoopKernel:
    loops, body = _taken(e)
    shape = tuple(v.attr.extent for v in loops)
    count = dims.product(shape)

    def at(i: Expr) -> Expr:
        return ex.substitute(body, dict(zip(loops, ax.unravel(i, shape), strict=True)))

    if not ax.is_large(count, PIECE):
        phase = _last(kernel, stages, e, count, at)
        return LoopKernel(
            kernel.name, kernel.inputs, kernel.outputs, (), (phase,), "cuda", "reduction"
        )
    pieces = dims.ceildiv(count, PIECE)
    part = Buffer(f"{stages[0].out.name}.part", acc_dtype(e.attr, body.dtype), (pieces,))
    rows = Rows(pieces, THREADS, 1)
    total = rows.reduce(
        e.attr, PIECE, lambda row, r, i: at(row * PIECE + i),
        lambda row: ex.imin(ex.index(PIECE), ex.index(count) - row * PIECE),
    )
    rows.step(lambda row, r, lane: [
        If(lane.eq(ex.index(0)), (Store(part, (row,), total(r)),))
    ])
    phases = (rows.phase(), _last(kernel, stages, e, pieces, lambda i: part[i]))
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (part,), phases, "cuda", "reduction in pieces"
    )


def _last(
    kernel: Kernel, stages: list[Stage], e: Expr, count: Dim, at: Callable[[Expr], Expr]
) -> Phase:
    """One block reduces what is left and stores the results."""
    rows = Rows(1, THREADS, 1)
    total = rows.reduce(e.attr, count, lambda row, r, i: at(i))

    def finish(row: Expr, r: Expr, lane: Expr) -> list[Stmt]:
        value = ex.substitute(stages[0].value, {e: ex.cast(total(r), e.dtype)})
        return [If(lane.eq(ex.index(0)), tuple(epilogue(kernel, stages, (), (), value)))]

    rows.step(finish)
    return rows.phase()
