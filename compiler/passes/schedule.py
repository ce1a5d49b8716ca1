"""Schedules: the backend chooses loops for each kernel, once for all that are equal."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from flowc.ir.kernel.form import Buffer
from flowc.ir.kernel.key import kernel_key
from flowc.ir.plan import Cond, Launch, Loop, Program, Step, Variant

from .base import Context, Pass, Unit, register
from .hoist import Root, changing

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
        block = _Block(self, ctx, {}, p.root)
        return p.replace(steps=block.steps(p.steps, None))


@dataclass(frozen=True)
class _Block:
    """Schedules the steps of a program; `known`: the schedules that there are."""

    opts: Schedule
    ctx: Context
    known: Known
    root: Root

    def steps(self, steps: tuple[Step, ...], moving: set[Buffer] | None) -> tuple[Step, ...]:
        """A block, in a loop whose rounds change the memory `moving` (None: in no loop)."""
        out: list[Step] = []
        for s in steps:
            if isinstance(s, Launch) and not s.variants:
                s = self.launch(s, moving)
            elif isinstance(s, Cond):
                then = self.steps(s.then, moving)
                s = replace(s, then=then, otherwise=self.steps(s.otherwise, moving))
            elif isinstance(s, Loop):
                inner = changing(s, self.root)
                s = replace(s, test=self.steps(s.test, inner), body=self.steps(s.body, inner))
            out.append(s)
        return tuple(out)

    def launch(self, s: Launch, moving: set[Buffer] | None) -> Launch:
        """The launch with its variants."""
        known, inputs = self.known, s.kernel.inputs
        fixed = frozenset(
            () if moving is None else (b for b in inputs if self.root(b) not in moving)
        )
        key = kernel_key(s.kernel) if self.opts.share else None
        key = None if key is None else (key, tuple(b in fixed for b in inputs))
        variants = known.get(key) if key is not None else None
        if variants is None:
            variants = self.ctx.backend.schedule(s.kernel, fixed)
            if key is not None:
                known[key] = variants
            return replace(s, variants=variants, scratch=tuple(v.kernel.scratch for v in variants))
        own = tuple(tuple(_fresh(b) for b in v.kernel.scratch) for v in variants)
        return replace(s, variants=variants, scratch=own)


def _fresh(b: Buffer) -> Buffer:
    return Buffer(b.name, b.dtype, b.shape, b.scope, b.pad)
