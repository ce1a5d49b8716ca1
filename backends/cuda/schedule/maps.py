"""Elementwise kernels: one thread an element, or a few that lie a block's width apart."""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Kernel, LoopKernel, Stage, Stmt
from flowc.ir.kernel.patterns import cost

from ...cpu.schedule import axes as ax
from ...cpu.schedule.maps import stores
from .common import flat_phase

LIGHT = 24  # cost up to which a thread has several elements in flight
LARGE = 1 << 20  # elements from which there are blocks enough for that


def schedule_map(kernel: Kernel) -> LoopKernel:
    """All stages have one domain and read each other nowhere."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    common = stages[0].axes
    values = [ex.substitute(s.value, dict(zip(s.axes, common, strict=True))) for s in stages]
    groups = ax.collapse(common, values, [(s.out, common) for s in stages])
    loops, env = ax.merged(groups, "ijkl")
    shape = tuple(v.attr.extent for v in loops)
    count = dims.product(shape)

    def point(i: Expr) -> tuple[Stmt, ...]:
        flat = dict(zip(loops, ax.unravel(i, shape), strict=True))
        here = {v: ex.substitute(e, flat) for v, e in env.items()}
        memo: dict[Expr, Expr] = {}
        return stores(
            stages, [ex.substitute(v, here, memo) for v in values], tuple(here[v] for v in common)
        )

    light = isinstance(count, int) and count >= LARGE and max(map(cost, values)) <= LIGHT
    phase = flat_phase(count, point, 4 if light else 1)
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (phase,), "cuda", "elementwise"
    )
