"""`flowc.grad` and `flowc.value_and_grad`, against closed forms and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc
from flowc.compiler import stored

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """These tests are of compiled code."""


def numeric(f: Callable[[Any], float], x: Any, eps: float = 1e-6) -> Any:
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        out[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return out


def loss(params: dict[str, Any], x: Any, y: Any) -> Any:
    h = flowc.tanh(x @ params["w"] + params["b"])
    return flowc.reduce_mean((flowc.reduce_sum(h, axis=1) - y) ** 2)


def loss_reference(w: Any, b: Any, x: Any, y: Any) -> float:
    return float(np.mean((np.tanh(x @ w + b).sum(1) - y) ** 2))


def test_gradients_of_a_tree() -> None:
    w, b = RNG.standard_normal((4, 3)), RNG.standard_normal(3)
    x, y = RNG.standard_normal((6, 4)), RNG.standard_normal(6)
    f = flowc.value_and_grad(loss)
    value, g = f({"w": w, "b": b}, x, y)
    np.testing.assert_allclose(value, loss_reference(w, b, x, y))
    want = numeric(lambda v: loss_reference(v, b, x, y), w)
    np.testing.assert_allclose(g["w"], want, rtol=1e-5, atol=1e-8)
    want = numeric(lambda v: loss_reference(w, v, x, y), b)
    np.testing.assert_allclose(g["b"], want, rtol=1e-5, atol=1e-8)
    before = stored.compiles
    value, g = f({"w": w, "b": b}, x[:2], y[:2])
    np.testing.assert_allclose(value, loss_reference(w, b, x[:2], y[:2]))
    assert stored.compiles == before


def test_several_arguments() -> None:
    product = lambda a, b: flowc.reduce_sum(a * a * b)  # noqa: E731
    f = flowc.grad(product, argnums=(0, 1))
    a, b = RNG.standard_normal(5), RNG.standard_normal(5)
    ga, gb = f(a, b)
    np.testing.assert_allclose(ga, 2 * a * b)
    np.testing.assert_allclose(gb, a * a)
    np.testing.assert_allclose(flowc.grad(product, -1)(a, b), a * a)


def test_higher_orders() -> None:
    f = lambda x: flowc.sin(x) * x  # noqa: E731
    for x in (0.3, 1.7):
        assert flowc.grad(f)(x) == pytest.approx(np.cos(x) * x + np.sin(x))
        second = 2 * np.cos(x) - np.sin(x) * x
        assert flowc.grad(flowc.grad(f))(x) == pytest.approx(second)
        third = -3 * np.sin(x) - np.cos(x) * x
        assert flowc.grad(flowc.grad(flowc.grad(f)))(x) == pytest.approx(third)


def test_gradients_of_gradients_in_a_function() -> None:
    """A Hessian times a vector, and a penalty on a gradient."""
    x, v = RNG.standard_normal(4), RNG.standard_normal(4)

    def energy(x: Any) -> Any:
        return flowc.reduce_sum(x**4) + flowc.reduce_sum(x) ** 2

    @flowc.function
    def product(x: Any, v: Any) -> Any:
        return flowc.grad(lambda x: flowc.reduce_sum(flowc.grad(energy)(x) * v))(x)

    np.testing.assert_allclose(product(x, v), 12 * x**2 * v + 2 * v.sum())


def test_only_this_use_of_an_argument_counts() -> None:
    f = flowc.function(lambda x: flowc.grad(lambda z: flowc.reduce_sum(z * x))(x))
    x = RNG.standard_normal(3)
    np.testing.assert_allclose(f(x), x)


def test_functions_compose() -> None:
    square = flowc.function(lambda x: flowc.reduce_sum(x * x))
    x = np.float32([1, 2])
    assert flowc.grad(square)(x).tolist() == [2, 4]
    step = flowc.function(lambda x: x - 0.25 * flowc.grad(square)(x))
    assert step(x).tolist() == [0.5, 1]
    assert step(x).dtype == np.float32


def test_static_arguments_stay_static() -> None:
    f = flowc.function(lambda x, n: flowc.reduce_sum(x**n), static_argnums=1)
    np.testing.assert_allclose(flowc.grad(f)(np.float64([2, 3]), 3), [12, 27])


def test_promises_about_sizes_stay() -> None:
    f = flowc.function(lambda x: sum(x[i] ** 2 for i in range(x.shape[0])), shapes=flowc.static)
    np.testing.assert_allclose(flowc.grad(f)(np.float64([2, 3])), [4, 6])


def test_has_aux() -> None:
    f = lambda x: (flowc.reduce_sum(x * x), {"double": x * 2})  # noqa: E731
    x = np.float64([1, 2])
    (value, aux), g = flowc.value_and_grad(f, has_aux=True)(x)
    assert value == 5
    assert aux["double"].tolist() == [2, 4]
    assert g.tolist() == [2, 4]
    g, aux = flowc.grad(f, has_aux=True)(x)
    assert g.tolist() == [2, 4]


def test_what_does_not_matter_has_gradient_zero() -> None:
    f = flowc.grad(lambda p: flowc.reduce_sum(p["a"]))
    g = f({"a": np.ones(2), "b": np.ones((3, 1))})
    assert g["b"].tolist() == [[0], [0], [0]]


def test_through_control_flow() -> None:
    def f(x: Any) -> Any:
        y = flowc.cond(x > 0, lambda: x * x, lambda: -x)
        _, z = flowc.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z * x), (0, y))
        return z

    g = flowc.grad(f)
    assert g(np.float64(2)) == pytest.approx(5 * 2**4)
    assert g(np.float64(-2)) == pytest.approx(-4 * (-2.0) ** 3)


def test_through_a_recurrence() -> None:
    @flowc.function
    def last(x: Any, w: Any) -> Any:
        def step(t: Any, h: Any) -> Any:
            return t + 1, flowc.tanh(h @ w + x[t])

        start = flowc.zeros_like(x[0])
        return flowc.while_loop(lambda t, h: t < x.shape[0], step, (0, start))[1]

    def reference(x: Any, w: Any) -> float:
        h = np.zeros_like(x[0])
        for row in x:
            h = np.tanh(h @ w + row)
        return float(h.sum())

    w = RNG.standard_normal((3, 3))
    g = flowc.grad(lambda w, x: flowc.reduce_sum(last(x, w)))
    for steps in (1, 4):
        x = RNG.standard_normal((steps, 2, 3))
        want = numeric(lambda v, x=x: reference(x, v), w)  # type: ignore[misc]
        np.testing.assert_allclose(g(w, x), want, rtol=1e-5, atol=1e-8)


def test_errors_name_the_line() -> None:
    x = np.ones(3)
    with pytest.raises(TypeError, match=r"float scalar.*test_function_grad\.py:.*reduce_sum"):
        flowc.grad(lambda x: x * 2)(x)
    with pytest.raises(TypeError, match="argument 0 of <lambda> is int64; derivatives"):
        flowc.grad(lambda x: flowc.reduce_sum(x))(np.arange(3))
    with pytest.raises(TypeError, match="no positional argument 2"):
        flowc.grad(lambda x: x, argnums=2)(x)
    with pytest.raises(TypeError, match="returned a list"):
        flowc.grad(lambda x: [x])(x)
