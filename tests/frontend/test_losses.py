"""`tf.losses` and `tf.metrics` against formulas in NumPy, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

NATIVE = True
RNG = np.random.default_rng(7)
Y, P = RNG.integers(0, 2, (4, 3)).astype(float), RNG.uniform(0.1, 0.9, (4, 3))
W = np.array([[1.0], [0.0], [2.0], [0.5]])
R = tf.losses.Reduction


def log_sum(x: Any) -> Any:
    return np.log(np.exp(x).sum(-1, keepdims=True))


def huber(y: Any, p: Any) -> Any:
    e = np.abs(p - y)
    return np.where(e <= 0.5, e * e / 2, 0.5 * e - 0.125)


def binary(y: Any, x: Any) -> Any:
    return np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))


LOSSES: dict[str, tuple[Callable[..., Any], Callable[[Any, Any], Any]]] = {
    "squared": (tf.losses.mean_squared_error, lambda y, p: (p - y) ** 2),
    "absolute": (tf.losses.absolute_difference, lambda y, p: np.abs(p - y)),
    "huber": (lambda y, p, w, **k: tf.losses.huber_loss(y, p, w, delta=0.5, **k), huber),
    "log": (tf.losses.log_loss,
            lambda y, p: -y * np.log(p + 1e-7) - (1 - y) * np.log(1 - p + 1e-7)),
    "hinge": (tf.losses.hinge_loss, lambda y, p: np.maximum(0, 1 - (2 * y - 1) * p)),
    "sigmoid": (tf.losses.sigmoid_cross_entropy, binary),
    "smoothed": (
        lambda y, p, w, **k: tf.losses.sigmoid_cross_entropy(y, p, w, label_smoothing=0.2, **k),
        lambda y, p: binary(y * 0.8 + 0.1, p)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_elementwise_losses(name: str) -> None:
    make, reference = LOSSES[name]
    y, p = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [None, 3])
    got = [make(y, p, w) for w in (1.0, W.astype(np.float32))]
    assert tf.losses.get_losses() == got
    total = tf.losses.get_total_loss()
    each = reference(Y, P)
    want = [each.mean(), (each * W).sum() / (3 * 3)]
    with tf.Session() as sess:
        out = sess.run([*got, total], {y: Y, p: P})
    np.testing.assert_allclose(out, [*want, sum(want)], rtol=2e-5)


def test_reductions() -> None:
    each = (P - Y) ** 2 * W
    want = {
        R.NONE: each, R.SUM: each.sum(), R.MEAN: each.sum() / (3 * W.sum()),
        R.SUM_OVER_BATCH_SIZE: each.sum() / 12, R.SUM_BY_NONZERO_WEIGHTS: each.sum() / 9,
    }  # fmt: skip
    w = W.astype(np.float32)
    got = {r: tf.losses.mean_squared_error(Y, P, w, reduction=r) for r in want}
    none = tf.losses.mean_squared_error(Y, P, 0.0, loss_collection=None)
    assert len(tf.losses.get_losses()) == 5
    with tf.Session() as sess:
        out = sess.run(got)
        assert sess.run(none) == 0
    for r, value in want.items():
        np.testing.assert_allclose(out[r], value, rtol=1e-5)
    with pytest.raises(ValueError, match="Invalid Reduction Key"):
        tf.losses.mean_squared_error(Y, P, reduction="half")
    with pytest.raises(ValueError, match="can not be broadcast"):
        tf.losses.mean_squared_error(Y, P, np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match="incompatible"):
        tf.losses.mean_squared_error(Y, P[:2])


def test_softmax_losses() -> None:
    logits, labels = RNG.normal(size=(4, 3)), np.array([2, 0, 1, 1])
    hot = np.eye(3)[labels]
    each = (log_sum(logits) - (logits * hot).sum(-1, keepdims=True))[:, 0]
    soft = hot * 0.7 + 0.1
    smoothed = (log_sum(logits) * soft - logits * soft).sum(-1)
    weights = W[:, 0].astype(np.float32)
    got = [
        tf.losses.softmax_cross_entropy(hot, logits),
        tf.losses.softmax_cross_entropy(hot, logits, label_smoothing=0.3),
        tf.losses.sparse_softmax_cross_entropy(labels, logits, weights),
        tf.losses.sparse_softmax_cross_entropy(labels[:, None], logits),
        tf.losses.cosine_distance(Y, P, axis=1),
    ]
    want = [each.mean(), smoothed.mean(), (each * weights).sum() / 3, each.mean(),
            np.mean(1 - (Y * P).sum(1))]  # fmt: skip
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(got), want, rtol=1e-5)


def test_the_total_loss_has_the_regularizers() -> None:
    v = tf.get_variable("v", [2], initializer=tf.constant_initializer(3.0),
                        regularizer=tf.contrib.layers.l2_regularizer(0.1))
    loss = tf.losses.absolute_difference([0.0, 0.0], v)
    tf.losses.add_loss(tf.constant(10.0))
    total, bare = tf.losses.get_total_loss(), tf.losses.get_total_loss(False)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run([loss, total, bare]) == pytest.approx([3, 13.9, 13])


# ---- Metrics.


def test_metrics_over_runs() -> None:
    y, p = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.int64, [None])
    accuracy, update = tf.metrics.accuracy(y, p)
    mean, mean_update = tf.metrics.mean(tf.cast(p, tf.float32), weights=tf.cast(y, tf.float32))
    others = [tf.metrics.precision(y, p), tf.metrics.recall(y, p),
              tf.metrics.mean_squared_error(y, p), tf.metrics.root_mean_squared_error(y, p)]
    assert [v.op.name for v in tf.local_variables()][:4] == [
        "accuracy/total", "accuracy/count", "mean/total", "mean/count"]
    assert tf.global_variables() == []
    batches = [([1, 0, 1, 1], [1, 0, 0, 1]), ([0, 0], [1, 0])]
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        assert sess.run([accuracy, mean]) == [0, 0]
        for i, (a, b) in enumerate(batches):
            got = sess.run([update, mean_update, *(u for _, u in others)], {y: a, p: b})
            assert got[0] == pytest.approx([3 / 4, 4 / 6][i])
        out = sess.run([accuracy, mean, *(v for v, _ in others)])
    assert out == pytest.approx([4 / 6, 2 / 3, 2 / 3, 2 / 3, 2 / 6, np.sqrt(2 / 6)], rel=1e-6)
    assert got[1:] == pytest.approx(out[1:])
