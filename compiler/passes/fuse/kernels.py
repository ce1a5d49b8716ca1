"""The kernel of a group of stages."""

from __future__ import annotations

from itertools import accumulate

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import AnyStage, Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify, cost

from .inline import inline_load
from .limits import Limits


def make_kernel(
    name: str, stages: list[AnyStage], parts: list[int], kept: list[Buffer], opts: Limits
) -> Kernel:
    """A kernel of these stages; temporaries that are read pointwise and cheap are inlined.

    parts: how many stages each part has, empty for one part.
    """
    lengths = parts or [len(stages)]
    every = [stages[end - n : end] for n, end in zip(lengths, accumulate(lengths), strict=True)]
    maker = {b: n for n, part in enumerate(every) for s in part for b in s.outs}
    passed = {e.attr for n, part in enumerate(every) for s in part for e in s.reads()
              if maker.get(e.attr, n) != n}
    found = [_inline_temps(part, passed | set(kept), opts) for part in every]
    stages = [s for part in found for s in part]
    made = {b for s in stages for b in s.outs}
    reads = dict.fromkeys(e.attr for s in stages for e in s.reads())
    inputs = tuple(b for b in reads if b not in made and b.scope == "global")  # not a proc's own
    counts = tuple(map(len, found)) if parts else ()
    return Kernel(name, inputs, tuple(kept), tuple(stages), counts)


def _inline_temps(stages: list[AnyStage], kept: set[Buffer], opts: Limits) -> list[AnyStage]:
    formulas: dict[Buffer, Stage] = {}
    out: list[AnyStage] = []
    counts: dict[Buffer, int] = {}
    for s in stages:
        for b in dict.fromkeys(e.attr for e in s.reads()):
            counts[b] = counts.get(b, 0) + 1
    deepest = max(len(b.shape) for s in stages for b in s.outs)
    pointwise = len({getattr(s, "out", s.outs[0]).shape for s in stages}) == 1
    for s in stages:
        if isinstance(s, Stage):
            memo: dict[Expr, Expr] = {}

            def step(e: Expr, memo: dict[Expr, Expr] = memo) -> Expr | None:
                if e.op != "load" or e.attr not in formulas:
                    return None
                return inline_load(
                    e, formulas[e.attr], lambda x: ex.rewrite(x, step, memo)
                )

            value = ex.rewrite(s.value, step, memo)
            s = Stage(s.out, s.axes, value)
            small = pointwise or len(ex.walk(value)) <= opts.nodes
            simple = small and classify(s) == "map"
            once = counts.get(s.out, 0) <= 1 and len(s.out.shape) == deepest
            cheap = pointwise or once or cost(value) <= opts.cheap
            if simple and cheap:
                formulas[s.out] = s  # a kept one is stored, and its value is used where it is read
                if s.out not in kept:
                    continue
        out.append(s)
    return out
