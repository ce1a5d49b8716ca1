"""Rules of convolutions: padded operands and cropped results."""

from __future__ import annotations

from typing import Any

import pytest

from flowc.compiler.passes.dce import Dce
from flowc.compiler.passes.simplify import Simplify
from flowc.ir.builder import Builder
from flowc.ir.core import Function
from flowc.ir.types import tensor

from .same import apply, check_equal, names

X = ("f32", 2, 9, 7, 3)
W = ("f32", 3, 2, 3, 4)


def conv(b: Any, x: Any, w: Any, **changes: Any) -> Any:
    how: dict[str, Any] = {"strides": (1, 1), "pads": ((0, 0), (0, 0)), "lhs_dilation": (1, 1),
                           "rhs_dilation": (1, 1), "groups": 1}
    return b.conv(x, w, **{**how, **changes})


def padded(b: Any, x: Any, lo: tuple[int, ...], hi: tuple[int, ...], value: float = 0.0) -> Any:
    return b.pad(x, b.const(value, x.ty.dtype), lo=lo, hi=hi, interior=(0,) * x.ty.rank)


def build(body: Any, *types: Any) -> Function:
    b = Builder("f")
    return b.finish((body(b, *(b.param(tensor(*t), f"p{i}") for i, t in enumerate(types))),))


def check(f: Function, expected: list[str]) -> None:
    """The operations that are left of f, and that they compute the same."""
    g = apply(f, Simplify(), Dce())
    assert names(g) == expected
    check_equal(f, g)


def test_padding_becomes_the_convolutions() -> None:
    check(build(lambda b, x, w: conv(b, padded(b, x, (0, 1, 2, 0), (0, 0, 3, 0)), w,
                                     pads=((1, 2), (-1, 0)), strides=(2, 1)), X, W), ["conv"])


def test_padding_before_a_transposition() -> None:
    """As in the gradient towards a filter: the batch is what is contracted."""
    def body(b: Any, x: Any, w: Any) -> Any:
        wide = padded(b, x, (0, 1, 1, 0), (0, 2, 0, 0))
        return conv(b, b.transpose(wide, perm=(3, 1, 2, 0)), w)

    check(build(body, X, ("f32", 4, 3, 2, 5)), ["transpose", "conv"])


@pytest.mark.parametrize("case", ["value", "channels", "dilated"])
def test_padding_that_stays(case: str) -> None:
    def body(b: Any, x: Any, w: Any) -> Any:
        more = 1 if case == "channels" else 0
        value = 1.0 if case == "value" else 0.0
        wide = padded(b, x, (0, 1, 1, 0), (0, 1, 1, more), value)
        return conv(b, wide, w, lhs_dilation=(2, 1) if case == "dilated" else (1, 1))

    channels = 4 if case == "channels" else 3
    g = apply(build(body, X, ("f32", 3, 2, channels, 4)), Simplify(), Dce())
    assert "pad" in names(g)


@pytest.mark.parametrize("changes", [
    {}, {"strides": (2, 3), "pads": ((4, 3), (2, 2))}, {"lhs_dilation": (2, 2)},
    {"pads": ((1, 1), (1, 1)), "rhs_dilation": (2, 1)},
], ids=str)
def test_outputs_that_are_cut_off(changes: dict[str, Any]) -> None:
    def body(b: Any, x: Any, w: Any) -> Any:
        y = conv(b, x, w, **changes)
        n, h, v, c = y.ty.shape
        return b.slice(y, starts=(0, 1, 1, 0), limits=(n, h - 1, v, c), strides=(1, 1, 1, 1))

    check(build(body, X, W), ["conv"])


def test_a_convolution_with_another_use_stays_whole() -> None:
    def body(b: Any, x: Any, w: Any) -> Any:
        y = conv(b, x, w)
        n, h, v, c = y.ty.shape
        part = b.slice(y, starts=(0, 1, 0, 0), limits=(n, h, v, c), strides=(1, 1, 1, 1))
        return b.add(part, b.slice(y, starts=(0, 0, 0, 0), limits=(n, h - 1, v, c),
                                   strides=(1, 1, 1, 1)))

    check(build(body, X, W), ["conv", "slice", "slice", "add"])
