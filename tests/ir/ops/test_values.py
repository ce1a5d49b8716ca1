"""Particular values: known answers, and gradients where functions have corners."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from flowc.ir import interpreter
from flowc.ir.autodiff import gradients
from flowc.ir.builder import Builder
from flowc.ir.dtypes import BY_NAME
from flowc.ir.ops import numeric
from flowc.ir.ops.layout import reshape_groups
from flowc.ir.ops.random import philox
from flowc.ir.types import tensor
from op_records import special

# Random123's kat_vectors, philox4x32 10: counter, key, result
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("counter", "key", "want"), KNOWN)
def test_philox_known_answers(counter: Any, key: Any, want: Any) -> None:
    words = philox(tuple(np.array([c], np.uint64) for c in counter), key)  # type: ignore[arg-type]
    assert [int(w[0]) for w in words] == list(want)


def gradient(build: Any, *xs: Any, kind: str = "f64") -> list[list[float]]:
    """The gradients of the sum of build(b, *values)."""
    b = Builder()
    arrays = [np.asarray(x, BY_NAME[kind].np) for x in xs]
    params = [b.param(tensor(kind, *a.shape)) for a in arrays]
    gs = gradients(b, [build(b, *params)], params)
    f = b.finish([b.const(0, p) if g is None else g for p, g in zip(params, gs, strict=True)])
    return [r.tolist() for r in interpreter.run(f, arrays)]


def test_ties_of_max_and_min_go_to_the_first() -> None:
    for name in ("max", "min"):
        gx, gy = gradient(lambda b, x, y, n=name: getattr(b, n)(x, y), [1.0, 2.0], [1.0, 2.0])
        assert (gx, gy) == ([1, 1], [0, 0])


def test_ties_of_reduce_max_share() -> None:
    (g,) = gradient(lambda b, x: b.reduce(x, op="max", axes=(0,)), [3.0, 1.0, 3.0, 3.0])
    assert g == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])


def test_ties_of_cumulative_max_go_to_the_first() -> None:
    (g,) = gradient(lambda b, x: b.cumulative(x, op="max", axis=0), [1.0, 2.0, 2.0, 1.0])
    assert g == [1, 3, 0, 0]
    (g,) = gradient(lambda b, x: b.cumulative(x, op="max", axis=0), [-math.inf, -math.inf])
    assert g == [2, 0]


def test_abs_at_zero() -> None:
    (g,) = gradient(lambda b, x: b.abs(x), [0.0, -0.0, -2.0, 2.0])
    assert g == [0, 0, -1, 1]


def test_sqrt_at_zero() -> None:
    (g,) = gradient(lambda b, x: b.sqrt(x), [0.0, 4.0])
    assert g == [math.inf, 0.25]


def test_pow_at_its_corners() -> None:
    gx, gy = gradient(lambda b, x, y: b.pow(x, y), [0.0, 0.0, -2.0, 0.0, 3.0], [0.0, 2, 3, 1, 0])
    assert gx == [0, 0, 12, 1, 0]
    assert gy == [0, 0, 0, 0, pytest.approx(math.log(3))]


def test_select_lets_no_nan_through() -> None:
    def root_of_positive(b: Any, x: Any) -> Any:
        one, zero = b.const(1, x), b.const(0, x)
        positive = b.compare(x, zero, op="gt")
        return b.select(positive, b.log(b.select(positive, x, one)), zero)
    (g,) = gradient(root_of_positive, [0.0, -1.0, 2.0])
    assert g == [0, 0, 0.5]


def test_product_with_zeros() -> None:
    (g,) = gradient(lambda b, x: b.reduce(x, op="prod", axes=(0,)), [2.0, 0.0, 3.0])
    assert g == [0, 6, 0]
    (g,) = gradient(lambda b, x: b.reduce(x, op="prod", axes=(0,)), [0.0, 0.0, 3.0])
    assert g == [0, 0, 0]


def test_gradients_pass_casts_between_floats_only() -> None:
    (g,) = gradient(lambda b, x: b.cast(b.mul(x, x), dtype=BY_NAME["f64"]), [1.5, 2.0], kind="f32")
    assert g == [3, 4]
    (g,) = gradient(lambda b, x: b.cast(b.cast(x, dtype=BY_NAME["i32"]), dtype=BY_NAME["f64"]),
                    [1.5, 2.0])
    assert g == [0, 0]


def test_stop_gradient_and_cut() -> None:
    (g,) = gradient(lambda b, x: b.mul(b.stop_gradient(x), b.cut(x)), [3.0])
    assert g == [3]


@pytest.mark.parametrize(
    ("name", "points", "limit"),
    [
        ("erfinv", [*(1 - 10.0**-n for n in range(1, 16)), *(10.0**-n for n in range(1, 16))], 3),
        ("lgamma", [10.0**n for n in range(-10, 15)], 8),
        ("digamma", [*(10.0**n for n in range(-10, 15)), -0.3, -7.7, -2.001], 12),
        ("sigmoid", [-40.0, -1.0, 1e-9, 0.3, 12.0], 3),
    ],
)
def test_special_functions_far_out(name: str, points: list[float], limit: float) -> None:
    got = getattr(numeric, name)(np.array(points))
    want = np.array([getattr(special, name)(p) for p in points])
    assert np.max(np.abs(got - want) / np.spacing(np.maximum(np.abs(want), 1))) <= limit


def test_reshape_linearises_no_more_than_it_must() -> None:
    b = Builder()
    n = b.param(tensor("f32", 1)).ty.shape[0]
    assert reshape_groups((7, 28, 28, 1), (7, 784)) == (((0,), (0,)), ((1, 2), (1,)))
    assert reshape_groups((6, 35), (2, 21, 5)) == (((0, 1), (0, 1, 2)),)
    assert reshape_groups((2, 3, 4), (6, 2, 2)) == (((0, 1), (0,)), ((2,), (1, 2)))
    assert reshape_groups((n, 1), (1,)) == ()
    assert reshape_groups((0, 3), (3, 0)) == ()


def extremes(op: str, attrs: dict[str, Any], kind: str, values: list[float]) -> list[str]:
    """What an op makes of a list, as text: −0 shows its sign."""
    b = Builder()
    x = b.param(tensor(kind, len(values)))
    f = b.finish([getattr(b, op)(x, **attrs)])
    (out,) = interpreter.run(f, [np.array(values, BY_NAME[kind].np)])
    return [str(float(v)) for v in np.atleast_1d(out)]


@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_zero_is_above_minus_zero(kind: str) -> None:
    values = [-0.0, 0.0, -0.0, -0.0]
    window: dict[str, Any] = {"window": (2,), "strides": (1,), "pads": ((0, 0),)}
    assert extremes("cumulative", {"op": "max", "axis": 0}, kind, values) == [
        "-0.0", "0.0", "0.0", "0.0"]
    assert extremes("cumulative", {"op": "min", "axis": 0}, kind, values[1:]) == [
        "0.0", "-0.0", "-0.0"]
    assert extremes("reduce_window", {"op": "max", **window}, kind, values) == [
        "0.0", "0.0", "-0.0"]
    assert extremes("reduce", {"op": "max", "axes": (0,)}, kind, values) == ["0.0"]
