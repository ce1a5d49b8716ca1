"""The gradient pass: chains, sharing, what has no gradient, loops, gradients of gradients."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from flowc.compiler.passes.gradient import function_gradient, gradients
from flowc.ir import dims, interpreter, parser, printer, verifier
from flowc.ir.builder import Builder
from flowc.ir.core import Function, IRError, Loc, Module, Value
from flowc.ir.types import TensorType, tensor
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


def test_weights_are_summed_by_one_product_after_the_loop() -> None:
    """No accumulator of the weight's size is carried: the factors are stacked."""
    b = Builder()
    x, w, bias, n = b.param(VECTOR), b.param(MATRIX), b.param(VECTOR), b.param(COUNT)

    def step(b: Builder, i: Value, x: Value, w: Value, bias: Value) -> list[Value]:
        return [b.tanh(b.add(b.dot(x, w, contract=((0,), (0,)), batch=((), ())), bias))]

    y = total(b, counted(b, [x], n, [w, bias], step)[0])
    gw, gb = gradients(b, [y], [w, bias])
    (reverse,) = (i for i in b.instrs if i.op.name == "scan")
    assert reverse.op.carried == 2  # type: ignore[attr-defined]  # towards x; the bias
    rng = np.random.default_rng(1)
    xv, wv, bv = rng.standard_normal(3), rng.standard_normal((3, 3)), rng.standard_normal(3)
    got = run(b, [gw, gb], xv, wv, bv, np.array(4, np.int32))
    want = np.zeros((3, 3)), np.zeros(3)
    xs = [xv]
    for _ in range(4):
        xs.append(np.tanh(xs[-1] @ wv + bv))
    g = np.ones(3)
    for t in reversed(range(4)):
        dz = g * (1 - xs[t + 1] ** 2)
        want = want[0] + np.outer(xs[t], dz), want[1] + dz
        g = wv @ dz
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-12)


def by_slice(b: Builder, table: Value, i: Value) -> Any:
    row = b.dynamic_slice(table, i, b.const(0, i), sizes=(1, 3))
    return b.reshape(row, shape=(3,))


def by_gather(b: Builder, table: Value, i: Value) -> Any:
    row = b.gather(table, b.reshape(i, shape=(1, 1)), bounds="zero")
    return b.reshape(row, shape=(3,))


@pytest.mark.parametrize("read", [by_slice, by_gather])
def test_rows_read_in_a_loop_are_scattered_once(read: Any) -> None:
    """The gradient of a table that a loop reads row by row is not added up in each round."""
    b = Builder()
    table, x, n = b.param(tensor("f64", 4, 3)), b.param(VECTOR), b.param(COUNT)
    y = total(b, counted(b, [x], n, [table],
                         lambda b, i, x, t: [b.mul(x, b.sin(read(b, t, i)))])[0])
    (g,) = gradients(b, [y], [table])
    (reverse,) = (i for i in b.instrs if i.op.name == "scan")
    assert [r.ty.shape for r in reverse.results[:1]] == [(3,)]
    rng = np.random.default_rng(3)
    tv, xv = rng.standard_normal((4, 3)), rng.standard_normal(3)
    f = b.finish([g])
    for rounds in (0, 1, 4):
        (got,) = interpreter.run(f, [tv, xv, np.array(rounds, np.int32)])
        want = np.zeros((4, 3))
        for t in range(rounds):
            others = np.prod([np.sin(tv[u]) for u in range(rounds) if u != t], axis=0)
            want[t] = xv * others * np.cos(tv[t])
        np.testing.assert_allclose(got, want, rtol=1e-12)


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


def test_an_inner_loop_that_keeps_nothing() -> None:
    """The reverse inner loop needs only the number of rounds: the loop that tells it stays."""
    def outer(b: Builder, i: Value, x: Value) -> list[Value]:
        return [counted(b, [x], i, [], lambda b, j, x: [b.add(x, x)])[0]]

    b = Builder()
    x, n = b.param(VECTOR), b.param(COUNT)
    y = counted(b, [x], n, [], outer)[0]
    (g,) = gradients(b, [b.mul(y, y)], [x])
    (h,) = gradients(b, [g], [x])
    f = b.finish([g, h])
    verifier.verify(f)
    for rounds in (0, 1, 4):
        scale = 4.0 ** sum(range(rounds))  # (2^(0+1+…))²
        first, second = interpreter.run(f, [np.full(3, 0.5), np.array(rounds, np.int32)])
        np.testing.assert_array_equal(first, np.full(3, scale))
        np.testing.assert_array_equal(second, np.full(3, 2 * scale))


