"""The oracle of kernels: unscheduled ones by formula, scheduled ones loop by loop.

Contents that are undefined (fresh outputs, allocations) are filled with a pattern, so that a read
of them shows. Parallel iterations run in any order that the caller likes, and each touch of memory
that they share is checked: none may read or write what another one writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import dims
from ..types import shape_text
from .evaluate import Evaluator, KernelError
from .expr import Expr
from .form import Alloc, Buffer, For, If, Kernel, Let, LoopKernel, Proc, Stage, Stmt, Store, While
from .scalars import SCALAR_EVAL

__all__ = ["SCALAR_EVAL", "KernelError", "run_kernel"]

Array = np.ndarray[Any, Any]
STAGE_POINTS = 1 << 16  # elements of a stage computed at once
CONCURRENT = ("parallel", "block", "thread")


def run_kernel(
    k: Kernel | LoopKernel,
    inputs: Sequence[Any],
    env: Mapping[str, int] | None = None,
    order: str | int = "forward",
    races: bool = True,
    alias: bool = False,
) -> list[Array]:
    """The outputs of a kernel on these inputs, which are not changed.

    env: values of symbols that the inputs' shapes do not tell. order: how parallel, block and
    thread loops run: ``forward``, ``reverse``, or the seed of a shuffle. races: whether to check
    them. alias: make the buffers of the kernel's `inplace` pairs the same memory.
    Raises KernelError where inputs do not fit, an index is outside its buffer, a check fails (then
    with its code), a variable or buffer is out of scope, or two parallel iterations touch the same
    element, one of them writing.
    """
    symbols = dict(env or {})
    memory = bind(k.inputs, inputs, symbols)
    machine = _Machine(memory, symbols, order, races)
    scratch = k.scratch if isinstance(k, LoopKernel) else k.temps
    for a, b in k.inplace if alias and isinstance(k, LoopKernel) else ():
        memory.update({a: memory[b]} if b in memory else {b: memory[a]})
    for b in (*k.outputs, *scratch):
        if b not in memory:
            machine.allocate(b)
    with np.errstate(all="ignore"):
        if isinstance(k, LoopKernel):
            for phase in k.phases:
                machine.block(phase.body)
        else:
            for s in k.stages:
                machine.stage(s) if isinstance(s, Stage) else machine.proc(s)
    return [memory[b] for b in k.outputs]


def bind(
    buffers: Sequence[Buffer], arrays: Sequence[Any], env: dict[str, int]
) -> dict[Buffer, Any]:
    """Copies of the arrays by buffer; symbols are bound from their shapes into `env`."""
    if len(buffers) != len(arrays):
        raise KernelError(f"{len(buffers)} inputs, got {len(arrays)}")
    out = {b: np.array(a, order="C") for b, a in zip(buffers, arrays, strict=True)}
    for b, a in out.items():
        if a.dtype != b.dtype.np or a.ndim != b.rank:
            raise KernelError(f"input {b}, got {a.dtype}{list(a.shape)}")
        for d, n in zip(b.shape, a.shape, strict=True):
            if isinstance(d, dims.Expr) and str(d) in dims.symbols(d):
                env.setdefault(str(d), n)
    for b, a in out.items():
        shape = dims.shape_substitute(b.shape, dict(env))
        if shape != a.shape:
            raise KernelError(f"input {b}, here {shape_text(shape)}, got {list(a.shape)}")
    return out


def poison(shape: tuple[int, ...], dt: Any) -> Array:
    """What undefined memory holds: NaN, or a bit pattern that is neither 0 nor −1."""
    if dt.kind in "fc":
        return np.full(shape, np.nan, dt.np)
    return np.full(shape, 1 if dt.is_bool else 0xA5 & (int(dt.max)), dt.np)


class _Log:
    """Who has touched which element during one run of a concurrent loop."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.now = 0  # the iteration that runs
        self.writer: dict[tuple[int, int], int] = {}
        self.reader: dict[tuple[int, int], int] = {}  # −1: several

    def touch(self, b: Buffer, key: tuple[int, int], write: bool) -> None:
        t = self.now
        if self.writer.get(key, t) != t or (write and self.reader.get(key, t) != t):
            raise KernelError(f"two iterations touch element {key[1]} of {b}, one of them writes")
        if write:
            self.writer[key] = t
        else:
            self.reader[key] = t if self.reader.get(key, t) == t else -1


