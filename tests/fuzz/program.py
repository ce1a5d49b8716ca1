"""A random program while it grows: the builder, the values so far, what they are on one input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import Function, IRError, Param, Value
from flowc.ir.dims import Dim, Shape
from flowc.ir.dtypes import DType, dtype
from flowc.ir.types import TensorType
from fuzz.values import DECIDING, Val, evaluate, given, is_bounded

Array = Any
Sampler = Callable[[np.random.Generator, tuple[int, ...]], Array]
LARGEST = 70_000  # elements of a value


class Reject(Exception):
    """This operation does not fit here; the program goes on without it."""


@dataclass(frozen=True)
class Program:
    """A function, its arguments for one set of sizes, and how to draw others."""

    function: Function
    env: dict[str, int]
    args: list[Array]
    samplers: list[Sampler]
    special: bool

    def other_args(self, env: dict[str, int], seed: int) -> list[Array]:
        """Arguments for other sizes."""
        rng = np.random.default_rng(seed)
        shapes = [p.ty.substitute(dict(env)).shape for p in self.function.params]
        return [s(rng, tuple(map(int, shape)))  # type: ignore[arg-type]
                for s, shape in zip(self.samplers, shapes, strict=True)]


def numbers(t: DType, special: bool = False) -> Sampler:
    """Floats that are few sixteenths; integers small or of the whole range; bools."""
    def sample(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        if t.is_bool:
            return np.asarray(rng.integers(0, 2, shape), np.bool_)
        if t.is_float:
            x = rng.integers(-40, 41, shape) / 16
            if special:
                odd = rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0], shape)
                x = np.where(rng.random(shape) < 0.15, odd, x)
            return np.asarray(np.asarray(x, np.float32).astype(t.np))
        low, high = max(int(t.min), -(1 << 62)), min(int(t.max), 1 << 62)
        full = rng.integers(low, high, shape, endpoint=True)
        small = rng.integers(max(low, -9), 8, shape)
        return np.asarray(np.where(rng.random(shape) < 0.3, full, small).astype(t.np))
    return sample


def between(t: DType, low: int, high: int) -> Sampler:
    """Integers low … high."""
    return lambda rng, shape: np.asarray(rng.integers(low, high, shape, endpoint=True)).astype(t.np)


class Growing:
    """The program so far."""

    def __init__(self, rng: np.random.Generator, sizes: Sequence[tuple[str, int, bool]]) -> None:
        """sizes: (name, number, whether it is a symbol of the program)."""
        self.rng, self.b = rng, Builder("main")
        self.noise = np.random.default_rng(0)
        self.env = {name: n for name, n, symbolic in sizes if symbolic}
        self.dims: list[Dim] = [dims.sym(name) if symbolic else n for name, n, symbolic in sizes]
        self.vals: dict[Value, Val] = {}
        self.samplers: list[Sampler] = []
        self.args: list[Array] = []
        self.states: list[Value] = []
        self.special = False
        d = self.dims
        self.shapes: list[Shape] = [(d[1],), (d[0], d[1]), (d[0],), (d[1], d[0]), (),
                                    (d[2], d[0], d[1])]

    # ---- choice

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def choose(self, items: Sequence[Any]) -> Any:
        """One of the items; Reject if there is none."""
        if not items:
            raise Reject("nothing to choose from")
        return items[int(self.rng.integers(len(items)))]

    def int(self, low: int, high: int) -> int:
        """low … high."""
        return int(self.rng.integers(low, high + 1))

    # ---- sizes

    def size(self, shape: Shape) -> tuple[int, ...]:
        """The shape as ints."""
        return tuple(int(d) for d in dims.shape_substitute(shape, dict(self.env)))  # type: ignore[arg-type]

    def count(self, shape: Shape) -> int:
        return int(np.prod(self.size(shape), dtype=np.int64))

    def shape(self) -> Shape:
        """A random shape of this program."""
        fitting = [s for s in self.shapes if self.count(s) <= LARGEST // 4]
        return self.choose(fitting or [()])  # type: ignore[no-any-return]

    # ---- values

    def t(self, v: Value) -> DType:
        return v.ty.dtype

    def param(self, t: DType, shape: Shape, sample: Sampler | None = None, state: bool = False
              ) -> Value:
        """A new argument."""
        if any(dims.symbols(d) - {"R", "C", "S"} for d in shape):
            raise Reject("sized by the data")
        sample = sample or numbers(t, self.special)
        name = f"s{len(self.args)}" if state else f"x{len(self.args)}"
        v = self.b.param(TensorType(t, shape), name, Param(name, "state" if state else "input"))
        array = sample(self.rng, self.size(shape))
        self.args.append(array)
        self.samplers.append(sample)
        self.vals[v] = given(array)
        if state:
            self.states.append(v)
        return v

    def catch_up(self, start: int) -> None:
        """Evaluate what was built since instruction `start`; Reject where a value is unfit."""
        for n in range(start, len(self.b.instrs)):
            i = self.b.instrs[n]
            if all(r in self.vals for r in i.results) and i.results:
                continue
            try:
                decides = i.op.name in DECIDING or self._cuts(i)
                operands = [self.vals[v] for v in i.operands]
                if decides and not all(v.exact for v in operands):
                    raise Reject("a decision on rounded values")
                outs = evaluate(i, operands, self.env, self.noise)
                if not all(is_bounded(v, self.special) for v in outs):
                    raise Reject("unbounded")
                if any(np.size(v.a) > LARGEST for v in outs):
                    raise Reject("large")
            except (Reject, IRError, KeyError, ArithmeticError) as error:
                del self.b.instrs[n:]
                self.b._consts = {k: v for k, v in self.b._consts.items() if v in self.vals}
                raise Reject(f"{i.op.name}: {error}") from None
            self.vals.update(zip(i.results, outs, strict=True))

    @staticmethod
    def _cuts(i: Any) -> bool:
        """Casts of floats to what is no float; sorting by keys; selecting maxima."""
        floats = any(isinstance(v.type, TensorType) and v.ty.dtype.is_float for v in i.operands)
        if i.op.name == "cast":
            return floats and not i.op.dtype.is_float
        return i.op.name == "select_and_scatter" or (i.op.name == "sort" and len(i.operands) > 1)

    def emit(self, name: str, *operands: Value, **attrs: Any) -> Any:
        """Apply an op; Reject where it does not take these operands or its result is unfit."""
        start = len(self.b.instrs)
        try:
            out = getattr(self.b, name)(*operands, **attrs)
        except (IRError, TypeError, ValueError, NotImplementedError) as error:
            raise Reject(str(error)) from None
        self.catch_up(start)
        return out

    def do(self, build: Callable[[Builder], Any]) -> Any:
        """Build several ops with the builder's conveniences."""
        start = len(self.b.instrs)
        try:
            out = build(self.b)
        except (IRError, TypeError, ValueError, NotImplementedError) as error:
            del self.b.instrs[start:]
            self.b._consts = {k: v for k, v in self.b._consts.items() if v in self.vals}
            raise Reject(str(error)) from None
        self.catch_up(start)
        return out

    def const(self, value: Any, like: Value) -> Value:
        return self.do(lambda b: b.const(value, like))  # type: ignore[no-any-return]

    def pick(self, t: DType | str, shape: Shape | None = None, exact: bool = False) -> Value:
        """A value of the type: one that is there, or else a new one."""
        t = dtype(t)
        found = [v for v, x in self.vals.items() if v.ty.dtype == t
                 and (shape is None or v.ty.shape == shape) and (x.exact or not exact)]
        if found and self.chance(0.7):
            near = found[-6:] if self.chance(0.6) else found
            return self.choose(near)  # type: ignore[no-any-return]
        shape = self.shape() if shape is None else shape
        if len(self.args) < 14 and self.chance(0.5):
            return self.param(t, shape)
        return self.converted(t, shape) or self.spread(t, shape, exact) or self.param(t, shape)

    def converted(self, t: DType, shape: Shape) -> Value | None:
        """A cast of a value of this shape."""
        found = [v for v, x in self.vals.items() if v.ty.shape == shape and v.ty.dtype != t
                 and x.exact]
        if not found:
            return None
        try:
            return self.emit("cast", self.choose(found), dtype=t)  # type: ignore[no-any-return]
        except Reject:
            return None

    def spread(self, t: DType, shape: Shape, exact: bool) -> Value | None:
        """A broadcast of a smaller value."""
        found = [v for v, x in self.vals.items() if v.ty.dtype == t and (x.exact or not exact)
                 and v.ty.rank < len(shape) and shape[len(shape) - v.ty.rank:] == v.ty.shape]
        if not found:
            return None
        v = self.choose(found)
        return self.do(lambda b: b.broadcast_to(v, shape))  # type: ignore[no-any-return]
