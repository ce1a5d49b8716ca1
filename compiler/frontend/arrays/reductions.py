"""The array API's reductions, products, searches and sorts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes as dt
from ..dtypes import as_dtype
from ..errors import InvalidArgumentError
from ..ops import binary as _b
from ..ops import creation as _c
from ..ops import matmul as _m
from ..ops import reduce as _r
from ..ops import selecting as _s
from ..ops import shape as _sh
from ..ops import unary as _u
from ..tensor import Tensor
from .promotion import as_type, here, strong

Axis = int | Sequence[int] | None

__all__ = [
    "all", "any", "argmax", "argmin", "argsort", "count_nonzero", "cumulative_sum", "matmul",
    "max", "mean", "min", "prod", "sort", "std", "sum", "take", "tensordot", "var", "vecdot",
]  # fmt: skip

# ---- Reductions.


def _accumulated(x: Any, dtype: Any) -> Tensor:
    """What a sum or product is taken of: small integers become 64 bits wide."""
    a = strong(x)
    if dtype is not None:
        return as_type(a, as_dtype(dtype))
    if a.dtype.is_integer:
        return as_type(a, dt.uint64 if a.dtype.is_unsigned else dt.int64)
    return a


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """The sum; integers in 64 bits."""
    return _r.reduce_sum(_accumulated(x, dtype), axis, keepdims)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """The product; integers in 64 bits."""
    return _r.reduce_prod(_accumulated(x, dtype), axis, keepdims)


def _floats(x: Any, what: str) -> Tensor:
    a = strong(x)
    if not (a.dtype.is_floating or a.dtype.is_complex):
        raise TypeError(f"{what} of {a.dtype.name}: it takes floats{here()}")
    return a


def mean(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Tensor:
    """The arithmetic mean of floats."""
    return _r.reduce_mean(_floats(x, "mean"), axis, keepdims)


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: Any = False) -> Tensor:
    """The variance: the squared distances from the mean, over n − correction."""
    x = _floats(x, "var")
    squares = _u.square(_b.subtract(x, _r.reduce_mean(x, axis, True)))
    if not correction:
        return _r.reduce_mean(squares, axis, keepdims)
    ones_ = _r.reduce_sum(_c.ones_like(x), axis, keepdims)
    return _b.divide(_r.reduce_sum(squares, axis, keepdims), _b.subtract(ones_, correction))


def std(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: Any = False) -> Tensor:
    """The standard deviation."""
    return _u.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def max(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Tensor:
    """The greatest element; NaN where there is one."""
    return _r.reduce_max(x, axis, keepdims)


def min(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Tensor:
    """The least element; NaN where there is one."""
    return _r.reduce_min(x, axis, keepdims)


def all(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Tensor:
    """Whether all elements are true (not zero)."""
    return _r.reduce_all(_u.cast(x, dt.bool_), axis, keepdims)


def any(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Tensor:
    """Whether some element is true (not zero)."""
    return _r.reduce_any(_u.cast(x, dt.bool_), axis, keepdims)


def count_nonzero(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Tensor:
    """How many elements are not zero."""
    return _r.count_nonzero(x, axis, keepdims)


def _position(f: Callable[..., Tensor], x: Any, axis: int | None, keepdims: Any) -> Tensor:
    x = strong(x)
    if axis is None:
        out = f(_sh.reshape(x, [-1]), 0)
        return _sh.reshape(out, [1] * x.ndim) if keepdims else out
    out = f(x, axis)
    return _sh.expand_dims(out, axis) if keepdims else out


def argmax(x: Any, /, *, axis: int | None = None, keepdims: Any = False) -> Tensor:
    """The index of the first greatest element."""
    return _position(_r.argmax, x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: Any = False) -> Tensor:
    """The index of the first least element."""
    return _position(_r.argmin, x, axis, keepdims)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: Any = False
) -> Tensor:
    """Running sums along an axis, with a zero before them where include_initial is set."""
    x = _accumulated(x, dtype)
    if axis is None:
        if x.ndim != 1:
            raise InvalidArgumentError(f"cumulative_sum needs an axis for {x!r}{here()}")
        axis = 0
    out = _r.cumsum(x, axis)
    if include_initial:
        first = _c.zeros_like(x[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)])
        out = _sh.concat([first, out], axis)
    return out


# ---- Products, searching, sorting.


def matmul(x1: Any, x2: Any, /) -> Tensor:
    """The matrix product: the `@` operator."""
    return _m.matmul(x1, x2)


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Tensor:
    """The sum of products over axes."""
    return _m.tensordot(x1, x2, axes)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The sum of products along one axis."""
    return _r.reduce_sum(_b.multiply(x1, x2), axis)


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """Slices at indices along an axis."""
    x = strong(x)
    return _s.gather(x, indices, axis=0 if axis is None else axis % x.ndim)


def sort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The elements along an axis in order, NaN last."""
    return _s.sort(x, axis, "DESCENDING" if descending else "ASCENDING")


def argsort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The indices that put the elements in order."""
    found = _s.argsort(x, axis, "DESCENDING" if descending else "ASCENDING")
    return _u.cast(found, dt.int64)
