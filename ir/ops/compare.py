"""Comparison and choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..dtypes import bool_
from ..kernel import expr as ex
from ..types import TensorType
from .base import need, primitive, same_dtype, same_shape
from .numeric import wide

_EVAL = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
}


@primitive
class Compare(Op):
    """x ∘ y → bool, ∘ one of eq ne lt le gt ge. With a NaN all but `ne` are false; −0 equals 0.

    eq and ne take every element type, the others all but complex (false < true).
    """

    name = "compare"
    op: str

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        if self.op not in _EVAL:
            raise ValueError(f"no comparison {self.op!r}")
        same_dtype(x, y)
        same_shape(x, y)
        need(x, "fiubc" if self.op in ("eq", "ne") else "fiub")
        return TensorType(bool_, x.shape)

    def eval(self, x: Any, y: Any) -> Any:
        return np.asarray(_EVAL[self.op](wide(x), wide(y)))

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None, None]:
        return None, None

    def lower(self, k: Any, x: Any, y: Any) -> Any:
        out = TensorType(bool_, x.shape)
        return k.elementwise(out, lambda a, c: ex.compare(self.op, a, c), x, y)


@primitive
class Select(Op):
    """x where c, else y: a bool and two operands of one shape; x, y and the result of one type."""

    name = "select"

    def infer(self, c: TensorType, x: TensorType, y: TensorType) -> TensorType:
        need(c, "b", "condition")
        same_dtype(x, y)
        same_shape(c, x, y)
        return x

    def eval(self, c: Any, x: Any, y: Any) -> Any:
        return np.where(c, x, y)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (False, True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        c, (g,) = operands[0], gs
        zero = b.const(0, g)
        gx = b.select(c, g, zero) if needed[1] else None
        return None, gx, b.select(c, zero, g) if needed[2] else None

    def lower(self, k: Any, c: Any, x: Any, y: Any) -> Any:
        return k.elementwise(x.type, ex.select, c, x, y)
