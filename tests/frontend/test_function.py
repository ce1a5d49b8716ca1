"""`flowc.function`: calls, signatures, sizes, results in given memory, and what goes wrong."""

from __future__ import annotations

import logging
import threading
import timeit
from typing import Any, NamedTuple

import numpy as np
import pytest

import flowc
from flowc.compiler import stored

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """These tests are of compiled code."""


def mlp(params: dict[str, Any], x: Any) -> Any:
    h = flowc.tanh(x @ params["w1"] + params["b1"])
    return h @ params["w2"]


def mlp_params(dtype: Any = np.float32) -> dict[str, Any]:
    sizes = {"w1": (5, 7), "b1": (7,), "w2": (7, 3)}
    return {k: RNG.standard_normal(s).astype(dtype) for k, s in sizes.items()}


def mlp_reference(p: dict[str, Any], x: Any) -> Any:
    w1, b1, w2, x = (np.asarray(v, np.float64) for v in (p["w1"], p["b1"], p["w2"], x))
    return np.tanh(x @ w1 + b1) @ w2


# ---- Calls.


def test_results_are_numpy_arrays() -> None:
    f = flowc.function(lambda x: (x * 2, flowc.reduce_sum(x)))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    double, total = f(x)
    assert type(double) is np.ndarray
    assert double.dtype == np.float32
    np.testing.assert_array_equal(double, x * 2)
    assert type(total) is np.ndarray
    assert total.shape == ()
    assert total == 15
    assert np.from_dlpack(double).shape == (2, 3)


def test_trees_of_arrays() -> None:
    f = flowc.function(mlp)
    params, x = mlp_params(), RNG.standard_normal((4, 5)).astype(np.float32)
    np.testing.assert_allclose(f(params, x), mlp_reference(params, x), rtol=1e-5)
    again = dict(reversed(params.items()))
    before = stored.compiles
    np.testing.assert_allclose(f(again, x=x), mlp_reference(params, x), rtol=1e-5)
    assert stored.compiles == before


class Pair(NamedTuple):
    left: Any
    right: Any


def test_results_are_nested_as_they_are_returned() -> None:
    @flowc.function
    def f(x: Any, pair: Any) -> Any:
        return {"b": [x, None, (pair.left,)], "a": Pair(pair.right, 3), "same": (x, x)}

    one, two = np.float32([1, 2]), np.int64([3])
    got = f(one, Pair(two, one * 5))
    assert list(got) == ["a", "b", "same"]
    assert type(got["a"]) is Pair
    assert got["a"].left.tolist() == [5, 10]
    assert got["a"].right == 3
    assert got["b"][0].tolist() == [1, 2]
    assert got["b"][1] is None
    assert got["b"][2][0].tolist() == [3]
    first, second = got["same"]
    assert not np.may_share_memory(first, second)
    assert not np.may_share_memory(first, one)


def test_arguments_by_name_with_defaults_and_stars() -> None:
    @flowc.function
    def f(x: Any, *rest: Any, scale: float = 2.0, **named: Any) -> Any:
        total = x * scale
        for r in (*rest, *named.values()):
            total = total + r
        return total

    x = np.float64([1, 2])
    assert f(x).tolist() == [2, 4]
    assert f(x, x, x).tolist() == [4, 8]
    assert f(x, scale=3.0, extra=x).tolist() == [4, 8]


def test_functions_of_nothing_and_constants() -> None:
    table = np.arange(3, dtype=np.int16)
    f = flowc.function(lambda: (table, 1.5))
    got = f()
    assert got[0].dtype == np.int16
    assert got[0].tolist() == [0, 1, 2]
    assert got[1] == 1.5


def test_a_function_in_a_function_is_one_program() -> None:
    inner = flowc.function(lambda x: x + 1)
    outer = flowc.function(lambda x: inner(inner(x)) * 2)
    before = stored.compiles
    assert outer(np.float32([1])).tolist() == [6]
    assert stored.compiles == before + 1


