"""Tensors made from nothing or from a shape: zeros, ranges, one-hot rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value

from .. import dtypes as dt
from ..dtypes import as_dtype
from ..expand import Expansion
from ..registry import expander
from ..shapes import TensorShape
from ..tensor import Operation, Tensor
from .convert import Like, apply, constant, convert, scope, shape_tensor


@expander("Fill")
def _fill(x: Expansion, node: Operation, shape: Value, value: Value) -> Any:
    sizes = x.sizes(shape)
    if any(isinstance(d, int) and d < 0 for d in sizes):
        raise x.fail(f"Dimension of {list(sizes)} must be >= 0")
    return x.b.broadcast_to(value, sizes)


def _fill_node(s: str, shape: Tensor, value: Tensor) -> Tensor:
    return apply("Fill", [shape, value], value.dtype, s)


def fill(dims: Any, value: Like, name: str | None = None) -> Tensor:
    """A tensor of a shape, all of one scalar value."""
    with scope(name, "Fill") as s:
        return _fill_node(s, shape_tensor(dims, "dims"), convert(value, name="value"))


def _filled(shape: Any, value: Any, dtype: Any, name: str | None, default: str) -> Tensor:
    t = as_dtype(dtype)
    one: Any = bool(value) if t.is_bool else (value if t.is_integer else float(value))
    with scope(name, default) as s:
        known = TensorShape(shape) if isinstance(shape, (TensorShape, int)) else None
        if known is None and isinstance(shape, (list, tuple)):
            plain = all(isinstance(d, (int, np.integer)) for d in shape)
            known = TensorShape([int(d) for d in shape]) if plain else None
        count = None if known is None else known.num_elements()
        if count and count < 1000:  # a constant of no elements would take no value
            return constant(one, t, shape=known, name=s)
        if t is dt.string:
            return constant("", t, shape=shape, name=s)
        return _fill_node(s, shape_tensor(shape), constant(one, t, name="Const"))


def zeros(shape: Any, dtype: Any = dt.float32, name: str | None = None) -> Tensor:
    """Zeros of a shape."""
    return _filled(shape, 0, dtype, name, "zeros")


def ones(shape: Any, dtype: Any = dt.float32, name: str | None = None) -> Tensor:
    """Ones of a shape."""
    return _filled(shape, 1, dtype, name, "ones")


def _like(value: int, x: Like, dtype: Any, name: str | None, default: str) -> Tensor:
    with scope(name, default) as s:
        t = convert(x, name="tensor")
        to = t.dtype if dtype is None else as_dtype(dtype)
        return apply("FillLike", [t], to, s, value=value)


@expander("FillLike", differentiable=False)
def _fill_like(x: Expansion, node: Operation, a: Value) -> Any:
    t = node.outputs[0].dtype.element
    return x.b.broadcast_to(x.b.const(node.attrs["value"], t), a.ty.shape)


def zeros_like(
    tensor: Like, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Zeros of the tensor's shape, and its type unless dtype says otherwise."""
    return _like(0, tensor, dtype, name, "zeros_like")


