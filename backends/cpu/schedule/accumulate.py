"""Reductions inside schedules: register accumulators, fixed trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.dtypes import DType, f32, i32, i64, u32, u64
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, Stage, Stmt, Store
from flowc.ir.kernel.patterns import cost

from ..target import CpuTarget

HEAVY = 12  # cycles of an element's work from which one vector of accumulators hides its latency
SCALAR = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


def acc_dtype(op: str, dt: DType) -> DType:
    """Narrow floats accumulate in f32, 4-bit integers in 32 bits (they wrap when cast back)."""
    if dt.is_float and dt.bits < 32:
        return f32
    if dt.is_int and dt.bits < 8:
        return i32 if dt.kind == "i" else u32
    return dt


def identity(op: str, dt: DType, of: DType | None = None) -> Expr:
    """The value that a reduction of nothing has, in dt; `of`: the elements' type, if narrower."""
    value = {
        "sum": 0, "prod": 1, "max": None, "min": None, "and": True, "or": False,
    }[op]
    if op in ("max", "min"):
        of = of or dt
        value = of.min if op == "max" else of.max
    return ex.const(np.asarray(value), dt)


def combine(op: str, a: Expr, b: Expr) -> Expr:
    """One step of the reduction."""
    return ex.binary(SCALAR[op], a, b)


def fill(buf: Buffer, value: Expr, width: int) -> Stmt:
    """Set all of a one-vector register buffer."""
    lane = ex.var("l", width)
    return For(lane, ex.index(width), "vector", (Store(buf, (lane,), value),), width)


@dataclass(frozen=True)
class Fold:
    """A reduction as accumulators hold it: values of `dt`, combined by `op`.

    Where a target has no instruction for a maximum with NaN and −0 in their places (x86 takes six),
    floats are held as unsigned `keys` in the same order, with NaN at the end that wins: four cheap
    operations an element, of which one depends on the step before.
    of: the elements' type, whose limits a reduction of nothing has.
    """

    op: str
    value: DType  # of a result
    of: DType
    keys: bool

    @property
    def dt(self) -> DType:
        """The type of an accumulator."""
        return {32: u32, 64: u64}[self.value.bits] if self.keys else self.value

    @property
    def start(self) -> Expr:
        """What an accumulator holds at first."""
        first = identity(self.op, self.value, self.of)
        if not self.keys:
            return first
        size = self.value.size
        bits = int(np.asarray(ex.const_value(first)).view(f"i{size}"))
        ordered = bits if bits >= 0 else bits ^ ((1 << (8 * size - 1)) - 1)
        return ex.const((ordered + self._shift) % (1 << (8 * size)), self.dt)

    def step(self, acc: Expr, value: Expr) -> Expr:
        """An accumulator and one more element."""
        return combine(self.op, acc, self._encode(ex.cast(value, self.value)))

    def decode(self, acc: Expr) -> Expr:
        """The value that an accumulator holds."""
        if not self.keys:
            return acc
        return ex.bitcast(self._turn(ex.bitcast(acc, self._signed) - self._shift), self.value)

    def total(self, acc: Buffer) -> Expr:
        """The value of all lanes."""
        return self.decode(ex.hreduce(self.op, acc))

    def _encode(self, value: Expr) -> Expr:
        if not self.keys:
            return value
        return ex.bitcast(self._turn(ex.bitcast(value, self._signed)) + self._shift, self.dt)

    @property
    def _signed(self) -> DType:
        return i32 if self.value.bits == 32 else i64

    @property
    def _shift(self) -> int:
        """Makes numbers in signed order unsigned, −∞ becoming 0 (or ∞ the greatest), so that the
        NaNs beyond it wrap around to the end that wins."""
        mantissa, half = {32: 23, 64: 52}[self.value.bits], 1 << (self.value.bits - 1)
        infinity = (1 << mantissa) - 1  # from the end of the word, in order
        return half - infinity if self.op == "max" else infinity - half

    def _turn(self, bits: Expr) -> Expr:
        """Sign and magnitude into a signed number in the same order (−0 is −1), or back."""
        size = self.value.bits
        sign = ex.binary("shr", bits, ex.const(size - 1, self._signed))
        flip = ex.binary("and", sign, ex.const((1 << (size - 1)) - 1, self._signed))
        return ex.binary("xor", bits, flip)


