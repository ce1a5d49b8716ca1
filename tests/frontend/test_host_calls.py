"""Print, py_func and Assert call back from compiled code; results sized by data."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.ir.ops.state import HOST_FUNCTIONS

NATIVE = True
GIVEN = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    x = tf.placeholder(tf.float32, [None, 2])
    y = tf.Print(x * 2.0, ["x:", x, tf.shape(x)], "see ", summarize=4, first_n=2)
    short = tf.Print(tf.range(5), [tf.range(5)])
    (grad,) = tf.gradients(tf.reduce_sum(y), [x])
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(y, {x: GIVEN}), 2 * GIVEN)
        np.testing.assert_array_equal(sess.run(grad, {x: GIVEN}), np.full((3, 2), 2))
        sess.run(short)
        for _ in range(3):
            sess.run(y, {x: GIVEN[:1]})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "see [x:][[0.0 1.0][2.0 3.0]...][3 2]"
    assert lines.count("see [x:][[0.0 1.0]][1 2]") <= 2
    assert "[0 1 2...]" in lines


def test_print_in_a_loop(capsys: pytest.CaptureFixture[str]) -> None:
    def body(i: Any, total: Any) -> Any:
        return i + 1, total + tf.Print(i, [i, total], "at ")

    loop = tf.while_loop(lambda i, _: i < 3, body, [0, 0])
    with tf.Session() as sess:
        assert sess.run(loop) == [3, 3]
    assert capsys.readouterr().err == "at [0][0]\nat [1][0]\nat [2][1]\n"


def test_py_func() -> None:
    calls = []

    def both(a: Any, n: Any) -> Any:
        calls.append((type(a), a.dtype, n))
        a += 1  # its own copy
        return a.sum(0) * n, np.int64(len(a))

    x = tf.placeholder(tf.float32, [None, 2])
    total, count = tf.py_func(both, [x, 3.0], [tf.float32, tf.int64])
    total.set_shape([2])
    count.set_shape([])
    nothing = tf.py_func(lambda: calls.append("ran"), [], [])
    with tf.Session() as sess:
        got = sess.run([total * 1.0, count, x], {x: GIVEN})
        np.testing.assert_array_equal(got[0], (GIVEN + 1).sum(0) * 3)
        assert got[1] == 3
        np.testing.assert_array_equal(got[2], GIVEN)
        assert sess.run(nothing) is None
    assert calls == [(np.ndarray, np.float32, 3.0), "ran"]
    assert tf.gradients(total, x) == [None]


def test_errors_of_python_functions() -> None:
    def raising(error: BaseException) -> Any:
        def f() -> Any:
            raise error

        out = tf.py_func(f, [], tf.float32)
        out.set_shape([])
        return out

    cases = [
        (KeyError("k"), tf.errors.UnknownError, "KeyError: 'k'"),
        (ValueError("bad"), tf.errors.InvalidArgumentError, "ValueError: bad"),
        (StopIteration(), tf.errors.OutOfRangeError, "StopIteration"),
        (NotImplementedError("no"), tf.errors.UnimplementedError, "no"),
    ]
    with tf.Session() as sess:
        for error, kind, text in cases:
            t = raising(error)
            for _ in range(2):  # through the general and the fast entry
                with pytest.raises(kind, match=text) as e:
                    sess.run(t)
                assert e.value.op == t.op.name
                assert e.value.__cause__ is error
        with pytest.raises(KeyboardInterrupt):
            sess.run(raising(KeyboardInterrupt()))
        wrong = tf.py_func(lambda: np.zeros(3), [], tf.float32)
        with pytest.raises(tf.errors.InvalidArgumentError, match="needs a shape"):
            sess.run(wrong)
        wrong.set_shape([3])
        with pytest.raises(tf.errors.InvalidArgumentError, match="returned .*float64.*float32"):
            sess.run(wrong)
        short = tf.py_func(lambda: np.zeros(2, np.float32), [], tf.float32)
        short.set_shape([3])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"shape \(2,\).*\(3,\)"):
            sess.run(short)


def test_a_session_inside_of_a_function() -> None:
    a = tf.constant([1.0, 2.0]) * 2.0
    with tf.Session() as sess:
        b = tf.py_func(lambda: sess.run(a), [], tf.float32)
        b.set_shape([2])
        np.testing.assert_array_equal(sess.run(b + 1.0), [3, 5])


def test_calls_from_several_threads() -> None:
    x = tf.placeholder(tf.float32, [1])
    y = tf.py_func(lambda v: v * 2, [x], tf.float32)
    y.set_shape([1])
    wrong = []
    with tf.Session() as sess:
        sess.run(y, {x: [1.0]})

        def work(k: int) -> None:
            for i in range(50):
                got = sess.run(y, {x: np.float32([k * 100 + i])})
                if got[0] != 2 * (k * 100 + i):
                    wrong.append((k, i))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


def test_functions_go_with_their_graph() -> None:
    before = len(HOST_FUNCTIONS)
    with tf.Graph().as_default():
        tf.py_func(lambda: None, [], [])
        assert len(HOST_FUNCTIONS) == before + 1
    gc.collect()
    assert len(HOST_FUNCTIONS) <= before


def test_assert() -> None:
    x = tf.placeholder(tf.float32, [None])
    with tf.control_dependencies([tf.Assert(tf.reduce_all(x > 0), ["must be positive", x])]):
        y = tf.identity(x)
    checks = {
        "equal": tf.assert_equal(x, [1.0, 2.0]), "less": tf.assert_less(x, 3.0),
        "positive": tf.assert_positive(x), "more": tf.assert_greater_equal(x, 1.0, message="low"),
    }  # fmt: skip
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(y, {x: [1, 2]}), [1, 2])
        sess.run(checks, {x: [1, 2]})
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError,
                               match=r"assertion failed: \[must be positive\] \[1.0 -2.0\]"):
                sess.run(y, {x: np.float32([1, -2])})
        for check, bad in (("equal", [1, 3]), ("less", [1, 3]), ("positive", [0, 1]),
                           ("more", [0, 1])):
            with pytest.raises(tf.errors.InvalidArgumentError, match="Condition x .* element-wise"):
                sess.run(checks[check], {x: bad})
    with pytest.raises(TypeError, match="not bool"):
        tf.Assert(1.0, [])


# ---- Results sized by data.


def test_where_and_masks() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    places, picked = tf.where(x > 0), tf.boolean_mask(x, x > 0)
    rows = tf.boolean_mask(x, tf.reduce_sum(x, 1) > 0)
    columns = tf.boolean_mask(x, [True, False, True], axis=1)
    values, index = tf.unique(tf.cast(tf.reshape(x, [-1]), tf.int32))
    (grad,) = tf.gradients(tf.reduce_sum(rows * rows), x)
    assert places.shape.as_list() == [None, 2]
    assert rows.shape.as_list() == [None, 3]
    fetches = [places, picked, rows, columns, values, index, grad, tf.shape(picked),
               tf.reduce_sum(x[x > 0])]  # fmt: skip
    with tf.Session() as sess:
        for given in (np.array([[1, -2, 3], [0, -1, -2], [4, 5, -1]]), -np.ones((2, 3)),
                      np.ones((1, 3)), np.ones((0, 3))):
            got = sess.run(fetches, {x: given})
            keep = given.sum(1) > 0
            np.testing.assert_array_equal(got[0], np.argwhere(given > 0))
            np.testing.assert_array_equal(got[1], given[given > 0])
            np.testing.assert_array_equal(got[2], given[keep])
            np.testing.assert_array_equal(got[3], given[:, [0, 2]])
            np.testing.assert_array_equal(got[4][got[5]], given.reshape(-1))
            assert len(set(got[4].tolist())) == len(got[4])
            np.testing.assert_array_equal(got[6], np.where(keep[:, None], 2 * given, 0))
            assert got[7] == [np.sum(given > 0)]
            assert got[8] == given[given > 0].sum()
    with pytest.raises(ValueError, match="mask cannot be scalar"):
        tf.boolean_mask(x, True)
    with pytest.raises(ValueError, match="incompatible"):
        tf.boolean_mask(tf.ones([2, 3]), [True, False, True])


def test_random_crop() -> None:
    tf.set_random_seed(3)
    x = tf.reshape(tf.range(30), [5, 6])
    crop = tf.random_crop(x, [2, 3])
    with tf.Session() as sess:
        seen = set()
        for _ in range(60):
            got = sess.run(crop)
            row, column = divmod(int(got[0, 0]), 6)
            np.testing.assert_array_equal(
                got, np.arange(30).reshape(5, 6)[row : row + 2, column : column + 3])
            seen.add((row, column))
    assert len(seen) > 10  # of 4 · 4
    with pytest.raises(ValueError, match=r"Need value.shape >= size"):
        tf.random_crop(x, [6, 1])


def test_hessians() -> None:
    x = tf.placeholder(tf.float64, [3])
    y = tf.reduce_sum(x**3) + x[0] * x[1]
    (h,) = tf.hessians(y, [x])
    with tf.Session() as sess:
        np.testing.assert_allclose(
            sess.run(h, {x: [1, 2, 3]}), np.diag([6, 12, 18]) + np.eye(3)[[1, 0, 2]] *
            np.array([[1], [1], [0]]))
    with pytest.raises(ValueError, match="do not depend"):
        tf.hessians(y, tf.constant(1.0))


def test_report_uninitialized_variables() -> None:
    a, _ = tf.Variable(1.0, name="a"), tf.Variable(2.0, name="b")
    report = tf.report_uninitialized_variables()
    with tf.Session() as sess:
        assert sess.run(report).tolist() == [b"a", b"b"]
        sess.run(a.initializer)
        assert sess.run([report, a])[0].tolist() == [b"b"]
        sess.run(tf.global_variables_initializer())
        assert len(sess.run(report)) == 0
