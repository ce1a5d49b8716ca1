"""`tf.losses`: weighted losses, which go to the collection LOSSES."""

from __future__ import annotations

from typing import Any

from . import dtypes as dt
from .graph import GraphKeys, get_default_graph
from .ops.activation import relu
from .ops.binary import greater, minimum, multiply, not_equal, squared_difference, subtract
from .ops.clip import add_n
from .ops.convert import convert
from .ops.creation import ones_like, zeros_like
from .ops.losses import sigmoid_cross_entropy_with_logits as sigmoid_entropy
from .ops.losses import softmax_cross_entropy_with_logits_v2 as softmax_entropy
from .ops.losses import sparse_softmax_cross_entropy_with_logits as sparse_entropy
from .ops.reduce import reduce_sum
from .ops.selecting import where
from .ops.shape import broadcast_to, shape, size, squeeze
from .ops.state import stop_gradient
from .ops.unary import abs as absolute
from .ops.unary import cast, log, to_float
from .tensor import Tensor

Like = Any


class Reduction:
    """How a tensor of losses becomes one loss."""

    NONE = "none"
    SUM = "weighted_sum"
    MEAN = "weighted_mean"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        return (cls.NONE, cls.SUM, cls.MEAN, cls.SUM_OVER_BATCH_SIZE, cls.SUM_BY_NONZERO_WEIGHTS)

    @classmethod
    def validate(cls, key: str) -> None:
        """ValueError for an unknown one."""
        if key not in cls.all():
            raise ValueError(f"Invalid Reduction Key {key}.")


def _scope(name: str | None, default: str) -> Any:
    return get_default_graph().name_scope(name or default)


