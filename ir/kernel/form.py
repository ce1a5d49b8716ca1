"""The grammar of kernels: buffers, unscheduled stages, scheduled loops.

*Unscheduled* (no target): a list of stages, in order. A `Stage` says ``out[axes] = value`` for the
whole domain; its value may hold `reduce` nodes. A `Proc` is for what is not a formula an element
(sort, scatter, prefix sums): for each point of its parallel domain, a short imperative body.

*Scheduled* (target chosen): phases, each a loop nest of statements; between phases all work is done
(CPU: a fork-join each; GPU: a launch each). Statement grammar:

    stmt  = For(var, extent, kind, width, body) | Store(buffer, indices, value) | Let(var, value)
          | If(cond, then, otherwise) | While(cond, body) | Alloc(buffer, body)
          | Prefetch(buffer, indices)
    kind  = serial | parallel | vector | unroll | block | thread

A `vector` loop runs `width` elements at once, its last ones masked; its body holds `Let`, `Store`,
`unroll` loops and `If`-free straight code. A register buffer indexed by the vector variable is a
vector register. `parallel` is the outermost loop of a CPU phase: one iteration is a chunk. On a
GPU the outermost loops are `block`s; inside, `thread` loops, between two of which there is a
barrier. A register buffer that a block allocates belongs to each of its threads, through all their
loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

from ..dims import Dim, Shape
from ..dtypes import DType
from ..types import TensorType
from .expr import Expr, index, load, node, rewrite, walk

Kind = Literal["serial", "parallel", "vector", "unroll", "block", "thread"]
Scope = Literal["global", "shared", "local", "register"]


class Buffer:
    """A dense row-major array; equality is identity.

    scope: ``global`` memory given by the caller or the workspace; ``shared`` by a GPU block;
    ``local`` to one chunk or thread; ``register`` (its size is constant, its indices are constant
    once loops are unrolled, but for the vector variable).
    `pad`: elements added to each row's stride (bank conflicts, aligned rows).
    """

    __slots__ = ("dtype", "name", "pad", "scope", "shape")

    def __init__(
        self, name: str, dt: DType, shape: Iterable[Dim], scope: Scope = "global", pad: int = 0
    ) -> None:
        self.name, self.dtype, self.shape = name, dt, tuple(shape)
        self.scope: Scope = scope
        self.pad = pad

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __getitem__(self, idx: Any) -> Expr:
        return load(self, idx if isinstance(idx, tuple) else (idx,))

    def at(self, idx: Iterable[Expr | Dim], pred: Expr | None = None) -> Expr:
        """A load that gives 0 where `pred` is false."""
        return load(self, idx, pred)

    def strides(self) -> tuple[Dim, ...]:
        """Elements from one index to the next, per axis."""
        out: list[Dim] = []
        step: Dim = 1
        for n, d in enumerate(reversed(self.shape)):
            out.append(step)
            step = step * d + (self.pad if n == 0 else 0)
        return tuple(reversed(out))

    def offset(self, idx: Iterable[Expr]) -> Expr:
        """The linear element offset of an index tuple."""
        out = index(0)
        for i, s in zip(idx, self.strides(), strict=True):
            out = out + index(s) * i
        return out

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"


# ---- unscheduled

@dataclass(frozen=True, eq=False)
class Stage:
    """``out[axes…] = value`` over out's whole shape. `axes` are variables whose extents are it."""

    out: Buffer
    axes: tuple[Expr, ...]
    value: Expr

    @property
    def outs(self) -> tuple[Buffer, ...]:
        return (self.out,)

    def reads(self) -> tuple[Expr, ...]:
        """The load nodes."""
        return self._loads

    @cached_property
    def _loads(self) -> tuple[Expr, ...]:
        return tuple(e for e in walk(self.value) if e.op == "load")


@dataclass(frozen=True, eq=False)
class Proc:
    """For each point of the parallel `axes`, in any order, `body` runs; it writes `outs`.

    Different points write different elements. The body may read what it has written itself.
    """

    outs: tuple[Buffer, ...]
    axes: tuple[Expr, ...]
    body: tuple[Stmt, ...]

    def reads(self) -> tuple[Expr, ...]:
        """The load nodes, of the outputs too."""
        return tuple(e for e in walk(*stmt_exprs(self.body)) if e.op == "load")


AnyStage = Stage | Proc


@dataclass(frozen=True, eq=False)
class Kernel:
    """An unscheduled kernel: stages in order over inputs; outputs are among the stages' results.

    Buffers that are neither inputs nor outputs are temporaries of the kernel. parts: how many
    stages each part has, in order, where there are several. Each has its own loops, and one launch
    runs them side by side; all that a part may read of another, an earlier one, is single elements.
    """

    name: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    stages: tuple[AnyStage, ...]
    parts: tuple[int, ...] = ()

    def split(self) -> tuple[Kernel, ...]:
        """The parts as kernels; of one part, the kernel itself."""
        return self._parts

    @cached_property
    def _parts(self) -> tuple[Kernel, ...]:
        if len(self.parts) < 2:
            return (self,)
        ends = tuple(accumulate(self.parts))
        groups = [self.stages[end - n : end] for n, end in zip(self.parts, ends, strict=True)]
        maker = {b: n for n, g in enumerate(groups) for s in g for b in s.outs}
        given, asked = set(self.inputs), set(self.outputs)
        ins: list[dict[Buffer, None]] = [{} for _ in groups]
        outs: list[dict[Buffer, None]] = [{} for _ in groups]
        for b, n in maker.items():
            if b in asked:
                outs[n][b] = None
        for m, g in enumerate(groups):
            for b in dict.fromkeys(e.attr for s in g for e in s.reads()):
                n = maker.get(b, m)
                if b in given or n != m:
                    ins[m][b] = None
                if n != m:
                    outs[n][b] = None
        return tuple(
            Kernel(f"{self.name}_{n}", tuple(a), tuple(b), g)
            for n, (a, b, g) in enumerate(zip(ins, outs, groups, strict=True))
        )

    @property
    def temps(self) -> tuple[Buffer, ...]:
        known = {*self.inputs, *self.outputs}
        return tuple(b for s in self.stages for b in s.outs if b not in known)


