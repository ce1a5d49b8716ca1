"""Identities that mean something to passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..types import TensorType
from .base import primitive


class _Identity(Op):
    def infer(self, x: TensorType) -> TensorType:
        return x

    def eval(self, x: Any) -> Any:
        return np.asarray(x)

    def lower(self, k: Any, x: Any) -> Any:
        return k.elementwise(x.type, lambda a: a, x)


@primitive
class Cut(_Identity):
    """x, at a tensor that may be fed: feeding changes the value and not the chain rule.

    fed: it is; what x is then says nothing of the result.
    """

    name = "cut"
    fed: bool = False

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        return (gs[0],)


@primitive
class StopGradient(_Identity):
    """x, through which no gradient passes."""

    name = "stop_gradient"

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None]:
        return (None,)
