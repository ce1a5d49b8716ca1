"""Composites with a gradient of their own, where the composed one is slower or less exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowc.ir.core import Op, Value

Backward = Callable[[Any, Value], tuple[Value | None, ...]]


@dataclass(frozen=True, eq=False)
class WithGradient(Op):
    """The first operand, with a rule for the gradients towards the others.

    It lives only while a function is being built: the finished one has the operand instead.
    """

    name = "with_gradient"
    backward: Backward

    def infer(self, y: Any, *xs: Any) -> Any:
        return y

    def eval(self, y: Any, *xs: Any) -> Any:
        return y

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return (None, *self.backward(b, gs[0]))


def with_gradient(b: Any, y: Value, xs: tuple[Value, ...], backward: Backward) -> Value:
    """y, whose gradients towards xs are `backward(b, gradient of y)`."""
    return b.emit(WithGradient(backward), y, *xs)  # type: ignore[no-any-return]
