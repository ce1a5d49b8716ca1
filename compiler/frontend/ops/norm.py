"""Moments and normalization."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from .. import dtypes as dt
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander
from ..tensor import Operation, Tensor
from .binary import add, multiply, subtract
from .conv import channels_first, to_first, to_last
from .convert import Like, apply, convert, need, scope
from .reduce import constant_axes, count_of, kept, mean_of, one_of
from .unary import rsqrt

_F32 = dt.float32.element


def moments(
    x: Like,
    axes: Any = None,
    shift: Any = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
    axis: Any = None,
) -> tuple[Tensor, Tensor]:
    """The mean and the variance over axes (of all elements: not Bessel's)."""
    where, keep = constant_axes(one_of(axes, axis)), bool(one_of(keep_dims, keepdims))
    with scope(name, "moments") as s:
        t = convert(x, name="x")
        need(t, "f")
        types = [t.dtype, t.dtype]
        graph = get_default_graph()
        op = graph.create_op("Moments", [t], types, s, axes=where, keep=keep)
        return op.outputs[0], op.outputs[1]


@expander("Moments")
def _moments(x: Expansion, node: Operation, a: Value) -> Any:
    b, t = x.b, a.ty.dtype
    narrow = t.bits < 32
    wide = b.cast(a, dtype=_F32) if narrow else a
    axes = x.axes(node.attrs["axes"], a.ty.rank)
    keep = tuple(i for i in range(a.ty.rank) if i not in axes)
    mean = mean_of(x, wide, axes)
    off = b.sub(wide, b.broadcast(b.stop_gradient(mean), shape=wide.ty.shape, dims=keep))
    variance = mean_of(x, b.mul(off, off), axes)
    out = [kept(x, node, v, a, axes) for v in (mean, variance)]
    return tuple(b.cast(v, dtype=t) if narrow else v for v in out)


def batch_normalization(
    x: Like,
    mean: Like,
    variance: Like,
    offset: Like | None,
    scale: Like | None,
    variance_epsilon: Any,
    name: str | None = None,
) -> Tensor:
    """(x − mean) / √(variance + ε) · scale + offset."""
    with scope(name, "batchnorm") as s:
        t = convert(x, name="x")
        inverse = rsqrt(add(convert(variance, t.dtype), variance_epsilon))
        if scale is not None:
            inverse = multiply(inverse, convert(scale, t.dtype))
        shift = multiply(convert(mean, t.dtype), inverse)
        if offset is not None:
            rest = subtract(convert(offset, t.dtype), shift)
            return add(multiply(t, inverse), rest, name=s)
        return subtract(multiply(t, inverse), shift, name=s)


def batch_norm_with_global_normalization(
    t: Like, m: Like, v: Like, beta: Like, gamma: Like, variance_epsilon: Any,
    scale_after_normalization: bool, name: str | None = None,
) -> Tensor:  # fmt: skip
    scale = gamma if scale_after_normalization else None
    return batch_normalization(t, m, v, beta, scale, variance_epsilon, name)


def fused_batch_norm(
    x: Like,
    scale: Like,
    offset: Like,
    mean: Like | None = None,
    variance: Like | None = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, variance); while training the batch's moments, the variance with Bessel's n − 1."""
    first = channels_first(data_format, 2)
    with scope(name, "FusedBatchNorm") as s:
        t = convert(x, name="x")
        inputs = [t, convert(scale, t.dtype), convert(offset, t.dtype)]
        if not is_training:
            inputs += [convert(mean, t.dtype), convert(variance, t.dtype)]
        graph = get_default_graph()
        op = graph.create_op(
            "FusedBatchNorm", inputs, [t.dtype] * 3, s, epsilon=epsilon, training=is_training,
            first=first,
        )  # fmt: skip
        return op.outputs[0], op.outputs[1], op.outputs[2]


@expander("FusedBatchNorm")
def _fused(
    x: Expansion, node: Operation, a: Value, scale: Value, offset: Value, *given: Value
) -> Any:
    b, first = x.b, node.attrs["first"]
    a = to_last(x, a, first)
    rank = a.ty.rank
    axes = tuple(range(rank - 1))

    def rows(v: Value) -> Value:
        return b.broadcast(v, shape=a.ty.shape, dims=(rank - 1,))  # type: ignore[no-any-return]

    if node.attrs["training"]:
        mean = mean_of(x, a, axes)
        off = b.sub(a, rows(mean))
        variance = mean_of(x, b.mul(off, off), axes)
        n = b.broadcast_to(count_of(x, a, axes), variance.ty.shape)
        less = b.max(b.sub(n, b.const(1, n)), b.const(1, n))
        reported = b.mul(variance, b.div(n, less))
    else:
        mean, variance = given
        off, reported = b.sub(a, rows(mean)), variance
    factor = b.mul(b.rsqrt(b.add(variance, b.const(node.attrs["epsilon"], variance))), scale)
    y = b.add(b.mul(off, rows(factor)), rows(offset))
    return to_first(x, y, first), mean, reported


def l2_normalize(
    x: Like, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Tensor:
    """x / √max(Σ x², ε) over axes."""
    with scope(name, "l2_normalize") as s:
        t = convert(x, name="x")
        axes = constant_axes(one_of(axis, dim))
        return apply("L2Normalize", [t], t.dtype, s, axes=axes, epsilon=epsilon)


@expander("L2Normalize")
def _l2_normalize(x: Expansion, node: Operation, a: Value) -> Any:
    b, axes = x.b, x.axes(node.attrs["axes"], a.ty.rank)
    keep = tuple(i for i in range(a.ty.rank) if i not in axes)
    total = b.reduce(b.mul(a, a), op="sum", axes=axes)
    inverse = b.rsqrt(b.max(total, b.const(node.attrs["epsilon"], total)))
    return b.mul(a, b.broadcast(inverse, shape=a.ty.shape, dims=keep))


def local_response_normalization(
    input: Like,
    depth_radius: int = 5,
    bias: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.5,
    name: str | None = None,
) -> Tensor:
    """x / (bias + alpha · Σ x²)^beta, the sum over 2·radius + 1 neighbouring channels."""
    with scope(name, "LRN") as s:
        t = convert(input, name="input")
        attrs = {"radius": int(depth_radius), "bias": bias, "alpha": alpha, "beta": beta}
        return apply("LRN", [t], t.dtype, s, **attrs)


lrn = local_response_normalization


@expander("LRN")
def _lrn(x: Expansion, node: Operation, a: Value) -> Any:
    b, at, n = x.b, node.attrs, a.ty.rank
    r = at["radius"]
    total = b.reduce_window(
        b.mul(a, a), op="sum", window=(*(1,) * (n - 1), 2 * r + 1), strides=(1,) * n,
        pads=(*((0, 0),) * (n - 1), (r, r)), dilation=(1,) * n,
    )  # fmt: skip
    base = b.add(b.mul(total, b.const(at["alpha"], total)), b.const(at["bias"], total))
    return b.div(a, b.pow(base, b.const(at["beta"], base)))
