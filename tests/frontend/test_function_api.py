"""The array API's functions on traced arrays, each against NumPy's of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc

RNG = np.random.default_rng(11)
X = RNG.standard_normal((3, 4))
Y = RNG.standard_normal((3, 4))
V = RNG.standard_normal(4)
I = RNG.integers(-20, 20, (3, 4)).astype(np.int32)  # noqa: E741
J = RNG.integers(1, 6, (3, 4)).astype(np.int32)
B, C = X > 0, Y > 0
Z = np.array([1.0, np.nan, np.inf, -np.inf, 0.0, -2.5])
S = np.int8([[100, 100, -3], [5, 6, 7]])
OPEN = np.clip(X, -0.9, 0.9)

UNARY = {
    "acos": OPEN, "acosh": abs(X) + 1, "asin": OPEN, "asinh": X, "atan": X, "atanh": OPEN,
    "cos": X, "cosh": X, "sin": X, "sinh": X, "tan": X, "tanh": X, "exp": X, "expm1": X,
    "log": abs(X), "log1p": abs(X), "log2": abs(X), "log10": abs(X), "sqrt": abs(X), "abs": I,
    "negative": X, "positive": X, "sign": X, "square": X, "reciprocal": X, "logical_not": B,
    "bitwise_invert": I, "floor": X * 5, "ceil": X * 5, "round": X * 5, "trunc": X * 5,
    "isnan": Z, "isinf": Z, "isfinite": Z,
}  # fmt: skip
BINARY = {
    "add": (X, Y), "subtract": (X, V), "multiply": (I, J), "divide": (X, Y), "pow": (abs(X), Y),
    "floor_divide": (I, J), "remainder": (I, J), "atan2": (X, Y), "maximum": (X, V),
    "minimum": (X, V), "equal": (I, J), "not_equal": (I, J), "less": (X, Y), "less_equal": (I, J),
    "greater": (X, Y), "greater_equal": (I, J), "logical_and": (B, C), "logical_or": (B, C),
    "logical_xor": (B, C), "logaddexp": (X * 50, Y), "hypot": (X, Y), "bitwise_and": (I, J),
    "bitwise_or": (B, C), "bitwise_xor": (I, J), "bitwise_left_shift": (I, J),
    "bitwise_right_shift": (I, J), "matmul": (X, Y.T), "vecdot": (X, Y),
}  # fmt: skip


def compare(f: Callable[..., Any], *args: Any) -> None:
    """f(namespace, *arrays), traced and by NumPy."""
    got = flowc.function(lambda *xs: f(xs[0].__array_namespace__(), *xs))(*args)
    want = f(np, *args)
    if not isinstance(want, (list, tuple)):
        got, want = [got], [want]
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    compare(lambda xp, x: getattr(xp, name)(x), UNARY[name])


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "isnan", "isfinite"])
def test_unary_of_integers(name: str) -> None:
    compare(lambda xp, x: getattr(xp, name)(x), I)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    compare(lambda xp, x, y: getattr(xp, name)(x, y), *BINARY[name])


CASES: list[Callable[..., Any]] = [
    lambda xp, x: xp.clip(x, -0.5, 0.5),
    lambda xp, x: xp.clip(x, max=0.5),
    lambda xp, x: xp.astype(x, xp.int32),
    lambda xp, x: xp.asarray([1, 2, 3], dtype=xp.int16),
    lambda xp, x: xp.stack([x[0], x[1]], axis=1),
    lambda xp, x: xp.zeros((2, 3), dtype=xp.float64) + xp.ones((3,), dtype=xp.float64),
    lambda xp, x: xp.full((2, 2), 7, dtype=xp.int64),
    lambda xp, x: xp.full_like(x, 3),
    lambda xp, x: xp.zeros_like(x) + xp.ones_like(x),
    lambda xp, x: xp.arange(5),
    lambda xp, x: xp.arange(1, 9, 3),
    lambda xp, x: xp.arange(0, 1, 0.25, dtype=xp.float64),
    lambda xp, x: xp.linspace(0, 1, 5, dtype=xp.float64),
    lambda xp, x: xp.linspace(0, 1, 5, dtype=xp.float64, endpoint=False),
    lambda xp, x: xp.eye(3, 4, k=1, dtype=xp.float64),
    lambda xp, x: xp.tril(x, k=1),
    lambda xp, x: xp.triu(x, k=-1),
    lambda xp, x: xp.meshgrid(x[0], x[:, 0]),
    lambda xp, x: xp.meshgrid(x[0], x[:, 0], indexing="ij"),
    lambda xp, x: xp.broadcast_to(x[0], (5, 4)),
    lambda xp, x: xp.broadcast_arrays(x, x[0], x[:, :1]),
    lambda xp, x: xp.concat([x, x * 2], axis=1),
    lambda xp, x: xp.concat([x, x[0]], axis=None),
    lambda xp, x: xp.unstack(xp.reshape(x, (3, 4)), axis=1),
    lambda xp, x: xp.expand_dims(x, axis=1),
    lambda xp, x: xp.squeeze(x[:1], axis=0),
    lambda xp, x: xp.permute_dims(x[None], (2, 0, 1)),
    lambda xp, x: xp.matrix_transpose(x),
    lambda xp, x: xp.moveaxis(x[None], 0, -1),
    lambda xp, x: xp.moveaxis(x[None], (0, 1), (2, 0)),
    lambda xp, x: xp.reshape(x, (2, -1)),
    lambda xp, x: xp.flip(x),
    lambda xp, x: xp.flip(x, axis=1),
    lambda xp, x: xp.roll(x, 2),
    lambda xp, x: xp.roll(x, -1, axis=1),
    lambda xp, x: xp.roll(x, (1, 2), axis=(0, 1)),
    lambda xp, x: xp.tile(x, (2, 1, 3)),
    lambda xp, x: xp.sum(x),
    lambda xp, x: xp.sum(x, axis=1, keepdims=True),
    lambda xp, x: xp.prod(x, axis=(0, 1)),
    lambda xp, x: xp.mean(x, axis=0),
    lambda xp, x: xp.var(x, axis=0),
    lambda xp, x: xp.var(x, correction=1.0),
    lambda xp, x: xp.std(x, axis=-1, correction=1.0, keepdims=True),
    lambda xp, x: xp.max(x, axis=0),
    lambda xp, x: xp.min(x),
    lambda xp, x: xp.all(x > -5, axis=0),
    lambda xp, x: xp.any(x),
    lambda xp, x: xp.argmax(x),
    lambda xp, x: xp.argmin(x, axis=1, keepdims=True),
    lambda xp, x: xp.cumulative_sum(x, axis=1),
    lambda xp, x: xp.cumulative_sum(x, axis=0, include_initial=True),
    lambda xp, x: xp.tensordot(x, x, axes=((0,), (0,))),
    lambda xp, x: xp.where(x > 0, x, 0.0),
    lambda xp, x: xp.where(x[0] > 0, x, -x),
    lambda xp, x: xp.take(x, xp.asarray([2, 0]), axis=1),
    lambda xp, x: xp.sort(x, axis=0),
    lambda xp, x: xp.argsort(x, axis=1),
    lambda xp, x: x[xp.asarray([-1, 0, -2])],
    lambda xp, x: x[[1, -1]],
    lambda xp, x: x * xp.pi + xp.e,
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_functions(case: Callable[..., Any]) -> None:
    compare(case, X)


def test_sums_of_small_integers_are_wide() -> None:
    compare(lambda xp, x: xp.sum(x, axis=1), S)
    compare(lambda xp, x: xp.prod(x), S.astype(np.uint16))
    compare(lambda xp, x: xp.cumulative_sum(x, axis=1), S)
    compare(lambda xp, x: xp.sum(x, dtype=xp.int8, axis=0), S)


def test_types() -> None:
    def f(x: Any) -> Any:
        xp = x.__array_namespace__(api_version="2023.12")
        assert xp.isdtype(x.dtype, "real floating")
        assert xp.isdtype(x.dtype, ("bool", xp.float32))
        assert not xp.isdtype(xp.int8, "unsigned integer")
        assert xp.isdtype(xp.uint8, "integral")
        assert xp.result_type(x, xp.float64) == xp.float64
        assert xp.can_cast(xp.int8, xp.int32)
        assert not xp.can_cast(xp.int32, xp.float32)
        assert xp.finfo(x.dtype).eps == np.finfo(np.float32).eps
        assert xp.iinfo(xp.int16).max == 32767
        with pytest.raises(ValueError, match="2030"):
            x.__array_namespace__(api_version="2030.12")
        with pytest.raises(TypeError, match="mean of int8: it takes floats"):
            xp.mean(xp.asarray([1], dtype=xp.int8))
        return x

    flowc.function(f)(np.ones(3, np.float32))


def test_code_for_any_library() -> None:
    """The same code by NumPy, and traced: with free sizes, and its gradient."""

    def standardize(x: Any) -> Any:
        xp = x.__array_namespace__()
        centered = x - xp.mean(x, axis=0, keepdims=True)
        return centered / xp.std(x, axis=0, keepdims=True)

    f = flowc.function(standardize)
    for n in (3, 8):
        x = RNG.standard_normal((n, 4))
        np.testing.assert_allclose(f(x), standardize(x), rtol=1e-12)
