"""Reductions, positions of extremes, and running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value

from .. import dtypes as dt
from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, need, scope, static_ints


def one_of(*given: Any) -> Any:
    """The argument that was given under one of its names; ValueError for two."""
    found = [g for g in given if g is not None]
    if len(found) > 1:
        raise ValueError("the same argument is given under two names")
    return found[0] if found else None


def constant_axes(axis: Any) -> tuple[int, ...] | None:
    """Axes as ints; None for all. ValueError where a tensor of axes is no constant."""
    if axis is None:
        return None
    found = static_ints(axis)
    if found is None:
        raise ValueError("the axes of a reduction must be constants")
    return tuple(found)


def reduction(
    op: str,
    kinds: str,
    x: Like,
    axis: Any,
    keep: Any,
    name: str | None,
    default: str | None = None,
    dtype: Any = None,
) -> Tensor:
    """A reduction's node."""
    with scope(name, default or op) as s:
        t = convert(x, name="input_tensor")
        need(t, kinds, "input")
        return apply(op, [t], dtype or t.dtype, s, axes=constant_axes(axis), keep=bool(keep))


def reduced(x: Expansion, node: Operation, a: Value, how: str) -> Value:
    """A primitive reduction over the node's axes, which stay with size 1 if it keeps them."""
    axes = x.axes(node.attrs["axes"], a.ty.rank)
    return kept(x, node, x.b.reduce(a, op=how, axes=axes) if axes else a, a, axes)


def kept(x: Expansion, node: Operation, out: Value, a: Value, axes: tuple[int, ...]) -> Value:
    if not node.attrs["keep"]:
        return out
    shape = tuple(1 if i in axes else d for i, d in enumerate(a.ty.shape))
    return x.b.reshape(out, shape=shape)  # type: ignore[no-any-return]


def _reducer(op: str, how: str, **options: Any) -> None:
    @expander(op, **options)
    def _expand(x: Expansion, node: Operation, a: Value) -> Any:
        return reduced(x, node, a, how)


for _op, _how in (("Sum", "sum"), ("Prod", "prod"), ("Max", "max"), ("Min", "min")):
    _reducer(_op, _how)
_reducer("All", "and", differentiable=False)
_reducer("Any", "or", differentiable=False)


def count_of(x: Expansion, a: Value, axes: tuple[int, ...]) -> Value:
    """The number of elements that each result of a reduction is made of, in a's type."""
    n = dims.product(tuple(a.ty.shape[i] for i in axes))
    if isinstance(n, int):
        return x.b.const(n, a.ty.dtype)
    size = x.b.dim_size(dim=n, dtype=_i64())
    return x.b.cast(size, dtype=a.ty.dtype)  # type: ignore[no-any-return]


def _i64() -> Any:
    return dt.int64.ir


def mean_of(x: Expansion, a: Value, axes: tuple[int, ...]) -> Value:
    """The mean over axes, without them; of no elements it is NaN."""
    if not axes:
        return a
    total = x.b.reduce(a, op="sum", axes=axes)
    count = x.b.broadcast_to(count_of(x, a, axes), total.ty.shape)
    return x.b.div(total, count)  # type: ignore[no-any-return]


@expander("Mean")
def _mean(x: Expansion, node: Operation, a: Value) -> Any:
    axes = x.axes(node.attrs["axes"], a.ty.rank)
    return kept(x, node, mean_of(x, a, axes), a, axes)


@expander("LogSumExp")
def _logsumexp(x: Expansion, node: Operation, a: Value) -> Any:
    b, axes = x.b, x.axes(node.attrs["axes"], a.ty.rank)
    keep = tuple(i for i in range(a.ty.rank) if i not in axes)
    top = b.stop_gradient(b.reduce(a, op="max", axes=axes))
    finite = b.compare(b.abs(top), b.const(float("inf"), top), op="lt")
    top = b.select(finite, top, b.const(0, top))
    e = b.exp(b.sub(a, b.broadcast(top, shape=a.ty.shape, dims=keep)))
    return kept(x, node, b.add(b.log(b.reduce(e, op="sum", axes=axes)), top), a, axes)


@expander("EuclideanNorm")
def _euclidean(x: Expansion, node: Operation, a: Value) -> Any:
    axes = x.axes(node.attrs["axes"], a.ty.rank)
    total = x.b.reduce(x.b.mul(a, a), op="sum", axes=axes)
    return kept(x, node, x.b.sqrt(total), a, axes)


Axis = Any


