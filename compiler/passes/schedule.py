"""Schedules: the backend chooses loops for each kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowc.ir.plan import Cond, Launch, Loop, Program, Step

from .base import Context, Pass, Unit, register


@register
@dataclass(frozen=True)
class Schedule(Pass):
    """Give every launch its scheduled variants."""

    name = "schedule"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: schedule_program(p, ctx))


def schedule_program(p: Program, ctx: Context) -> Program:
    """The program with `Launch.variants` filled where they are empty."""
    return p.replace(steps=_block(p.steps, ctx))


def _block(steps: tuple[Step, ...], ctx: Context) -> tuple[Step, ...]:
    out: list[Step] = []
    for s in steps:
        if isinstance(s, Launch) and not s.variants:
            s = replace(s, variants=ctx.backend.schedule(s.kernel))
        elif isinstance(s, Cond):
            s = replace(s, then=_block(s.then, ctx), otherwise=_block(s.otherwise, ctx))
        elif isinstance(s, Loop):
            s = replace(s, test=_block(s.test, ctx), body=_block(s.body, ctx))
        out.append(s)
    return tuple(out)
