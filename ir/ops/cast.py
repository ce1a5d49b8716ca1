"""Conversions between element types."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..dtypes import DType
from ..kernel import expr as ex
from ..types import TensorType
from .base import need, primitive
from .numeric import Array, fit, quiet, wide


@primitive
class Cast(Op):
    """x converted by value, to `dtype`.

    Float → integer truncates and saturates, NaN gives 0; integer → integer wraps; → bool is x ≠ 0;
    bool → 0 or 1. To a float the nearest, ties to even; to one narrower than f32 by way of f32.
    Complex → real takes the real part.
    """

    name = "cast"
    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(self.dtype, x.shape)

    @quiet
    def eval(self, x: Any) -> Any:
        x = np.asarray(x)
        return x if x.dtype == self.dtype.np else convert(wide(x), self.dtype)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        source = operands[0].ty.dtype
        if source.kind not in "fc" or self.dtype.kind not in "fc":
            return (None,)
        return (b.cast(gs[0], dtype=source),)

    def lower(self, k: Any, x: Any) -> Any:
        def element(a: Any) -> Any:
            if self.dtype.is_bool and not x.dtype.is_bool:
                return ex.compare("ne", a, ex.const(0, x.dtype))
            return ex.cast(a, self.dtype)
        return k.elementwise(self.infer(x.type), element, x)


def convert(x: Array, to: DType) -> Array:
    """The meaning of `cast` on an array of a wide type."""
    if to.is_bool:
        return np.asarray(x != 0)
    if x.dtype.kind == "c" and not to.is_complex:
        x = x.real
    if x.dtype.kind == "f" and to.is_int:
        return saturate(x, to)
    return fit(x, to)


def saturate(x: Array, to: DType) -> Array:
    """Float → integer: truncated, clamped to the range of `to`, 0 for NaN."""
    lo, hi = int(to.min), int(to.max)
    v = np.trunc(x.astype(np.float64))
    inside = (v > lo) & (v < float(hi + 1))
    whole = np.where(inside, v, 0).astype(np.int64 if to.kind == "i" else np.uint64)
    whole = np.where(v >= float(hi + 1), whole.dtype.type(hi), whole)
    whole = np.where(v <= lo, whole.dtype.type(lo), whole)
    return fit(whole, to)


@primitive
class Bitcast(Op):
    """The bits of x as another element type of equal width (not bool or complex). No gradient."""

    name = "bitcast"
    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        out = TensorType(self.dtype, x.shape)
        need(x, "fiu")
        need(out, "fiu", "result")
        if x.dtype.bits != self.dtype.bits:
            raise TypeError(f"{x} and {self.dtype} differ in width")
        return out

    def eval(self, x: Any) -> Any:
        x = np.asarray(x)
        if self.dtype.bits == 4:
            return fit(x.astype(np.int8), self.dtype)
        return np.array(x, order="C").view(self.dtype.np)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None]:
        return (None,)

    def lower(self, k: Any, x: Any) -> Any:
        return k.elementwise(self.infer(x.type), lambda a: ex.bitcast(a, self.dtype), x)