class _Machine:
    def __init__(
        self, memory: dict[Buffer, Any], env: dict[str, int], order: str | int, races: bool
    ) -> None:
        self.memory, self.env, self.order = memory, env, order
        self.logs: list[_Log] = []
        self.level: dict[Buffer, int] = {}
        self.kinds: list[str] = []  # of the loops around
        self.own: dict[Buffer, dict[int, Array]] = {}  # a block's registers, thread by thread
        self.races = races
        self.eval = Evaluator(memory, env, self.reading if races else None)
        self.rng = np.random.default_rng(order if isinstance(order, int) else 0)

    def allocate(self, b: Buffer) -> None:
        self.memory[b] = poison(tuple(self.eval.dim(d) for d in b.shape), b.dtype)
        self.level[b] = len(self.logs)

    # ---- unscheduled

    def stage(self, s: Stage) -> None:
        shape = self.memory[s.out].shape
        flat = self.memory[s.out].reshape(-1)
        for start in range(0, flat.size, STAGE_POINTS):
            points = np.arange(start, min(start + STAGE_POINTS, flat.size))
            where = np.unravel_index(points, shape) if shape else ()
            self.eval.vars = dict(zip(s.axes, where, strict=True))
            flat[start : start + len(points)] = self.eval(s.value)
        self.eval.vars = {}

    def proc(self, s: Proc) -> None:
        shape = [self.eval.dim(a.attr.extent) for a in s.axes]
        log = _Log(0)
        self.logs = [log]
        for log.now, point in enumerate(np.ndindex(*shape)):
            self.eval.vars = dict(zip(s.axes, point, strict=True))
            self.block(s.body)
        self.eval.vars, self.logs = {}, []

    # ---- statements

    def block(self, body: Iterable[Stmt]) -> None:
        named: list[Expr] = []
        for s in body:
            if isinstance(s, For):
                self.loop(s)
            elif isinstance(s, Store):
                self.store(s)
            elif isinstance(s, Let):
                self.eval.vars[s.var] = self.eval(s.value)
                named.append(s.var)
            elif isinstance(s, If):
                self.block(s.then if self.scalar(s.cond) else s.otherwise)
            elif isinstance(s, While):
                while self.scalar(s.cond):
                    self.block(s.body)
            elif isinstance(s, Alloc):
                self.allocate(s.buffer)
                if s.buffer.scope == "register" and self.kinds and self.kinds[-1] == "block":
                    self.own[s.buffer] = {}
                self.block(s.body)
                del self.memory[s.buffer]
                self.own.pop(s.buffer, None)
        for v in named:
            self.eval.vars.pop(v, None)

    def scalar(self, e: Expr) -> Any:
        value = np.asarray(self.eval(e))
        if value.ndim:
            raise KernelError("a condition or extent that differs from lane to lane")
        return value[()]

    def loop(self, s: For) -> None:
        extent = int(self.scalar(s.extent))
        limit = s.var.attr.extent
        if limit is not None and extent > self.eval.dim(limit):
            raise KernelError(f"{s.var.attr.name} < {extent} goes beyond its bound {limit}")
        self.kinds.append(s.kind)
        if s.kind == "vector" and not _divergent(s.body):
            self.vector(s, extent)
        elif s.kind in CONCURRENT:
            self.concurrent(s, extent)
        else:
            for i in range(extent):
                self.eval.vars[s.var] = i
                self.block(s.body)
        self.kinds.pop()
        self.eval.vars.pop(s.var, None)

    def vector(self, s: For, extent: int) -> None:
        """`width` lanes at once, statement by statement."""
        for start in range(0, extent, s.width):
            self.eval.vars[s.var] = np.arange(start, min(start + s.width, extent))
            self.block(s.body)

    def concurrent(self, s: For, extent: int) -> None:
        turns = list(range(extent))
        if self.order == "reverse":
            turns.reverse()
        elif self.order != "forward":
            self.rng.shuffle(turns)
        log = _Log(len(self.logs))
        self.logs.append(log)
        for i in turns:
            log.now = i
            self.eval.vars[s.var] = i
            for b, arrays in self.own.items() if s.kind == "thread" else ():
                if i not in arrays:
                    arrays[i] = poison(self.memory[b].shape, b.dtype)
                self.memory[b] = arrays[i]
            self.block(s.body)
        self.logs.pop()

    # ---- memory

    def store(self, s: Store) -> None:
        array = self.memory.get(s.buffer)
        if array is None:
            raise KernelError(f"the buffer {s.buffer} has no memory here")
        memo: dict[Expr, Any] = {}
        idx = tuple(self.eval(i, memo) for i in s.indices)
        value = np.asarray(self.eval(s.value, memo))
        for n, (i, size) in enumerate(zip(idx, array.shape, strict=True)):
            if np.any(np.asarray(i) < 0) or np.any(np.asarray(i) >= size):
                raise KernelError(f"index {i} of axis {n} is outside {s.buffer}", 2)
        lanes = np.broadcast_shapes(value.shape, *(np.shape(i) for i in idx))
        if lanes:
            self.distinct(s.buffer, array, idx, value, lanes)
        array[idx] = value
        if self.races and self.logs:
            self.touching(s.buffer, idx, True)

    def distinct(
        self, b: Buffer, array: Array, idx: tuple[Any, ...], value: Array, lanes: tuple[int, ...]
    ) -> None:
        """Lanes store to different elements, or all the same value."""
        flat = np.broadcast_to(_linear(array, idx), lanes).reshape(-1)
        if len(np.unique(flat)) != flat.size and not _uniform(np.broadcast_to(value, lanes)):
            raise KernelError(f"two lanes store different values to one element of {b}")

    def reading(self, b: Buffer, idx: tuple[Any, ...]) -> None:
        if self.logs:
            self.touching(b, idx, False)

    def touching(self, b: Buffer, idx: tuple[Any, ...], write: bool) -> None:
        level = self.level.get(b, 0)
        logs = [log for log in self.logs if log.level >= level]
        if not logs:
            return
        for at in np.unique(np.asarray(_linear(self.memory[b], idx))):
            for log in logs:
                log.touch(b, (id(self.memory[b]), int(at)), write)


def _linear(array: Array, idx: tuple[Any, ...]) -> Any:
    out: Any = 0
    for i, n in zip(idx, array.shape, strict=True):
        out = out * n + np.asarray(i)
    return out


def _uniform(value: Array) -> bool:
    flat = value.reshape(-1)
    return flat.tobytes() == flat[:1].tobytes() * flat.size


def _divergent(body: tuple[Stmt, ...]) -> bool:
    """Whether a vector loop's body is run lane by lane: it branches, or has memory of its own."""
    return any(isinstance(s, If | While | Alloc) or (isinstance(s, For) and _divergent(s.body))
               for s in body)
