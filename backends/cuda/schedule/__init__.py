"""GPU schedules: from the stages that every backend gets to blocks and threads."""

from __future__ import annotations

from flowc.ir.kernel.form import Kernel, LoopKernel, Stage
from flowc.ir.kernel.patterns import classify

from ...cpu.schedule.parts import kept_between
from .columns import schedule_columns
from .contract import schedule_contract
from .maps import schedule_map
from .procs import schedule_proc
from .rows import schedule_rows


def schedule(kernel: Kernel) -> LoopKernel:
    """The GPU schedule of a kernel, chosen by what it computes; parts run one after another."""
    if kernel.parts:
        parts = [schedule(k) for k in kernel.split()]
        scratch = kept_between(kernel, parts)
        phases = tuple(phase for p in parts for phase in p.phases)
        return LoopKernel(kernel.name, kernel.inputs, kernel.outputs, scratch, phases, "cuda",
                          f"{len(parts)} parts")
    kinds = [classify(s) for s in kernel.stages]
    if kinds[0] == "proc":
        return schedule_proc(kernel)
    if "contract" in kinds:
        return schedule_contract(kernel)
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    one_domain = len({s.out.shape for s in stages}) == 1
    if one_domain and all(k == "map" for k in kinds):
        return schedule_map(kernel)
    if one_domain and (kinds[0] == "columns" or not stages[0].axes):
        return schedule_columns(kernel)
    return schedule_rows(kernel)


__all__ = ["schedule"]
