"""The functions of the array API standard (2023.12) for traced arrays: `x.__array_namespace__()`.

Names, arguments and promotion are the standard's, so that code written for any array library
traces. What it leaves undefined is an error. Defaults: float32 where the standard says "the default
floating-point type", int64 for integers. Functions whose result's shape depends on data (`nonzero`,
`unique_*`) are not there.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable, Sequence
from functools import reduce as fold
from typing import Any

import numpy as np

from .. import dtypes as dt
from ..dtypes import DType, as_dtype
from ..errors import InvalidArgumentError
from ..ops import binary as _b
from ..ops import creation as _c
from ..ops import matmul as _m
from ..ops import reduce as _r
from ..ops import selecting as _s
from ..ops import shape as _sh
from ..ops import unary as _u
from ..ops.convert import constant
from ..registry import operator
from ..tensor import Tensor
from .promotion import as_type, here, promote, strong
from .promotion import result_type as _pair_type

__array_api_version__ = "2023.12"
pi, e, inf, nan, newaxis = math.pi, math.e, math.inf, math.nan, None
float32, float64, complex64, complex128 = dt.float32, dt.float64, dt.complex64, dt.complex128
int8, int16, int32, int64, bool = dt.int8, dt.int16, dt.int32, dt.int64, dt.bool_
uint8, uint16, uint32, uint64 = dt.uint8, dt.uint16, dt.uint32, dt.uint64
Axis = int | Sequence[int] | None

# ---- Elementwise: the standard's names over the operations there are.

acos, acosh, asin, asinh, atan, atanh = _u.acos, _u.acosh, _u.asin, _u.asinh, _u.atan, _u.atanh
cos, cosh, sin, sinh, tan, tanh = _u.cos, _u.cosh, _u.sin, _u.sinh, _u.tan, _u.tanh
exp, expm1, log, log1p, sqrt = _u.exp, _u.expm1, _u.log, _u.log1p, _u.sqrt
abs, negative, sign, square, reciprocal = _u.abs, _u.negative, _u.sign, _u.square, _u.reciprocal
logical_not, bitwise_invert = _u.logical_not, _u.invert
add, subtract, multiply, divide, pow = _b.add, _b.subtract, _b.multiply, _b.divide, _b.pow
floor_divide, remainder, atan2 = _b.floordiv, _b.floormod, _b.atan2
maximum, minimum = _b.maximum, _b.minimum
equal, not_equal, less, less_equal = _b.equal, _b.not_equal, _b.less, _b.less_equal
greater, greater_equal = _b.greater, _b.greater_equal
logical_and, logical_or, logical_xor = _b.logical_and, _b.logical_or, _b.logical_xor


def _of_integers(f: Callable[[Any], Tensor], integers: Callable[[Any], Tensor]) -> Any:
    """A function of floats that has a meaning for integers too."""

    def apply(x: Any) -> Tensor:
        x = strong(x)
        return f(x) if x.dtype.is_floating or x.dtype.is_complex else integers(x)

    apply.__name__ = f.__name__
    apply.__doc__ = f.__doc__
    return apply


def _same(x: Tensor) -> Tensor:
    return x


def _never(x: Tensor) -> Tensor:
    return _c.zeros_like(x, dt.bool_)


def _always(x: Tensor) -> Tensor:
    return _c.ones_like(x, dt.bool_)


def _toward_zero(x: Any) -> Tensor:
    """The integer part."""
    return _b.multiply(_u.sign(x), _u.floor(_u.abs(x)))


floor, ceil = _of_integers(_u.floor, _same), _of_integers(_u.ceil, _same)
round, trunc = _of_integers(_u.rint, _same), _of_integers(_toward_zero, _same)
isnan, isinf = _of_integers(_u.is_nan, _never), _of_integers(_u.is_inf, _never)
isfinite = _of_integers(_u.is_finite, _always)


def positive(x: Any) -> Tensor:
    """x."""
    return strong(x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2."""
    return _b.multiply(_u.log(x), 1 / math.log(2))


def log10(x: Any) -> Tensor:
    """The logarithm to base 10."""
    return _b.multiply(_u.log(x), 1 / math.log(10))


def logaddexp(x1: Any, x2: Any) -> Tensor:
    """log(exp(x1) + exp(x2)), without overflow."""
    a, b = promote(x1, x2, "logaddexp")
    greatest = _b.maximum(a, b)
    difference = _u.negative(_u.abs(_b.subtract(a, b)))
    sum_ = _b.add(greatest, _u.log1p(_u.exp(difference)))
    return _s.where(_b.equal(a, b), _b.add(a, math.log(2)), sum_)


def hypot(x1: Any, x2: Any) -> Tensor:
    """√(x1² + x2²)."""
    a, b = promote(x1, x2, "hypot")
    a, b = _u.abs(a), _u.abs(b)
    big, small = _b.maximum(a, b), _b.minimum(a, b)
    ratio = _b.divide(small, _s.where(_b.equal(big, 0), _c.ones_like(big), big))
    return _b.multiply(big, _u.sqrt(_b.add(_u.square(ratio), 1)))


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """x brought into [min, max]."""
    out = strong(x)
    if min is not None:
        out = _b.maximum(out, as_type(min, out.dtype))
    if max is not None:
        out = _b.minimum(out, as_type(max, out.dtype))
    return out


