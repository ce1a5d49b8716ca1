"""Sessions: fetches, feeds, state, and what goes wrong."""

from __future__ import annotations

import collections
import logging
from typing import Any

import numpy as np
import pytest

import flowc as tf


def test_fetches_come_back_as_they_are_nested() -> None:
    a, b = tf.constant(1), tf.constant([2.0, 3.0])
    nothing = tf.no_op()
    pair = collections.namedtuple("pair", "left right")
    with tf.Session() as sess:
        assert sess.run(a) == 1
        assert isinstance(sess.run(a), np.int32)
        assert sess.run(nothing) is None
        assert sess.run([a, nothing, a]) == [1, None, 1]
        assert sess.run((a,)) == (1,)
        assert sess.run(pair(a, [a, b]))[0] == 1
        got = sess.run({"x": a, "y": [b, (a, nothing)]})
        assert got["x"] == 1
        assert got["y"][0].tolist() == [2, 3]
        assert got["y"][1] == (1, None)
        named = sess.run(pair(a, a))
        assert type(named) is pair
        assert named.right == 1
        assert sess.run(["Const:0", "Const_1:0"])[0] == 1
        assert sess.run([]) == []


@pytest.mark.parametrize("fetch", [None, 3, [None], 1.5])
def test_what_is_no_fetch(fetch: Any) -> None:
    tf.constant(1)
    with tf.Session() as sess, pytest.raises(TypeError, match="Fetch argument"):
        sess.run(fetch)


def test_fetches_of_other_graphs_and_unknown_names() -> None:
    with tf.Graph().as_default():
        other = tf.constant(1)
    tf.constant(1)
    with tf.Session() as sess:
        with pytest.raises(ValueError, match="not an element of this graph"):
            sess.run(other)
        with pytest.raises(ValueError, match="does not exist"):
            sess.run("nowhere:0")


