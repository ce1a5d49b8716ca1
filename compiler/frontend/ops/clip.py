"""Clipping values and gradients."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .binary import maximum, minimum
from .convert import Like, apply, convert, scope
from .reduce import constant_axes


def clip_by_value(
    t: Like, clip_value_min: Like, clip_value_max: Like, name: str | None = None
) -> Tensor:
    """min(max(t, low), high); of IndexedSlices and tensors alike."""
    with scope(name, "clip_by_value") as s:
        x = convert(t, name="t")
        low = minimum(x, clip_value_max)
        return maximum(low, clip_value_min, name=s)


def clip_by_norm(t: Like, clip_norm: Like, axes: Any = None, name: str | None = None) -> Tensor:
    """t scaled down to the norm where its own is greater."""
    with scope(name, "clip_by_norm") as s:
        x = convert(t, name="t")
        inputs = [x, convert(clip_norm, x.dtype, "clip_norm")]
        return apply("ClipByNorm", inputs, x.dtype, s, axes=constant_axes(axes))


@expander("ClipByNorm")
def _clip_by_norm(x: Expansion, node: Operation, a: Value, limit: Value) -> Any:
    b, axes = x.b, x.axes(node.attrs["axes"], a.ty.rank)
    keep = tuple(i for i in range(a.ty.rank) if i not in axes)
    total = b.reduce(b.mul(a, a), op="sum", axes=axes)
    positive = b.compare(total, b.const(0, total), op="gt")
    safe = b.select(positive, total, b.const(1, total))
    norm = b.select(positive, b.sqrt(safe), total)
    limit, norm = x.broadcast(limit, norm)
    factor = b.div(limit, b.max(norm, limit))
    return b.mul(a, b.broadcast(factor, shape=a.ty.shape, dims=keep))


def clip_by_average_norm(t: Like, clip_norm: Like, name: str | None = None) -> Tensor:
    """t scaled down so that its norm divided by its number of elements is at most clip_norm."""
    x = convert(t)
    count = x.shape.num_elements()
    if count is None:
        raise ValueError("clip_by_average_norm needs a static shape")
    return clip_by_norm(x, convert(clip_norm, x.dtype) * float(count), name=name)


def global_norm(t_list: Any, name: str | None = None) -> Tensor:
    """The root of the sum of all squares of several tensors; None among them is left out."""
    if not isinstance(t_list, (list, tuple)):
        raise TypeError("t_list should be a sequence")
    with scope(name, "global_norm") as s:
        tensors = [convert(t) for t in t_list if t is not None]
        return apply("GlobalNorm", tensors, tensors[0].dtype, s)


@expander("GlobalNorm")
def _global_norm(x: Expansion, node: Operation, *values: Value) -> Any:
    b = x.b
    squares = [b.reduce(b.mul(v, v), op="sum", axes=tuple(range(v.ty.rank))) for v in values]
    total = squares[0]
    for s in squares[1:]:
        total = b.add(total, s)
    return b.sqrt(total)


def clip_by_global_norm(
    t_list: Any, clip_norm: Like, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor]:
    """The tensors scaled so that their global norm is at most clip_norm, and that norm."""
    norm = global_norm(t_list) if use_norm is None else convert(use_norm)
    with scope(name, "clip_by_global_norm"):
        limit = convert(clip_norm, norm.dtype, "clip_norm")
        out: list[Any] = []
        for t in t_list:
            if t is None:
                out.append(None)
                continue
            x = convert(t)
            out.append(apply("ScaleToNorm", [x, norm, limit], x.dtype))
        return out, norm


@expander("ScaleToNorm")
def _scale(x: Expansion, node: Operation, a: Value, norm: Value, limit: Value) -> Any:
    b = x.b
    limit = b.broadcast_to(limit, ())
    # an infinite or NaN norm makes all NaN, as in TensorFlow
    factor = b.mul(limit, b.min(b.div(b.const(1, norm), norm), b.div(b.const(1, limit), limit)))
    finite = b.compare(b.abs(norm), b.const(float("inf"), norm), op="lt")
    factor = b.select(finite, factor, b.const(float("nan"), factor))
    return b.mul(a, b.broadcast_to(factor, a.ty.shape))


def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of several tensors of one shape."""
    if isinstance(inputs, Tensor):
        inputs = [inputs]
    if not inputs:
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype")
    with scope(name, "AddN") as s:
        tensors = [convert(t) for t in inputs]
        return apply("AddN", tensors, tensors[0].dtype, s)


@expander("AddN")
def _add_n(x: Expansion, node: Operation, *values: Value) -> Any:
    fitted = x.match(values, "add_n")
    total = fitted[0]
    for v in fitted[1:]:
        total = x.b.add(total, v)
    return total
