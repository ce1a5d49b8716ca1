"""Linear ops of any geometry: ⟨g, f(x)⟩ = ⟨fᵀ(g), x⟩, which their gradients must keep exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.ir import interpreter, verifier
from flowc.ir.autodiff import gradients
from flowc.ir.builder import Builder
from flowc.ir.core import IRError
from flowc.ir.types import tensor

RUNS = settings(max_examples=60, deadline=None)


def adjoint(build: Any, shapes: list[tuple[int, ...]]) -> None:
    """Check the identity for each operand of a multilinear op, and the types of its gradients."""
    b = Builder()
    xs = [b.param(tensor("f64", *s)) for s in shapes]
    y = build(b, *xs)
    g = b.param(y.type)
    found = gradients(b, [y], xs, [g])
    assert all(d is not None and d.type == x.type for d, x in zip(found, xs, strict=True))
    f = b.finish([y, *(d for d in found if d is not None)])
    verifier.verify(f)
    rng = np.random.default_rng(0)
    args = [rng.integers(-4, 5, p.ty.shape).astype(np.float64) for p in f.params]
    out, *ds = interpreter.run(f, args)
    want = np.sum(out * args[-1])
    for d, x in zip(ds, args[:-1], strict=True):
        assert np.sum(d * x) == want  # small integers: exact


@st.composite
def geometry(draw: Any, dilate: bool) -> tuple[int, int, int, tuple[int, int], int, int]:
    """size, taps, stride, pads, lhs and rhs dilation of an axis."""
    size, taps, stride = (draw(st.integers(lo, hi)) for lo, hi in ((0, 7), (1, 4), (1, 3)))
    pads = draw(st.integers(-2, 3)), draw(st.integers(-2, 3))
    lhs = draw(st.integers(1, 3)) if dilate else 1
    return size, taps, stride, pads, lhs, draw(st.integers(1, 3))


@RUNS
@given(st.lists(geometry(True), max_size=2), st.integers(1, 3), st.integers(1, 2),
       st.integers(1, 2), st.integers(0, 2))
def test_conv(axes: Any, groups: int, cin: int, cout: int, batch: int) -> None:
    sizes, taps, strides, pads, lhs, rhs = zip(*axes, strict=True) if axes else ((),) * 6

    def build(b: Builder, x: Any, w: Any) -> Any:
        return b.conv(x, w, strides=tuple(strides), pads=tuple(pads), lhs_dilation=tuple(lhs),
                      rhs_dilation=tuple(rhs), groups=groups)

    adjoint(build, [(batch, *sizes, cin * groups), (*taps, cin, cout * groups)])


@RUNS
@given(st.lists(geometry(False), min_size=1, max_size=3))
def test_window_sums(axes: Any) -> None:
    sizes, window, strides, pads, _, dilation = zip(*axes, strict=True)
    adjoint(
        lambda b, x: b.reduce_window(x, op="sum", window=window, strides=strides, pads=pads,
                                     dilation=dilation),
        [sizes],
    )


@RUNS
@given(st.data(), st.lists(st.integers(0, 3), max_size=2), st.lists(st.integers(0, 3), max_size=2),
       st.lists(st.integers(0, 3), max_size=2), st.lists(st.integers(0, 3), max_size=2))
def test_dot(data: Any, batch: Any, rows: Any, cols: Any, over: Any) -> None:
    a = data.draw(st.permutations([("b", i) for i in range(len(batch))]
                                  + [("m", i) for i in range(len(rows))]
                                  + [("k", i) for i in range(len(over))]))
    c = data.draw(st.permutations([("b", i) for i in range(len(batch))]
                                  + [("n", i) for i in range(len(cols))]
                                  + [("k", i) for i in range(len(over))]))
    size = {"b": batch, "m": rows, "n": cols, "k": over}

    def places(kind: str, n: int) -> Any:
        return tuple(tuple(axes.index((kind, i)) for i in range(n)) for axes in (a, c))

    adjoint(
        lambda b, x, y: b.dot(x, y, contract=places("k", len(over)),
                              batch=places("b", len(batch))),
        [tuple(size[kind][i] for kind, i in axes) for axes in (a, c)],
    )


@RUNS
@given(st.integers(0, 2), st.lists(st.integers(0, 3), max_size=2), st.integers(0, 2),
       st.lists(st.integers(1, 3), max_size=2), st.sampled_from(["zero", "clamp"]))
def test_gather(batch: int, n: Any, depth: int, rest: Any, bounds: str) -> None:
    lead, sizes = [2] * batch, [3] * depth
    index = np.random.default_rng(1).integers(-1, 4, (*lead, *n, depth)).astype(np.int32)
    adjoint(
        lambda b, x: b.gather(x, b.const(index, "i32"), batch=batch, bounds=bounds),
        [(*lead, *sizes, *rest)],
    )


def raises(build: Any) -> str:
    try:
        build(Builder())
    except IRError as e:
        return str(e)
    raise AssertionError("nothing was raised")


def test_errors_name_the_op_and_the_types() -> None:
    def two(name: str, first: tuple[int, ...], second: tuple[int, ...], **attrs: Any) -> str:
        def build(b: Builder) -> None:
            x, y = b.param(tensor("f32", *first)), b.param(tensor("f32", *second))
            getattr(b, name)(x, y, **attrs)
        return raises(build)

    none: Any = ((), ())
    assert two("dot", (2, 3), (4, 5), contract=((1,), (0,)), batch=none) == (
        "dot: contract axes 1 of f32[2,3] and 0 of f32[4,5]: 3 is not 4 "
        "[operands: f32[2,3], f32[4,5]]"
    )
    assert "axis 2 is outside a rank-2 shape" in two(
        "dot", (2, 3), (3, 5), contract=((2,), (0,)), batch=none)
    plain: dict[str, Any] = {"strides": (1,), "pads": ((0, 0),), "lhs_dilation": (1,),
                             "rhs_dilation": (1,), "groups": 1}
    assert "has 3, filter f32[3,2,4] takes 2 in each of 1 groups" in two(
        "conv", (1, 5, 3), (3, 2, 4), **plain)
    assert "1 spatial axes need operands of rank 3" in two("conv", (5, 3), (3, 2, 4), **plain)
    assert "4 output channels do not divide into 3 groups" in two(
        "conv", (1, 5, 6), (3, 2, 4), **{**plain, "groups": 3})
    assert "must be at least 1" in two("conv", (1, 5, 2), (3, 2, 4), **{**plain, "strides": (0,)})
    assert "indices f32[2,1] must be signed or unsigned" in two("gather", (4,), (2, 1))
