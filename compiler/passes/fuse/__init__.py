"""Fusion: raw stages become kernels.

*Inlining* (`inline`) says what is stored and what is computed again; *grouping* (`group`) puts
stages into one kernel, *merging* (`merge`) groups; `attention` makes one kernel of three. All look
at what a stage computes, never at the op that it came from.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flowc.ir.kernel.form import Buffer, Stage
from flowc.ir.kernel.patterns import cost
from flowc.ir.plan import Cond, Copy, Loop, Program, Raw, Step

from ..base import Context, Pass, Unit, register
from .attention import join_attention
from .group import Grouper
from .inline import Inliner
from .limits import Limits


@register
@dataclass(frozen=True)
class Fuse(Pass, Limits):
    """Group stages into kernels. cheap: cost up to which a formula is recomputed in each consumer;
    nodes: the size at which formulas stop growing; rows, epilogues, parts: allow these groups."""

    name = "fuse"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: fuse_program(p, self, ctx))


def fuse_program(p: Program, opts: Limits, ctx: Context) -> Program:
    """The program with every raw stage in a kernel."""
    needed = {*p.outputs, *p.updates.values()}
    fuse = _Fuser(p, opts, ctx)
    steps = fuse.block(p.steps, needed, {new: old for old, new in p.updates.items()})
    return p.replace(steps=steps, views=fuse.views)


class _Fuser:
    """What is the same for all blocks of a program."""

    def __init__(self, p: Program, opts: Limits, ctx: Context) -> None:
        self.opts, self.ctx = opts, ctx
        self.views = dict(p.views)
        self.serial = itertools.count()
        self.fixed = {*p.inputs, *p.state, *p.constants}
        self.constant: dict[Buffer, Stage] = {}

    def block(
        self, steps: tuple[Step, ...], needed: set[Buffer], updates: Mapping[Buffer, Buffer]
    ) -> tuple[Step, ...]:
        for s in steps:
            if isinstance(s, Raw) and isinstance(s.stage, Stage) and not s.stage.reads():
                if cost(s.stage.value) <= 2 * self.opts.cheap:
                    self.constant[s.stage.out] = s.stage
        inner = [self._within(s) for s in steps]
        carried = {s.src: s.dst for s in steps if isinstance(s, Copy)}
        inlined = Inliner(
            inner, needed, self.fixed, self.views, self.constant, self.opts, self.ctx
        ).run()
        launches = Grouper(
            inlined, needed, self.views, self.fixed, {**carried, **updates}, self.serial,
            self.opts, self.ctx,
        ).run()
        if not self.opts.rows:
            return launches
        return join_attention(launches, needed, self.views, self.opts.cheap, self.ctx)

    def _within(self, s: Step) -> Step:
        if isinstance(s, Cond):
            then, otherwise = (self.block(b, set(), {}) for b in (s.then, s.otherwise))
            return replace(s, then=then, otherwise=otherwise)
        if isinstance(s, Loop):
            test = self.block(s.test, {s.pred}, {}) if s.pred is not None else ()
            return replace(s, test=test, body=self.block(s.body, set(), {}))
        return s
