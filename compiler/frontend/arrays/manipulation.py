"""The array API's functions that make arrays and change their shapes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import reduce as fold
from typing import Any

import numpy as np

from .. import dtypes as dt
from ..dtypes import DType, as_dtype
from ..ops import binary as _b
from ..ops import creation as _c
from ..ops import selecting as _s
from ..ops import shape as _sh
from ..ops import unary as _u
from ..ops.convert import constant
from ..tensor import Tensor
from .elementwise import result_type
from .promotion import as_type, promote, strong

__all__ = [
    "arange", "asarray", "broadcast_arrays", "broadcast_to", "concat", "empty", "empty_like",
    "expand_dims", "eye", "flip", "full", "full_like", "linspace", "matrix_transpose",
    "meshgrid", "moveaxis", "ones", "ones_like", "permute_dims", "reshape", "roll", "squeeze",
    "stack", "tile", "tril", "triu", "unstack", "where", "zeros", "zeros_like",
]  # fmt: skip

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
    out = strong(x)
    if axis is None:
        return reshape(roll(reshape(out, (-1,)), shift, axis=0), out.shape)
    shifts = _axes(shift)
    axes = _axes(axis)
    for k, a in zip(shifts * (len(axes) if len(shifts) == 1 else 1), axes, strict=True):
        n: Any = out.shape[a]
        index = _b.floormod(_b.subtract(_c.range(n, dtype=dt.int64), k), n)
        out = _s.gather(out, index, axis=a % out.ndim)
    return out


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """x repeated along axes."""
    x, times = strong(x), list(repetitions)
    times = [1] * (x.ndim - len(times)) + times
    if len(times) > x.ndim:
        x = reshape(x, [1] * (len(times) - x.ndim) + list(x.shape))
    return _sh.tile(x, times)


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition is true, else x2; all three broadcast."""
    a, b = promote(x1, x2, "where")
    c = strong(condition)
    n = max(c.ndim, a.ndim, b.ndim)
    if c.ndim == 1 and n > 1:  # TensorFlow's where takes a vector for a choice of rows
        c = _sh.reshape(c, [1] * (n - 1) + [-1])
    return _s.where(c, a, b)
