"""Exact rewrites of single operations and their neighbours, to a fixed point."""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir.core import Function

from .base import Context, Pass, Unit, register
from .patterns import arith, casts, control, layout, logic, products, slices, windows
from .rewrite import Rewriter, sweep

# importing them registers their rules
FAMILIES = (arith, casts, control, layout, logic, products, slices, windows)


@register
@dataclass(frozen=True)
class Simplify(Pass):
    """Apply the rules of `patterns/` until none applies.

    No rule changes a value, NaN, −0 and infinities included (NaN has no payload), and none makes
    the code worse. marks: drop ``cut`` and ``stop_gradient``, which only the gradient pass reads.
    rounds: passes over a function at most; the second seldom finds work.
    """

    name = "simplify"
    marks: bool = True
    rounds: int = 8

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_functions(lambda f: self.function(f, ctx))

    def function(self, f: Function, ctx: Context) -> Function:
        """One function and those inside it."""
        skip = frozenset() if self.marks else frozenset({"mark"})
        for _ in range(self.rounds):
            before = f
            rewriter = Rewriter(f, ctx, skip)
            f = rewriter.run(lambda sub: self.function(sub, ctx))
            if rewriter.count:
                f = f.replace(instrs=sweep(f.instrs, f.results))
            if f is before or not rewriter.count:
                break
        return f
