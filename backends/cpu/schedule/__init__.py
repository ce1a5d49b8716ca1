"""CPU schedules: from a kernel's stages to loops, chosen by what they compute."""

from __future__ import annotations

from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify
from flowc.ir.plan import Variant

from .. import contract
from ..target import CpuTarget
from .columns import schedule_columns
from .maps import schedule_map
from .parts import side_by_side
from .procs import schedule_proc
from .rows import schedule_rows


def schedule(
    kernel: Kernel, target: CpuTarget, fixed: frozenset[Buffer] = frozenset()
) -> tuple[Variant, ...]:
    """The variants of a kernel for a CPU; the last one always applies.

    fixed: see `backends.base.Backend`.
    """
    if kernel.parts:
        parts = [schedule(k, target)[-1].kernel for k in kernel.split()]
        return (Variant(None, side_by_side(kernel, parts)),)
    kinds = [classify(s) for s in kernel.stages]
    if "contract" in kinds:
        found = contract.match(kernel)
        if found is not None:
            return tuple(contract.schedule(kernel, found, target, fixed))
    if kinds[0] == "proc":
        return (Variant(None, schedule_proc(kernel)),)
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    if all(k == "map" for k in kinds) and len({s.out.shape for s in stages}) == 1:
        return (Variant(None, schedule_map(kernel, target)),)
    if kinds[0] == "columns" or not stages[0].axes:
        return (Variant(None, schedule_columns(kernel, target)),)
    return (Variant(None, schedule_rows(kernel, target)),)
