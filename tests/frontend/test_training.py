"""Optimizers against TensorFlow's formulas in NumPy, f64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

START = np.array([1.0, -2.0, 0.5])
State = dict[str, Any]


def quadratic(v: Any) -> Any:
    return tf.reduce_sum(tf.square(v) * [1.0, 0.5, 3.0])


def slope(v: Any) -> Any:
    return 2 * v * np.array([1.0, 0.5, 3.0])


def adagrad(s: State, v: Any, g: Any) -> Any:
    s["a"] = s.get("a", 0.1) + g * g
    return v - 0.1 * g / np.sqrt(s["a"])


def adagrad_da(s: State, v: Any, g: Any) -> Any:
    s["t"] = s.get("t", 0) + 1
    s["a"], s["q"] = s.get("a", 0) + g, s.get("q", 0.1) + g * g
    pull = np.maximum(np.abs(s["a"]) - 0.01 * s["t"], 0)
    return -np.sign(s["a"]) * 0.1 * pull / (0.02 * s["t"] * 0.1 + np.sqrt(s["q"]))


def adadelta(s: State, v: Any, g: Any) -> Any:
    s["a"] = 0.9 * s.get("a", 0) + 0.1 * g * g
    step = np.sqrt(s.get("u", 0) + 1e-6) / np.sqrt(s["a"] + 1e-6) * g
    s["u"] = 0.9 * s.get("u", 0) + 0.1 * step**2
    return v - 0.1 * step


def adam(s: State, v: Any, g: Any) -> Any:
    s["t"] = s.get("t", 0) + 1
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    rate = 0.1 * np.sqrt(1 - 0.99 ** s["t"]) / (1 - 0.9 ** s["t"])
    return v - rate * s["m"] / (np.sqrt(s["v"]) + 1e-8)


def momentum(s: State, v: Any, g: Any) -> Any:
    s["a"] = 0.9 * s.get("a", 0) + g
    return v - 0.01 * s["a"]


def nesterov(s: State, v: Any, g: Any) -> Any:
    s["a"] = 0.9 * s.get("a", 0) + g
    return v - 0.01 * (g + 0.9 * s["a"])


def rmsprop(s: State, v: Any, g: Any) -> Any:
    s["r"] = 0.9 * s.get("r", 1.0) + 0.1 * g * g
    s["m"] = 0.5 * s.get("m", 0) + 0.01 * g / np.sqrt(s["r"] + 1e-10)
    return v - s["m"]


def centered(s: State, v: Any, g: Any) -> Any:
    s["r"] = 0.9 * s.get("r", 1.0) + 0.1 * g * g
    s["g"] = 0.9 * s.get("g", 0) + 0.1 * g
    s["m"] = 0.01 * g / np.sqrt(s["r"] - s["g"] ** 2 + 1e-10)
    return v - s["m"]


def ftrl(s: State, v: Any, g: Any) -> Any:
    old = s.get("n", 0.1)
    s["n"] = old + g * g
    s["z"] = s.get("z", 0) + g - (np.sqrt(s["n"]) - np.sqrt(old)) / 0.1 * v
    quadratic = np.sqrt(s["n"]) / 0.1 + 2 * 0.02
    return np.where(np.abs(s["z"]) > 0.01, (np.sign(s["z"]) * 0.01 - s["z"]) / quadratic, 0)


train = tf.train
OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], Callable[..., Any]]] = {
    "descent": (lambda _: train.GradientDescentOptimizer(0.1), lambda s, v, g: v - 0.1 * g),
    "adagrad": (lambda _: train.AdagradOptimizer(0.1), adagrad),
    "adagrad_da": (
        lambda step: train.AdagradDAOptimizer(
            0.1, step, l1_regularization_strength=0.01, l2_regularization_strength=0.02),
        adagrad_da),
    "adadelta": (lambda _: train.AdadeltaOptimizer(0.1, 0.9, 1e-6), adadelta),
    "adam": (lambda _: train.AdamOptimizer(0.1, beta2=0.99), adam),
    "momentum": (lambda _: train.MomentumOptimizer(0.01, 0.9), momentum),
    "nesterov": (lambda _: train.MomentumOptimizer(0.01, 0.9, use_nesterov=True), nesterov),
    "rmsprop": (lambda _: train.RMSPropOptimizer(0.01, momentum=0.5), rmsprop),
    "centered": (lambda _: train.RMSPropOptimizer(0.01, centered=True), centered),
    "ftrl": (
        lambda _: train.FtrlOptimizer(
            0.1, l1_regularization_strength=0.01, l2_regularization_strength=0.02), ftrl),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_optimizers(name: str) -> None:
    make, reference = OPTIMIZERS[name]
    v = tf.Variable(START)
    step = tf.Variable(0, trainable=False, dtype=tf.int64)
    op = make(step).minimize(quadratic(v), global_step=step)
    want, state = START.copy(), {}
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(4):
            sess.run(op)
            want = reference(state, want, slope(want))
            # TensorFlow's hyperparameters are f32 until they are cast to the variable's type
            np.testing.assert_allclose(sess.run(v), want, rtol=2e-6, atol=1e-8)
        assert sess.run(step) == 4


def test_slots_and_names() -> None:
    v = tf.Variable([1.0, 2.0], name="W")
    optimizer = tf.train.AdamOptimizer(0.1)
    op = optimizer.minimize(quadratic_of(v))
    assert op.name == "Adam"
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(v, "m").name == "W/Adam:0"
    assert optimizer.get_slot(v, "v").name == "W/Adam_1:0"
    assert {u.op.name for u in optimizer.variables()} >= {"beta1_power", "beta2_power"}
    assert tf.trainable_variables() == [v]
    assert len(tf.global_variables()) == 5


def quadratic_of(v: Any) -> Any:
    return tf.reduce_sum(tf.square(v))


def test_gradients_can_be_changed_before_they_are_applied() -> None:
    v, unused = tf.Variable([3.0, 4.0]), tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    pairs = optimizer.compute_gradients(quadratic_of(v), [v, unused])
    assert pairs[1][0] is None
    clipped, norm = tf.clip_by_global_norm([g for g, _ in pairs], 1.0)
    op = optimizer.apply_gradients(zip(clipped, [v, unused], strict=True))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(norm) == 10
        sess.run(op)
        np.testing.assert_allclose(sess.run(v), [3 - 0.6, 4 - 0.8], rtol=1e-6)


def test_what_cannot_be_minimized() -> None:
    v = tf.Variable(1.0)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0), var_list=[v])
    with tf.Graph().as_default(), pytest.raises(ValueError, match="No variables to optimize"):
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0))


def test_gradients_of_gradients_and_of_nothing() -> None:
    x, other = tf.constant(2.0), tf.constant(1.0)
    y = x**3
    (first,) = tf.gradients(y, [x])
    (second,) = tf.gradients(first, x)
    (third,) = tf.gradients(second, x)
    assert tf.gradients(y, other) == [None]
    assert tf.gradients(tf.stop_gradient(y), x) == [None]
    assert tf.gradients(tf.cast(tf.cast(y, tf.int32), tf.float32), x) == [None]
    z = x * tf.stop_gradient(x)
    with tf.Session() as sess:
        assert sess.run([first, second, third]) == [12, 12, 6]
        assert sess.run(tf.gradients(z, x)) == [2]
        assert sess.run(tf.gradients([y, z], x, grad_ys=[1.0, 10.0])) == [32]
        a = x * 3.0
        b = a * a + x
        assert sess.run(tf.gradients(b, [x, a])) == [37, 12]
        assert sess.run(tf.gradients(b, [x, a], stop_gradients=[a])) == [1, 12]


def test_a_variable_used_twice_and_changed_between() -> None:
    v = tf.Variable(3.0)
    first = v * v
    with tf.control_dependencies([v.assign(5.0)]):
        second = v.read_value() * 10.0
    grad = tf.gradients(first + second, v)[0]
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run([first, second, grad]) == [9, 50, 16]