def _bits(word: str, kinds: str = "biu") -> Callable[[Any, Any], Tensor]:
    def apply(x1: Any, x2: Any) -> Tensor:
        a, b = promote(x1, x2, word)
        op = f"Logical{word}" if a.dtype.is_bool else f"Bitwise{word}"
        return _b.binary(op, word, kinds, a, b, None)

    return apply


bitwise_and, bitwise_or, bitwise_xor = _bits("And"), _bits("Or"), _bits("Xor")


def bitwise_left_shift(x1: Any, x2: Any) -> Tensor:
    """x1 · 2^x2; zero for shifts of the width and more."""
    return _b.binary("LeftShift", "lshift", "iu", x1, x2, None)


def bitwise_right_shift(x1: Any, x2: Any) -> Tensor:
    """⌊x1 / 2^x2⌋."""
    return _b.binary("RightShift", "rshift", "iu", x1, x2, None)


# ---- Types.


def astype(x: Any, dtype: Any, /, *, copy: Any = True, device: Any = None) -> Tensor:
    """The elements as another type."""
    return _u.cast(x, dtype)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The type that arrays and types promote to. TypeError where the standard has none."""
    return fold(_pair_type, [t if isinstance(t, DType) else strong(t).dtype
                             for t in arrays_and_dtypes])  # fmt: skip


def can_cast(from_: Any, to: DType, /) -> Any:
    """Whether promotion leads from one type to the other."""
    source = from_ if isinstance(from_, DType) else strong(from_).dtype
    try:
        return _pair_type(source, to) is to
    except TypeError:
        return False


def finfo(type: Any, /) -> Any:
    """The limits of a floating-point type."""
    return np.finfo((as_dtype(type) if not isinstance(type, Tensor) else type.dtype).np)


def iinfo(type: Any, /) -> Any:
    """The limits of an integer type."""
    return np.iinfo((as_dtype(type) if not isinstance(type, Tensor) else type.dtype).np)


_KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu",
    "real floating": "f", "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


def isdtype(dtype: DType, kind: Any) -> Any:
    """Whether a type is another, or of a kind, or of one of several."""
    if isinstance(kind, tuple):
        return builtins.any(isdtype(dtype, k) for k in kind)
    return dtype.element.kind in _KINDS[kind] if isinstance(kind, str) else dtype is kind


# ---- Creation.


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Tensor:
    """Numbers, nested lists and arrays (traced ones too) as a traced array."""
    t = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, Tensor):
        return obj if t is None else _u.cast(obj, t)
    if isinstance(obj, (list, tuple)) and obj and builtins.any(isinstance(v, Tensor) for v in obj):
        return stack([asarray(v, dtype=t) for v in obj])
    array = np.asarray(obj)
    if t is None and not hasattr(obj, "dtype") and array.dtype == np.float64:
        t = dt.float32
    return constant(array if t is None else array.astype(t.np))


def _typed(dtype: Any, like: Any = None) -> DType:
    return as_dtype(dtype) if dtype is not None else dt.float32 if like is None else like.dtype


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros."""
    return _c.zeros(_sizes(shape), _typed(dtype))


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones."""
    return _c.ones(_sizes(shape), _typed(dtype))


empty = zeros


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """One value everywhere."""
    return _c.fill(_sizes(shape), asarray(fill_value, dtype=dtype))


def _sizes(shape: Any) -> list[Any]:
    return list(shape) if hasattr(shape, "__iter__") and not isinstance(shape, Tensor) else [shape]


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape and type."""
    return _c.zeros_like(x, dtype)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of x's shape and type."""
    return _c.ones_like(x, dtype)


empty_like = zeros_like


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """One value everywhere, of x's shape and type."""
    t = _typed(dtype, strong(x))
    return broadcast_to(as_type(fill_value, t), strong(x).shape)


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """start, start + step, … below stop."""
    if stop is None:
        start, stop = 0, start
    floats = builtins.any(isinstance(v, float) for v in (start, stop, step))
    t = as_dtype(dtype) if dtype is not None else dt.float32 if floats else dt.int64
    return _c.range(start, stop, step, t)


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: Any = None,
    endpoint: Any = True,
) -> Tensor:  # fmt: skip
    """num values from start to stop."""
    t = _typed(dtype)
    if not endpoint:
        stop = start + (stop - start) * (num - 1) / num if num else stop
    return _c.linspace(constant(start, t), constant(stop, t), num)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on a diagonal, zeros elsewhere."""
    return constant(np.eye(n_rows, n_cols, k, _typed(dtype).np))


def _band(x: Any, keep: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    x = strong(x)
    rows, columns = x.shape[-2], x.shape[-1]
    i = expand_dims(_c.range(rows, dtype=dt.int64), axis=1)
    j = _c.range(columns, dtype=dt.int64)
    return where(keep(i, j), x, _c.zeros_like(x))


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The lower triangle: zero above the k-th diagonal."""
    return _band(x, lambda i, j: _b.less_equal(j, _b.add(i, k)))


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The upper triangle: zero below the k-th diagonal."""
    return _band(x, lambda i, j: _b.greater_equal(j, _b.add(i, k)))


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinate grids of vectors."""
    return _sh.meshgrid(*arrays, indexing=indexing)


