"""tf.cond, tf.case, tf.while_loop: values, state, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf


def test_cond_takes_one_branch() -> None:
    x = tf.placeholder(tf.float32, [None])
    w = tf.Variable(2.0)
    y = tf.cond(tf.reduce_sum(x) > 0, lambda: x * w, lambda: x - 1.0)
    grads = tf.gradients(y, [x, w])
    with tf.Session() as sess:
        sess.run(w.initializer)
        out, gx, gw = sess.run([y, *grads], {x: [1.0, 2.0]})
        assert out.tolist() == [2, 4]
        assert gx.tolist() == [2, 2]
        assert gw == 3
        out, gx, gw = sess.run([y, *grads], {x: [-1.0, -2.0]})
        assert out.tolist() == [-2, -3]
        assert gx.tolist() == [1, 1]
        assert gw == 0


def test_effects_happen_in_the_branch_that_is_taken() -> None:
    flag = tf.placeholder(tf.bool, [])
    count = tf.Variable(0)
    step = tf.cond(flag, lambda: tf.assign_add(count, 1), lambda: tf.identity(count))
    both = tf.cond(flag, lambda: tf.group(count.assign(100)), tf.no_op)
    with tf.Session() as sess:
        sess.run(count.initializer)
        assert [sess.run(step, {flag: f}) for f in (True, False, True)] == [1, 1, 2]
        sess.run(both, {flag: False})
        assert sess.run(count) == 2
        sess.run(both, {flag: True})
        assert sess.run(count) == 100


def test_structures_of_branches() -> None:
    flag = tf.placeholder(tf.bool, [])
    a, b = tf.cond(flag, lambda: (tf.constant(1), 2.0), lambda: (tf.constant(3), 4.0))
    with tf.Session() as sess:
        assert sess.run([a, b], {flag: True}) == [1, 2]
        assert sess.run([a, b], {flag: False}) == [3, 4]
    with pytest.raises(TypeError, match="same type"):
        tf.cond(flag, lambda: 1, lambda: 2.0)
    with pytest.raises(TypeError, match="bool"):
        tf.cond(tf.constant(1), lambda: 1, lambda: 2)


def test_case() -> None:
    x = tf.placeholder(tf.int32, [])
    y = tf.case([(x < 0, lambda: tf.constant(-1)), (x > 0, lambda: tf.constant(1))],
                default=lambda: tf.constant(0))  # fmt: skip
    with tf.Session() as sess:
        assert [sess.run(y, {x: v}) for v in (-5, 0, 5)] == [-1, 0, 1]


def test_while_loop_and_its_gradient() -> None:
    w = tf.Variable(2.0)
    i, s = tf.while_loop(
        lambda i, s: i < 5, lambda i, s: (i + 1, s * w + tf.to_float(i)), [0, tf.constant(1.0)])
    with tf.Session() as sess:
        sess.run(w.initializer)
        assert sess.run([i, s, tf.gradients(s, w)[0]]) == [5, 58, 103]


def test_a_loop_whose_rounds_the_data_tells() -> None:
    x = tf.placeholder(tf.float32, [])
    n, y = tf.while_loop(lambda n, y: y < 100.0, lambda n, y: [n + 1, y * 2.0], [0, x])
    slope = tf.gradients(y, x)[0]
    with tf.Session() as sess:
        assert sess.run([n, y, slope], {x: 3.0}) == [6, 192, 64]
        assert sess.run([n, y, slope], {x: 200.0}) == [0, 200, 1]


def test_variables_change_from_round_to_round() -> None:
    total = tf.Variable(0)

    def body(i: Any) -> Any:
        with tf.control_dependencies([tf.assign_add(total, i)]):
            return i + 1

    end = tf.while_loop(lambda i: i < 5, body, [0])
    with tf.Session() as sess:
        sess.run(total.initializer)
        assert sess.run(end) == 5
        assert sess.run(total) == 10


def test_random_numbers_differ_from_round_to_round() -> None:
    def body(i: Any, low: Any, high: Any) -> Any:
        r = tf.random_uniform([], seed=1)
        return i + 1, tf.minimum(low, r), tf.maximum(high, r)

    _, low, high = tf.while_loop(lambda i, *_: i < 20, body, [0, 1.0, 0.0])
    with tf.Session() as sess:
        a, b = sess.run([low, high])
        assert a < 0.3
        assert b > 0.7


def test_what_loops_refuse() -> None:
    with pytest.raises(TypeError, match="the body makes it"):
        tf.while_loop(lambda i: i < 1, lambda i: [tf.to_float(i)], [0])
    with pytest.raises(ValueError, match="the body makes it"):
        tf.while_loop(lambda x: True, lambda x: [tf.concat([x, x], 0)], [tf.zeros([2])])
    with pytest.raises(ValueError, match="must stay the same"):
        tf.while_loop(lambda x: True, lambda x: [x, x], [tf.zeros([2])])


def test_recurrence_against_numpy() -> None:
    rng = np.random.default_rng(3)
    x, u = rng.standard_normal((6, 2, 3)), rng.standard_normal((3, 3))
    inputs, weights = tf.placeholder(tf.float64, [6, None, 3]), tf.Variable(u)
    start = tf.zeros([tf.shape(inputs)[1], 3], tf.float64)
    _, h = tf.while_loop(
        lambda t, h: t < 6,
        lambda t, h: (t + 1, tf.tanh(tf.gather(inputs, t) + tf.matmul(h, weights))),
        [0, start],
    )
    want = np.zeros((2, 3))
    for row in x:
        want = np.tanh(row + want @ u)
    grad = tf.gradients(tf.reduce_sum(h), weights)[0]
    with tf.Session() as sess:
        sess.run(weights.initializer)
        got, slope = sess.run([h, grad], {inputs: x})
        np.testing.assert_allclose(got, want, rtol=1e-12)
        step = np.zeros((3, 3))
        step[1, 2] = 1e-6
        sums = []
        for sign in (1, -1):
            weights.load(u + sign * step, sess)
            sums.append(sess.run(h, {inputs: x}).sum())
        np.testing.assert_allclose(slope[1, 2], (sums[0] - sums[1]) / 2e-6, rtol=1e-6)
