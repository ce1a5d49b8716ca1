"""Communication between the parts of a program. Effects: they keep their order on each side.

In the interpreter one process plays all parts: `CHANNELS` holds what was sent and not received.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import numpy as np

from ..core import Op, Value
from ..dims import Shape
from ..dtypes import DType
from ..types import TensorType
from .base import EvalError, concrete, need, primitive

CHANNELS: defaultdict[str, deque[Any]] = defaultdict(deque)

E_HOST = 7  # FLOWC_E_HOST


@primitive
class Send(Op):
    """Sends x to the rank `peer` over `channel`; does not wait for the receiver. No result."""

    name = "send"
    effects = True
    num_results = 0
    channel: str
    peer: int = 0

    def infer(self, x: TensorType) -> tuple[()]:
        return ()

    def eval(self, x: Any) -> tuple[()]:
        CHANNELS[self.channel].append(np.array(x))
        return ()

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None]:
        return (None,)


@primitive
class Recv(Op):
    """The next tensor that the rank `peer` sent over `channel`, of `dtype` and `shape`.

    Waits for it. In the interpreter, where nothing was sent: error 7.
    """

    name = "recv"
    effects = True
    channel: str
    dtype: DType
    shape: Shape
    peer: int = 0

    def infer(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def eval(self) -> Any:
        if not CHANNELS[self.channel]:
            raise EvalError(E_HOST, f"nothing was sent over channel {self.channel!r}")
        x = CHANNELS[self.channel].popleft()
        if x.dtype != self.dtype.np or x.shape != concrete(self.shape):
            raise EvalError(E_HOST, f"channel {self.channel!r} gives {x.dtype}{list(x.shape)}")
        return x

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[()]:
        return ()


@primitive
class AllReduce(Op):
    """x of all ranks of `group` combined by `op`: sum max min; each rank gets the result.

    Ranks combine in rank order, whatever the transport. An empty group is the rank alone, which is
    what the interpreter plays. The gradient of a sum is the sum of the ranks' gradients.
    """

    name = "all_reduce"
    effects = True
    op: str = "sum"
    group: tuple[int, ...] = ()

    def infer(self, x: TensorType) -> TensorType:
        if self.op not in ("sum", "max", "min"):
            raise ValueError(f"ranks combine by sum, max or min, not {self.op!r}")
        need(x, "fiuc" if self.op == "sum" else "fiu")
        return x

    def eval(self, x: Any) -> Any:
        if len(self.group) > 1:
            raise EvalError(E_HOST, "the interpreter is one rank alone")
        return x

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        if self.op != "sum":
            raise NotImplementedError(f"all_reduce by {self.op} has no gradient")
        return (b.all_reduce(gs[0], op="sum", group=self.group),)
