"""`tf.metrics`: values over many runs, kept in local variables; each is (value, update)."""

from __future__ import annotations

from typing import Any

from . import dtypes as dt
from .graph import GraphKeys, get_default_graph
from .ops.binary import equal, greater, logical_and, multiply
from .ops.convert import convert
from .ops.creation import ones_like, zeros, zeros_like
from .ops.reduce import reduce_sum
from .ops.selecting import where
from .ops.shape import broadcast_to, shape, size, squeeze
from .ops.state import assign_add
from .ops.unary import abs as absolute
from .ops.unary import cast, logical_not, sqrt, square, to_float
from .tensor import Tensor
from .variables import Variable
from .varscope import variable_scope

Like = Any
Metric = tuple[Tensor, Tensor]


def _variable(name: str, dtype: Any = dt.float32) -> Variable:
    """A scalar that a metric counts in: a local variable that starts with 0."""
    keys = [GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES]
    return Variable(lambda: zeros([], dtype), trainable=False, collections=keys, name=name)


def _ratio(a: Any, b: Any, name: str) -> Tensor:
    """a / b, and 0 where b is 0."""
    a, b = convert(a), convert(b)
    positive = greater(b, 0)
    return where(positive, a / where(positive, b, ones_like(b)), zeros_like(a), name=name)


def _collected(value: Tensor, update: Tensor, values: Any, updates: Any) -> Metric:
    graph = get_default_graph()
    if values:
        graph.add_to_collections(values, value)
    if updates:
        graph.add_to_collections(updates, update)
    return value, update


def _updated(variable: Variable, delta: Tensor) -> Tensor:
    return assign_add(variable, delta)


def mean(
    values: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean of all values so far, weighted."""
    with variable_scope(name, "mean", (values, weights)):
        v = to_float(convert(values))
        total, count = _variable("total"), _variable("count")
        if weights is None:
            n = to_float(size(v))
        else:
            w = _weights(weights, v)
            v, n = multiply(v, w), reduce_sum(w)
        new_total, new_count = _updated(total, reduce_sum(v)), _updated(count, n)
        value = _ratio(total, count, "value")
        update = _ratio(new_total, new_count, "update_op")
        return _collected(value, update, metrics_collections, updates_collections)


def _weights(weights: Like, values: Tensor) -> Tensor:
    w = to_float(convert(weights))
    if w.shape.ndims and values.shape.ndims and w.shape.ndims - values.shape.ndims == 1:
        w = squeeze(w, [-1])
    return broadcast_to(w, shape(values))


def _aligned(labels: Like, predictions: Like) -> tuple[Tensor, Tensor]:
    """Both of one rank: a last axis of 1 that only one of them has goes."""
    y, p = convert(labels), convert(predictions)
    a, b = y.shape.ndims, p.shape.ndims
    if a is not None and b is not None and abs(a - b) == 1:
        y, p = (squeeze(y, [-1]), p) if a > b else (y, squeeze(p, [-1]))
    if not y.shape.is_compatible_with(p.shape):
        raise ValueError(f"Shapes {p.shape} and {y.shape} are incompatible")
    return y, p


def accuracy(
    labels: Like, predictions: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """How many predictions so far equal their labels, as a share."""
    y, p = _aligned(labels, predictions)
    if y.dtype is not p.dtype:
        p = cast(p, y.dtype)
    hits = to_float(equal(p, y))
    return mean(hits, weights, metrics_collections, updates_collections, name or "accuracy")


def mean_absolute_error(
    labels: Like, predictions: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean of |predictions − labels| so far."""
    y, p = _aligned(labels, predictions)
    return mean(absolute(to_float(p) - to_float(y)), weights, metrics_collections,
                updates_collections, name or "mean_absolute_error")


def mean_squared_error(
    labels: Like, predictions: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The mean of (predictions − labels)² so far."""
    y, p = _aligned(labels, predictions)
    return mean(square(to_float(p) - to_float(y)), weights, metrics_collections,
                updates_collections, name or "mean_squared_error")


def root_mean_squared_error(
    labels: Like, predictions: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """The root of the mean of (predictions − labels)² so far."""
    value, update = mean_squared_error(
        labels, predictions, weights, None, None, name or "root_mean_squared_error"
    )
    return _collected(sqrt(value), sqrt(update), metrics_collections, updates_collections)


def _counted(name: str, hits: Tensor, weights: Like) -> tuple[Variable, Tensor]:
    """A variable that counts hits, and its update."""
    counter = _variable(name)
    values = to_float(hits)
    if weights is not None:
        values = multiply(values, _weights(weights, values))
    return counter, _updated(counter, reduce_sum(values))


def precision(
    labels: Like, predictions: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """Of what was predicted true so far, the share that is."""
    return _true_share(labels, predictions, weights, metrics_collections, updates_collections,
                       name or "precision", False)


def recall(
    labels: Like, predictions: Like, weights: Like = None, metrics_collections: Any = None,
    updates_collections: Any = None, name: str | None = None,
) -> Metric:  # fmt: skip
    """Of what is true so far, the share that was predicted."""
    return _true_share(labels, predictions, weights, metrics_collections, updates_collections,
                       name or "recall", True)


def _true_share(
    labels: Like, predictions: Like, weights: Like, values: Any, updates: Any, name: str,
    missed: bool,
) -> Metric:  # fmt: skip
    with variable_scope(name, name, (labels, predictions, weights)):
        y, p = (cast(t, dt.bool_) for t in _aligned(labels, predictions))
        hits, new_hits = _counted("true_positives/count", logical_and(y, p), weights)
        wrong = logical_and(y, logical_not(p)) if missed else logical_and(logical_not(y), p)
        other = "false_negatives/count" if missed else "false_positives/count"
        misses, new_misses = _counted(other, wrong, weights)
        value = _ratio(hits, hits + misses, "value")
        update = _ratio(new_hits, new_hits + new_misses, "update_op")
        return _collected(value, update, values, updates)


__all__ = [
    "accuracy", "mean", "mean_absolute_error", "mean_squared_error", "precision", "recall",
    "root_mean_squared_error",
]  # fmt: skip
