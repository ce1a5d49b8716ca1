"""Elementwise ops, reductions and products against NumPy in f64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4)).astype(np.float32)
B = RNG.uniform(0.2, 0.9, (3, 4)).astype(np.float32)
WIDE_A, WIDE_B = A.astype(np.float64), B.astype(np.float64)
Fn = Callable[..., Any]


def run(fn: Fn, *arrays: Any) -> Any:
    """fn of placeholders whose sizes are unknown while the graph is built."""
    xs = [tf.placeholder(a.dtype, [None] * a.ndim) for a in arrays]
    out = fn(*xs)
    with tf.Session() as sess:
        got = sess.run(out, dict(zip(xs, arrays, strict=True)))
    if isinstance(out, tf.Tensor):
        assert out.shape.is_compatible_with(got.shape)
        assert out.dtype.as_numpy_dtype == got.dtype
    return got


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


erf = np.vectorize(math.erf)
lgamma = np.vectorize(math.lgamma)

UNARY: list[tuple[Fn, Fn]] = [
    (tf.abs, np.abs), (tf.negative, np.negative), (tf.sign, np.sign), (tf.square, np.square),
    (tf.exp, np.exp), (tf.expm1, np.expm1), (tf.sin, np.sin), (tf.cos, np.cos), (tf.tan, np.tan),
    (tf.atan, np.arctan), (tf.tanh, np.tanh), (tf.sinh, np.sinh), (tf.cosh, np.cosh),
    (tf.asinh, np.arcsinh), (tf.erf, erf), (tf.erfc, lambda x: 1 - erf(x)), (tf.floor, np.floor),
    (tf.ceil, np.ceil), (tf.round, np.round), (tf.rint, np.rint), (tf.reciprocal, lambda x: 1 / x),
    (tf.sigmoid, lambda x: 1 / (1 + np.exp(-x))), (tf.is_nan, np.isnan), (tf.is_inf, np.isinf),
    (tf.is_finite, np.isfinite), (tf.nn.relu, lambda x: np.maximum(x, 0)),
    (tf.nn.relu6, lambda x: np.clip(x * 1, 0, 6)), (tf.nn.softplus, lambda x: np.log1p(np.exp(x))),
    (tf.nn.elu, lambda x: np.where(x < 0, np.expm1(x), x)),
    (tf.nn.softsign, lambda x: x / (1 + np.abs(x))),
    (tf.nn.leaky_relu, lambda x: np.where(x > 0, x, 0.2 * x)),
    (tf.log_sigmoid if hasattr(tf, "log_sigmoid") else tf.nn.log_sigmoid,
     lambda x: -np.log1p(np.exp(-x))),
]  # fmt: skip
POSITIVE: list[tuple[Fn, Fn]] = [
    (tf.log, np.log), (tf.log1p, np.log1p), (tf.sqrt, np.sqrt), (tf.rsqrt, lambda x: x**-0.5),
    (tf.asin, np.arcsin), (tf.acos, np.arccos), (tf.atanh, np.arctanh), (tf.lgamma, lgamma),
    (lambda x: tf.acosh(x + 1.0), lambda x: np.arccosh(x + 1)),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "reference"), UNARY)
def test_unary(ours: Fn, reference: Fn) -> None:
    close(run(ours, A), reference(WIDE_A))


@pytest.mark.parametrize(("ours", "reference"), POSITIVE)
def test_unary_of_values_between_0_and_1(ours: Fn, reference: Fn) -> None:
    close(run(ours, B), reference(WIDE_B))


BINARY: list[tuple[Fn, Fn]] = [
    (tf.add, np.add), (tf.subtract, np.subtract), (tf.multiply, np.multiply),
    (tf.divide, np.divide), (tf.maximum, np.maximum), (tf.minimum, np.minimum),
    (tf.floordiv, np.floor_divide), (tf.floormod, np.mod), (tf.truncatemod, np.fmod),
    (tf.squared_difference, lambda x, y: (x - y) ** 2), (tf.atan2, np.arctan2),
    (tf.less, np.less), (tf.greater_equal, np.greater_equal), (tf.not_equal, np.not_equal),
    (lambda x, y: x + y, np.add), (lambda x, y: x / y, np.divide), (lambda x, y: x < y, np.less),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "reference"), BINARY)
def test_binary_broadcasts(ours: Fn, reference: Fn) -> None:
    close(run(ours, A, B), reference(WIDE_A, WIDE_B))
    close(run(ours, A, B[0]), reference(WIDE_A, WIDE_B[0]))
    close(run(ours, A[:, :1], B[:1]), reference(WIDE_A[:, :1], WIDE_B[:1]))


def test_a_size_of_one_broadcasts_though_the_graph_did_not_know_it() -> None:
    x, y = (tf.placeholder(tf.float32, [None, None]) for _ in range(2))
    total = tf.reduce_sum(x + y, 0)
    with tf.Session() as sess:
        for left, right in ((A, B), (A[:1], B), (A, B[:, :1]), (A[:1], B[:, :1])):
            close(sess.run(total, {x: left, y: right}), (left + right).sum(0))
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            sess.run(total, {x: A, y: B[:2]})
    assert "[3,4]" in str(caught.value)
    assert "[2,4]" in str(caught.value)
    assert "test_math_ops.py" in str(caught.value)


def test_integer_division_is_that_of_python() -> None:
    n, d = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    assert run(tf.floordiv, n, d).tolist() == [3, -4, -4, 3]
    assert run(tf.floormod, n, d).tolist() == [1, 1, -1, -1]
    assert run(tf.truncatediv, n, d).tolist() == [3, -3, -3, 3]
    assert run(tf.div, n, d).tolist() == [3, -4, -4, 3]
    quotient = run(tf.truediv, n, d)
    assert quotient.dtype == np.float64
    assert quotient.tolist() == [3.5, -3.5, -3.5, 3.5]


def test_numbers_take_the_tensors_type_and_tensors_are_not_promoted() -> None:
    x = tf.constant([1.0, 2.0])
    assert (2 * x).dtype == tf.float32
    assert (np.array([1.0, 2.0]) * x).dtype == tf.float32
    with pytest.raises(TypeError, match="type int32 that does not match type float32"):
        x + tf.constant(1)
    with pytest.raises(TypeError, match=r"Expected int32, got 1\.5"):
        tf.constant(1) + 1.5


REDUCTIONS: list[tuple[Fn, Fn]] = [
    (tf.reduce_sum, np.sum), (tf.reduce_mean, np.mean), (tf.reduce_prod, np.prod),
    (tf.reduce_max, np.max), (tf.reduce_min, np.min),
    (tf.reduce_logsumexp, lambda x, axis, keepdims=False: np.log(
        np.sum(np.exp(x), axis=axis, keepdims=keepdims))),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "reference"), REDUCTIONS)
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1)])
def test_reductions(ours: Fn, reference: Fn, axis: Any) -> None:
    close(run(lambda x: ours(x, axis), A), reference(WIDE_A, axis=axis))
    kept = reference(WIDE_A, axis=axis, keepdims=True)
    close(run(lambda x: ours(x, axis=axis, keepdims=True), A), kept)
    close(run(lambda x: ours(x, reduction_indices=axis, keep_dims=True), A), kept)


def test_reductions_of_bools() -> None:
    flags = A > 0
    assert run(lambda x: tf.reduce_all(x, 0), flags).tolist() == flags.all(0).tolist()
    assert run(lambda x: tf.reduce_any(x, 1), flags).tolist() == flags.any(1).tolist()
    assert run(tf.count_nonzero, A * flags) == flags.sum()
    close(run(tf.nn.zero_fraction, A * flags), 1 - flags.mean())


def test_positions_of_extremes_are_the_first() -> None:
    ties = np.array([[1, 3, 3], [2, 2, 0]], np.float32)
    assert run(lambda x: tf.argmax(x, 1), ties).tolist() == [1, 0]
    assert run(lambda x: tf.argmin(x, axis=1, output_type=tf.int32), ties).tolist() == [0, 2]
    assert run(lambda x: tf.argmax(x), ties).tolist() == [1, 0, 0]
    nan = np.array([[1, np.nan, 3]], np.float32)
    assert run(lambda x: tf.argmax(x, 1), nan).tolist() == [1]


def test_products() -> None:
    close(run(lambda x, y: tf.matmul(x, y, transpose_b=True), A, B), WIDE_A @ WIDE_B.T)
    close(run(lambda x, y: tf.matmul(x, y, transpose_a=True), A, B), WIDE_A.T @ WIDE_B)
    batch = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    close(run(lambda x, y: x @ y, batch, A), batch.astype(np.float64) @ WIDE_A)
    many = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    close(run(tf.matmul, batch, many), batch.astype(np.float64) @ many)
    close(run(lambda x, y: tf.tensordot(x, y, [[0], [0]]), A, B), WIDE_A.T @ WIDE_B)
    close(run(lambda x, y: tf.tensordot(x, y, 1), A, B.T.copy()), WIDE_A @ WIDE_B.T)
    with pytest.raises(ValueError, match=r"Dimensions must be equal.*\[3,4\] and \[3,4\]"):
        tf.matmul(tf.constant(A), tf.constant(B))


def test_running_sums() -> None:
    close(run(lambda x: tf.cumsum(x, 1), A), WIDE_A.cumsum(1))
    before = np.cumsum(WIDE_A, 0) - WIDE_A
    close(run(lambda x: tf.cumsum(x, 0, exclusive=True), A), before)
    close(run(lambda x: tf.cumprod(x, 1, reverse=True), A),
          WIDE_A[:, ::-1].cumprod(1)[:, ::-1])  # fmt: skip


def test_changes_of_type() -> None:
    x = np.array([-1.5, 0.0, 2.7], np.float32)
    assert run(tf.to_int32, x).tolist() == [-1, 0, 2]
    assert run(lambda v: tf.cast(v, tf.bool), x).tolist() == [True, False, True]
    assert run(lambda v: tf.saturate_cast(v * 1000, tf.uint8), x).tolist() == [0, 0, 255]
    assert run(lambda v: tf.bitcast(v, tf.int32), x).tolist() == x.view(np.int32).tolist()
    t = tf.constant(1.0)
    assert tf.cast(t, tf.float32) is t


def test_clipping() -> None:
    close(run(lambda x: tf.clip_by_value(x, -0.5, 0.5), A), WIDE_A.clip(-0.5, 0.5))
    norm = np.sqrt((WIDE_A**2).sum())
    close(run(lambda x: tf.clip_by_norm(x, 1.0), A), WIDE_A / norm)
    close(run(lambda x: tf.clip_by_norm(x, 100.0), A), WIDE_A)
    rows = np.sqrt((WIDE_A**2).sum(1, keepdims=True))
    close(run(lambda x: tf.clip_by_norm(x, 0.1, axes=[1]), A), WIDE_A / rows * 0.1)
    both = math.sqrt((WIDE_A**2).sum() + (WIDE_B**2).sum())
    got = run(lambda x, y: tf.clip_by_global_norm([x, None, y], 1.0)[0][2], A, B)
    close(got, WIDE_B / both)
    close(run(lambda x, y: tf.global_norm([x, y]), A, B), both)
    close(run(lambda x, y: tf.add_n([x, y, x]), A, B), 2 * WIDE_A + WIDE_B)
