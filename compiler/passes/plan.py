"""The plan: the order of steps, updates in place, and where each buffer lies in the workspace."""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir.plan import Copy, Launch, Program, Step, launches

from .arena import place
from .base import Context, Pass, Unit, register
from .carry import carry_in_place
from .hoist import hoist
from .order import Order, pointwise


@register
@dataclass(frozen=True)
class Plan(Pass):
    """Order the steps, update state in place where that is safe, place temporaries.

    inplace: allow updates in place; reuse: let buffers share memory; hoist: move what does not
    change out of loops.
    """

    inplace: bool = True
    reuse: bool = True
    hoist: bool = True

    name = "plan"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: place(self._ordered(p, ctx), self.reuse))

    def _ordered(self, p: Program, ctx: Context) -> Program:
        p = update_state(hoist(p, ctx) if self.hoist else p, self, ctx)
        return carry_in_place(p, ctx) if self.inplace else p


def update_state(p: Program, opts: Plan, ctx: Context) -> Program:
    """Each updated variable either shares memory with its new value or is copied at the end.

    In place: the kernel that makes the new value reads the old one, if at all, only at the index
    that it writes, and all other readers can run before it.
    """
    order = Order(p.steps, p.root)
    views = dict(p.views)
    tail: list[Step] = []
    for old, new in p.updates.items():
        maker = order.maker.get(new)
        step = p.steps[maker] if maker is not None else None
        if (
            opts.inplace
            and maker is not None
            and isinstance(step, Launch)
            and pointwise(step.kernel, old, new)
            and new not in p.views
            and ctx.allow("inplace")
            and order.readers_first(p.root(old), maker)
        ):
            views[new] = old
        else:
            tail.append(Copy(old, new))
    return p.replace(steps=(*(p.steps[i] for i in order.sorted()), *tail), views=views)


def count_kernels(p: Program) -> int:
    """The number of launches, each counted once."""
    return sum(1 for _ in launches(p.steps))
