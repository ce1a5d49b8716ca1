"""Cross entropies and other losses of `tf.nn`."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value
from flowc.ir.types import shape_text

from .. import dtypes as dt
from ..custom import with_gradient
from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .activation import along, shifted
from .convert import Like, apply, convert, need, scope


def softmax_cross_entropy_with_logits(
    *args: Any,
    labels: Like = None,
    logits: Like = None,
    dim: int = -1,
    axis: int | None = None,
    name: str | None = None,
    targets: Like = None,
) -> Tensor:
    """−Σ labels · log softmax(logits) along the last axis; gradients go to the logits only.

    Positional arguments are (logits, labels), as TensorFlow had them before 1.0.
    """
    if len(args) > 2 or (args and logits is not None):
        raise ValueError("softmax_cross_entropy_with_logits takes logits and labels once")
    given = dict(zip(("logits", "labels"), args, strict=False))
    scores = given.get("logits", logits)
    truth = next((v for v in (given.get("labels"), labels, targets) if v is not None), None)
    where = dim if axis is None else axis
    return _cross_entropy(truth, scores, where, name, False, "softmax_cross_entropy_with_logits")


def softmax_cross_entropy_with_logits_v2(
    labels: Like,
    logits: Like,
    axis: int | None = None,
    name: str | None = None,
    dim: int | None = None,
) -> Tensor:
    """−Σ labels · log softmax(logits) along an axis; gradients go to both."""
    where = next((v for v in (axis, dim) if v is not None), -1)
    return _cross_entropy(labels, logits, where, name, True, "softmax_cross_entropy_with_logits")


def _cross_entropy(
    labels: Like, logits: Like, axis: int, name: str | None, both: bool, default: str
) -> Tensor:
    if labels is None or logits is None:
        raise ValueError("Both labels and logits must be provided.")
    with scope(name, default) as s:
        a = convert(logits, name="logits")
        need(a, "f", "logits")
        y = convert(labels, None if hasattr(labels, "op") else a.dtype, "labels")
        if y.dtype is not a.dtype:
            y = apply("Cast", [y], a.dtype, "Cast")
        op = "SoftmaxCrossEntropyWithLogits"
        return apply(op, [a, y], a.dtype, s, axis=axis, both=both)


@expander("SoftmaxCrossEntropyWithLogits")
def _softmax_cross_entropy(x: Expansion, node: Operation, a: Value, y: Value) -> Any:
    if a.ty.shape != y.ty.shape:
        a, y = x.match([*x.broadcast(a, y)], "logits and labels must have the same shape")
    b, axis, shape = x.b, x.axis(node.attrs["axis"], a.ty.rank), a.ty.shape
    low, e, total = shifted(x, a, axis)
    log_total = b.log(total)
    terms = b.mul(y, b.sub(along(x, log_total, shape, axis), low))
    loss = b.reduce(terms, op="sum", axes=(axis,))

    def backward(b: Any, g: Value) -> tuple[Value | None, ...]:
        wide = along(x, g, shape, axis)
        share = b.div(e, along(x, total, shape, axis))
        to_labels = None
        if node.attrs["both"]:
            to_labels = b.mul(wide, b.sub(along(x, log_total, shape, axis), low))
        return b.mul(wide, b.sub(share, y)), to_labels

    return with_gradient(b, loss, (a, y), backward)


def sparse_softmax_cross_entropy_with_logits(
    *args: Any, labels: Like = None, logits: Like = None, name: str | None = None
) -> Tensor:
    """−log softmax(logits) at each label: integers of the logits' shape without the last axis.

    Positional arguments are (logits, labels), as TensorFlow had them before 1.0.
    """
    given = dict(zip(("logits", "labels"), args, strict=False))
    scores = given.get("logits", logits)
    truth = given.get("labels", labels)
    if scores is None or truth is None:
        raise ValueError("Both labels and logits must be provided.")
    with scope(name, "SparseSoftmaxCrossEntropyWithLogits") as s:
        a, y = convert(scores, name="logits"), convert(truth, name="labels")
        need(a, "f", "logits")
        need(y, "iu", "labels")
        return apply("SparseSoftmaxCrossEntropyWithLogits", [a, y], a.dtype, s)


@expander("SparseSoftmaxCrossEntropyWithLogits")
def _sparse(x: Expansion, node: Operation, a: Value, y: Value) -> Any:
    b, axis = x.b, a.ty.rank - 1
    if y.ty.rank != axis:
        raise x.fail(
            f"Rank mismatch: Rank of labels (received {y.ty.rank}) should equal rank of logits "
            f"minus 1 (received {a.ty.rank}); shapes {shape_text(y.ty.shape)} and "
            f"{shape_text(a.ty.shape)}"
        )
    lead = x.joined([a.ty.shape[:-1], y.ty.shape])
    a, y = x.conform(a, (*lead, a.ty.shape[-1])), x.conform(y, lead)
    shape = a.ty.shape
    low, e, total = shifted(x, a, axis)
    index = b.iota(dtype=y.ty.dtype, shape=shape, axis=axis)
    hit = b.compare(index, along(x, y, shape, axis), op="eq")
    picked = b.reduce(b.select(hit, low, b.const(0, low)), op="sum", axes=(axis,))
    classes = shape[-1]
    loss = b.sub(b.log(total), picked)
    if isinstance(classes, int):  # a label outside the classes has no loss
        zero, end = b.const(0, y), b.const(min(classes, y.ty.dtype.max), y)
        inside = getattr(b, "and")(b.compare(y, zero, op="ge"), b.compare(y, end, op="lt"))
        loss = b.select(inside, loss, b.const(float("nan"), loss))

    def backward(b: Any, g: Value) -> tuple[Value | None, ...]:
        share = b.div(e, along(x, total, shape, axis))
        truth = b.cast(hit, dtype=share.ty.dtype)
        return b.mul(along(x, g, shape, axis), b.sub(share, truth)), None

    return with_gradient(b, loss, (a, y), backward)


def sigmoid_cross_entropy_with_logits(
    *args: Any,
    labels: Like = None,
    logits: Like = None,
    name: str | None = None,
    targets: Like = None,
) -> Tensor:
    """max(x, 0) − x·z + log(1 + exp(−|x|)) for logits x and labels z, elementwise.

    Positional arguments are (logits, targets), as TensorFlow had them before 1.0.
    """
    given = dict(zip(("logits", "labels"), args, strict=False))
    scores = given.get("logits", logits)
    truth = next((v for v in (given.get("labels"), labels, targets) if v is not None), None)
    if scores is None or truth is None:
        raise ValueError("Both labels and logits must be provided.")
    with scope(name, "logistic_loss") as s:
        a = convert(scores, name="logits")
        need(a, "f", "logits")
        z = convert(truth, a.dtype, "labels")
        if not z.shape.is_compatible_with(a.shape):
            raise ValueError(f"logits and labels must have the same shape ({a.shape} vs {z.shape})")
        return apply("SigmoidCrossEntropyWithLogits", [a, z], a.dtype, s)


@expander("SigmoidCrossEntropyWithLogits")
def _sigmoid_cross_entropy(x: Expansion, node: Operation, a: Value, z: Value) -> Any:
    a, z = x.match([a, z], "logits and labels")
    b = x.b
    zero = b.const(0, a)
    rest = b.log1p(b.exp(b.neg(b.abs(a))))
    loss = b.add(b.sub(b.max(a, zero), b.mul(a, z)), rest)

    def backward(b: Any, g: Value) -> tuple[Value | None, ...]:
        return b.mul(g, b.sub(b.sigmoid(a), z)), b.neg(b.mul(g, a))

    return with_gradient(b, loss, (a, z), backward)


def weighted_cross_entropy_with_logits(
    targets: Like = None,
    logits: Like = None,
    pos_weight: Like = 1.0,
    name: str | None = None,
    labels: Like = None,
) -> Tensor:
    """The sigmoid cross entropy with the positive terms weighted by pos_weight."""
    truth = targets if targets is not None else labels
    with scope(name, "logistic_loss") as s:
        a = convert(logits, name="logits")
        z, w = convert(truth, a.dtype, "targets"), convert(pos_weight, a.dtype, "pos_weight")
        weight = 1.0 + (w - 1.0) * z
        rest = apply("Softplus", [-a], a.dtype, "Softplus")
        total: Tensor = (1.0 - z) * a + weight * rest
        return apply("Identity", [total], total.dtype, s)


def log_poisson_loss(
    targets: Like, log_input: Like, compute_full_loss: bool = False, name: str | None = None
) -> Tensor:
    """exp(log_input) − log_input · targets."""
    if compute_full_loss:
        raise ValueError("compute_full_loss is not available")
    with scope(name, "log_poisson_loss") as s:
        a = convert(log_input, name="log_input")
        total = apply("Exp", [a], a.dtype, "Exp") - a * convert(targets, a.dtype)
        return apply("Identity", [total], total.dtype, s)


def in_top_k(predictions: Like, targets: Like, k: Any, name: str | None = None) -> Tensor:
    """Whether each target is among the k greatest predictions of its row."""
    with scope(name, "InTopK") as s:
        p, t = convert(predictions, name="predictions"), convert(targets, name="targets")
        return apply("InTopK", [p, t], dt.bool_, s, k=int(k))


@expander("InTopK", differentiable=False)
def _in_top_k(x: Expansion, node: Operation, p: Value, t: Value) -> Any:
    b, shape = x.b, p.ty.shape
    rows = x.joined([shape[:1], t.ty.shape])
    p, t = x.conform(p, (*rows, shape[1])), x.conform(t, rows)
    shape = p.ty.shape
    index = b.iota(dtype=t.ty.dtype, shape=shape, axis=1)
    hit = b.compare(index, along(x, t, shape, 1), op="eq")
    own = b.reduce(b.select(hit, p, b.const(0, p)), op="sum", axes=(1,))
    above = b.compare(p, along(x, own, shape, 1), op="gt")
    count = b.reduce(b.cast(above, dtype=_I32), op="sum", axes=(1,))
    finite = b.compare(b.abs(own), b.const(float("inf"), own), op="lt")
    inside = b.reduce(hit, op="or", axes=(1,))
    both = getattr(b, "and")(finite, inside)
    return getattr(b, "and")(b.compare(count, b.const(node.attrs["k"], count), op="lt"), both)


_I32 = dt.int32.element