def test_arrays_given_in_a_trace_are_constants_of_it() -> None:
    table = np.arange(6.0).reshape(3, 2)
    pick = flowc.function(lambda t, i: t[i] * 2)
    outer = flowc.function(lambda i: pick(table, i))
    for i in (0, 2, -1):
        assert outer(np.int64(i)).tolist() == (table[i] * 2).tolist()


def test_side_effects_happen_once() -> None:
    seen = []

    @flowc.function
    def f(x: Any) -> Any:
        seen.append(x)
        return x

    for _ in range(3):
        f(np.float32([1]))
    assert len(seen) == 1


def test_methods() -> None:
    class Scaler:
        factor = 3

        @flowc.function(static_argnums=0)
        def apply(self, x: Any) -> Any:
            return x * self.factor

    assert Scaler().apply(np.float32([2])).tolist() == [6]


def test_inputs_need_not_be_contiguous_native_or_arrays() -> None:
    f = flowc.function(lambda x: x + 1)
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    for x in (base.T, base[::2, ::-1], base.astype(">f4")):
        np.testing.assert_array_equal(f(x), x + 1)
    raw = np.empty(17, np.uint8)[1:].view(np.float32)
    raw[:] = 5
    assert f(raw).tolist() == [6] * 4
    assert f(np.float32(2)) == 3
    assert f(2.5) == 3.5
    assert f(2).dtype == np.int64


class Producer:
    """What another library's array looks like."""

    def __init__(self, array: Any) -> None:
        self.array, self.exports = array, 0

    def __dlpack__(self, **options: Any) -> Any:
        self.exports += 1
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Convertible:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.float64([4, 5])


def test_dlpack_and_array_protocols() -> None:
    f = flowc.function(lambda x: x * 2)
    source = Producer(np.arange(4, dtype=np.float32))
    assert f(source).tolist() == [0, 2, 4, 6]
    assert source.exports == 1
    assert f(Convertible()).tolist() == [8, 10]

    class Broken(Producer):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("on another device")

    with pytest.raises(flowc.errors.InvalidArgumentError, match="argument x.*another device"):
        f(Broken(np.zeros(2)))


def test_dlpack_inputs_are_not_copied() -> None:
    from flowc.arrays.specs import array_of

    array = np.arange(4, dtype=np.float32)
    assert np.may_share_memory(array_of(Producer(array), "x"), array)


# ---- Sizes.


def test_a_new_batch_size_compiles_nothing() -> None:
    f = flowc.function(mlp)
    params = mlp_params()
    f(params, np.zeros((2, 5), np.float32))
    before = stored.compiles
    for n in (1, 3, 64, 0):
        x = RNG.standard_normal((n, 5)).astype(np.float32)
        want = mlp_reference(params, x)
        np.testing.assert_allclose(f(params, x), want, rtol=1e-5, atol=1e-6)
    assert stored.compiles == before


def test_a_size_of_one_that_broadcasts_is_another_program() -> None:
    f = flowc.function(lambda x, y: x + y)
    column, row = np.ones((4, 1), np.float32), np.ones((4, 6), np.float32)
    before = stored.compiles
    assert f(row, row).shape == (4, 6)
    assert f(column, row).shape == (4, 6)
    assert f(row, column).shape == (4, 6)
    assert stored.compiles == before + 3
    assert f(column[:2], row[:2, :3]).shape == (2, 3)
    assert f(column, column).shape == (4, 1)
    assert stored.compiles == before + 3


def test_sizes_are_numbers_to_compute_with() -> None:
    @flowc.function
    def f(x: Any) -> Any:
        n, m = x.shape
        assert isinstance(m, int) or m.weak
        mean = flowc.reduce_sum(x, axis=0) / n
        return mean, x.reshape(n * m), x.reshape(-1, n), flowc.zeros(x.shape) + n, x.size // 2

    for shape in ((4, 3), (6, 5)):
        x = RNG.standard_normal(shape).astype(np.float32)
        mean, flat, turned, filled, half = f(x)
        assert mean.dtype == np.float32
        np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(flat, x.reshape(-1))
        np.testing.assert_array_equal(turned, x.reshape(-1, shape[0]))
        np.testing.assert_array_equal(filled, np.full(shape, shape[0], np.float32))
        assert half == x.size // 2


