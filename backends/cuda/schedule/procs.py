"""Imperative stages: one thread a point; what is local to a point lies in global scratch."""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    If,
    Kernel,
    Let,
    LoopKernel,
    Prefetch,
    Proc,
    Stmt,
    Store,
    While,
    walk_stmts,
)

from ...cpu.schedule import axes as ax
from .common import flat_phase

PROC_THREADS = 64  # points differ in their work, and are often few: many small blocks


def schedule_proc(kernel: Kernel) -> LoopKernel:
    """One thread runs a point's body."""
    (proc,) = kernel.stages
    assert isinstance(proc, Proc)
    shape = tuple(v.attr.extent for v in proc.axes)
    count = dims.product(shape)
    scratch = {
        s.buffer: Buffer(f"{s.buffer.name}.all", s.buffer.dtype, (count, *s.buffer.shape))
        for s in walk_stmts(proc.body)
        if isinstance(s, Alloc) and s.buffer.scope == "local"
    }

    def point(i: Expr) -> tuple[Stmt, ...]:
        env = dict(zip(proc.axes, ax.unravel(i, shape), strict=True))
        return _Moved(env, scratch, i).block(proc.body)

    phase = flat_phase(count, point, threads=PROC_THREADS)
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, tuple(scratch.values()), (phase,), "cuda",
        "imperative",
    )


class _Moved:
    """Statements with variables replaced and local buffers as rows of global ones."""

    def __init__(self, env: dict[Expr, Expr], moved: dict[Buffer, Buffer], row: Expr) -> None:
        self.env, self.moved, self.row = env, moved, row
        self.memo: dict[Expr, Expr] = {}

    def expr(self, e: Expr) -> Expr:
        """One expression."""
        return ex.rewrite(e, self._step, self.memo)

    def _step(self, e: Expr) -> Expr | None:
        if e.op == "load" and e.attr in self.moved:
            _, idx, pred = ex.load_parts(e)
            idx = tuple(map(self.expr, idx))
            pred = None if pred is None else self.expr(pred)
            return ex.load(self.moved[e.attr], (self.row, *idx), pred)
        return self.env.get(e)

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        """Statements in order."""
        return tuple(x for s in body for x in self._stmt(s))

    def _stmt(self, s: Stmt) -> tuple[Stmt, ...]:
        if isinstance(s, Store):
            idx, value = tuple(map(self.expr, s.indices)), self.expr(s.value)
            if s.buffer in self.moved:
                return (Store(self.moved[s.buffer], (self.row, *idx), value),)
            return (Store(s.buffer, idx, value),)
        if isinstance(s, Let):
            return (Let(s.var, self.expr(s.value)),)
        if isinstance(s, For):
            kind = "serial" if s.kind == "vector" else s.kind
            return (For(s.var, self.expr(s.extent), kind, self.block(s.body)),)
        if isinstance(s, If):
            return (If(self.expr(s.cond), self.block(s.then), self.block(s.otherwise)),)
        if isinstance(s, While):
            return (While(self.expr(s.cond), self.block(s.body)),)
        if isinstance(s, Prefetch):
            return ()
        if s.buffer in self.moved:
            return self.block(s.body)
        return (Alloc(s.buffer, self.block(s.body)),)
