"""Arrays of every make and all special values give right results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf
from guard import guarded

Array = np.ndarray[Any, np.dtype[Any]]

rng = np.random.default_rng(0)


def unaligned(a: Array) -> Array:
    out = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    assert not out.flags.aligned
    return out


def strided(a: Array) -> Array:
    big = np.full((a.shape[0] * 2, a.shape[1] * 3), 99, a.dtype)
    big[::2, ::3] = a
    return big[::2, ::3]


def read_only(a: Array) -> Array:
    out = a.copy()
    out.flags.writeable = False
    return out


class Sub(np.ndarray):  # type: ignore[type-arg]
    """A subclass."""


MAKES: dict[str, Callable[[Array], Any]] = {
    "plain": lambda a: a,
    "unaligned": unaligned,
    "strided": strided,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": read_only,
    "list": lambda a: a.tolist(),
    "f64": lambda a: a.astype(np.float64),
    "subclass": lambda a: a.view(Sub),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "memory": memoryview,
}


@pytest.mark.parametrize("make", MAKES)
def test_arrays_of_any_make(make: str) -> None:
    x = tf.placeholder(tf.float32, [None, 7], name="x")
    a = rng.standard_normal((5, 7)).astype(np.float32)
    given = MAKES[make](a)
    same = np.asarray(given, np.float32).copy()
    total = tf.reduce_sum(x * 2.0, axis=1)
    with tf.Session() as sess:
        for _ in range(2):
            twice, sums = sess.run([x * 2.0, total], {x: given})
            np.testing.assert_array_equal(twice, 2 * same)
            np.testing.assert_allclose(sums, 2 * same.astype(np.float64).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(given, np.float32), same)  # not written to
    assert twice.flags.writeable
    assert twice.flags.c_contiguous


def test_results_share_no_memory_with_inputs_or_state() -> None:
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(np.ones(4, np.float32))
    with tf.Session() as sess:
        sess.run(v.initializer)
        a = np.ones(4, np.float32)
        for out in (*sess.run([x, tf.identity(x), tf.reshape(x, [-1])], {x: a}), sess.run(v)):
            assert not np.may_share_memory(out, a)
            out[...] = 7
        np.testing.assert_array_equal(a, 1)
        np.testing.assert_array_equal(sess.run(v), 1)


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3e38, -3e38, 1e-45, -1e-45, 1e-38, 88.8,
     -104.0],
    np.float32,
)
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {
    "abs": (tf.abs, np.abs),
    "neg": (tf.negative, np.negative),
    "exp": (tf.exp, np.exp),
    "log": (tf.log, np.log),
    "sqrt": (tf.sqrt, np.sqrt),
    "tanh": (tf.tanh, np.tanh),
    "sigmoid": (tf.sigmoid, lambda a: 1 / (1 + np.exp(-a))),
    "relu": (tf.nn.relu, lambda a: np.where(np.isnan(a), a, np.maximum(a, 0))),
    "square": (tf.square, np.square),
    "floor": (tf.floor, np.floor),
    "sign": (tf.sign, np.sign),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name: str) -> None:
    f, reference = FUNCTIONS[name]
    x = tf.placeholder(tf.float32, [None])
    with np.errstate(all="ignore"):
        want = reference(SPECIAL.astype(np.float64)).astype(np.float32)
    with tf.Session() as sess:
        got = sess.run(f(x), {x: SPECIAL})
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-45)


def test_reductions_of_special_values() -> None:
    x = tf.placeholder(tf.float32, [None])
    fetches = [tf.reduce_sum(x), tf.reduce_max(x), tf.reduce_min(x), tf.reduce_mean(x)]
    with tf.Session() as sess:
        assert np.isnan(sess.run(fetches, {x: [1.0, np.nan, 2.0]})).all()
        assert np.isnan(sess.run(fetches, {x: [np.inf, -np.inf]})).tolist() == [
            True, False, False, True,
        ]
        with np.errstate(all="ignore"):
            total, top, low, mean = sess.run(fetches, {x: []})
    assert total == 0
    assert top == -np.inf
    assert low == np.inf
    assert np.isnan(mean)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_arrays_without_elements(shape: tuple[int, int]) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.placeholder(tf.float32, [None, None])
    z = tf.matmul(x, y, transpose_b=True)
    fetches = [
        x + 1.0, tf.tanh(x), tf.reduce_sum(x, axis=0), tf.reduce_sum(x, axis=1), tf.reduce_sum(x),
        tf.transpose(x), tf.concat([x, x], 0), tf.concat([x, x], 1), z, tf.nn.softmax(x),
        tf.gradients(tf.reduce_sum(z), x)[0],
    ]
    a = np.zeros(shape, np.float32)
    n, m = shape
    want = [(n, m), (n, m), (m,), (n,), (), (m, n), (2 * n, m), (n, 2 * m), (n, n), (n, m), (n, m)]
    with tf.Session() as sess:
        got = sess.run(fetches, {x: a, y: a})
    assert [g.shape for g in got] == want
    for g in got:
        np.testing.assert_array_equal(g, np.zeros_like(g) + (g.size and 0))


def test_scalars() -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as sess:
        for value in (2.5, np.float32(2.5), np.array(2.5), np.array(2.5, ">f8")):
            out = sess.run(x * 2.0, {x: value})
            assert out == 5.0
            assert type(out) is np.float32


SIZES = [1, 2, 15, 16, 17, 31, 33, 64, 100]


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64, np.bool_])
def test_nothing_outside_of_fed_arrays_is_touched(dtype: Any, front: bool) -> None:
    x = tf.placeholder(dtype, [None, None])
    row = tf.placeholder(dtype, [None])
    kind = np.dtype(dtype).kind
    fetches = [tf.transpose(x), tf.concat([x, x], 1), tf.gather(x, [0]), tf.reverse(x, [1])]
    if kind == "b":
        fetches += [tf.logical_not(x), tf.reduce_any(x, axis=0), tf.reduce_all(x, axis=1)]
    else:
        fetches += [x + row, tf.reduce_sum(x, axis=0), tf.reduce_max(x, axis=1), tf.reduce_sum(x)]
    if kind == "f":
        fetches += [tf.tanh(x), tf.matmul(x, x, transpose_a=True), tf.nn.softmax(x)]
    with tf.Session() as sess:
        for n in SIZES:
            shape = (n % 5 + 1, n)
            with guarded(shape, dtype, front=front, fill=1) as a:
                with guarded((n,), dtype, front=front, fill=1) as b:
                    feed = {x: a} if kind == "b" else {x: a, row: b}
                    got = sess.run(fetches, feed)
                    np.testing.assert_array_equal(a, 1)
            np.testing.assert_array_equal(got[0], np.ones((n, shape[0]), dtype))
            np.testing.assert_array_equal(got[1], np.ones((shape[0], 2 * n), dtype))
            if kind != "b":
                np.testing.assert_array_equal(got[4], np.full(shape, 2, dtype))
                np.testing.assert_array_equal(got[5], np.full(n, shape[0], dtype))
            if kind == "f":
                np.testing.assert_allclose(got[9], np.full((n, n), shape[0]), rtol=1e-6)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("front", [False, True])
def test_nothing_outside_of_outputs_is_touched(n: int, front: bool) -> None:
    """Compiled code writes into guarded arrays: `Executable.call(out=…)` takes aligned ones."""
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess:
        a = rng.standard_normal(16 * n).astype(np.float32)
        sess.run([tf.tanh(x), tf.cumsum(x)], {x: a})
        ((_, compiled),) = next(iter(sess.graph.compiled.values()))
        executable = compiled.load()
        with guarded((16 * n,), np.float32, front=front) as out:
            with guarded((16 * n,), np.float32, front=front) as sums:
                got = executable.call([a], out=[out, sums])
                assert got[0] is out
                assert got[1] is sums
                np.testing.assert_allclose(out, np.tanh(a.astype(np.float64)), rtol=1e-6)
                np.testing.assert_allclose(sums, np.cumsum(a, dtype=np.float64), atol=1e-3)
