"""Schedules: the backend chooses loops for each kernel, once for all that are equal."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from flowc.ir.kernel.form import Buffer
from flowc.ir.kernel.key import kernel_key
from flowc.ir.plan import Cond, Launch, Loop, Program, Step, Variant

from .base import Context, Pass, Unit, register

Known = dict[Hashable, tuple[Variant, ...]]


@register
@dataclass(frozen=True)
class Schedule(Pass):
    """Give every launch its scheduled variants. share: equal kernels have one schedule."""

    share: bool = True

    name = "schedule"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: self.program(p, ctx))

    def program(self, p: Program, ctx: Context) -> Program:
        """The program with `Launch.variants` filled where they are empty."""
        return p.replace(steps=self._block(p.steps, ctx, {}))

    def _block(self, steps: tuple[Step, ...], ctx: Context, known: Known) -> tuple[Step, ...]:
        out: list[Step] = []
        for s in steps:
            if isinstance(s, Launch) and not s.variants:
                s = self._launch(s, ctx, known)
            elif isinstance(s, Cond):
                then = self._block(s.then, ctx, known)
                s = replace(s, then=then, otherwise=self._block(s.otherwise, ctx, known))
            elif isinstance(s, Loop):
                test = self._block(s.test, ctx, known)
                s = replace(s, test=test, body=self._block(s.body, ctx, known))
            out.append(s)
        return tuple(out)

    def _launch(self, s: Launch, ctx: Context, known: Known) -> Launch:
        key = kernel_key(s.kernel) if self.share else None
        variants = known.get(key) if key is not None else None
        if variants is None:
            variants = ctx.backend.schedule(s.kernel)
            if key is not None:
                known[key] = variants
            return replace(s, variants=variants, scratch=tuple(v.kernel.scratch for v in variants))
        own = tuple(tuple(_fresh(b) for b in v.kernel.scratch) for v in variants)
        return replace(s, variants=variants, scratch=own)


def _fresh(b: Buffer) -> Buffer:
    return Buffer(b.name, b.dtype, b.shape, b.scope, b.pad)
