"""Activations, softmax, and what regularizes layers."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value
from flowc.ir.types import shape_text

from .. import dtypes as dt
from ..custom import with_gradient
from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, need, scope
from .random import _node as random_node
from .random import unit
from .reduce import one_of
from .unary import composed

F = "f"


@composed("Relu", "fi", "max(x, 0); its derivative at 0 is 0.")
def relu(b: Any, x: Value) -> Any:
    return b.max(b.const(0, x), x)


@composed("Relu6", "fi", "min(max(x, 0), 6).")
def relu6(b: Any, x: Value) -> Any:
    return b.min(b.const(6, x), b.max(b.const(0, x), x))


@composed("Elu", F, "x where it is positive, else exp(x) − 1.")
def elu(b: Any, x: Value) -> Any:
    zero = b.const(0, x)
    return b.select(b.compare(x, zero, op="lt"), b.expm1(b.min(x, zero)), x)


@composed("Selu", F, "The self-normalizing unit of Klambauer et al. (2017).")
def selu(b: Any, x: Value) -> Any:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    zero = b.const(0, x)
    low = b.mul(b.const(scale * alpha, x), b.expm1(b.min(x, zero)))
    return b.select(b.compare(x, zero, op="lt"), low, b.mul(b.const(scale, x), x))


@composed("Softplus", F, "log(1 + exp(x)), without overflow.")
def softplus(b: Any, x: Value) -> Any:
    y = b.add(b.log1p(b.exp(b.neg(b.abs(x)))), b.max(x, b.const(0, x)))
    return with_gradient(b, y, (x,), lambda b, g: (b.mul(g, b.sigmoid(x)),))


@composed("Softsign", F, "x / (1 + |x|).")
def softsign(b: Any, x: Value) -> Any:
    return b.div(x, b.add(b.const(1, x), b.abs(x)))


@composed("L2Loss", F, "Half of the sum of squares.")
def l2_loss(b: Any, x: Value) -> Any:
    total = b.reduce(b.mul(x, x), op="sum", axes=tuple(range(x.ty.rank)))
    return b.mul(total, b.const(0.5, total))


def leaky_relu(features: Like, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """x where it is positive, else alpha · x."""
    with scope(name, "LeakyRelu") as s:
        t = convert(features, name="features")
        need(t, "f")
        return apply("LeakyRelu", [t, convert(alpha, t.dtype, "alpha")], t.dtype, s)


@expander("LeakyRelu")
def _leaky(x: Expansion, node: Operation, a: Value, alpha: Value) -> Any:
    low = x.b.mul(*x.broadcast(a, alpha))
    return x.b.select(x.b.compare(a, x.b.const(0, a), op="gt"), a, low)


def crelu(features: Like, name: str | None = None, axis: int = -1) -> Tensor:
    """relu(x) and relu(−x), joined along an axis."""
    with scope(name, "CRelu") as s:
        t = convert(features)
        both = [t, apply("Neg", [t], t.dtype, "Neg")]
        joined = apply("ConcatV2", both, t.dtype, "concat", axis=axis)
        return apply("Relu", [joined], t.dtype, s)


# ---- Softmax.


def _axis(axis: Any, dim: Any) -> int:
    found = one_of(axis, dim)
    return -1 if found is None else int(found)


def _softmax_node(op: str, x: Like, axis: int, name: str | None, default: str) -> Tensor:
    with scope(name, default) as s:
        t = convert(x, name="logits")
        need(t, F, "logits")
        return apply(op, [t], t.dtype, s, axis=axis)


def softmax(logits: Like, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """exp(x) / Σ exp(x) along an axis (the last)."""
    return _softmax_node("Softmax", logits, _axis(axis, dim), name, "Softmax")


def log_softmax(
    logits: Like, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """x − log Σ exp(x) along an axis (the last)."""
    return _softmax_node("LogSoftmax", logits, _axis(axis, dim), name, "LogSoftmax")


def along(x: Expansion, row: Value, shape: Any, axis: int) -> Value:
    """One value a row, repeated along the axis."""
    keep = tuple(i for i in range(len(shape)) if i != axis)
    return x.b.broadcast(row, shape=shape, dims=keep)  # type: ignore[no-any-return]


def shifted(x: Expansion, a: Value, axis: int) -> tuple[Value, Value, Value]:
    """(x − max, its exp, the sum of that along the axis): what softmaxes are made of."""
    top = x.b.stop_gradient(x.b.reduce(a, op="max", axes=(axis,)))
    low = x.b.sub(a, along(x, top, a.ty.shape, axis))
    e = x.b.exp(low)
    return low, e, x.b.reduce(e, op="sum", axes=(axis,))


def softmax_value(x: Expansion, a: Value, axis: int) -> Value:
    """Softmax with the gradient (g − Σ g·y) · y."""
    _, e, total = shifted(x, a, axis)
    if a.ty.dtype.bits < 32:  # a rounded reciprocal would be one rounding more of few bits
        y = x.b.div(e, along(x, total, a.ty.shape, axis))
    else:  # the sum is at least 1: one division a row, not an element
        inverse = x.b.div(x.b.const(1, total), total)
        y = x.b.mul(e, along(x, inverse, a.ty.shape, axis))

    def backward(b: Any, g: Value) -> tuple[Value]:
        dot = b.reduce(b.mul(g, y), op="sum", axes=(axis,))
        return (b.mul(b.sub(g, along(x, dot, a.ty.shape, axis)), y),)

    return with_gradient(x.b, y, (a,), backward)


@expander("Softmax")
def _softmax(x: Expansion, node: Operation, a: Value) -> Any:
    return softmax_value(x, a, x.axis(node.attrs["axis"], a.ty.rank))


@expander("LogSoftmax")
def _log_softmax(x: Expansion, node: Operation, a: Value) -> Any:
    axis = x.axis(node.attrs["axis"], a.ty.rank)
    low, _, total = shifted(x, a, axis)
    y = x.b.sub(low, along(x, x.b.log(total), a.ty.shape, axis))

    def backward(b: Any, g: Value) -> tuple[Value]:
        rows = along(x, b.reduce(g, op="sum", axes=(axis,)), a.ty.shape, axis)
        return (b.sub(g, b.mul(rows, b.exp(y))),)

    return with_gradient(x.b, y, (a,), backward)


# ---- Biases and dropout.


def bias_add(
    value: Like, bias: Like, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """Add a vector along the channels: the last axis, or axis 1 for "NCHW"."""
    if data_format not in (None, "NHWC", "NCHW"):
        raise ValueError(f"data_format must be NHWC or NCHW, not {data_format!r}")
    with scope(name, "BiasAdd") as s:
        t = convert(value, name="input")
        v = convert(bias, t.dtype, "bias")
        return apply("BiasAdd", [t, v], t.dtype, s, channels=1 if data_format == "NCHW" else -1)


@expander("BiasAdd")
def _bias_add(x: Expansion, node: Operation, a: Value, bias: Value) -> Any:
    axis = x.axis(node.attrs["channels"], a.ty.rank)
    if bias.ty.rank != 1:
        raise x.fail(f"a bias must be a vector, not {bias.type}")
    text = f"bias of shape {shape_text(bias.ty.shape)} for a value {a.type}"
    size = x.agree(a.ty.shape[axis], bias.ty.shape[0], text)
    a = x.conform(a, tuple(size if i == axis else d for i, d in enumerate(a.ty.shape)))
    return x.b.add(a, x.b.broadcast(x.conform(bias, (size,)), shape=a.ty.shape, dims=(axis,)))


def dropout(
    x: Like,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: Any = None,
    name: str | None = None,
    rate: Any = None,
) -> Tensor:
    """Each element with probability keep_prob, divided by it; else 0. rate is 1 − keep_prob."""
    if (keep_prob is None) == (rate is None):
        raise ValueError("dropout takes one of keep_prob and rate")
    if isinstance(keep_prob if rate is None else rate, (int, float)):
        kept = float(keep_prob) if rate is None else 1.0 - float(rate)
        if not 0.0 < kept <= 1.0 and not (rate is not None and kept == 0.0):
            raise ValueError(f"keep_prob must be a scalar tensor or a float in (0, 1], got {kept}")
        if kept == 1.0:
            return convert(x)
        keep_prob = kept
    elif rate is not None:
        keep_prob = convert(1.0) - rate
    with scope(name, "dropout") as s:
        t = convert(x, name="x")
        need(t, F)
        inputs = [t, convert(keep_prob, t.dtype, "keep_prob")]
        if noise_shape is not None:
            inputs.append(convert(noise_shape, dt.int32, "noise_shape"))
        return random_node("Dropout", inputs, t.dtype, s, seed)


@expander("Dropout")
def _dropout(
    x: Expansion, node: Operation, a: Value, keep: Value, noise: Value | None = None
) -> Any:
    b, shape = x.b, a.ty.shape
    sizes = shape if noise is None else x.sizes(noise)
    u = unit(x, node, sizes, a.ty.dtype)
    limit = b.cast(keep, dtype=u.ty.dtype) if u.ty.dtype is not keep.ty.dtype else keep
    kept = x.broadcast_to(b.compare(u, b.broadcast_to(limit, sizes), op="lt"), shape)
    scaled = b.div(a, b.broadcast_to(keep, shape))
    return b.select(kept, scaled, b.const(0, scaled))