def test_promised_sizes_are_ints_in_the_trace() -> None:
    seen = []

    def total(x: Any) -> Any:
        seen.append(tuple(x.shape))
        out = x[0]
        for row in range(1, x.shape[0]):
            out = out + x[row]
        return out

    x = RNG.standard_normal((3, 4))
    for shapes in (flowc.static, {"x": (3, None)}, {0: flowc.static}, [(flowc.static, "N")]):
        f = flowc.function(total, shapes=shapes)
        np.testing.assert_allclose(f(x), x.sum(0))
        assert seen[-1][0] == 3
    assert flowc.function(total, shapes=flowc.static)(x[:2]).shape == (4,)
    with pytest.raises(flowc.errors.InvalidArgumentError, match=r"argument x of total.*\[3, \?\]"):
        flowc.function(total, shapes={"x": (3, None)})(x[:2])
    with pytest.raises(ValueError, match="parameter 'y'; there is x"):
        flowc.function(total, shapes={"y": None})


def test_static_sizes_compile_anew_free_ones_do_not() -> None:
    f = flowc.function(lambda x: x * 2, shapes={"x": (None, flowc.static)})
    before = stored.compiles
    for shape in ((2, 3), (5, 3), (5, 4), (2, 4)):
        assert f(np.ones(shape)).shape == shape
    assert stored.compiles == before + 2


def test_names_in_shapes_are_equal_sizes() -> None:
    f = flowc.function(lambda x, y: (x * 2, y), shapes={"x": ("B", None), "y": ("B",)})
    assert f(np.ones((2, 3)), np.ones(2))[0].shape == (2, 3)
    assert f(np.ones((5, 3)), np.ones(5))[0].shape == (5, 3)
    with pytest.raises(flowc.errors.InvalidArgumentError, match="must be B"):
        f(np.ones((5, 3)), np.ones(4))


def test_a_number_that_is_a_size() -> None:
    f = flowc.function(lambda x, n: flowc.reshape(x, [n, -1]))
    x = np.arange(12.0)
    for n in (2, 3, 2, 4):
        np.testing.assert_array_equal(f(x, n), x.reshape(n, -1))


# ---- Static arguments.


def test_static_arguments_are_python_values() -> None:
    @flowc.function(static_argnums=1, static_argnames="mode")
    def f(x: Any, n: int, mode: str = "add") -> Any:
        for _ in range(n):
            x = x + 1 if mode == "add" else x * 2
        return x

    before = stored.compiles
    one = np.float64([1])
    assert f(one, 3).tolist() == [4]
    assert f(one, 3, mode="mul").tolist() == [8]
    assert f(one, 2).tolist() == [3]
    assert f(one, 3).tolist() == [4]
    assert stored.compiles == before + 3
    g = flowc.function(lambda x, k: x + (1 if k is True else 2), static_argnums=1)
    assert g(one, True) == 2
    assert g(one, 1) == 3
    with pytest.raises(TypeError, match="static argument n of f must be hashable"):
        f(one, [3])
    with pytest.raises(ValueError, match="2 parameters"):
        flowc.function(lambda a, b: a, static_argnums=2)


def test_recompilations_are_logged_with_their_reason(caplog: Any) -> None:
    @flowc.function(static_argnames="k")
    def f(x: Any, y: Any, k: int = 0) -> Any:
        return x + y

    a, b = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with caplog.at_level(logging.INFO, "flowc"):
        f(a, b)
        f(a, b)
        f(a, b.astype(np.float64))
        f(a[:, :1], b.astype(np.float64))
        f(a, b, k=4)
    reasons = [r.getMessage() for r in caplog.records]
    assert len(reasons) == 4
    assert reasons[0] == "compiling f: its first call"
    assert "y is float64[?], was float32[?]" in reasons[1]
    assert "sizes [2, 1], [3] broadcast" in reasons[2]
    assert "k=4" in reasons[3]


# ---- out=.


