"""`make_callable`: what runs without Python code in between, and what falls back to it."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import numpy as np
import pytest

import flowc as tf

f32 = np.float32


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as s:
        yield s


def test_kinds_of_results(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable([0.0, 0.0])
    session.run(tf.global_variables_initializer())
    a = np.array([1, 2], f32)
    step = session.make_callable(v.assign_add(x).op, [x])
    one = session.make_callable(x * 2, [x])
    scalar = session.make_callable(tf.reduce_sum(x), [x])
    nested = session.make_callable({"a": [x + 1, v], "b": tf.reduce_max(x)}, [x])
    for k in range(1, 4):
        assert step(a) is None
        np.testing.assert_array_equal(one(a), 2 * a)
        total = scalar(a)
        assert total == 3
        assert isinstance(total, f32)
        got = nested(a)
        np.testing.assert_array_equal(got["a"][0], a + 1)
        np.testing.assert_array_equal(got["a"][1], k * a)
        assert got["b"] == 2


def test_no_references_are_lost_or_kept(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    a = np.ones(3, f32)
    for fetch in (x * 2, tf.reduce_sum(x), [x + 1, x], tf.no_op()):
        f = session.make_callable(fetch, [x])
        f(a), f(a)
        gc.collect()
        before = sys.getrefcount(a), sys.getrefcount(f), sys.getrefcount(None)
        for _ in range(1000):
            f(a)
        after = sys.getrefcount(a), sys.getrefcount(f), sys.getrefcount(None)
        assert before[:2] == after[:2]
        assert abs(before[2] - after[2]) < 100
    result = session.make_callable(x * 2, [x])(a)
    assert sys.getrefcount(result) == 2


def test_other_shapes_types_and_ranks(session: Any) -> None:
    x = tf.placeholder(tf.float32)
    f = session.make_callable(x * 2, [x])
    for value in (np.ones(3, f32), np.ones((2, 2), f32), [1, 2], 3.0, np.ones(3), np.ones(3, f32),
                  np.ones((4, 4), f32)[::2]):  # fmt: skip
        np.testing.assert_array_equal(f(value), 2 * np.asarray(value))


def test_errors(session: Any) -> None:
    x = tf.placeholder(tf.int32, [None])
    y = tf.placeholder(tf.int32, [None])
    f = session.make_callable(x // y, [x, y])
    a = np.array([6, 8], np.int32)
    np.testing.assert_array_equal(f(a, a), [1, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero"):
        f(a, 0 * a)
    np.testing.assert_array_equal(f(a, a), [1, 1])
    with pytest.raises(TypeError, match="2 values are to be fed, 1"):
        f(a)
    with pytest.raises(TypeError, match="keyword"):
        f(a, y=a)
    with pytest.raises(ValueError, match="shape"):
        f(a[:, None], a)
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        f(a, a)


def test_uninitialized_variables_are_found(session: Any) -> None:
    v = tf.Variable(1.0)
    f = session.make_callable(v + 1)
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
        f()
    session.run(v.initializer)
    assert f() == f() == 2


@pytest.mark.parametrize("n", [4, 200_000])
def test_threads_lose_no_update(session: Any, n: int) -> None:
    """Updates by several callables and by `run`, from several threads, exclude each other."""
    v, w = tf.Variable(tf.zeros([n])), tf.Variable(0.0)
    x = tf.placeholder(tf.float32, [])
    add = tf.group(v.assign_add(tf.fill([n], x)), w.assign_add(x))
    twice = tf.group(v.assign_add(tf.fill([n], 2 * x)), w.assign_add(2 * x))
    session.run(tf.global_variables_initializer())
    one = np.ones((), f32)
    rounds = 2000 if n < 10 else 100
    calls = [session.make_callable(add, [x]), session.make_callable(twice, [x]),
             lambda a: session.run(add, {x: a})]  # fmt: skip

    def work(call: Any) -> None:
        for _ in range(rounds):
            call(one)

    threads = [threading.Thread(target=work, args=(c,)) for c in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert session.run(w) == 4 * rounds
    assert set(session.run(v)) == {4 * rounds}


def test_a_function_that_runs_the_session(session: Any) -> None:
    """A host call of a writing program may run the session again."""
    v = tf.Variable(1.0)
    w = tf.Variable(5.0)
    session.run(tf.global_variables_initializer())

    def inner(a: Any) -> Any:
        return np.asarray(session.run(w.assign_add(1.0)) + a, f32)

    got = tf.py_func(inner, [v], tf.float32)
    got.set_shape([])
    outer = v.assign(got)
    f = session.make_callable(outer)
    assert f() == 7
    assert f() == 14
    assert session.run(outer) == 22
