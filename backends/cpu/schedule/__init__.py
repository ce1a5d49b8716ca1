"""CPU schedules: from a kernel's stages to loops, chosen by what they compute."""

from __future__ import annotations

from collections.abc import Sequence

from flowc.ir.kernel.form import Kernel, LoopKernel, Stage
from flowc.ir.kernel.patterns import Kind, classify, folded
from flowc.ir.plan import ALONE, Around, Variant

from .. import contract
from ..target import CpuTarget
from .columns import schedule_columns
from .maps import schedule_map
from .parts import side_by_side
from .procs import schedule_proc
from .rows import schedule_rows


def schedule(kernel: Kernel, target: CpuTarget, around: Around = ALONE) -> tuple[Variant, ...]:
    """The variants of a kernel for a CPU; the last one always applies."""
    if kernel.parts:
        parts = [_loops(k, [folded(s) for s in k.stages], target) for k in kernel.split()]
        return (Variant(None, side_by_side(kernel, parts)),)
    kinds = [classify(s) for s in kernel.stages]
    if "contract" in kinds:
        found = contract.match(kernel)
        if found is not None:
            return tuple(contract.schedule(kernel, found, target, around))
    return (Variant(None, _loops(kernel, kinds, target)),)


def _loops(kernel: Kernel, kinds: Sequence[Kind], target: CpuTarget) -> LoopKernel:
    """The loops of stages that are not a contract's."""
    if kinds[0] == "proc":
        return schedule_proc(kernel)
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    if all(k == "map" for k in kinds) and len({s.out.shape for s in stages}) == 1:
        return schedule_map(kernel, target)
    if kinds[0] == "columns" or not stages[0].axes:
        return schedule_columns(kernel, target)
    return schedule_rows(kernel, target)
