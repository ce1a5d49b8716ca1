"""The gradient pass: chains, sharing, what has no gradient, loops, gradients of gradients."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from flowc.compiler.passes.gradient import function_gradient, gradients
from flowc.ir import interpreter, parser, printer, verifier
from flowc.ir.builder import Builder
from flowc.ir.core import Function, IRError, Loc, Module, Value
from flowc.ir.types import tensor
from op_records.control_flow import counted, nested, power, power_reference

VECTOR = tensor("f64", 3)
MATRIX = tensor("f64", 3, 3)
COUNT = tensor("i32")


def run(b: Builder, results: Any, *args: Any) -> list[Any]:
    f = b.finish(results)
    verifier.verify(f)
    return interpreter.run(f, [np.asarray(a) for a in args])


def total(b: Builder, x: Value) -> Any:
    return b.reduce(x, op="sum", axes=tuple(range(x.ty.rank)))


def test_shared_values_accumulate() -> None:
    b = Builder()
    x = b.param(VECTOR)
    y = b.mul(x, b.add(x, b.sin(x)))
    (g,) = gradients(b, [y], [x])
    at = np.array([0.5, -1.0, 2.0])
    (got,) = run(b, [g], at)
    np.testing.assert_allclose(got, 2 * at + np.sin(at) + at * np.cos(at), rtol=1e-14)


def test_cotangents_weigh_the_results() -> None:
    b = Builder()
    x, w = b.param(VECTOR), b.param(VECTOR)
    first, second = b.mul(x, x), b.sin(x)
    (g,) = gradients(b, [first, second], [x], [w, None])
    at, weight = np.array([0.5, -1.0, 2.0]), np.array([3.0, 4.0, 5.0])
    (got,) = run(b, [g], at, weight)
    np.testing.assert_allclose(got, 2 * at * weight + np.cos(at), rtol=1e-14)


def test_no_path_and_integers_have_none() -> None:
    b = Builder()
    x, other, n = b.param(VECTOR), b.param(VECTOR), b.param(COUNT)
    y = b.mul(b.sin(x), b.broadcast_to(b.cast(n, dtype=x.ty.dtype), (3,)))
    found = gradients(b, [y], [x, other, n])
    assert found[0] is not None
    assert found[1:] == [None, None]
    assert gradients(b, [n], [x]) == [None]


def test_of_an_intermediate_value_and_of_the_result_itself() -> None:
    b = Builder()
    x = b.param(VECTOR)
    h = b.sin(x)
    y = b.mul(h, h)
    gh, gx, gy = gradients(b, [y], [h, x, y])
    at = np.array([0.5, -1.0, 2.0])
    got = run(b, [gh, gx, gy], at)
    np.testing.assert_allclose(got[0], 2 * np.sin(at), rtol=1e-14)
    np.testing.assert_allclose(got[1], 2 * np.sin(at) * np.cos(at), rtol=1e-14)
    np.testing.assert_array_equal(got[2], np.ones(3))


def test_only_the_path_is_differentiated() -> None:
    """Ops that are not between xs and ys emit nothing, even those that have no gradient."""
    b = Builder()
    x, z = b.param(VECTOR), b.param(VECTOR)
    b.all_reduce(z, op="max")
    y = b.mul(x, b.all_reduce(z, op="max"))
    before = len(b.instrs)
    (g,) = gradients(b, [y], [x])
    assert g is not None
    assert {i.op.name for i in b.instrs[before:]} <= {"mul", "constant", "broadcast"}


def test_locations_come_from_the_forward_op() -> None:
    b = Builder()
    x = b.param(VECTOR)
    with b.at(Loc("train.py", 7), "Sin"):
        y = b.sin(x)
    before = len(b.instrs)
    gradients(b, [y], [x])
    made = [i for i in b.instrs[before:] if i.op.name == "cos"]
    assert [(str(i.loc), i.source) for i in made] == [("train.py:7", "Sin")]


def test_an_op_without_a_gradient_is_named() -> None:
    b = Builder()
    x, i = b.param(VECTOR), b.param(tensor("i32", 2, 1))
    with b.at(Loc("train.py", 9), "ScatterMul"):
        y = b.scatter(b.const(1, x), i, b.slice(x, starts=(0,), limits=(2,), strides=(1,)),
                      op="mul")
    with pytest.raises(IRError, match=r"ScatterMul: scatter by mul .*train\.py:9"):
        gradients(b, [y], [x])


def test_long_chains_do_not_recurse_and_take_linear_time() -> None:
    def seconds(n: int) -> float:
        b = Builder()
        y = x = b.param(VECTOR)
        for _ in range(n):
            y = b.sin(y)
        start = time.perf_counter()
        (g,) = gradients(b, [y], [x])
        assert g is not None
        assert len(b.instrs) < 4 * n + 10
        return time.perf_counter() - start

    short, long = seconds(5_000), seconds(50_000)
    assert long < 60 * max(short, 0.02)


def test_function_gradient() -> None:
    b = Builder("f")
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    f = b.finish([power(b, x, w, n), n])
    g = function_gradient(f, [1, 0])
    verifier.verify(g)
    assert [p.type for p in g.params] == [VECTOR, MATRIX, COUNT, VECTOR]
    assert list(g.result_types) == [MATRIX, VECTOR]
    rng = np.random.default_rng(0)
    xv, wv, c = rng.standard_normal(3), rng.standard_normal((3, 3)), rng.standard_normal(3)
    gw, gx = interpreter.run(g, [xv, wv, np.array(2, np.int32), c])
    step = 1e-6
    for i in range(3):
        d = np.eye(3)[i] * step
        slope = c @ (power_reference(xv + d, wv, np.array(2))
                     - power_reference(xv - d, wv, np.array(2))) / (2 * step)
        assert gx[i] == pytest.approx(slope, rel=1e-6)
    assert gw.shape == (3, 3)


def test_function_gradient_refuses_what_has_none() -> None:
    b = Builder("f")
    x, n = b.param(VECTOR), b.param(COUNT)
    f = b.finish([x, n])
    with pytest.raises(ValueError, match=r"parameter 1 of f, i32\[\], has no gradient"):
        function_gradient(f, [1])
    with pytest.raises(ValueError, match="f has no parameter 2"):
        function_gradient(f, [2])


def test_function_gradient_is_zero_where_nothing_depends() -> None:
    b = Builder("f")
    x, y = b.param(VECTOR), b.param(VECTOR)
    g = function_gradient(b.finish([b.sin(x)]), [1])
    assert y is not None
    (got,) = interpreter.run(g, [np.ones(3), np.ones(3), np.ones(3)])
    np.testing.assert_array_equal(got, np.zeros(3))


# ---- loops

def loop_gradient(orders: int, build: Any = power) -> Function:
    """x, w, n → the loop's sum differentiated by x `orders` times."""
    b = Builder()
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    y = total(b, build(b, x, w, n))
    for _ in range(orders):
        (g,) = gradients(b, [y], [x])
        y = total(b, b.mul(g, g)) if g is not None else b.const(0, "f64")
    f = b.finish([y])
    verifier.verify(f)
    return f


