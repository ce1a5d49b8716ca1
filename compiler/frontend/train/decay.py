"""Learning rates that change with the global step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes as dt
from ..graph import get_default_graph
from ..ops.binary import equal, greater, minimum
from ..ops.convert import convert
from ..ops.selecting import where
from ..ops.state import identity
from ..ops.unary import cast, ceil, cos, exp, floor
from ..tensor import Tensor

Number = Any  # a Python number or a scalar tensor


def _decayed(
    name: str | None, default: str, rate: Number, step: Any,
    formula: Callable[[Tensor, Tensor, Callable[[Number], Tensor]], Any],
) -> Tensor:  # fmt: skip
    """formula(rate, step, as_type) in the rate's type, under the name of the schedule."""
    if step is None:
        raise ValueError("global_step is required for " + _snake(default) + ".")
    with get_default_graph().name_scope(name or default) as scope:
        start = convert(rate, name="learning_rate")

        def as_type(value: Number) -> Tensor:
            return cast(convert(value), start.dtype)

        return identity(formula(start, as_type(step), as_type), name=scope)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def exponential_decay(
    learning_rate: Number,
    global_step: Any,
    decay_steps: Number,
    decay_rate: Number,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate · decay_rate ^ (global_step / decay_steps); staircase: whole powers only."""

    def formula(rate: Tensor, step: Tensor, t: Callable[[Number], Tensor]) -> Any:
        p = step / t(decay_steps)
        return rate * t(decay_rate) ** (floor(p) if staircase else p)

    return _decayed(name, "ExponentialDecay", learning_rate, global_step, formula)


def natural_exp_decay(
    learning_rate: Number,
    global_step: Any,
    decay_steps: Number,
    decay_rate: Number,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate · exp(−decay_rate · global_step / decay_steps)."""

    def formula(rate: Tensor, step: Tensor, t: Callable[[Number], Tensor]) -> Any:
        p = step / t(decay_steps)
        return rate * exp(-t(decay_rate) * (floor(p) if staircase else p))

    return _decayed(name, "NaturalExpDecay", learning_rate, global_step, formula)


def inverse_time_decay(
    learning_rate: Number,
    global_step: Any,
    decay_steps: Number,
    decay_rate: Number,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate / (1 + decay_rate · global_step / decay_steps)."""

    def formula(rate: Tensor, step: Tensor, t: Callable[[Number], Tensor]) -> Any:
        p = step / t(decay_steps)
        return rate / (1.0 + t(decay_rate) * (floor(p) if staircase else p))

    return _decayed(name, "InverseTimeDecay", learning_rate, global_step, formula)


def polynomial_decay(
    learning_rate: Number,
    global_step: Any,
    decay_steps: Number,
    end_learning_rate: Number = 0.0001,
    power: Number = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Tensor:
    """(learning_rate − end) · (1 − step / decay_steps)^power + end, the end's value from then on.

    cycle: decay_steps are instead the first multiple of it that is not below the step.
    """

    def formula(rate: Tensor, step: Tensor, t: Callable[[Number], Tensor]) -> Any:
        steps, end = t(decay_steps), t(end_learning_rate)
        if cycle:
            steps = steps * where(equal(step, 0.0), t(1.0), ceil(step / steps))
        else:
            step = minimum(step, steps)
        return (rate - end) * (1.0 - step / steps) ** t(power) + end

    return _decayed(name, "PolynomialDecay", learning_rate, global_step, formula)


def cosine_decay(
    learning_rate: Number,
    global_step: Any,
    decay_steps: Number,
    alpha: Number = 0.0,
    name: str | None = None,
) -> Tensor:
    """learning_rate · ((1 − alpha) · (1 + cos(π · step / decay_steps)) / 2 + alpha)."""

    def formula(rate: Tensor, step: Tensor, t: Callable[[Number], Tensor]) -> Any:
        steps = t(decay_steps)
        wave = 0.5 * (1.0 + cos(math.pi * (minimum(step, steps) / steps)))
        return rate * ((1.0 - t(alpha)) * wave + t(alpha))

    return _decayed(name, "CosineDecay", learning_rate, global_step, formula)


def piecewise_constant(
    x: Any, boundaries: Sequence[Number], values: Sequence[Number], name: str | None = None
) -> Tensor:
    """values[0] for x ≤ boundaries[0], values[i] for x ≤ boundaries[i], else the last value.

    Raises ValueError for other than one value more than boundaries, or for differing types.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    with get_default_graph().name_scope(name or "PiecewiseConstant") as scope:
        at = convert(x)
        limits = [_boundary(at, b) for b in boundaries]
        levels = [convert(v) for v in values]
        for v in levels[1:]:
            if v.dtype is not levels[0].dtype:
                raise ValueError(
                    "Values must have elements all with the same dtype "
                    f"({levels[0].dtype.name} vs {v.dtype.name})."
                )
        result = levels[-1]
        for limit, level in zip(reversed(limits), reversed(levels[:-1]), strict=True):
            result = where(greater(at, limit), result, level)
        return identity(result, name=scope)


def _boundary(x: Tensor, boundary: Number) -> Tensor:
    b = convert(boundary)
    if b.dtype is dt.int32 and x.dtype is dt.int64:
        return cast(b, dt.int64)
    if b.dtype is not x.dtype:
        raise ValueError(
            f"Boundaries ({b.dtype.name}) must have the same dtype as x ({x.dtype.name})."
        )
    return b


piecewise_constant_decay = piecewise_constant