def test_feeds() -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.reduce_sum(x)
    with tf.Session() as sess:
        assert sess.run(y, {x: [[1, 2]]}) == 3
        assert sess.run(y, {"x:0": np.ones((3, 2))}) == 6
        assert sess.run(y, feed_dict={x: np.ones((0, 2))}) == 0
        assert sess.run([y], {(x,): ([[1, 2]],)}) == [3]
        with pytest.raises(ValueError, match=r"shape \(3,\) for Tensor 'x:0'.*'\(\?, 2\)'"):
            sess.run(y, {x: [1, 2, 3]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="You must feed a value") as e:
            sess.run(y)
        assert "test_session.py" in str(e.value)
        with pytest.raises(TypeError, match="cannot be a tf.Tensor"):
            sess.run(y, {x: x})
        with pytest.raises(TypeError, match="Cannot interpret feed_dict key"):
            sess.run(y, {3: 1})
        with pytest.raises(ValueError, match="x:0"):
            sess.run(y, {x: "words"})
        # a feed that nothing needs does no harm
        assert sess.run(tf.constant(1), {x: [[1, 2]]}) == 1


def test_any_tensor_can_be_fed() -> None:
    x = tf.placeholder(tf.float32, [None])
    h = tf.tanh(x)
    y = h * h
    grad = tf.gradients(y, x)[0]
    c = tf.constant(2.0)
    w = tf.Variable(3.0)
    with tf.Session() as sess:
        assert sess.run(y, {h: [3.0]}).tolist() == [9]
        assert sess.run(c * w, {c: 5.0, w: 7.0}) == 35
        # values change, the chain rule does not: d(h²)/dx = 2h (1 − h²)
        got = sess.run(grad, {x: [0.1, 0.2], h: [0.5, 0.25]})
        np.testing.assert_allclose(got, [2 * 0.5 * 0.75, 2 * 0.25 * 0.9375], rtol=1e-6)
        assert sess.run(h, {h: [4.0]}).tolist() == [4]


def test_placeholder_with_default() -> None:
    x = tf.placeholder_with_default([1.0, 2.0], [None])
    with tf.Session() as sess:
        assert sess.run(x * 2).tolist() == [2, 4]
        assert sess.run(x * 2, {x: [5.0]}).tolist() == [10]


def test_reads_and_writes_follow_the_program() -> None:
    v = tf.Variable(1.0)
    before = v * 10.0
    add = tf.assign_add(v, 1.0)
    with tf.control_dependencies([add]):
        after = v.read_value()
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run([before, add, after]) == [10, 2, 2]
        assert sess.run([before, v]) == [20, 2]
        assert sess.run(after) == 3


def test_only_what_is_fetched_runs() -> None:
    v = tf.Variable(0)
    tf.assign_add(v, 1)
    step = tf.assign_add(v, 10)
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(tf.group(step))
        assert sess.run(v) == 10


def test_uninitialized_variables() -> None:
    v = tf.Variable([1.0], name="weights")
    doubled = v * 2.0
    ready = tf.is_variable_initialized(v)
    with tf.Session() as sess:
        assert not sess.run(ready)
        with pytest.raises(tf.errors.FailedPreconditionError) as caught:
            sess.run(doubled)
        assert "Attempting to use uninitialized value weights" in str(caught.value)
        assert "test_session.py" in str(caught.value)
        sess.run(tf.global_variables_initializer())
        assert sess.run(doubled).tolist() == [2]
        assert sess.run(ready)
    with tf.Session() as other, pytest.raises(tf.errors.FailedPreconditionError):
        other.run(doubled)


def test_values_that_were_fetched_do_not_change() -> None:
    v = tf.Variable([1.0, 2.0])
    add = v.assign_add([1.0, 1.0])
    with tf.Session() as sess:
        sess.run(v.initializer)
        first = sess.run(v)
        sess.run(add)
        assert first.tolist() == [1, 2]
        assert sess.run(v).tolist() == [2, 3]
        v.load([7.0, 8.0])
        assert v.eval().tolist() == [7, 8]
        with pytest.raises(ValueError, match="shape"):
            v.load([7.0], sess)


def test_initial_values_may_depend_on_others() -> None:
    a = tf.Variable(tf.random_normal([3], seed=1))
    b = tf.Variable(a.initialized_value() * 2.0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        x, y = sess.run([a, b])
        np.testing.assert_allclose(y, 2 * x)


def test_closed_sessions_and_empty_graphs() -> None:
    with tf.Session() as sess:
        with pytest.raises(RuntimeError, match="graph is empty"):
            sess.run([])
        c = tf.constant(1)
        sess.run(c)
    with pytest.raises(RuntimeError, match="closed Session"):
        sess.run(c)


def test_default_sessions() -> None:
    c = tf.constant(4)
    with pytest.raises(ValueError, match="No default session"):
        c.eval()
    sess = tf.InteractiveSession()
    assert c.eval() == 4
    assert tf.get_default_session() is sess
    sess.close()
    assert tf.get_default_session() is None
    with tf.Session() as s:
        assert tf.get_default_session() is s
        assert tf.get_default_graph() is s.graph


def test_make_callable() -> None:
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [])
    with tf.Session() as sess:
        f = sess.make_callable([x * y, x], [x, y])
        product, same = f([1.0, 2.0], 3)
        assert product.tolist() == [3, 6]
        assert same.tolist() == [1, 2]
        with pytest.raises(TypeError, match="2 values are to be fed"):
            f(1)


def test_one_compilation_serves_every_batch(caplog: pytest.LogCaptureFixture) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.reduce_sum(tf.square(x))
    caplog.set_level(logging.INFO, "flowc")
    with tf.Session() as sess:
        for n in (1, 2, 7, 0):
            assert sess.run(y, {x: np.ones((n, 3))}) == 3 * n
    compiled = [r for r in caplog.records if "compiling" in r.getMessage()]
    assert len(compiled) == 1
    with tf.Session() as sess:  # and every session of the graph
        assert sess.run(y, {x: np.ones((2, 3))}) == 6
    assert len([r for r in caplog.records if "compiling" in r.getMessage()]) == 1


def test_strings_are_constants() -> None:
    hello = tf.constant("Hello, TensorFlow!")
    name = tf.placeholder(tf.string)
    with tf.Session() as sess:
        assert sess.run(hello) == b"Hello, TensorFlow!"
        assert sess.run([hello, tf.constant(1)]) == [b"Hello, TensorFlow!", 1]
        assert sess.run(tf.identity(name), {name: "x"}) == "x"


def test_random_streams() -> None:
    tf.set_random_seed(7)
    seeded, free = tf.random_normal([1000], seed=1), tf.random_uniform([1000])
    with tf.Session() as sess:
        first, second = sess.run(seeded), sess.run(seeded)
        uniform = sess.run(free)
    with tf.Session() as sess:
        sess.run(free)  # what else runs does not matter
        np.testing.assert_array_equal(sess.run(seeded), first)
        np.testing.assert_array_equal(sess.run(seeded), second)
    assert not np.array_equal(first, second)
    assert abs(first.mean()) < 0.15
    assert abs(first.std() - 1) < 0.1
    assert 0 <= uniform.min() < 0.02
    assert 0.98 < uniform.max() < 1


def test_random_distributions() -> None:
    with tf.Session() as sess:
        cut = sess.run(tf.truncated_normal([20000], 1.0, 2.0, seed=3))
        whole = sess.run(tf.random_uniform([20000], 3, 9, dtype=tf.int32, seed=3))
        order = sess.run(tf.random_shuffle(tf.range(50), seed=3))
        drawn = sess.run(tf.multinomial(tf.log([[0.1, 0.9]]), 5000, seed=3))
        kept = sess.run(tf.nn.dropout(tf.ones([10000]), 0.8, seed=3))
    assert np.abs(cut - 1).max() <= 4
    assert abs(cut.std() / 2 - 0.8796) < 0.02
    assert set(whole.tolist()) == set(range(3, 9))
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))
    assert abs(drawn.mean() - 0.9) < 0.03
    assert set(np.unique(kept).tolist()) == {0.0, 1.25}
    assert abs(kept.mean() - 1) < 0.03
