"""Ops that move elements, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

A = np.arange(12, dtype=np.float32).reshape(3, 4)
Fn = Callable[..., Any]


def run(fn: Fn, array: Any = A, shape: Any = (None, 4)) -> Any:
    x = tf.placeholder(array.dtype, shape)
    out = fn(x)
    with tf.Session() as sess:
        got = sess.run(out, {x: array})
    if isinstance(out, tf.Tensor):
        assert out.shape.is_compatible_with(np.shape(got))
    return got


CASES: dict[str, tuple[Fn, Any]] = {
    "reshape": (lambda x: tf.reshape(x, [-1, 2, 2]), A.reshape(3, 2, 2)),
    "reshape by a size": (lambda x: tf.reshape(x, [tf.shape(x)[0] * 2, 2]), A.reshape(6, 2)),
    "reshape by a stack": (
        lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], 2, -1])), A.reshape(3, 2, 2)),
    "reshape by a concat": (
        lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:1], [4, 1]], 0)), A[..., None]),
    "flat": (lambda x: tf.reshape(x, [-1]), A.reshape(-1)),
    "transpose": (tf.transpose, A.T),
    "perm": (lambda x: tf.transpose(x[None], [2, 0, 1]), A[None].transpose(2, 0, 1)),
    "concat": (lambda x: tf.concat([x, x + 1], 1), np.concatenate([A, A + 1], 1)),
    "concat rows": (lambda x: tf.concat(axis=0, values=[x, x]), np.concatenate([A, A])),
    "old concat": (lambda x: tf.concat(1, [x, x]), np.concatenate([A, A], 1)),
    "stack": (lambda x: tf.stack([x, x * 2], 1), np.stack([A, A * 2], 1)),
    "unstack": (lambda x: tf.unstack(x, axis=1)[2], A[:, 2]),
    "split": (lambda x: tf.split(x, 2, 1)[1], A[:, 2:]),
    "split by sizes": (lambda x: tf.split(x, [1, -1], axis=1)[1], A[:, 1:]),
    "tile": (lambda x: tf.tile(x, [2, 3]), np.tile(A, [2, 3])),
    "expand": (lambda x: tf.expand_dims(x, 1), A[:, None]),
    "squeeze": (lambda x: tf.squeeze(x[:, None, :, None]), A),
    "squeeze one": (lambda x: tf.squeeze(x[:, None], [1]), A),
    "reverse": (lambda x: tf.reverse(x, [0, 1]), A[::-1, ::-1]),
    "pad": (lambda x: tf.pad(x, [[1, 2], [0, 1]]), np.pad(A, [[1, 2], [0, 1]])),
    "pad with": (
        lambda x: tf.pad(x, [[1, 0], [0, 1]], constant_values=7),
        np.pad(A, [[1, 0], [0, 1]], constant_values=7)),
    "reflect": (
        lambda x: tf.pad(x, [[1, 2], [0, 3]], "REFLECT"), np.pad(A, [[1, 2], [0, 3]], "reflect")),
    "symmetric": (
        lambda x: tf.pad(x, [[1, 2], [0, 3]], "SYMMETRIC"),
        np.pad(A, [[1, 2], [0, 3]], "symmetric")),
    "gather": (lambda x: tf.gather(x, [2, 0]), A[[2, 0]]),
    "gather axis": (lambda x: tf.gather(x, [[2, 0], [1, 1]], axis=1), A[:, [[2, 0], [1, 1]]]),
    "gather_nd": (lambda x: tf.gather_nd(x, [[0, 1], [2, 3]]), A[[0, 2], [1, 3]]),
    "lookup": (lambda x: tf.nn.embedding_lookup(x, [[1], [0]]), A[[[1], [0]]]),
    "where": (lambda x: tf.where(x > 5, x, tf.zeros_like(x)), np.where(A > 5, A, 0)),
    "where rows": (
        lambda x: tf.where([True, False, True], x, -x), np.where([[1], [0], [1]], A, -A)),
    "top_k": (lambda x: tf.nn.top_k(x, 2)[0], A[:, :1:-1]),
    "top_k at": (lambda x: tf.nn.top_k(-x, 2).indices, [[0, 1]] * 3),
    "shape": (tf.shape, [3, 4]),
    "size": (tf.size, 12),
    "rank": (tf.rank, 2),
    "range": (lambda x: tf.range(tf.shape(x)[0]), [0, 1, 2]),
    "zeros": (lambda x: tf.zeros([tf.shape(x)[0], 2]), np.zeros((3, 2))),
    "fill": (lambda x: tf.fill(tf.shape(x), 5), np.full((3, 4), 5)),
    "ones_like": (lambda x: tf.ones_like(x, tf.int32), np.ones((3, 4))),
    "one_hot": (lambda x: tf.one_hot(tf.cast(x[:, 0] / 4, tf.int32), 3), np.eye(3)),
    "band": (lambda x: tf.matrix_band_part(x, 0, -1), np.triu(A)),
    "slice": (lambda x: tf.slice(x, [1, 1], [-1, 2]), A[1:, 1:3]),
    "diag": (lambda x: tf.diag_part(x[:, :3]), np.diag(A)),
    "broadcast": (lambda x: tf.broadcast_to(x[0], [2, 4]), np.broadcast_to(A[0], (2, 4))),
    "reverse rows": (
        lambda x: tf.reverse_sequence(x, [2, 4, 0], seq_axis=1, batch_axis=0),
        [[1, 0, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11]]),
    "mask": (lambda x: tf.sequence_mask([1, 3], 4), [[1, 0, 0, 0], [1, 1, 1, 0]]),
    "sort": (lambda x: tf.sort(-x, 1), np.sort(-A, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(name: str) -> None:
    ours, want = CASES[name]
    np.testing.assert_array_equal(run(ours), want)


KEYS: list[Any] = [
    1, -1, slice(1, None), slice(None, -1), slice(None, None, -1), slice(None, 5), slice(-2, None),
    (slice(None), 1), (slice(None), slice(None, None, -2)), (slice(None), slice(3, 0, -1)),
    (Ellipsis, None), (slice(1, 2), slice(2, None)), (None, 0), (Ellipsis, 3), (1, 2),
    (slice(None, None, 2), slice(1, 4, 2)), slice(2, 1), slice(0, 100),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(key: Any) -> None:
    np.testing.assert_array_equal(run(lambda x: x[key]), A[key])
    np.testing.assert_array_equal(run(lambda x: x[key], shape=[3, 4]), A[key])


def test_indexing_by_a_tensor() -> None:
    row = tf.placeholder(tf.int32, [])
    x = tf.constant(A)
    with tf.Session() as sess:
        for i in (0, 2, -1):
            np.testing.assert_array_equal(sess.run(x[row], {row: i}), A[i])
            np.testing.assert_array_equal(sess.run(x[:, row], {row: i}), A[:, i])


def test_an_index_that_the_run_finds_too_large() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of bounds"):
        run(lambda x: x[5])
    with pytest.raises(ValueError, match="out of bounds"):
        tf.constant(A)[5]


def test_neighbours_along_an_axis_of_unknown_size() -> None:
    np.testing.assert_array_equal(run(lambda x: x[1:] - x[:-1]), A[1:] - A[:-1])


def test_shapes_of_unknown_rank() -> None:
    x = tf.placeholder(tf.float32)
    y = tf.reshape(x * 2, [-1, 2])
    assert x.shape.ndims is None
    assert y.shape.as_list() == [None, 2]
    with tf.Session() as sess:
        for shape in ((4,), (2, 2), (1, 2, 6)):
            value = np.ones(shape, np.float32)
            assert sess.run(y, {x: value}).shape == (value.size // 2, 2)


def test_reshapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"cannot be reshaped to \[5\]"):
        tf.reshape(tf.constant(A), [5])
    with pytest.raises(ValueError, match="only one input size may be -1"):
        tf.reshape(tf.constant(A), [-1, -1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="cannot be reshaped"):
        run(lambda x: tf.reshape(x, [-1, 5]))


def test_ranges_and_constants() -> None:
    with tf.Session() as sess:
        assert sess.run(tf.range(2, 11, 3)).tolist() == [2, 5, 8]
        assert sess.run(tf.range(5, 0, -2)).tolist() == [5, 3, 1]
        np.testing.assert_allclose(sess.run(tf.range(0.0, 1.0, 0.25)), np.arange(0, 1, 0.25))
        np.testing.assert_allclose(sess.run(tf.linspace(0.0, 2.0, 5)), np.linspace(0, 2, 5))
        assert sess.run(tf.eye(2, 3)).tolist() == np.eye(2, 3).tolist()
        assert sess.run(tf.constant([1, 2], shape=[2, 2])).tolist() == [[1, 2], [2, 2]]
        assert sess.run(tf.diag([1, 2])).tolist() == [[1, 0], [0, 2]]
        hot = tf.one_hot([0, -1, 5], 2, on_value=3, off_value=-1, axis=0)
        assert sess.run(hot).tolist() == [[3, -1, -1], [-1, -1, -1]]
        grid = sess.run(tf.meshgrid([1, 2, 3], [4, 5]))
        np.testing.assert_array_equal(grid, np.meshgrid([1, 2, 3], [4, 5]))


def test_sizes_that_are_fed() -> None:
    n = tf.placeholder(tf.int32, [])
    rows = tf.reshape(tf.range(6), [n, -1])
    blank = tf.zeros([n, 2])
    with tf.Session() as sess:
        for k in (2, 3, 2, 1):
            assert sess.run(rows, {n: k}).shape == (k, 6 // k)
            assert sess.run(blank, {n: k}).shape == (k, 2)


def test_reshapes_that_say_what_a_size_must_be() -> None:
    x = tf.placeholder(tf.float32, [None, 4])
    y, parts = tf.reshape(x, [-1, 3, 2]), tf.split(x, 3)
    with tf.Session() as sess:
        for n in (3, 6):
            value = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
            np.testing.assert_array_equal(sess.run(y, {x: value}), value.reshape(-1, 3, 2))
            np.testing.assert_array_equal(sess.run(parts, {x: value}), np.split(value, 3))
        with pytest.raises(tf.errors.InvalidArgumentError, match="does not split"):
            sess.run(parts, {x: np.ones((4, 4))})
