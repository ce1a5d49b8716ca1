"""What goes wrong in traced functions, and which line it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc


def line_of(error: Any) -> bool:
    return "test_function_errors.py:" in str(error.value)


def test_branching_on_an_array() -> None:
    def f(x: Any) -> Any:
        return x if x > 0 else -x

    with pytest.raises(TypeError, match=r"flowc\.cond") as e:
        flowc.function(f)(np.float32(1))
    assert line_of(e)


def test_iterating_over_a_free_size() -> None:
    with pytest.raises(TypeError, match=r"while_loop.*shapes=") as e:
        flowc.function(lambda x: list(x))(np.ones(3))
    assert line_of(e)
    with pytest.raises(TypeError, match="index") as e:
        flowc.function(lambda x: list(range(x.shape[0])))(np.ones(3))
    assert line_of(e)


@pytest.mark.parametrize("convert", [float, int, complex, np.exp, np.asarray, np.sum])
def test_taking_a_value_from_a_trace(convert: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        flowc.function(lambda x: convert(x))(np.float64(1))


def test_shapes_that_do_not_fit_name_the_line() -> None:
    f = flowc.function(lambda x, y: x @ y)
    with pytest.raises(flowc.errors.InvalidArgumentError, match="Dimensions must be equal") as e:
        f(np.ones((2, 3)), np.ones((4, 5)))
    assert line_of(e)
    g = flowc.function(lambda x: flowc.reshape(x, [3, 3]), shapes=flowc.static)
    with pytest.raises((ValueError, flowc.errors.InvalidArgumentError)) as e:
        g(np.ones((2, 3)))
    assert line_of(e)


def test_arguments_that_are_no_arrays() -> None:
    f = flowc.function(lambda x: x)
    with pytest.raises(TypeError, match="argument x of <lambda> is a str"):
        f("text")
    with pytest.raises(TypeError, match="argument x of <lambda> has dtype object"):
        f(np.array([object()]))
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        f()
    with pytest.raises(TypeError, match="too many positional"):
        f(1, 2)


def test_arrays_are_not_changed_in_place() -> None:
    def f(x: Any) -> Any:
        x[0] = 1

    with pytest.raises(TypeError, match="changed in place") as e:
        flowc.function(f)(np.ones(2))
    assert line_of(e)


def test_a_parameter_called_out() -> None:
    with pytest.raises(ValueError, match="parameter out"):
        flowc.function(lambda x, out: x)


def test_results_that_are_no_arrays() -> None:
    with pytest.raises(TypeError, match="returned a str"):
        flowc.function(lambda x: "text")(1.0)


def test_an_array_does_not_outlive_its_trace() -> None:
    kept = []
    flowc.function(lambda x: kept.append(x) or x)(1.0)  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="outlive a trace"):
        flowc.function(lambda x: x + kept[0])(1.0)


def test_errors_of_a_run_name_the_line() -> None:
    f = flowc.function(lambda x, y: x // y)
    assert f(np.int32([7, -7]), np.int32([2, 2])).tolist() == [3, -4]
    with pytest.raises(flowc.errors.InvalidArgumentError) as e:
        f(np.int32([7, -7]), np.int32([2, 0]))
    assert line_of(e)


def test_a_function_that_raises_can_be_called_again() -> None:
    def f(x: Any) -> Any:
        if x.ndim == 2:
            raise RuntimeError("not for matrices")
        return x

    g = flowc.function(f)
    with pytest.raises(RuntimeError, match="not for matrices"):
        g(np.ones((2, 2)))
    assert g(np.ones(2)).tolist() == [1, 1]
    assert not flowc.get_default_graph().array_api


def test_variables_are_refused() -> None:
    def f(x: Any) -> Any:
        return x + flowc.Variable(np.ones(2), name="v")

    with pytest.raises(flowc.errors.InvalidArgumentError, match=r"f uses the variable .*sessions"):
        flowc.function(f)(np.ones(2))
