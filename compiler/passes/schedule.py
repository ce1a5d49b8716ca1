"""Schedules: the backend chooses loops for each kernel, once for all that are equal."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from flowc.ir.kernel.form import Buffer
from flowc.ir.kernel.key import kernel_key
from flowc.ir.plan import ALONE, Around, Cond, Launch, Loop, Program, Step, Variant

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
class _Loop:
    """The memory that its rounds change, and its elements."""

    changing: set[Buffer]
    elements: set[Buffer]
    root: Root

    def around(self, inputs: tuple[Buffer, ...]) -> Around:
        """What the loop says of a kernel's inputs."""
        fixed = frozenset(b for b in inputs if self.root(b) not in self.changing)
        return Around(fixed, frozenset(b for b in inputs if self.root(b) in self.elements))


@dataclass(frozen=True)
class _Block:
    """Schedules the steps of a program; `known`: the schedules that there are."""

    opts: Schedule
    ctx: Context
    known: Known
    root: Root

    def steps(self, steps: tuple[Step, ...], loop: _Loop | None) -> tuple[Step, ...]:
        """A block, in a loop or in none."""
        out: list[Step] = []
        for s in steps:
            if isinstance(s, Launch) and not s.variants:
                s = self.launch(s, loop)
            elif isinstance(s, Cond):
                then = self.steps(s.then, loop)
                s = replace(s, then=then, otherwise=self.steps(s.otherwise, loop))
            elif isinstance(s, Loop):
                inner = _Loop(changing(s, self.root), {e for e, _ in s.xs}, self.root)
                s = replace(s, test=self.steps(s.test, inner), body=self.steps(s.body, inner))
            out.append(s)
        return tuple(out)

    def launch(self, s: Launch, loop: _Loop | None) -> Launch:
        """The launch with its variants."""
        known, inputs = self.known, s.kernel.inputs
        around = ALONE if loop is None else loop.around(inputs)
        key = kernel_key(s.kernel) if self.opts.share else None
        marks = tuple((b in around.fixed, b in around.cold) for b in inputs)
        key = None if key is None else (key, marks)
        variants = known.get(key) if key is not None else None
        if variants is None:
            variants = self.ctx.backend.schedule(s.kernel, around)
            if key is not None:
                known[key] = variants
            return replace(s, variants=variants, scratch=tuple(v.kernel.scratch for v in variants))
        own = tuple(tuple(_fresh(b) for b in v.kernel.scratch) for v in variants)
        return replace(s, variants=variants, scratch=own)


def _fresh(b: Buffer) -> Buffer:
    return Buffer(b.name, b.dtype, b.shape, b.scope, b.pad)
