"""Imperative stages: their parallel domain in chunks, their bodies as they are."""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import For, Kernel, LoopKernel, Phase, Proc, Stmt, map_stmts

from . import axes as ax


def schedule_proc(kernel: Kernel) -> LoopKernel:
    """One chunk is one point of the domain (a proc's point is a whole row's work)."""
    (proc,) = kernel.stages
    assert isinstance(proc, Proc)
    shape = tuple(v.attr.extent for v in proc.axes)
    if not shape:
        loop = For(ex.var("chunk", 1), ex.index(1), "parallel", proc.body)
    else:
        count = dims.product(shape)
        flat = ex.var("chunk", count)
        env = dict(zip(proc.axes, ax.unravel(flat, shape), strict=True))
        memo: dict[Expr, Expr] = {}
        body: tuple[Stmt, ...] = map_stmts(proc.body, lambda e: ex.substitute(e, env, memo))
        loop = For(flat, ex.index(count), "parallel", body)
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (Phase((loop,)),), note="imperative"
    )
