"""Fusion: raw stages become kernels.

*Inlining* (`inline`) says what is stored and what is computed again; *grouping* (`group`) puts
stages into one kernel. Both look at what a stage computes, never at the op that it came from.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from flowc.ir.kernel.form import Buffer, Stage
from flowc.ir.kernel.patterns import cost
from flowc.ir.plan import Cond, Loop, Program, Raw, Step

from ..base import Context, Pass, Unit, register
from .group import Grouper
from .inline import Inliner
from .limits import Limits


@register
@dataclass(frozen=True)
class Fuse(Pass, Limits):
    """Group stages into kernels. cheap: cost up to which a formula is recomputed in each consumer;
    nodes: the size at which formulas stop growing; rows, epilogues: allow these groups."""

    name = "fuse"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: fuse_program(p, self, ctx))


def fuse_program(p: Program, opts: Limits, ctx: Context) -> Program:
    """The program with every raw stage in a kernel."""
    views = dict(p.views)
    serial = itertools.count()
    fixed = {*p.inputs, *p.state, *p.constants}
    needed = {*p.outputs, *p.updates.values()}
    constant: dict[Buffer, Stage] = {}
    steps = _block(p.steps, needed, fixed, views, constant, serial, opts, ctx)
    return p.replace(steps=steps, views=views)


def _block(
    steps: tuple[Step, ...],
    needed: set[Buffer],
    fixed: set[Buffer],
    views: dict[Buffer, Buffer],
    constant: dict[Buffer, Stage],
    serial: itertools.count[int],
    opts: Limits,
    ctx: Context,
) -> tuple[Step, ...]:
    for s in steps:
        if isinstance(s, Raw) and isinstance(s.stage, Stage) and not s.stage.reads():
            if cost(s.stage.value) <= 2 * opts.cheap:
                constant[s.stage.out] = s.stage
    inner: list[Step] = []
    for s in steps:
        args = (fixed, views, constant, serial, opts, ctx)
        if isinstance(s, Cond):
            then, otherwise = (_block(b, set(), *args) for b in (s.then, s.otherwise))
            s = replace(s, then=then, otherwise=otherwise)
        elif isinstance(s, Loop):
            test = _block(s.test, {s.pred}, *args) if s.pred is not None else ()
            s = replace(s, test=test, body=_block(s.body, set(), *args))
        inner.append(s)
    inlined = Inliner(inner, needed, fixed, views, constant, opts, ctx).run()
    return Grouper(inlined, needed, views, serial, opts, ctx).run()
