"""Reductions over axes, and their running form."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim
from ..dtypes import DType, dtype, f32, i64
from ..kernel import expr as ex
from ..kernel.form import Alloc, Buffer, For, Let, Stmt, Store
from ..types import TensorType
from .base import axes_in, axis_in, drop, need, primitive
from .numeric import Array, fit, quiet, wide

_EVAL = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "and": np.logical_and, "or": np.logical_or,
}
_KINDS = {"sum": "fiuc", "prod": "fiuc", "max": "fiu", "min": "fiu", "and": "b", "or": "b"}
SCALAR = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


def _wider(x: Array) -> Array:
    """For sums and products: floats in f64, so that only the last rounding is left."""
    return x.astype(np.float64) if dtype(x.dtype).is_float else wide(x)


def _identity(op: str, t: DType) -> Any:
    if op in ("max", "min"):
        return t.min if op == "max" else t.max
    return {"sum": 0, "prod": 1, "and": True, "or": False}[op]


@primitive
class Reduce(Op):
    """Reduce over `axes` (sorted, within the rank) by `op`: sum prod max min and or.

    The result drops the axes. ``and``/``or`` take bools, the others numbers; sums and products of
    narrow floats accumulate in f32, max and min give NaN where any element is NaN. Over no
    elements: 0, 1, −inf or the least integer, +inf or the greatest, true, false. The gradient of
    max and min is shared equally among ties.
    """

    name = "reduce"
    op: str
    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        if self.op not in ex.COMBINERS:
            raise ValueError(f"no combiner {self.op!r}")
        need(x, _KINDS[self.op])
        axes_in(self.axes, x.rank)
        return x.with_shape(drop(x.shape, self.axes))

    @quiet
    def eval(self, x: Any) -> Any:
        t = dtype(x.dtype)
        if not self.axes:
            return np.asarray(x)
        if self.op not in ("max", "min"):
            v = _wider(x)
            return fit(_EVAL[self.op].reduce(v, axis=self.axes, dtype=v.dtype), t)
        v = wide(x)
        start = v.dtype.type(_identity(self.op, t))
        out = _EVAL[self.op].reduce(v, axis=self.axes, initial=start)
        if t.is_float and np.any(out == 0):  # +0 is above −0, in whatever order NumPy met them
            positive = (v == 0) & ~np.signbit(v)
            negative = (v == 0) & np.signbit(v)
            plus = positive.any(self.axes) if self.op == "max" else ~negative.any(self.axes)
            out = np.where(out == 0, np.where(plus, v.dtype.type(0), -v.dtype.type(0)), out)
        return fit(out, t)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x,), (y,), (g,) = operands, results, gs
        keep = tuple(i for i in range(x.ty.rank) if i not in self.axes)

        def widen(v: Value) -> Any:
            return b.broadcast(v, shape=x.ty.shape, dims=keep)

        if self.op == "sum":
            return (widen(g),)
        if self.op == "prod":
            return (_prod_grad(b, x, g, self.axes),)
        hit = b.compare(x, widen(y), op="eq")
        ones = b.cast(hit, dtype=x.ty.dtype)
        share = b.div(g, b.reduce(ones, op="sum", axes=self.axes))
        return (b.select(hit, widen(share), b.const(0, x)),)

    def lower(self, k: Any, x: Any) -> Any:
        out = self.infer(x.type)
        keep = [i for i in range(x.rank) if i not in self.axes]

        def element(*i: Any) -> Any:
            def body(*r: Any) -> Any:
                at: list[Any] = [None] * x.rank
                for n, a in enumerate(keep):
                    at[a] = i[n]
                for n, a in enumerate(self.axes):
                    at[a] = r[n]
                return x[tuple(at)]
            if not self.axes:
                return body()
            return k.reduce(self.op, [x.shape[a] for a in self.axes], body)

        return k.compute(out, element)

    def flops(self, operands: Any, results: Any) -> Any:
        return dims.product(operands[0].shape)


def _prod_grad(b: Any, x: Value, g: Value, axes: tuple[int, ...]) -> Any:
    """Exclusive products from both sides, so that zeros need no division."""
    keep = tuple(i for i in range(x.ty.rank) if i not in axes)
    perm = keep + axes
    lead = tuple(x.ty.shape[i] for i in keep)
    n = dims.product(tuple(x.ty.shape[i] for i in axes))
    flat = b.reshape(b.transpose(x, perm=perm), shape=(*lead, n))
    axis = len(lead)
    before = b.cumulative(flat, op="prod", axis=axis, exclusive=True, reverse=False)
    after = b.cumulative(flat, op="prod", axis=axis, exclusive=True, reverse=True)
    across = b.broadcast(g, shape=(*lead, n), dims=tuple(range(axis)))
    out = b.mul(across, b.mul(before, after))
    moved = b.reshape(out, shape=tuple(x.ty.shape[i] for i in perm))
    inverse = tuple(perm.index(i) for i in range(len(perm)))
    return b.transpose(moved, perm=inverse)


@primitive
class Cumulative(Op):
    """The running sum, prod, max or min of x along `axis`; of x's type.

    Element i combines the elements 0 … i (0 … i−1 and the identity of the op first, if exclusive);
    from the other end if reverse. Narrow floats accumulate in f32. The gradient of max and min goes
    to the first of equal elements.
    """

    name = "cumulative"
    op: str
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self, x: TensorType) -> TensorType:
        if self.op not in ("sum", "prod", "max", "min"):
            raise ValueError(f"no cumulative {self.op!r}")
        need(x, _KINDS[self.op])
        axis_in(self.axis, x.rank)
        return x

    @quiet
    def eval(self, x: Any) -> Any:
        t = dtype(x.dtype)
        v = _wider(x) if self.op in ("sum", "prod") else wide(x)
        v = np.flip(v, self.axis) if self.reverse else v
        out = _EVAL[self.op].accumulate(v, axis=self.axis, dtype=v.dtype)
        if t.is_float and self.op in ("max", "min"):  # +0 is above −0, which NumPy does not see to
            best = (v == 0) & (np.signbit(v) == (self.op == "min"))
            seen = np.logical_or.accumulate(best, axis=self.axis)
            signs = np.where(seen == (self.op == "max"), 1.0, -1.0)
            out = np.where(out == 0, np.copysign(out, signs), out).astype(v.dtype)
        if self.exclusive:
            first = v.dtype.type(_identity(self.op, t))
            out = np.insert(out, 0, first, axis=self.axis)
            out = np.take(out, range(x.shape[self.axis]), axis=self.axis)
        return fit(np.flip(out, self.axis) if self.reverse else out, t)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x,), (g,) = operands, gs
        if self.op == "sum":
            back = not self.reverse
            out = b.cumulative(g, op="sum", axis=self.axis, exclusive=self.exclusive, reverse=back)
            return (out,)
        if self.reverse:
            x, g = b.reverse(x, axes=(self.axis,)), b.reverse(g, axes=(self.axis,))
        if self.exclusive:
            g = _shift(b, g, self.axis, 1, 0)
        before = b.cumulative(x, op=self.op, axis=self.axis, exclusive=True)
        out = (_prod_back if self.op == "prod" else self._extremum_back)(b, x, before, g, self.axis)
        return (b.reverse(out, axes=(self.axis,)) if self.reverse else out,)

    def _extremum_back(self, b: Any, x: Value, before: Value, g: Value, axis: int) -> Any:
        """Each g goes to the latest element that beat all before it."""
        beats = b.compare(x, before, op="gt" if self.op == "max" else "lt")
        place = b.iota(dtype=i64, shape=x.ty.shape, axis=axis)
        start = b.compare(place, b.const(0, place), op="eq")
        record = getattr(b, "or")(beats, start)
        one, zero = b.const(1, g), b.const(0, g)
        link = _shift(b, b.select(record, zero, one), axis, 1, 0)
        return b.select(record, _recurrence(b, link, g, axis), zero)

    def lower(self, k: Any, x: Any) -> Any:
        out = k.buffer(x.type)
        acc_type = f32 if x.dtype.is_float and x.dtype.bits < 32 else x.dtype
        acc = Buffer("acc", acc_type, (1,), "register")
        n, zero = x.shape[self.axis], ex.index(0)

        def body(*row: Any) -> list[Stmt]:
            r = ex.var("r", n)
            j = ex.index(n) - 1 - r if self.reverse else r
            at = (*row[: self.axis], j, *row[self.axis :])
            value = ex.let_var("v", acc_type)
            step = ex.binary(SCALAR[self.op], acc[zero], ex.cast(x[at], acc_type))
            update = Store(acc, (zero,), value)
            write = Store(out, at, ex.cast(acc[zero], x.dtype))
            inner: tuple[Stmt, ...] = (Let(value, step), update, write)
            if self.exclusive:
                inner = (Let(value, step), write, update)
            start = Store(acc, (zero,), ex.const(_identity(self.op, acc_type), acc_type))
            return [Alloc(acc, (start, For(r, ex.index(n), "serial", inner)))]

        k.proc([out], drop(x.shape, (self.axis,)), body)
        return out


def _shift(b: Any, x: Value, axis: int, by: Dim, fill: Any) -> Any:
    """result[i] = x[i + by] along the axis, `fill` past the end (by ≤ the size, or both static)."""
    shape = x.ty.shape
    n = shape[axis]
    by = dims.minimum(by, n)
    starts = tuple(by if a == axis else 0 for a in range(len(shape)))
    part = b.slice(x, starts=starts, limits=shape, strides=(1,) * len(shape))
    none = (0,) * len(shape)
    return b.pad(part, b.const(fill, x.ty.dtype), lo=none, hi=starts, interior=none)


def _recurrence(b: Any, a: Value, g: Value, axis: int) -> Any:
    """R[j] = g[j] + a[j]·R[j+1], from the end: ⌈log₂ n⌉ compositions of affine maps.

    Needs no division, so that zeros do no harm, and differentiates as often as one likes. With a
    symbolic size 31 steps serve every size that memory can hold.
    """
    n = g.ty.shape[axis]
    steps = max(n - 1, 0).bit_length() if isinstance(n, int) else 31
    for s in range(steps):
        ahead = _shift(b, g, axis, 1 << s, 0)
        g = b.add(g, b.mul(a, ahead))
        if s + 1 < steps:
            a = b.mul(a, _shift(b, a, axis, 1 << s, 0))
    return g


def _prod_back(b: Any, x: Value, before: Value, g: Value, axis: int) -> Any:
    """Σᵢ≥ⱼ gᵢ · Π_{k≤i, k≠j} xₖ = (Π_{k<j} xₖ) · Rⱼ with Rⱼ = gⱼ + xⱼ₊₁ Rⱼ₊₁."""
    return b.mul(before, _recurrence(b, _shift(b, x, axis, 1, 0), g, axis))
