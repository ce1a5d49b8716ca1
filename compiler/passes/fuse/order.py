"""The order in which steps are put into groups: what lets more of them meet."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify
from flowc.ir.kernel.text import symbols_of
from flowc.ir.plan import Define, Loop, Raw, Step, step_reads, step_writes, walk_steps

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


def equal_once(steps: Sequence[Step]) -> list[Step]:
    """The steps, a reduction that another step has made before replaced by a copy of its result.

    An op's lowering may repeat what another one computes: pooling and its gradient.
    """
    known: dict[Hashable, Stage] = {}
    variables: dict[tuple[int, Dim], Expr] = {}
    out: list[Step] = []
    for s in steps:
        if isinstance(s, Raw) and isinstance(s.stage, Stage) and classify(s.stage) != "map":
            first = known.setdefault(_meaning(s.stage, variables), s.stage)
            if first is not s.stage:
                s = Raw(Stage(s.stage.out, s.stage.axes, ex.load(first.out, s.stage.axes)))
        elif not isinstance(s, Raw):
            known.clear()  # it may change what has been read
        out.append(s)
    return out


def _meaning(s: Stage, variables: dict[tuple[int, Dim], Expr]) -> Hashable:
    """The stage's type and value, the variables of the latter by their place and extent."""
    found = [v for e in ex.walk(s.value) if e.op == "reduce" for v in e.args[1:]]
    numbers: dict[Expr, Expr] = {}
    for n, v in enumerate(dict.fromkeys([*s.axes, *found])):
        key = n, v.attr.extent
        numbers[v] = variables.setdefault(key, ex.var(f"v{n}", v.attr.extent))
    return s.out.type, ex.substitute(s.value, numbers)


def _symbols(s: Step) -> set[str]:
    """The sizes that a stage mentions."""
    return symbols_of(Kernel("", (), s.stage.outs, (s.stage,))) if isinstance(s, Raw) else set()


def scalars_first(steps: Sequence[Step], root: Root) -> list[Step]:
    """The steps, but single elements that depend on what is given alone (an optimizer's step size)
    before all others: then they are made where an epilogue reads them.

    What is a size that the data tells has to wait until it is told.
    """
    told = {s.symbol for s in walk_steps(tuple(steps)) if isinstance(s, Define | Loop)}
    late = {root(b) for s in steps for b in step_writes(s)}
    depth: dict[Buffer, int] = {}  # of what is moved
    first: list[tuple[int, int, Step]] = []  # those that can be one kernel come together
    rest: list[Step] = []
    for s in steps:
        alone = (
            isinstance(s, Raw) and isinstance(s.stage, Stage) and classify(s.stage) == "map"
            and dims.product(s.stage.out.shape) == 1
        )
        if alone and not any(root(b) in late for b in step_reads(s)) and not told & _symbols(s):
            at = 1 + max((depth.get(root(b), 0) for b in step_reads(s)), default=0)
            first.append((at, s.stage.out.rank, s))  # type: ignore[union-attr]
            made = {root(b) for b in step_writes(s)}
            depth.update(dict.fromkeys(made, at))
            late -= made
        else:
            rest.append(s)
    return [*(s for _, _, s in sorted(first, key=lambda t: t[:2])), *rest]