def fold(op: str, element: DType, target: CpuTarget, of: DType | None = None) -> Fold:
    """How elements of a type are reduced on a target."""
    value = acc_dtype(op, element)
    keys = op in ("max", "min") and value.is_float and not target.has_maximum
    return Fold(op, value, of or element, keys)


Before = Callable[[Expr], list[Stmt]]


def lanes_loop(
    fold: Fold, body: Callable[[Expr], Expr], extent: Dim, acc: Buffer,
    before: Before | None = None,
) -> list[Stmt]:
    """acc[lane] ⊕= body(i) for i ≡ lane (mod width) in rising order; `extent` elements in all.

    The tree: element i goes to lane i mod width; the lanes are combined by halving.
    before: statements ahead of an element's step, which may name what its value uses.
    """
    width = int(acc.shape[0])  # type: ignore[arg-type]
    whole = dims.floordiv(extent, width)
    out: list[Stmt] = []

    def step(at: Expr, lane: Expr) -> tuple[Stmt, ...]:
        first = before(at) if before is not None else []
        return (*first, Store(acc, (lane,), fold.step(acc[lane], body(at))))

    if whole != 0:
        block, lane = ex.var("b", whole), ex.var("l", width)
        inner = For(lane, ex.index(width), "vector", step(block * width + lane, lane), width)
        out.append(For(block, ex.index(whole), "serial", (inner,)))
    rest = dims.mod(extent, width)
    if rest != 0:
        lane = ex.var("l", rest)
        at = ex.index(dims.mul(whole, width)) + lane
        out.append(For(lane, ex.index(rest), "vector", step(at, lane), width))
    return out


def accumulators(extent: Dim, lanes: int, work: int) -> int:
    """Lanes of an accumulator over `extent` elements of `work` cycles each.

    Four vectors hide the latency of a combination; where an element's own work does, one is enough,
    and the code a quarter.
    """
    wide = 4 if work < HEAVY and (not isinstance(extent, int) or extent >= 4 * lanes) else 1
    width = lanes * wide
    while isinstance(extent, int) and width > 2 and extent <= width // 2:
        width //= 2
    return width


def reduce_axes(
    how: Fold, axes: Sequence[Expr], body: Expr, lanes: int, use: Callable[[Expr], list[Stmt]],
    before: Callable[[Sequence[Expr]], list[Stmt]] | None = None, work: int = 0,
) -> list[Stmt]:
    """Reduce body over the axes, the last one in lanes; `use` gets the result (how.value).

    before: see `lanes_loop`, given what the axes are.
    """
    last = axes[-1] if axes else ex.var("r", 1)
    extent = last.attr.extent
    width = accumulators(extent, lanes, max(work, cost(body)))
    acc = Buffer("acc", how.dt, (width,), "register")

    def first(at: Expr) -> list[Stmt]:
        return before([*axes[:-1], at]) if before is not None else []

    loops = lanes_loop(how, lambda i: ex.substitute(body, {last: i}), extent, acc, first)
    for v in reversed(axes[:-1]):
        loops = [For(v, ex.index(v.attr.extent), "serial", tuple(loops))]
    return [Alloc(acc, (fill(acc, how.start, width), *loops, *use(how.total(acc))))]


def with_short_indices(s: Stage) -> Stage:
    """The stage with its least positions (those of extrema) found in 32 bits, where they fit."""
    def step(e: Expr) -> Expr | None:
        short = _short(e.args[0]) if e.op == "reduce" and e.attr == "min" else None
        if short is None:
            return None
        found = ex.reduce("min", e.args[1:], short)
        none = ex.compare("eq", found, ex.const(i32.max, i32))
        return ex.select(none, ex.const(i64.max, i64), ex.cast(found, i64))

    value = ex.rewrite(s.value, step, {})
    return s if value is s.value else Stage(s.out, s.axes, value)


def _short(body: Expr) -> Expr | None:
    """``select(c, index, greatest)`` in i64 as the same in i32."""
    if body.op != "select" or body.dtype != i64:
        return None
    c, at, otherwise = body.args
    if otherwise.op != "const" or ex.const_value(otherwise) != i64.max or at.op != "cast":
        return None
    of = ex.bounds(at.args[0]) if at.args[0].dtype is ex.INDEX else None
    if of is None or not all(isinstance(b, int) and 0 <= b < int(i32.max) for b in of):
        return None
    return ex.select(c, ex.cast(at.args[0], i32), ex.const(i32.max, i32))