def test_results_in_given_arrays() -> None:
    f = flowc.function(lambda x: {"sum": x + x, "square": (x * x,)})
    x = np.arange(5, dtype=np.float32)
    out = {"sum": np.empty(5, np.float32), "square": (np.empty(5, np.float32),)}
    assert f(x, out=out) is out
    assert out["sum"].tolist() == [0, 2, 4, 6, 8]
    assert out["square"][0].tolist() == [0, 1, 4, 9, 16]


def test_results_are_computed_in_the_given_array() -> None:
    f = flowc.function(lambda x: x + 1)
    x = np.zeros(100_003, np.float32)
    f(x)
    recycler = f._hot[0][1].compiled.executable.recycler
    memory = np.empty(x.nbytes + 68, np.uint8)[4:-64].view(np.float32)  # as aligned as floats are
    recycler.take = None
    assert f(x, out=memory) is memory
    assert (memory == 1).all()


def test_out_may_be_the_input() -> None:
    f = flowc.function(lambda x: x[::-1] + 1)
    x = np.arange(4, dtype=np.float32)
    f(x, out=x)
    assert x.tolist() == [4, 3, 2, 1]


def test_out_that_does_not_fit() -> None:
    f = flowc.function(lambda x: x + 1)
    x = np.zeros(4, np.float32)
    with pytest.raises(flowc.errors.InvalidArgumentError, match="float64"):
        f(x, out=np.zeros(4))
    with pytest.raises(flowc.errors.InvalidArgumentError, match=r"\[3\]"):
        f(x, out=np.zeros(3, np.float32))
    with pytest.raises(flowc.errors.InvalidArgumentError, match="nested as the results"):
        f(x, out=[np.zeros(4, np.float32)])
    with pytest.raises(TypeError, match="no NumPy array"):
        f(x, out=3)


# ---- Control flow.


def test_cond_and_while_loop() -> None:
    @flowc.function
    def f(x: Any, n: Any) -> Any:
        big = flowc.cond(flowc.reduce_sum(x) > 3, lambda: x * 2, lambda: x - 1)
        _, powers = flowc.while_loop(lambda i, p: i < n, lambda i, p: (i + 1, p * 2), (0, big))
        return powers

    x = np.float32([1, 1])
    assert f(x, np.int32(3)).tolist() == [0, 0]
    assert f(x * 2, np.int32(3)).tolist() == [32, 32]


def test_python_loops_unroll() -> None:
    f = flowc.function(lambda xs: sum(xs))
    assert f([np.float32([1]), np.float32([2]), np.float32([3])]).tolist() == [6]


def test_random_numbers_go_on() -> None:
    f = flowc.function(lambda x: x + flowc.random_uniform([4], seed=3))
    zero = np.zeros(4, np.float32)
    first, second = f(zero), f(zero)
    assert not np.array_equal(first, second)
    assert ((first >= 0) & (first < 1)).all()


# ---- Beside sessions.


def test_on_tensors_of_a_graph_it_is_the_function_itself() -> None:
    f = flowc.function(lambda x: flowc.reduce_sum(x * x))
    with flowc.Graph().as_default():
        x = flowc.placeholder(flowc.float32, [None])
        y = f(x)
        assert f(np.float32([3])) == 9
        with flowc.Session() as session:
            assert session.run(y, {x: [1, 2]}) == 5


def test_a_small_call_costs_little() -> None:
    """About 1 µs on an idle machine; the limit allows for a busy one."""
    f = flowc.function(lambda x, y: x + y)
    x = np.ones(4, np.float32)
    f(x, x)
    best = min(timeit.repeat(lambda: f(x, x), number=200, repeat=50)) / 200
    assert best < 4e-6


# ---- Threads.


def test_many_threads_compile_and_call() -> None:
    f = flowc.function(lambda x, y: x @ y + 1)
    inputs = [np.full((4, 4), i, t) for i in range(4) for t in (np.float32, np.float64)]
    wrong: list[Any] = []

    def work(k: int) -> None:
        for i in range(20):
            x = inputs[(i + k) % len(inputs)]
            if not np.array_equal(f(x, x), x @ x + 1):
                wrong.append(x)

    before = stored.compiles
    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert stored.compiles == before + 2