def ones_like(
    tensor: Like, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Ones of the tensor's shape, and its type unless dtype says otherwise."""
    return _like(1, tensor, dtype, name, "ones_like")


# ---- Ranges.


def range(
    start: Like, limit: Like = None, delta: Like = 1, dtype: Any = None, name: str | None = "range"
) -> Tensor:
    """start, start + delta, …, below limit; `range(n)` starts at 0."""
    if limit is None:
        start, limit = 0, start
    with scope(name, "range") as s:
        given = [start, limit, delta]
        t = None if dtype is None else as_dtype(dtype)
        if t is None:
            found = [convert(v) for v in given]
            order = [dt.int32, dt.int64, dt.float32, dt.float64]
            t = max((f.dtype for f in found), key=order.index)
        parts = [_as(v, t, n) for v, n in zip(given, ("start", "limit", "delta"), strict=True)]
        return apply("Range", parts, t, s)


def _as(value: Like, t: dt.DType, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.dtype is t else apply("Cast", [value], t, "Cast")
    return convert(value, t, name)


@expander("Range", differentiable=False)
def _range(x: Expansion, node: Operation, start: Value, limit: Value, delta: Value) -> Any:
    t = node.outputs[0].dtype.element
    if t.is_float:
        values = [_float(x, v) for v in (start, limit, delta)]
        array = np.arange(*values, dtype=t.np)
        return x.constant(array)
    first, last, step = (x.sizes(v)[0] for v in (start, limit, delta))
    if step == 0:
        raise x.fail("Requires delta != 0")
    if isinstance(step, int) and step < 0:
        count = dims.ceildiv(dims.add(first, dims.mul(last, -1)), -step)
    else:
        count = dims.ceildiv(dims.add(last, dims.mul(first, -1)), step)
    count = dims.maximum(0, count)
    index = x.b.iota(dtype=t, shape=(count,), axis=0)
    wide = [x.b.broadcast_to(v, (count,)) for v in (delta, start)]
    return x.b.add(x.b.mul(index, wide[0]), wide[1])


def _float(x: Expansion, v: Value) -> float:
    made = x.b.producer.get(v)
    while made is not None and made.op.name in ("cut", "cast"):
        made = x.b.producer.get(made.operands[0])
    if made is None or made.op.name != "constant":
        raise x.fail("a range of floats must be constant")
    return float(made.op.value.array)  # type: ignore[attr-defined]


def linspace(start: Like, stop: Like, num: Like, name: str | None = None) -> Tensor:
    """`num` values from start to stop, both included."""
    with scope(name, "LinSpace") as s:
        a = convert(start, name="start")
        b = convert(stop, a.dtype, "stop")
        return apply("LinSpace", [a, b, convert(num, name="num")], a.dtype, s)


lin_space = linspace


@expander("LinSpace")
def _linspace(x: Expansion, node: Operation, start: Value, stop: Value, num: Value) -> Any:
    b, (n,) = x.b, x.ints(num, "num")
    if n <= 0:
        raise x.fail(f"Requires num > 0: {n}")
    if n == 1:
        return b.broadcast_to(start, (1,))
    index = b.iota(dtype=start.ty.dtype, shape=(n,), axis=0)
    step = b.div(b.sub(stop, start), b.const(n - 1, start))
    line = b.add(b.mul(index, b.broadcast_to(step, (n,))), b.broadcast_to(start, (n,)))
    last = b.compare(index, b.const(n - 1, index), op="eq")
    return b.select(last, b.broadcast_to(stop, (n,)), line)


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = dt.float32,
    name: str | None = None,
) -> Tensor:
    """The identity matrix, or a batch of them."""
    with scope(name, "eye") as s:
        rows = _size(num_rows)
        columns = rows if num_columns is None else _size(num_columns)
        sizes = [*(_size(d) for d in batch_shape or ()), rows, columns]
        shape = apply("Pack", sizes, dt.int32, "shape", axis=0)
        return apply("Eye", [shape], as_dtype(dtype), s)


def _size(value: Any) -> Tensor:
    t = convert(value)
    return t if t.dtype is dt.int32 else apply("Cast", [t], dt.int32, "Cast")


@expander("Eye", differentiable=False)
def _eye(x: Expansion, node: Operation, shape: Value) -> Any:
    sizes = x.sizes(shape)
    rank, t = len(sizes), node.outputs[0].dtype.element
    rows = x.b.iota(dtype=_I32, shape=sizes, axis=rank - 2)
    columns = x.b.iota(dtype=_I32, shape=sizes, axis=rank - 1)
    return x.b.cast(x.b.compare(rows, columns, op="eq"), dtype=t)


_I32 = dt.int32.element


def one_hot(
    indices: Like,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """on_value (1) at each index along a new axis of size depth, off_value (0) elsewhere."""
    with scope(name, "one_hot") as s:
        at = convert(indices, name="indices")
        given = next((v for v in (on_value, off_value) if v is not None), None)
        if dtype is None:
            dtype = dt.float32 if given is None else convert(given).dtype
        t = as_dtype(dtype)
        on = convert(_typed(1 if on_value is None else on_value, t), t, "on_value")
        off = convert(_typed(0 if off_value is None else off_value, t), t, "off_value")
        where = -1 if axis is None else axis
        return apply("OneHot", [at, convert(depth, name="depth"), on, off], t, s, axis=where)


def _typed(value: Any, t: dt.DType) -> Any:
    return bool(value) if t.is_bool and isinstance(value, int) else value


@expander("OneHot", differentiable=False)
def _one_hot(
    x: Expansion, node: Operation, at: Value, depth: Value, on: Value, off: Value
) -> Any:
    b, (n,) = x.b, x.sizes(depth)
    rank = at.ty.rank + 1
    axis = x.axis(node.attrs["axis"], rank)
    shape = (*at.ty.shape[:axis], n, *at.ty.shape[axis:])
    keep = tuple(i for i in _ints(rank) if i != axis)
    wide = b.broadcast(at, shape=shape, dims=keep)
    index = b.iota(dtype=at.ty.dtype, shape=shape, axis=axis)
    hit = b.compare(index, wide, op="eq")
    return b.select(hit, b.broadcast_to(on, shape), b.broadcast_to(off, shape))


def _ints(n: int) -> list[int]:
    return list(np.arange(n).tolist())
