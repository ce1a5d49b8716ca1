"""The order in which steps are put into groups: what lets more of them meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flowc.ir import dims
from flowc.ir.kernel.form import Buffer, Stage
from flowc.ir.kernel.patterns import classify
from flowc.ir.plan import Raw, Step, step_reads, step_writes

Root = Callable[[Buffer], Buffer]


def contracts_late(steps: Iterable[Step], root: Root) -> list[Step]:
    """The steps, each contract just before what reads it first.

    So what else its epilogue reads is made by then (a batch norm's scale), and it can join.
    """
    out: list[Step] = []
    waiting: dict[Buffer, Raw] = {}

    def flush(buffers: Iterable[Buffer]) -> None:
        for b in buffers:
            held = waiting.pop(root(b), None)
            if held is not None:
                out.append(held)

    for s in steps:
        if not isinstance(s, Raw):
            flush(tuple(waiting))
        else:
            flush(dict.fromkeys(e.attr for e in s.stage.reads()))
            if isinstance(s.stage, Stage) and classify(s.stage) == "contract":
                waiting[root(s.stage.out)] = s
                continue
        out.append(s)
    flush(tuple(waiting))
    return out


def scalars_first(steps: Sequence[Step], root: Root) -> list[Step]:
    """The steps, but single elements that depend on what is given alone (an optimizer's step size)
    before all others: then they are made where an epilogue reads them."""
    late = {root(b) for s in steps for b in step_writes(s)}
    first: list[Step] = []
    rest: list[Step] = []
    for s in steps:
        alone = (
            isinstance(s, Raw) and isinstance(s.stage, Stage) and classify(s.stage) == "map"
            and dims.product(s.stage.out.shape) == 1
        )
        if alone and not any(root(b) in late for b in step_reads(s)):
            first.append(s)
            late -= {root(b) for b in step_writes(s)}
        else:
            rest.append(s)
    return [*first, *rest]