def compute_weighted_loss(
    losses: Like,
    weights: Like = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """The losses times weights, reduced; by default the sum over how many weights are not 0.

    weights: a scalar, or of the losses' rank with sizes equal or 1. Raises ValueError otherwise.
    """
    Reduction.validate(reduction)
    with _scope(scope, "weighted_loss"):
        values = convert(losses)
        given = values.dtype
        values = to_float(values) if given is not dt.float64 else values
        w = cast(convert(weights), values.dtype)
        _check_weights(w, values)
        total = multiply(values, w)
        if reduction != Reduction.NONE:
            total = _reduced(reduce_sum(total), values, w, reduction)
        loss = cast(total, given)
        if loss_collection:
            get_default_graph().add_to_collection(loss_collection, loss)
        return loss


def _check_weights(w: Tensor, values: Tensor) -> None:
    a, b = w.shape.sizes, values.shape.sizes
    if a is None or b is None or not a:
        return
    fits = len(a) == len(b) and all(
        x is None or y is None or x in (1, y) for x, y in zip(a, b, strict=True)
    )
    if not fits:
        raise ValueError(f"weights can not be broadcast to values. values shape={values.shape}. "
                         f"weights shape={w.shape}.")


def _reduced(total: Tensor, values: Tensor, w: Tensor, reduction: str) -> Tensor:
    if reduction == Reduction.SUM:
        return total
    if reduction == Reduction.MEAN:
        return _safe_div(total, reduce_sum(multiply(ones_like(values), w)))
    if reduction == Reduction.SUM_OVER_BATCH_SIZE:
        return _safe_div(total, cast(size(values), values.dtype))
    present = cast(not_equal(w, 0.0), values.dtype)
    return _safe_div(total, reduce_sum(broadcast_to(present, shape(values))))


def _safe_div(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is not positive."""
    positive = greater(b, 0)
    return where(positive, a / where(positive, b, ones_like(b)), zeros_like(a))


def _pair(labels: Like, predictions: Like) -> tuple[Tensor, Tensor]:
    if labels is None or predictions is None:
        raise ValueError("labels and predictions must not be None.")
    p = to_float(convert(predictions))
    y = to_float(convert(labels))
    if not p.shape.is_compatible_with(y.shape):
        raise ValueError(f"Shapes {p.shape} and {y.shape} are incompatible")
    return y, p


def absolute_difference(
    labels: Like, predictions: Like, weights: Like = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """|predictions − labels|."""
    with _scope(scope, "absolute_difference") as s:
        y, p = _pair(labels, predictions)
        losses = absolute(subtract(p, y))
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def mean_squared_error(
    labels: Like, predictions: Like, weights: Like = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """(predictions − labels)²."""
    with _scope(scope, "mean_squared_error") as s:
        y, p = _pair(labels, predictions)
        losses = squared_difference(p, y)
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def huber_loss(
    labels: Like, predictions: Like, weights: Like = 1.0, delta: float = 1.0,
    scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """e²/2 for errors |e| ≤ delta, else delta · |e| − delta²/2 (Huber 1964)."""
    with _scope(scope, "huber_loss") as s:
        y, p = _pair(labels, predictions)
        error = absolute(subtract(p, y))
        low = minimum(error, delta)
        losses = 0.5 * low * low + delta * (error - low)
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def log_loss(
    labels: Like, predictions: Like, weights: Like = 1.0, epsilon: float = 1e-7,
    scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """−y · log(p + ε) − (1 − y) · log(1 − p + ε)."""
    with _scope(scope, "log_loss") as s:
        y, p = _pair(labels, predictions)
        losses = -y * log(p + epsilon) - (1.0 - y) * log(1.0 - p + epsilon)
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def hinge_loss(
    labels: Like, logits: Like, weights: Like = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """max(0, 1 − y · logits) for labels 0 and 1, taken as y of −1 and 1."""
    with _scope(scope, "hinge_loss") as s:
        y, a = _pair(labels, logits)
        losses = relu(1.0 - (2.0 * y - 1.0) * a)
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def cosine_distance(
    labels: Like, predictions: Like, axis: int | None = None, weights: Like = 1.0,
    scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS, dim: int | None = None,
) -> Tensor:  # fmt: skip
    """1 − Σ labels · predictions along an axis; both are expected to be of unit length."""
    at = axis if axis is not None else dim
    if at is None:
        raise ValueError("You must specify 'axis'.")
    with _scope(scope, "cosine_distance_loss") as s:
        y, p = _pair(labels, predictions)
        losses = 1.0 - reduce_sum(multiply(p, y), axis=[at], keepdims=True)
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def sigmoid_cross_entropy(
    multi_class_labels: Like, logits: Like, weights: Like = 1.0, label_smoothing: float = 0,
    scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The sigmoid cross entropy, of labels moved towards ½ by label_smoothing."""
    with _scope(scope, "sigmoid_cross_entropy_loss") as s:
        a = convert(logits)
        y = cast(convert(multi_class_labels), a.dtype)
        if label_smoothing > 0:
            y = y * (1 - label_smoothing) + 0.5 * label_smoothing
        losses = sigmoid_entropy(labels=y, logits=a, name="xentropy")
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def softmax_cross_entropy(
    onehot_labels: Like, logits: Like, weights: Like = 1.0, label_smoothing: float = 0,
    scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The softmax cross entropy of labels that are moved towards 1/n by label_smoothing."""
    with _scope(scope, "softmax_cross_entropy_loss") as s:
        a = convert(logits)
        y = cast(convert(onehot_labels), a.dtype)
        if label_smoothing > 0:
            n = cast(shape(y)[-1], a.dtype)
            y = y * (1.0 - label_smoothing) + label_smoothing / n
        losses = softmax_entropy(labels=stop_gradient(y), logits=a, name="xentropy")
        return compute_weighted_loss(losses, weights, s, loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Like, logits: Like, weights: Like = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The softmax cross entropy of integer labels, [n] or [n, 1]."""
    with _scope(scope, "sparse_softmax_cross_entropy_loss") as s:
        a, y, w = convert(logits), convert(labels), convert(weights)
        extra = None if y.shape.ndims is None or a.shape.ndims is None else (
            y.shape.ndims - a.shape.ndims + 1)
        if extra == 1:
            y = squeeze(y, [-1])
        if w.shape.ndims and y.shape.ndims and w.shape.ndims - y.shape.ndims == 1:
            w = squeeze(w, [-1])
        losses = sparse_entropy(labels=y, logits=a, name="xentropy")
        return compute_weighted_loss(losses, w, s, loss_collection, reduction)


# ---- The collection of losses.


def add_loss(loss: Tensor, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Add a loss to a collection."""
    if loss_collection:
        get_default_graph().add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """The losses in a collection."""
    return get_default_graph().get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """The losses that regularizers gave."""
    return get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(
    scope: str | None = None, name: str = "total_regularization_loss"
) -> Tensor:
    """The sum of the regularizers' losses; 0 without any."""
    found = get_regularization_losses(scope)
    return add_n(found, name=name) if found else convert(0.0)


def get_total_loss(
    add_regularization_losses: bool = True,
    name: str = "total_loss",
    scope: str | None = None,
) -> Tensor:
    """The sum of all losses, and of the regularizers' ones. ValueError where there are none."""
    losses = get_losses(scope)
    if add_regularization_losses:
        losses = losses + get_regularization_losses(scope)
    return add_n(losses, name=name)


__all__ = [
    "Reduction", "absolute_difference", "add_loss", "compute_weighted_loss", "cosine_distance",
    "get_losses", "get_regularization_loss", "get_regularization_losses", "get_total_loss",
    "hinge_loss", "huber_loss", "log_loss", "mean_squared_error", "sigmoid_cross_entropy",
    "softmax_cross_entropy", "sparse_softmax_cross_entropy",
]  # fmt: skip
