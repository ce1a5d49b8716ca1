"""The pipeline: one straight list, a line a step with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowc.runtime.timings import Timings

from .passes.base import Context, Pass, Unit
from .passes.cse import Cse
from .passes.dce import Dce
from .passes.fold import Fold
from .passes.functionalize import Functionalize
from .passes.fuse import Fuse
from .passes.lower import Lower
from .passes.plan import Plan
from .passes.schedule import Schedule
from .passes.simplify import Simplify


def default_pipeline() -> list[Pass]:
    """The passes of a normal compilation, in order."""
    return [
        Functionalize(),  # variables become parameters and results: from here on all is a function
        Dce(),  # what a fetch does not need is not looked at again
        Simplify(),  # exact algebra and shape moves, so that equal things look equal
        Fold(),  # what depends on constants alone is computed now
        Cse(),  # equal instructions become one: gradients repeat much of the forward pass
        Simplify(),  # folding and merging leave new identities behind
        Dce(),  # and dead instructions
        Lower(),  # ops become stages of formulas over buffers, control flow becomes steps
        Fuse(),  # stages become kernels: what is computed together, what is stored
        Schedule(),  # the backend chooses loops, vectors, tiles, packing
        Plan(),  # order, updates in place, memory
    ]


Observer = Callable[[Pass, Unit, Unit], None]


def run_passes(
    unit: Unit, ctx: Context, passes: Iterable[Pass], observers: Iterable[Observer] = (),
    timings: Timings | None = None,
) -> Unit:
    """Run passes in order; observers see each pass with the unit before and after it."""
    watching, timings = tuple(observers), timings or Timings()
    for p in passes:
        with timings.part(p.name):
            after = p.run(unit, ctx)
        with timings.part("showing"):
            for see in watching:
                see(p, unit, after)
        unit = after
    return unit