# ---- Shapes.


def _same_types(arrays: Any) -> list[Tensor]:
    t = result_type(*arrays)
    return [as_type(strong(a), t) for a in arrays]


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """x broadcast to a shape."""
    return _sh.broadcast_to(x, _sizes(shape))


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """All arrays broadcast to their common shape."""
    total = fold(_b.logical_or, [_c.zeros_like(a, dt.bool_) for a in arrays])
    return [_s.where(_u.logical_not(total), a, _c.zeros_like(a)) for a in map(strong, arrays)]


def concat(arrays: Any, /, *, axis: int | None = 0) -> Tensor:
    """Arrays one after the other along an axis; flattened for None."""
    items = _same_types(arrays)
    if axis is None:
        return _sh.concat([_sh.reshape(a, [-1]) for a in items], 0)
    return _sh.concat(items, axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape along a new axis."""
    return _sh.stack(_same_types(arrays), axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis of known size."""
    return tuple(_sh.unstack(x, axis=axis))


def expand_dims(x: Any, /, *, axis: int = 0) -> Tensor:
    """A new axis of size 1."""
    return _sh.expand_dims(x, axis)


def squeeze(x: Any, /, axis: Any) -> Tensor:
    """Without axes of size 1."""
    return _sh.squeeze(x, list(axis) if isinstance(axis, (tuple, list)) else [axis])


def permute_dims(x: Any, /, axes: Any) -> Tensor:
    """The axes in another order."""
    return _sh.transpose(x, list(axes))


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes swapped."""
    return _sh.matrix_transpose(x)


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Axes moved to other places."""
    n = strong(x).ndim
    start = [a % n for a in _axes(source)]
    order = [a for a in range(n) if a not in start]
    for to, a in sorted(zip([d % n for d in _axes(destination)], start, strict=True)):
        order.insert(to, a)
    return permute_dims(x, order)


def _axes(axis: Any) -> list[int]:
    return [int(a) for a in axis] if isinstance(axis, (tuple, list)) else [int(axis)]


def reshape(x: Any, /, shape: Any, *, copy: Any = None) -> Tensor:
    """The same elements in another shape."""
    return _sh.reshape(x, _sizes(shape))


def flip(x: Any, /, *, axis: Any = None) -> Tensor:
    """The elements in reverse along axes; all for None."""
    x = strong(x)
    return _sh.reverse(x, list(range(x.ndim)) if axis is None else _axes(axis))


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """The elements shifted along axes, around the end."""
    x = strong(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, axis=0), x.shape)
    shifts = _axes(shift)
    axes = _axes(axis)
    for k, a in zip(shifts * (len(axes) if len(shifts) == 1 else 1), axes, strict=True):
        n = x.shape[a]
        index = _b.floormod(_b.subtract(_c.range(n, dtype=dt.int64), k), n)
        x = _s.gather(x, index, axis=a % x.ndim)
    return x


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """x repeated along axes."""
    x, times = strong(x), list(repetitions)
    times = [1] * (x.ndim - len(times)) + times
    if len(times) > x.ndim:
        x = reshape(x, [1] * (len(times) - x.ndim) + list(x.shape))
    return _sh.tile(x, times)


# ---- Reductions.


def _accumulated(x: Any, dtype: Any) -> Tensor:
    """What a sum or product is taken of: small integers become 64 bits wide."""
    x = strong(x)
    if dtype is not None:
        return as_type(x, as_dtype(dtype))
    if x.dtype.is_integer:
        return as_type(x, dt.uint64 if x.dtype.is_unsigned else dt.int64)
    return x


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """The sum; integers in 64 bits."""
    return _r.reduce_sum(_accumulated(x, dtype), axis, keepdims)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """The product; integers in 64 bits."""
    return _r.reduce_prod(_accumulated(x, dtype), axis, keepdims)


def _floats(x: Any, what: str) -> Tensor:
    x = strong(x)
    if not (x.dtype.is_floating or x.dtype.is_complex):
        raise TypeError(f"{what} of {x.dtype.name}: it takes floats{here()}")
    return x


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


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition is true, else x2; all three broadcast."""
    a, b = promote(x1, x2, "where")
    c = strong(condition)
    n = builtins.max(c.ndim, a.ndim, b.ndim)
    if c.ndim == 1 and n > 1:  # TensorFlow's where takes a vector for a choice of rows
        c = _sh.reshape(c, [1] * (n - 1) + [-1])
    return _s.where(c, a, b)


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


@operator("namespace")
def _namespace(api_version: str | None) -> Any:
    if api_version not in (None, __array_api_version__):
        raise ValueError(f"array API {api_version} is not supported, {__array_api_version__} is")
    return sys.modules[__name__]