def test_symbols_of_nested_loops_differ() -> None:
    """No symbol is defined twice, not even in functions side by side: the plan has one of each."""
    b = Builder()
    x, w, n = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    y = total(b, nested(b, x, w, n))
    for _ in range(2):
        (g,) = gradients(b, [y], [x])
        assert g is not None
        y = total(b, b.mul(g, g))

    f = b.finish([y])
    defined = [s for i in f.walk() for s, _ in i.op.defines()]
    assert len(defined) >= 4
    assert len(set(defined)) == len(defined)


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


def known_loop(trips: Any) -> tuple[Builder, Value, Value]:
    """x, and the sum of x ← tanh(w·x) after `trips(b, x)` rounds."""
    b = Builder()
    x, w = b.param(VECTOR), b.param(MATRIX)
    return b, x, total(b, power(b, x, w, trips(b, w)))


@pytest.mark.parametrize(
    ("trips", "want"),
    [
        (lambda b, w: b.const(4, COUNT), 4),
        (lambda b, w: b.const(-4, COUNT), 0),
        (lambda b, w: b.dim_size(dim=w.ty.shape[0], dtype=COUNT.dtype), 3),
        (lambda b, w: b.cast(b.add(b.const(2, "i64"), b.const(3, "i64")), dtype=COUNT.dtype), 5),
        (lambda b, w: b.reshape(b.slice(
            b.concat(b.const([9], "i32"), b.reshape(b.const(2, COUNT), shape=(1,)), axis=0),
            starts=(1,), limits=(2,), strides=(1,)), shape=()), 2),
    ],
)
def test_a_counted_loop_becomes_a_scan(trips: Any, want: int) -> None:
    b, x, y = known_loop(trips)
    (g,) = gradients(b, [y], [x])
    assert [i.op.trip for i in b.instrs if i.op.name == "scan"] == [want, want]  # type: ignore[attr-defined]
    assert not any(i.op.name == "while" for i in b.instrs)
    at, w = np.array([0.3, -0.2, 0.5]), np.eye(3) * 0.7
    (got,) = run(b, [g], at, w)
    (expected,) = _by_while(at, w, want)
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def _by_while(x: Any, w: Any, n: int) -> list[Any]:
    b = Builder()
    xv, wv, nv = b.param(VECTOR), b.param(MATRIX), b.param(COUNT)
    (g,) = gradients(b, [total(b, power(b, xv, wv, nv))], [xv])
    return run(b, [g], x, w, np.array(n, np.int32))


def test_a_loop_over_a_symbolic_size_has_stacks_of_that_size() -> None:
    b = Builder()
    xs, w = b.param(TensorType(VECTOR.dtype, (dims.sym("L"), 3))), b.param(MATRIX)
    x = b.reduce(xs, op="sum", axes=(0,))
    y = total(b, power(b, x, w, b.dim_size(dim=dims.sym("L"), dtype=COUNT.dtype)))
    (g,) = gradients(b, [y], [w])
    assert {str(i.op.trip) for i in b.instrs if i.op.name == "scan"} == {"L"}  # type: ignore[attr-defined]
    f = b.finish([g])
    verifier.verify(f)
    for n in (0, 1, 4):
        (got,) = interpreter.run(f, [np.full((n, 3), 0.1), np.eye(3)])
        assert got.shape == (3, 3)


def test_sizes_that_agree_after_a_loop_was_built() -> None:
    """A symbol that is merged is replaced inside loops too."""
    b = Builder()
    x = b.param(TensorType(VECTOR.dtype, (dims.sym("A"),)))
    z = b.param(TensorType(VECTOR.dtype, (dims.sym("B"),)))
    n = b.param(COUNT)
    y = counted(b, [x], n, [], lambda b, i, x: [b.add(x, b.const(1, x))])[0]
    b.agree(y.ty.shape[0], z.ty.shape[0], "x and z differ")
    (g,) = gradients(b, [b.mul(y, z)], [x])
    (got,) = run(b, [g], np.zeros(2), np.array([3.0, 4.0]), np.array(2, np.int32))
    np.testing.assert_array_equal(got, [3.0, 4.0])


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
