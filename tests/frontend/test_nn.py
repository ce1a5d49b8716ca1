"""tf.nn against NumPy, with gradients by finite differences in f64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

RNG = np.random.default_rng(1)
LOGITS = RNG.standard_normal((3, 4))
LABELS = np.eye(4)[[0, 3, 1]]
Fn = Callable[..., Any]


def evaluate(fn: Fn, *arrays: Any) -> Any:
    xs = [tf.placeholder(a.dtype, a.shape) for a in arrays]
    with tf.Session() as sess:
        return sess.run(fn(*xs), dict(zip(xs, arrays, strict=True)))


def check_gradient(fn: Fn, *arrays: Any) -> None:
    """Σ fn · weights: the gradients towards all arrays, against central differences."""
    xs = [tf.placeholder(tf.float64, a.shape) for a in arrays]
    out = fn(*xs)
    weights = np.random.default_rng(2).standard_normal(out.shape.as_list())
    total = tf.reduce_sum(out * weights)
    grads = tf.gradients(total, xs)
    with tf.Session() as sess:
        run = sess.make_callable(total, xs)
        got = sess.run(grads, dict(zip(xs, arrays, strict=True)))
        for k, a in enumerate(arrays):
            numeric = np.zeros_like(a)
            for i in np.ndindex(a.shape):
                step = np.zeros_like(a)
                step[i] = 1e-5
                moved = [[*arrays[:k], a + s * step, *arrays[k + 1 :]] for s in (1, -1)]
                numeric[i] = (run(*moved[0]) - run(*moved[1])) / 2e-5
            np.testing.assert_allclose(got[k], numeric, rtol=1e-5, atol=1e-7)


def softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_softmax() -> None:
    np.testing.assert_allclose(evaluate(tf.nn.softmax, LOGITS), softmax(LOGITS), rtol=1e-12)
    got = evaluate(lambda x: tf.nn.softmax(x, axis=0), LOGITS)
    np.testing.assert_allclose(got, softmax(LOGITS, 0), rtol=1e-12)
    got = evaluate(tf.nn.log_softmax, LOGITS)
    np.testing.assert_allclose(got, np.log(softmax(LOGITS)), rtol=1e-12)
    large = np.array([[1000.0, 1000.0, -1000.0]])
    np.testing.assert_allclose(evaluate(tf.nn.softmax, large), [[0.5, 0.5, 0.0]])


CROSS_ENTROPY: dict[str, Fn] = {
    "positional": lambda x: tf.nn.softmax_cross_entropy_with_logits(x, LABELS),
    "keywords": lambda x: tf.nn.softmax_cross_entropy_with_logits(labels=LABELS, logits=x),
    "v2": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(LABELS, x),
    "sparse": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=[0, 3, 1], logits=x),
    "sparse positional": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(x, [0, 3, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_cross_entropy(name: str) -> None:
    fn = CROSS_ENTROPY[name]
    want = -(LABELS * np.log(softmax(LOGITS))).sum(1)
    np.testing.assert_allclose(evaluate(fn, LOGITS), want, rtol=1e-12)
    x = tf.constant(LOGITS)
    with tf.Session() as sess:
        got = sess.run(tf.gradients(fn(x), x)[0])
    np.testing.assert_allclose(got, softmax(LOGITS) - LABELS, rtol=1e-9, atol=1e-12)


def test_cross_entropy_sends_gradients_to_labels_in_version_2_only() -> None:
    y = tf.constant(softmax(LOGITS + 1))
    x = tf.constant(LOGITS)
    first = tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=x)
    second = tf.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=x)
    with tf.Session() as sess:
        assert np.all(sess.run(tf.gradients(first, y)[0]) == 0)
        got = sess.run(tf.gradients(second, y)[0])
    np.testing.assert_allclose(got, -np.log(softmax(LOGITS)), rtol=1e-9)


GRADIENTS: dict[str, Fn] = {
    "relu": tf.nn.relu, "elu": tf.nn.elu, "selu": tf.nn.selu, "softplus": tf.nn.softplus,
    "softsign": tf.nn.softsign, "leaky": tf.nn.leaky_relu, "softmax": tf.nn.softmax,
    "log_softmax": tf.nn.log_softmax, "l2_loss": tf.nn.l2_loss,
    "l2_normalize": lambda x: tf.nn.l2_normalize(x, 1),
    "moments": lambda x: tf.nn.moments(x, [0])[1],
    "sigmoid ce": lambda x: tf.nn.sigmoid_cross_entropy_with_logits(labels=LABELS, logits=x),
    "weighted": lambda x: tf.nn.weighted_cross_entropy_with_logits(LABELS, x, 3.0),
    "logsumexp": lambda x: tf.reduce_logsumexp(x, 1),
    "lrn": lambda x: tf.nn.lrn(tf.reshape(x, [1, 1, 3, 4]), 1, 1.0, 0.5, 0.75),
    "norm": lambda x: tf.norm(x, axis=1), "prod": lambda x: tf.reduce_prod(x, 1),
    "clip": lambda x: tf.clip_by_norm(x, 0.7), "cumsum": lambda x: tf.cumsum(x, 1),
    "gather": lambda x: tf.gather(x, [2, 0, 2]), "sinh": tf.sinh, "asinh": tf.asinh,
    "slice": lambda x: x[1:, ::2], "pad": lambda x: tf.pad(x, [[1, 0], [0, 2]], "REFLECT"),
    "floormod": lambda x: tf.floormod(x, 0.37), "max": lambda x: tf.reduce_max(x, 1),
    "top_k": lambda x: tf.nn.top_k(x, 2)[0],
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    check_gradient(GRADIENTS[name], LOGITS)


def test_relu_has_no_slope_at_0() -> None:
    x = tf.constant([-1.0, 0.0, 2.0])
    with tf.Session() as sess:
        assert sess.run(tf.gradients(tf.nn.relu(x), x)[0]).tolist() == [0, 0, 1]
        assert sess.run(tf.gradients(tf.nn.softplus(x), x)[0])[1] == 0.5


def test_moments_and_normalization() -> None:
    mean, variance = tf.nn.moments(tf.constant(LOGITS), [0], keep_dims=True)
    x = tf.constant(LOGITS)
    scaled = tf.nn.batch_normalization(x, mean, variance, 0.5, 2.0, 1e-3)
    with tf.Session() as sess:
        m, v, y = sess.run([mean, variance, scaled])
    np.testing.assert_allclose(m, LOGITS.mean(0, keepdims=True))
    np.testing.assert_allclose(v, LOGITS.var(0, keepdims=True))
    np.testing.assert_allclose(y, (LOGITS - m) / np.sqrt(v + 1e-3) * 2 + 0.5)


def test_lookups_of_targets() -> None:
    got = evaluate(lambda x: tf.nn.in_top_k(x, [0, 1, 2], 2), LOGITS)
    order = np.argsort(-LOGITS, 1)[:, :2]
    assert got.tolist() == [i in order[i] for i in range(3)]
    bias = evaluate(lambda x: tf.nn.bias_add(x, [1.0, 2.0, 3.0, 4.0]), LOGITS)
    np.testing.assert_allclose(bias, LOGITS + np.arange(1, 5))


# ---- Convolutions and pooling.


def same_pads(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def windows(x: Any, size: tuple[int, int], strides: Any, padding: str, fill: float = 0.0) -> Any:
    """[N, H', W', C, h, w] of x [N, H, W, C]."""
    if padding == "SAME":
        pads = [same_pads(x.shape[i + 1], size[i], strides[i]) for i in range(2)]
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))
    return view[:, :: strides[0], :: strides[1]]


IMAGE, FILTER = RNG.standard_normal((2, 7, 6, 3)), RNG.standard_normal((3, 2, 3, 5))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (2, 3)])
def test_conv2d(padding: str, strides: tuple[int, int]) -> None:
    def ours(x: Any, w: Any) -> Any:
        return tf.nn.conv2d(x, w, strides=[1, *strides, 1], padding=padding)

    want = np.einsum("nyxchw,hwck->nyxk", windows(IMAGE, (3, 2), strides, padding), FILTER)
    np.testing.assert_allclose(evaluate(ours, IMAGE, FILTER), want, rtol=1e-10)

    def channels_first(x: Any, w: Any) -> Any:
        steps = [1, 1, *strides]
        return tf.nn.conv2d(x, w, steps, padding, data_format="NCHW")

    got = evaluate(channels_first, IMAGE.transpose(0, 3, 1, 2), FILTER)
    np.testing.assert_allclose(got.transpose(0, 2, 3, 1), want, rtol=1e-10)


def test_conv2d_of_unknown_sizes() -> None:
    x = tf.placeholder(tf.float64, [None, None, None, 3])
    y = tf.nn.conv2d(x, FILTER, [1, 2, 2, 1], "SAME")
    assert y.shape.as_list() == [None, None, None, 5]
    want = np.einsum("nyxchw,hwck->nyxk", windows(IMAGE, (3, 2), (2, 2), "SAME"), FILTER)
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(y, {x: IMAGE}), want, rtol=1e-10)


def test_depthwise_and_separable_conv2d() -> None:
    depth = RNG.standard_normal((3, 2, 3, 2))
    view = windows(IMAGE, (3, 2), (1, 1), "SAME")
    want = np.einsum("nyxchw,hwcm->nyxcm", view, depth).reshape(2, 7, 6, 6)

    def ours(x: Any, w: Any) -> Any:
        return tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME")

    np.testing.assert_allclose(evaluate(ours, IMAGE, depth), want, rtol=1e-10)
    point = RNG.standard_normal((1, 1, 6, 4))
    got = evaluate(
        lambda x, d, p: tf.nn.separable_conv2d(x, d, p, [1, 1, 1, 1], "SAME"), IMAGE, depth, point)
    np.testing.assert_allclose(got, want @ point[0, 0], rtol=1e-10)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d_transpose_is_the_gradient(padding: str, stride: int) -> None:
    x, w = tf.constant(IMAGE), tf.constant(FILTER)
    forward = tf.nn.conv2d(x, w, [1, stride, stride, 1], padding)
    g = RNG.standard_normal(forward.shape.as_list())
    back = tf.nn.conv2d_transpose(g, w, [2, 7, 6, 3], [1, stride, stride, 1], padding)
    with tf.Session() as sess:
        want, got = sess.run([tf.gradients(forward, x, g)[0], back])
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pooling(padding: str) -> None:
    def pool(kind: Any) -> Fn:
        return lambda x: kind(x, ksize=[1, 3, 2, 1], strides=[1, 2, 2, 1], padding=padding)

    view = windows(IMAGE, (3, 2), (2, 2), padding, -np.inf).max((-1, -2))
    np.testing.assert_allclose(evaluate(pool(tf.nn.max_pool), IMAGE), view)
    sums = windows(IMAGE, (3, 2), (2, 2), padding).sum((-1, -2))
    counts = windows(np.ones_like(IMAGE), (3, 2), (2, 2), padding).sum((-1, -2))
    got = evaluate(pool(tf.nn.avg_pool), IMAGE)
    np.testing.assert_allclose(got, sums / counts, rtol=1e-12)


def test_gradients_of_a_small_convnet() -> None:
    def net(x: Any, w: Any) -> Any:
        h = tf.nn.relu(tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"))
        return tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")

    check_gradient(net, IMAGE[:1, :4, :4], FILTER[..., :2])


def test_errors_name_the_line() -> None:
    with pytest.raises(ValueError, match=r"channels.*test_nn\.py"):
        tf.nn.conv2d(tf.zeros([1, 4, 4, 2]), tf.zeros([3, 3, 3, 1]), 1, "SAME")
    with pytest.raises(ValueError, match="padding must be"):
        tf.nn.max_pool(tf.zeros([1, 4, 4, 2]), 2, 2, "EDGE")