@pytest.mark.parametrize("orders", [1, 2, 3])
@pytest.mark.parametrize("build", [power, nested], ids=["one", "nested"])
def test_loop_gradients_read_back(orders: int, build: Any) -> None:
    f = loop_gradient(orders, build)
    text = printer.print_module(Module.of([f]))
    again = parser.parse_module(text)
    verifier.verify(again)
    assert printer.print_module(again) == text
    args = [np.array([0.3, -0.2, 0.5]), np.eye(3) * 0.7, np.array(3, np.int32)]
    want = interpreter.run(f, args)
    np.testing.assert_array_equal(interpreter.run(again.main, args), want)


def test_a_second_gradient_reuses_the_stacks() -> None:
    b = Builder()
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    y = total(b, power(b, x, w, n))
    gradients(b, [y], [x, w])
    (loop,) = (i for i in b.instrs if i.op.name == "while")
    results = loop.results
    (again,) = gradients(b, [y], [x])
    assert loop.results == results
    (got,) = run(b, [again], np.ones(3), np.eye(3), np.array(0, np.int32))
    np.testing.assert_array_equal(got, np.ones(3))


def test_what_nobody_asks_for_is_not_computed() -> None:
    """No accumulator for the weights where only x is asked for; cheap values are not kept."""
    b = Builder()
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    y = total(b, power(b, x, w, n))
    gradients(b, [y], [x])
    (forward,) = (i for i in b.instrs if i.op.name == "while")
    (reverse,) = (i for i in b.instrs if i.op.name == "scan")
    assert [r.type for r in reverse.results] == [VECTOR]
    kept = forward.results[3:]  # after i, x and the trip count
    assert [r.ty.shape[1:] for r in kept] == [(3,)]  # w·x; its tanh is computed again


def test_a_loop_that_keeps_nothing_counts_its_trips() -> None:
    b = Builder()
    x, n = b.param(VECTOR), b.param(COUNT)
    y = counted(b, [x], n, [], lambda b, i, x: [b.add(x, x)])[0]
    (g,) = gradients(b, [y], [x])
    f = b.finish([g])
    verifier.verify(f)
    for trips in (0, 1, 7):
        (got,) = interpreter.run(f, [np.ones(3), np.array(trips, np.int32)])
        np.testing.assert_array_equal(got, np.full(3, 2.0**trips))


def test_gradients_of_two_loops_in_a_row() -> None:
    """Each has its own trip count, with its own symbol."""
    b = Builder()
    x, w, n, m = b.param(VECTOR), b.param(MATRIX), b.param(COUNT), b.param(COUNT)
    y = power(b, power(b, x, w, n), w, m)
    (g,) = gradients(b, [y], [x])
    symbols = {s for i in b.instrs for s, _ in i.op.defines()}
    assert len(symbols) == 2
    rng = np.random.default_rng(1)
    xv, wv = rng.standard_normal(3), rng.standard_normal((3, 3))
    (two,) = run(b, [g], xv, wv, np.array(2, np.int32), np.array(3, np.int32))
    b = Builder()
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    (g,) = gradients(b, [power(b, x, w, n)], [x])
    (one,) = run(b, [g], xv, wv, np.array(5, np.int32))
    np.testing.assert_allclose(two, one, rtol=1e-12)


def test_prints_in_a_loop_happen_once(capfd: pytest.CaptureFixture[str]) -> None:
    def step(b: Builder, i: Value, x: Value, w: Value) -> list[Value]:
        b.print(x, message="round ")
        return [b.mul(x, b.sin(x))]

    b = Builder()
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    outer = counted(b, [x], n, [w], lambda b, i, x, w: [counted(b, [x], i, [w], step)[0]])[0]
    (g,) = gradients(b, [outer], [x])
    run(b, [g], np.ones(3), np.eye(3), np.array(3, np.int32))
    assert capfd.readouterr().err.count("round") == 0 + 1 + 2
