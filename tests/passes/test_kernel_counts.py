"""How many kernels programs become: what is fused, whatever form it is written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

Model = Callable[..., Any]


def kernels(model: Model, *shapes: tuple[int | None, ...], grad: bool = False) -> int:
    """The kernels of a model of placeholders, or of the gradients of a loss that is nonlinear in
    its result. A size None is 7."""
    with tf.Graph().as_default():
        given = [tf.placeholder(tf.float32, s) for s in shapes]
        y = model(*given)
        fetch = tf.gradients(tf.reduce_sum(y * y), given) if grad else y
        feed = {p: np.ones([n or 7 for n in s], np.float32)
                for p, s in zip(given, shapes, strict=True)}
        return int(tf.Session().cost_analysis(fetch, feed).kernels)


def mean(x: Any) -> Any:
    return tf.reduce_mean(x, -1, keep_dims=True)


def norm_of_moments(x: Any, g: Any, b: Any) -> Any:
    m, v = tf.nn.moments(x, [-1], keep_dims=True)
    return tf.nn.batch_normalization(x, m, v, b, g, 1e-5)


def norm_by_hand(x: Any, g: Any, b: Any) -> Any:
    d = x - mean(x)
    return d * tf.rsqrt(mean(tf.square(d)) + 1e-5) * g + b


def norm_of_squares(x: Any, g: Any, b: Any) -> Any:
    m = mean(x)
    return (x - m) * tf.rsqrt(mean(x * x) - m * m + 1e-5) * g + b


def norm_divided(x: Any, g: Any, b: Any) -> Any:
    d = x - mean(x)
    return g * (d / tf.sqrt(mean(d * d) + 1e-5)) + b


def norm_of_sums(x: Any, g: Any, b: Any) -> Any:
    n = tf.cast(tf.shape(x)[-1], tf.float32)
    d = x - tf.reduce_sum(x, -1, keep_dims=True) / n
    v = tf.reduce_sum(d * d, -1, keep_dims=True) / n
    return b + d * (g * tf.rsqrt(v + 1e-5))


def norm_expanded(x: Any, g: Any, b: Any) -> Any:
    d = x - tf.expand_dims(tf.reduce_mean(x, -1), -1)
    return d / tf.sqrt(tf.expand_dims(tf.reduce_mean(tf.square(d), -1), -1) + 1e-5) * g + b


NORMS = (norm_of_moments, norm_by_hand, norm_of_squares, norm_divided, norm_of_sums, norm_expanded)
LAYERS = [(None, 64), (None, 5, 64), (4, 7, 48), (1, 128, 768), (300, 2)]


@pytest.mark.parametrize("shape", LAYERS, ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_layer_norm(norm: Model, shape: tuple[int | None, ...]) -> None:
    own = shape[-1:]
    assert kernels(norm, shape, own, own) == 1
    assert kernels(norm, shape, own, own, grad=True) <= 2


def exponentials(x: Any) -> Any:
    return tf.exp(x - tf.reduce_max(x, -1, keep_dims=True))


def total(x: Any) -> Any:
    return tf.reduce_sum(x, -1, keep_dims=True)


SOFTMAX = {
    "op": tf.nn.softmax,
    "by hand": lambda x: exponentials(x) / total(exponentials(x)),
    "by a reciprocal": lambda x: exponentials(x) * tf.reciprocal(total(exponentials(x))),
    "of its logarithm": lambda x: tf.exp(tf.nn.log_softmax(x)),
    "without the maximum": lambda x: tf.exp(x) / total(tf.exp(x)),
}


@pytest.mark.parametrize("shape", [(None, 37), (None, 5, 64), (4, 7, 48)], ids=str)
@pytest.mark.parametrize("form", SOFTMAX)
def test_softmax(form: str, shape: tuple[int | None, ...]) -> None:
    assert kernels(SOFTMAX[form], shape) == 1
    assert kernels(SOFTMAX[form], shape, grad=True) == 1


ENTROPY = {
    "op": lambda x, y: tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=x),
    "by hand": lambda x, y: -tf.reduce_sum(y * tf.log(tf.nn.softmax(x)), -1),
    "of logsumexp": lambda x, y: tf.reduce_sum(y * (tf.reduce_logsumexp(x, -1, True) - x), -1),
}


@pytest.mark.parametrize("shape", [(None, 37), (None, 5, 64), (4, 7, 48)], ids=str)
@pytest.mark.parametrize("form", ENTROPY)
def test_cross_entropy(form: str, shape: tuple[int | None, ...]) -> None:
    assert kernels(ENTROPY[form], shape, shape) == 1
    assert kernels(ENTROPY[form], shape, shape, grad=True) <= 2


GELU = {
    "erf": lambda x: 0.5 * x * (1.0 + tf.erf(x * 0.70710678)),
    "erf of a quotient": lambda x: x * 0.5 * (1.0 + tf.erf(x / 1.41421356)),
    "tanh": lambda x: 0.5 * x * (1.0 + tf.tanh(0.79788456 * (x + 0.044715 * x * x * x))),
    "tanh of pow": lambda x: 0.5 * x * (1 + tf.tanh(0.79788456 * (x + 0.044715 * tf.pow(x, 3)))),
    "sigmoid": lambda x: x * tf.sigmoid(1.702 * x),
}


@pytest.mark.parametrize("form", GELU)
def test_gelu(form: str) -> None:
    for grad in (False, True):
        assert kernels(GELU[form], (None, 64), grad=grad) == 1
        assert kernels(GELU[form], (None, 5, 64), grad=grad) == 1


def test_batch_norm() -> None:
    """Forward two sums, of which the second needs the first; backward two more."""
    def norm(x: Any, g: Any, b: Any) -> Any:
        m, v = tf.nn.moments(x, [0, 1, 2])
        return tf.nn.relu(tf.nn.batch_normalization(x, m, v, b, g, 1e-5))

    assert kernels(norm, (None, 8, 8, 16), (16,), (16,)) == 3
    assert kernels(norm, (None, 8, 8, 16), (16,), (16,), grad=True) <= 6


OPTIMIZERS = {
    "descent": lambda: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "nesterov": lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "rmsprop": lambda: tf.train.RMSPropOptimizer(0.1, momentum=0.5, centered=True),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.1),
    "adadelta": lambda: tf.train.AdadeltaOptimizer(0.1),
    "adam": lambda: tf.train.AdamOptimizer(0.1),
    "ftrl": lambda: tf.train.FtrlOptimizer(0.1),
}
SHAPES: list[list[int]] = [[3], [40, 50], [2, 3, 4], [], [1], [300, 300], [0, 4]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_updates_are_one_kernel(name: str) -> None:
    """Variables of any shapes; scalars that the optimizer keeps, too. Nothing is copied."""
    with tf.Graph().as_default():
        variables = [tf.Variable(np.ones(s, np.float32)) for s in SHAPES]
        losses = [tf.reduce_sum(tf.square(v - 3.0)) for v in variables]
        train = OPTIMIZERS[name]().minimize(tf.add_n(losses))
        session = tf.Session()
        session.run(tf.global_variables_initializer())
        found = session.cost_analysis(train)
        assert found.kernels == 1
        before = session.run(variables)
        session.run(train)
        for a, b in zip(before, session.run(variables), strict=True):
            assert np.all(a < b)


def test_the_initializer_is_one_kernel() -> None:
    with tf.Graph().as_default():
        for s in SHAPES:
            tf.Variable(tf.ones(s))
        session = tf.Session()
        assert session.cost_analysis(tf.global_variables_initializer()).kernels == 1


@pytest.mark.parametrize(("name", "most"), [("descent", 4), ("adam", 5)])
def test_softmax_regression(name: str, most: int) -> None:
    with tf.Graph().as_default():
        x, y = (tf.placeholder(tf.float32, [None, n]) for n in (784, 10))
        w, b = tf.Variable(tf.zeros([784, 10])), tf.Variable(tf.zeros([10]))
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=tf.matmul(x, w) + b)
        )
        train = OPTIMIZERS[name]().minimize(loss)
        session = tf.Session()
        session.run(tf.global_variables_initializer())
        feed = {x: np.ones([100, 784], np.float32), y: np.ones([100, 10], np.float32)}
        assert session.cost_analysis(train, feed).kernels <= most