# ---- scheduled

@dataclass(frozen=True, eq=False)
class For:
    """``for var < extent``; see the module's text for `kind`. width: lanes of a vector loop."""

    var: Expr
    extent: Expr
    kind: Kind
    body: tuple[Stmt, ...]
    width: int = 1


@dataclass(frozen=True, eq=False)
class Store:
    """``buffer[indices] = value``."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, eq=False)
class Let:
    """Names a value at this point of time (loads happen here)."""

    var: Expr
    value: Expr


@dataclass(frozen=True, eq=False)
class If:
    """A branch on a scalar bool."""

    cond: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@dataclass(frozen=True, eq=False)
class While:
    """Runs `body` while the scalar `cond` holds, tested before each round."""

    cond: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, eq=False)
class Alloc:
    """A buffer of a narrower scope, alive in `body`; its contents are undefined at first."""

    buffer: Buffer
    body: tuple[Stmt, ...]


@dataclass(frozen=True, eq=False)
class Prefetch:
    """Asks for the cache line of ``buffer[indices]``, which may lie outside: no effect but time."""

    buffer: Buffer
    indices: tuple[Expr, ...]


Stmt = For | Store | Let | If | While | Alloc | Prefetch


@dataclass(frozen=True, eq=False)
class Phase:
    """One parallel step: `body` is a `parallel` loop (CPU), `block` loops (GPU), or serial."""

    body: tuple[Stmt, ...]
    threads: int = 1  # GPU: threads of a block


@dataclass(frozen=True, eq=False)
class LoopKernel:
    """A scheduled kernel. `scratch`: global buffers of the workspace that phases share.

    inplace: pairs of params that may be the same memory (an output and the input that it replaces);
    all other params are distinct memory, which code generation tells the optimizer.
    """

    name: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    scratch: tuple[Buffer, ...]
    phases: tuple[Phase, ...]
    target: str = "cpu"
    note: str = ""  # which schedule, for people
    inplace: tuple[tuple[Buffer, Buffer], ...] = ()

    @property
    def params(self) -> tuple[Buffer, ...]:
        return (*self.inputs, *self.outputs, *self.scratch)

    def replace(self, **changes: Any) -> LoopKernel:
        return replace(self, **changes)


def children(s: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    """The blocks directly inside a statement."""
    if isinstance(s, For | While | Alloc):
        return (s.body,)
    return (s.then, s.otherwise) if isinstance(s, If) else ()


def walk_stmts(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """All statements, outer before inner."""
    for s in body:
        yield s
        for block in children(s):
            yield from walk_stmts(block)


def own_exprs(s: Stmt) -> tuple[Expr, ...]:
    """The expressions directly in a statement."""
    if isinstance(s, Store):
        return (*s.indices, s.value)
    if isinstance(s, For):
        return (s.extent,)
    if isinstance(s, Let):
        return (s.value,)
    if isinstance(s, Prefetch):
        return s.indices
    return (s.cond,) if isinstance(s, If | While) else ()


def stmt_exprs(body: Iterable[Stmt]) -> list[Expr]:
    """All expressions in a block, nested ones too."""
    return [e for s in walk_stmts(body) for e in own_exprs(s)]


def map_stmts(
    body: tuple[Stmt, ...],
    on_expr: Callable[[Expr], Expr],
    on_buffer: Callable[[Buffer], Buffer] = lambda b: b,
) -> tuple[Stmt, ...]:
    """A block with its expressions (and the buffers of stores and allocs) replaced."""
    def go(block: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(one(s) for s in block)

    def one(s: Stmt) -> Stmt:
        if isinstance(s, For):
            return For(s.var, on_expr(s.extent), s.kind, go(s.body), s.width)
        if isinstance(s, Store):
            idx = tuple(map(on_expr, s.indices))
            return Store(on_buffer(s.buffer), idx, on_expr(s.value))
        if isinstance(s, Let):
            return Let(s.var, on_expr(s.value))
        if isinstance(s, If):
            return If(on_expr(s.cond), go(s.then), go(s.otherwise))
        if isinstance(s, While):
            return While(on_expr(s.cond), go(s.body))
        if isinstance(s, Prefetch):
            return Prefetch(on_buffer(s.buffer), tuple(map(on_expr, s.indices)))
        return Alloc(on_buffer(s.buffer), go(s.body))

    return go(body)


def rename_buffers(e: Expr, env: dict[Buffer, Buffer], memo: dict[Expr, Expr]) -> Expr:
    """e with its loads redirected to other buffers of the same shape."""
    def step(x: Expr) -> Expr | None:
        if x.op != "load" or x.attr not in env:
            return None
        args = tuple(rewrite(a, step, memo) for a in x.args)
        return node("load", args, env[x.attr], x.dtype)

    return rewrite(e, step, memo)


def shape_exprs(shape: Shape) -> tuple[Expr, ...]:
    """A shape as index expressions."""
    return tuple(index(d) for d in shape)
