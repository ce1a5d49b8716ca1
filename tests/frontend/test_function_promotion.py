"""Type promotion in traced functions, against the tables of the array API standard (2023.12)."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np
import pytest

import flowc
from flowc.arrays.promotion import result_type

# https://data-apis.org/array-api/2023.12/API_specification/type_promotion.html, as it is printed
TABLES = """
    i1 i2 i4 i8
i1  i1 i2 i4 i8
i2  i2 i2 i4 i8
i4  i4 i4 i4 i8
i8  i8 i8 i8 i8

    u1 u2 u4 u8
u1  u1 u2 u4 u8
u2  u2 u2 u4 u8
u4  u4 u4 u4 u8
u8  u8 u8 u8 u8

    u1 u2 u4
i1  i2 i4 i8
i2  i2 i4 i8
i4  i4 i4 i8
i8  i8 i8 i8

    f4 f8 c8 c16
f4  f4 f8 c8 c16
f8  f8 f8 c16 c16
c8  c8 c16 c8 c16
c16 c16 c16 c16 c16
"""
ALL = "bool i1 i2 i4 i8 u1 u2 u4 u8 f4 f8 c8 c16".split()


def table() -> dict[tuple[str, str], str]:
    out = {("bool", "bool"): "bool"}
    for block in TABLES.strip().split("\n\n"):
        head, *rows = (line.split() for line in block.splitlines())
        for name, *cells in rows:
            for other, cell in zip(head, cells, strict=True):
                out[name, other] = out[other, name] = cell
    return out


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """These tests are of compiled code."""


@pytest.mark.parametrize("pair", list(itertools.product(ALL, ALL)), ids="-".join)
def test_the_standards_table(pair: tuple[str, str]) -> None:
    a, b = (flowc.as_dtype(np.dtype(t)) for t in pair)
    want = table().get(pair)
    if want is None:
        with pytest.raises(TypeError, match=r"defines no promotion.*astype"):
            result_type(a, b)
    else:
        assert result_type(a, b).np == np.dtype(want)


def dtype_of(f: Any, *args: Any) -> Any:
    spec = [flowc.TensorSpec((3,), np.dtype(t)) for t in args]
    return flowc.function(f).lower(*spec).function.results[0].ty.dtype.np


ARITHMETIC = [operator.add, operator.sub, operator.mul, flowc.maximum, flowc.minimum, flowc.add]


@pytest.mark.parametrize("f", ARITHMETIC, ids=lambda f: f.__name__)
@pytest.mark.parametrize("pair", ["i1 u1", "i4 u4", "f4 f8", "i2 i8", "u1 u2"])
def test_operators_and_functions_promote(f: Any, pair: str) -> None:
    want = np.dtype(table()[tuple(pair.split())])  # type: ignore[index]
    assert dtype_of(f, *pair.split()) == want


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.ge])
def test_comparisons_promote_and_give_bools(compare: Any) -> None:
    f = flowc.function(compare)
    x, y = np.int32([1, -1, 3]), np.uint32([1, 0xFFFFFFFF, 2])
    got = f(x, y)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, compare(x.astype(np.int64), y.astype(np.int64)))


@pytest.mark.parametrize(
    ("dtype", "scalar", "want"),
    [
        ("f4", 2, "f4"), ("f4", 2.5, "f4"), ("f8", 2.5, "f8"), ("i1", 2, "i1"), ("u8", 2, "u8"),
        ("f2", 1.5, "f2"), ("c8", 1.5, "c8"), ("f4", 1j, "c8"), ("f8", 1j, "c16"),
    ],
)  # fmt: skip
def test_python_numbers_are_weak(dtype: str, scalar: Any, want: str) -> None:
    assert dtype_of(lambda x: x * scalar, dtype) == np.dtype(want)
    assert dtype_of(lambda x: scalar + x, dtype) == np.dtype(want)


@pytest.mark.parametrize(("dtype", "scalar"), [("i4", 2.5), ("bool", 1), ("i4", 1j), ("f4", True)])
def test_python_numbers_of_another_kind(dtype: str, scalar: Any) -> None:
    with pytest.raises(TypeError, match=r"defines no promotion.*test_function_promotion\.py:"):
        dtype_of(lambda x: x * scalar, dtype)


def test_a_python_number_that_does_not_fit() -> None:
    with pytest.raises((TypeError, OverflowError)):
        dtype_of(lambda x: x + 300, "i1")


def test_numbers_as_arguments_are_weak_too() -> None:
    f = flowc.function(lambda x, s: x * s)
    x = np.float32([1, 2])
    assert f(x, 2.5).dtype == np.float32
    assert f(x, 2.5).tolist() == [2.5, 5]
    assert f(x, 3).dtype == np.float32
    assert f(x, np.float64(2)).dtype == np.float64
    assert f(2, 3).dtype == np.int64
    assert f(2, 1.5).dtype == np.float64
    assert f(x, 4.5).tolist() == [4.5, 9]


def test_logic_and_shifts() -> None:
    f = flowc.function(lambda x, y: (x & y, x | y, x ^ y, ~x, x << y, x >> y))
    x, y = np.int16([5, -3, 100]), np.int8([1, 2, 3])
    want = (x & y, x | y, x ^ y, ~x, x << y, x >> y)
    for got, w in zip(f(x, y), want, strict=True):
        assert got.dtype == np.int16
        np.testing.assert_array_equal(got, w)


def test_division_and_powers() -> None:
    f = flowc.function(lambda x, y: (x / y, x // y, x % y, x**2))
    x, y = np.float64([7, -7, 2]), np.float32([2, 2, -3])
    wide = y.astype(np.float64)
    for got, w in zip(f(x, y), (x / wide, x // wide, x % wide, x**2), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, w)


def test_matrix_products_promote() -> None:
    x, y = np.ones((2, 3), np.float32), np.arange(3.0)
    got = flowc.function(lambda a, b: a @ b)(x, y)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, x.astype(np.float64) @ y)


def test_numpy_on_the_left() -> None:
    y = np.float64([1, 2])
    got = flowc.function(lambda x: (y + x, y @ x, np.float64(2) * x))(np.float32([3, 4]))
    assert [g.dtype for g in got] == [np.float64] * 3
    assert got[0].tolist() == [4, 6]
    assert got[1] == 11
    assert got[2].tolist() == [6, 8]


def test_indexing() -> None:
    x = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    f = flowc.function(
        lambda x, i: (x[1], x[..., -1], x[:, 1:, ::2], x[None, 0, ::-1], x.T, x.mT, x[0][i],
                      x[1][np.array([2, 0])])
    )
    i = np.int32([1, 1, 0])
    want = (x[1], x[..., -1], x[:, 1:, ::2], x[None, 0, ::-1], x.T, x.swapaxes(1, 2), x[0][i],
            x[1][[2, 0]])  # fmt: skip
    for got, w in zip(f(x, i), want, strict=True):
        np.testing.assert_array_equal(got, w)


def test_astype_and_reshape() -> None:
    x = np.float32([[1.7, -2.2, 3], [4, 5, 6]])
    got = flowc.function(lambda x: (x.astype(np.int32), x.astype("float64"), x.reshape(3, 2),
                                    x.reshape((-1,)), abs(-x), +x))(x)  # fmt: skip
    want = (x.astype(np.int32), x.astype(np.float64), x.reshape(3, 2), x.reshape(-1), abs(x), x)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(g, w)