def reduce_sum(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The sum over the axes (None: all); keepdims leaves them with size 1."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("Sum", "fiuc", input_tensor, where, keep, name)


def reduce_mean(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The mean over the axes; integers are divided as integers."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("Mean", "fiuc", input_tensor, where, keep, name)


def reduce_prod(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The product over the axes."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("Prod", "fiuc", input_tensor, where, keep, name)


def reduce_max(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The greatest over the axes; NaN where one is NaN."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("Max", "fiu", input_tensor, where, keep, name)


def reduce_min(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The least over the axes; NaN where one is NaN."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("Min", "fiu", input_tensor, where, keep, name)


def reduce_all(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """Whether all are true."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("All", "b", input_tensor, where, keep, name)


def reduce_any(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """Whether any is true."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("Any", "b", input_tensor, where, keep, name)


def reduce_logsumexp(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """log(Σ exp(x)), without overflow."""
    where, keep = one_of(axis, reduction_indices), one_of(keepdims, keep_dims)
    return reduction("LogSumExp", "f", input_tensor, where, keep, name, "ReduceLogSumExp")


def norm(
    tensor: Like,
    ord: Any = "euclidean",
    axis: Axis = None,
    keepdims: bool | None = None,
    name: str | None = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The Euclidean norm (the default), or that of order 1, 2 or inf of vectors."""
    keep = one_of(keepdims, keep_dims)
    if ord in ("euclidean", "fro", 2):
        return reduction("EuclideanNorm", "f", tensor, axis, keep, name, "norm")
    with scope(name, "norm") as s:
        t = convert(tensor)
        size = apply("Abs", [t], t.dtype, "Abs")
        if ord not in (1, np.inf):
            raise ValueError(f"'ord' must be a supported vector norm, got {ord!r}")
        axes = constant_axes(axis)
        op = "Sum" if ord == 1 else "Max"
        return apply(op, [size], t.dtype, s, axes=axes, keep=bool(keep))


def count_nonzero(
    input_tensor: Like,
    axis: Axis = None,
    keepdims: bool | None = None,
    dtype: Any = dt.int64,
    name: str | None = None,
    reduction_indices: Axis = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The number of elements that are not zero."""
    axes = constant_axes(one_of(axis, reduction_indices))
    with scope(name, "count_nonzero") as s:
        t = convert(input_tensor)
        truth = apply("Cast", [t], dt.bool_, "NotZero")
        ones = apply("Cast", [truth], dt.as_dtype(dtype), "Cast")
        keep = bool(one_of(keepdims, keep_dims))
        return apply("Sum", [ones], ones.dtype, s, axes=axes, keep=keep)


def zero_fraction(value: Like, name: str | None = None) -> Tensor:
    """The share of elements that are zero."""
    with scope(name, "zero_fraction") as s:
        t = convert(value)
        truth = apply("Cast", [t], dt.bool_, "NotZero")
        zero = apply("LogicalNot", [truth], dt.bool_, "IsZero")
        share = apply("Cast", [zero], dt.float32, "Cast")
        return apply("Mean", [share], dt.float32, s, axes=None, keep=False)


# ---- Positions of extremes.


def _arg(
    op: str, x: Like, axis: Any, dimension: Any, output_type: Any, name: str | None
) -> Tensor:
    where = one_of(axis, dimension)
    axes = constant_axes(0 if where is None else where)
    with scope(name, op) as s:
        t = convert(x, name="input")
        need(t, "fiu", "input")
        return apply(op, [t], dt.as_dtype(output_type), s, axes=axes)


def argmax(
    input: Like,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dt.int64,
) -> Tensor:
    """The index of the first greatest element along an axis (0 unless given)."""
    return _arg("ArgMax", input, axis, dimension, output_type, name)


def argmin(
    input: Like,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dt.int64,
) -> Tensor:
    """The index of the first least element along an axis (0 unless given)."""
    return _arg("ArgMin", input, axis, dimension, output_type, name)


def _position(op: str, how: str) -> None:
    @expander(op, differentiable=False)
    def _expand(x: Expansion, node: Operation, a: Value) -> Any:
        b = x.b
        axis = x.axis(node.attrs["axes"][0], a.ty.rank)
        best = b.reduce(a, op=how, axes=(axis,))
        keep = tuple(i for i in range(a.ty.rank) if i != axis)
        wide = b.broadcast(best, shape=a.ty.shape, dims=keep)
        hit = b.compare(a, wide, op="eq")
        if a.ty.dtype.is_float:  # NaN counts as the extreme, as NumPy has it
            hit = getattr(b, "or")(hit, b.compare(a, a, op="ne"))
        out = node.outputs[0].dtype.element
        index = b.iota(dtype=out, shape=a.ty.shape, axis=axis)
        none = b.broadcast_to(b.const(out.max, out), a.ty.shape)
        return b.reduce(b.select(hit, index, none), op="min", axes=(axis,))


_position("ArgMax", "max")
_position("ArgMin", "min")


# ---- Running sums.


def _running(op: str, how: str) -> None:
    @expander(op)
    def _expand(x: Expansion, node: Operation, a: Value) -> Any:
        axis = x.axis(node.attrs["axis"], a.ty.rank)
        flags = {k: node.attrs[k] for k in ("exclusive", "reverse")}
        return x.b.cumulative(a, op=how, axis=axis, **flags)


_running("Cumsum", "sum")
_running("Cumprod", "prod")


def cumsum(
    x: Like, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """Running sums along an axis; exclusive ones start with 0."""
    return _cumulative("Cumsum", x, axis, exclusive, reverse, name)


def cumprod(
    x: Like, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """Running products along an axis; exclusive ones start with 1."""
    return _cumulative("Cumprod", x, axis, exclusive, reverse, name)


def _cumulative(
    op: str, x: Like, axis: Any, exclusive: bool, reverse: bool, name: str | None
) -> Tensor:
    axes = constant_axes(axis) or (0,)
    with scope(name, op) as s:
        t = convert(x, name="x")
        need(t, "fiuc")
        return apply(op, [t], t.dtype, s, axis=axes[0], exclusive=exclusive, reverse=reverse)
