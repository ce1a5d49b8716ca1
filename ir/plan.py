"""The plan: a tree of steps over buffers, made from a function when its kernels are known.

Every step touches whole buffers. Buffers are *inputs* and *state* (given by the caller), *outputs*,
*constants* (data of the artifact), *temporaries* (offsets in the workspace) and *views* (the memory
of another buffer under another shape). Nothing walks a plan at run time: the host function is it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .core import Guard, Param
from .dims import Dim
from .kernel.expr import Expr
from .kernel.form import AnyStage, Buffer, Kernel, LoopKernel
from .literal import Literal


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to run a kernel: taken if `when` (a bool over dimensions) holds; None always does."""

    when: Expr | None
    kernel: LoopKernel


@dataclass(frozen=True)
class Around:
    """What the loop around a launch says of the kernel's inputs.

    fixed: those that are the same in all rounds; what phases copy of them alone is copied once for
    all (`compiler/passes/hoist.py`). cold: rows of arrays, which no cache holds however small.
    """

    fixed: frozenset[Buffer] = frozenset()
    cold: frozenset[Buffer] = frozenset()


ALONE = Around()


@dataclass(frozen=True, eq=False)
class Raw:
    """A stage that `fuse` has not yet put into a kernel."""

    stage: AnyStage


@dataclass(frozen=True, eq=False)
class Launch:
    """Run a kernel. `variants` is empty until it is scheduled; the last one is always valid.

    Launches of kernels that are equal but for their buffers share their variants, whose parameters
    are those of another launch: what runs here has this kernel's inputs and outputs and, variant by
    variant, the buffers of `scratch`. once: depends on constants alone; runs at load.
    """

    kernel: Kernel
    variants: tuple[Variant, ...] = ()
    scratch: tuple[tuple[Buffer, ...], ...] = ()
    device: str = ""
    once: bool = False


@dataclass(frozen=True, eq=False)
class Copy:
    """``dst = src``: whole buffers of equal byte size."""

    dst: Buffer
    src: Buffer
    device: str = ""


@dataclass(frozen=True, eq=False)
class HostCall:
    """Call out to the host (`print`, `py_func`, …) with these buffers."""

    name: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cond:
    """Run one of two blocks, by a scalar bool."""

    pred: Buffer
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Push:
    """``stack[t] = value`` in round t of the loop around it; `stack` has a leading axis of rounds.

    grows: nobody knows the number of rounds yet, so the stack's memory grows.
    """

    stack: Buffer
    value: Buffer
    grows: bool = False


@dataclass(frozen=True, eq=False)
class Define:
    """The value of `symbol`, a dimension that only the data tells, is that of an i64 scalar."""

    symbol: str
    value: Buffer


@dataclass(frozen=True, eq=False)
class Loop:
    """Rounds of `body`.

    With `pred`: as long as it holds after `test` has run, at most `max_trips` rounds. With `count`:
    that many rounds, t rising, or falling with `reverse`. xs: (element, array): in round t the
    memory of `element`, which the body reads or makes, is array[t]. trips receives the number of
    rounds (i64), and `symbol` is that number.
    """

    body: tuple[Step, ...]
    test: tuple[Step, ...] = ()
    pred: Buffer | None = None
    count: Dim | None = None
    reverse: bool = False
    xs: tuple[tuple[Buffer, Buffer], ...] = ()
    trips: Buffer | None = None
    symbol: str = ""
    max_trips: int | None = None


Step = Raw | Launch | Copy | HostCall | Push | Define | Cond | Loop


@dataclass(frozen=True, eq=False)
class Program:
    """A function as a plan."""

    name: str
    inputs: tuple[Buffer, ...]
    state: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    constants: Mapping[Buffer, Literal]
    steps: tuple[Step, ...]
    infos: tuple[Param, ...]  # of inputs, then state
    guards: tuple[Guard, ...] = ()
    output_names: tuple[str, ...] = ()
    updates: Mapping[Buffer, Buffer] = field(default_factory=dict)  # state → its new value
    bounds: Mapping[str, Dim] = field(default_factory=dict)  # data-defined symbol → greatest value
    views: Mapping[Buffer, Buffer] = field(default_factory=dict)  # buffer → whose memory it is
    offsets: Mapping[Buffer, Dim] = field(default_factory=dict)  # workspace offsets, in bytes
    workspace: Dim = 0  # bytes

    def replace(self, **changes: Any) -> Program:
        return replace(self, **changes)

    def root(self, b: Buffer) -> Buffer:
        """The buffer whose memory b is."""
        while b in self.views:
            b = self.views[b]
        return b


def launch_params(s: Launch, n: int) -> tuple[Buffer, ...]:
    """The buffers that variant n's parameters are bound to."""
    return (*s.kernel.inputs, *s.kernel.outputs, *s.scratch[n])


def blocks(s: Step) -> tuple[tuple[Step, ...], ...]:
    """The blocks directly inside a step."""
    if isinstance(s, Cond):
        return s.then, s.otherwise
    return (s.test, s.body) if isinstance(s, Loop) else ()


def walk_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """All steps, outer before inner."""
    for s in steps:
        yield s
        for block in blocks(s):
            yield from walk_steps(block)


def launches(steps: Iterable[Step]) -> Iterator[Launch]:
    """All launches."""
    return (s for s in walk_steps(steps) if isinstance(s, Launch))


def step_reads(s: Step) -> list[Buffer]:
    """The buffers that a step reads, those of inner steps too."""
    if isinstance(s, Raw):
        return list(dict.fromkeys(e.attr for e in s.stage.reads()))
    if isinstance(s, Launch):
        return list(s.kernel.inputs)
    if isinstance(s, Copy):
        return [s.src]
    if isinstance(s, HostCall):
        return list(s.inputs)
    if isinstance(s, Push | Define):
        return [s.value]
    inner = [b for block in blocks(s) for x in block for b in step_reads(x)]
    if isinstance(s, Cond):
        return [*inner, s.pred]
    own = {e for e, _ in s.xs}
    inner = [b for b in inner if b not in own] + [array for _, array in s.xs]
    return inner if s.pred is None else [*inner, s.pred]


def step_writes(s: Step) -> list[Buffer]:
    """The buffers that a step writes, those of inner steps too."""
    if isinstance(s, Raw):
        return list(s.stage.outs)
    if isinstance(s, Launch):
        return list(s.kernel.outputs)
    if isinstance(s, Copy):
        return [s.dst]
    if isinstance(s, HostCall):
        return list(s.outputs)
    if isinstance(s, Push):
        return [s.stack]
    if isinstance(s, Define):
        return []
    inner = [b for block in blocks(s) for x in block for b in step_writes(x)]
    if not isinstance(s, Loop):
        return inner
    rows = dict(s.xs)
    return [rows.get(b, b) for b in inner] + ([] if s.trips is None else [s.trips])
