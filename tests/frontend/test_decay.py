"""Learning rates by step, against TensorFlow's formulas in Python's floats; the global step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import flowc as tf

STEPS = (0, 1, 7, 10, 25, 40)

SCHEDULES: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "exponential": (
        lambda s: tf.train.exponential_decay(0.1, s, 10, 0.5), lambda s: 0.1 * 0.5 ** (s / 10)),
    "staircase": (
        lambda s: tf.train.exponential_decay(0.1, s, 10, 0.5, staircase=True),
        lambda s: 0.1 * 0.5 ** (s // 10)),
    "natural": (
        lambda s: tf.train.natural_exp_decay(0.1, s, 10, 0.5),
        lambda s: 0.1 * math.exp(-0.5 * s / 10)),
    "inverse": (
        lambda s: tf.train.inverse_time_decay(0.1, s, 10, 0.5, True),
        lambda s: 0.1 / (1 + 0.5 * (s // 10))),
    "polynomial": (
        lambda s: tf.train.polynomial_decay(0.1, s, 20, 0.01, 2.0),
        lambda s: 0.09 * (1 - min(s, 20) / 20) ** 2 + 0.01),
    "cycle": (
        lambda s: tf.train.polynomial_decay(0.1, s, 20, 0.01, cycle=True),
        lambda s: 0.09 * (1 - s / (20 * max(1, math.ceil(s / 20)))) + 0.01),
    "cosine": (
        lambda s: tf.train.cosine_decay(0.1, s, 20, 0.2),
        lambda s: 0.1 * (0.8 * 0.5 * (1 + math.cos(math.pi * min(s, 20) / 20)) + 0.2)),
    "piecewise": (
        lambda s: tf.train.piecewise_constant(s, [7, 25], [1.0, 0.5, 0.1]),
        lambda s: 1.0 if s <= 7 else 0.5 if s <= 25 else 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    make, reference = SCHEDULES[name]
    step = tf.placeholder(tf.int64, [])
    rate = make(step)
    with tf.Session() as sess:
        for s in STEPS:
            assert sess.run(rate, {step: s}) == pytest.approx(reference(s), rel=2e-6, abs=1e-8)


def test_names_and_errors_of_schedules() -> None:
    step = tf.train.create_global_step()
    assert tf.train.exponential_decay(0.1, step, 10, 0.5).op.name == "ExponentialDecay"
    assert tf.train.cosine_decay(0.1, step, 10, name="rate").op.name == "rate"
    with pytest.raises(ValueError, match="global_step is required for exponential_decay"):
        tf.train.exponential_decay(0.1, None, 10, 0.5)
    with pytest.raises(ValueError, match="1 less than the length of values"):
        tf.train.piecewise_constant(step, [1, 2], [1.0, 2.0])
    with pytest.raises(ValueError, match="must have the same dtype as x"):
        tf.train.piecewise_constant(step, [1.5], [1.0, 2.0])
    with pytest.raises(ValueError, match="same dtype"):
        tf.train.piecewise_constant(step, [1], [1.0, 2])


def test_the_global_step_is_one_variable() -> None:
    assert tf.train.get_global_step() is None
    step = tf.train.get_or_create_global_step()
    assert step.name == "global_step:0"
    assert step.dtype is tf.int64
    assert tf.train.get_or_create_global_step() is step is tf.train.get_global_step()
    assert tf.trainable_variables() == []
    with pytest.raises(ValueError, match="already exists"):
        tf.train.create_global_step()
    with tf.Session() as sess:
        sess.run(step.initializer)
        sess.run(tf.assign_add(step, 3))
        assert tf.train.global_step(sess, step) == 3


def test_a_variable_called_global_step_is_the_global_step() -> None:
    step = tf.Variable(0, trainable=False, name="global_step")
    assert tf.train.get_global_step() is step
    with tf.Graph().as_default():
        tf.Variable(0.5, name="global_step")
        with pytest.raises(TypeError, match="integer type"):
            tf.train.get_global_step()


def test_a_rate_that_follows_the_step_while_training() -> None:
    v = tf.Variable(1.0)
    step = tf.train.create_global_step()
    rate = tf.train.exponential_decay(0.25, step, 1, 0.5)
    train = tf.train.GradientDescentOptimizer(rate).minimize(v * v, global_step=step)
    want = 1.0
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(4):
            sess.run(train)
            want -= 0.25 * 0.5**i * 2 * want
            assert sess.run(v) == pytest.approx(want, rel=1e-6)
