"""Variables, before `functionalize` makes parameters and results of them; and other effects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import Op
from ..dims import Shape
from ..dtypes import DType
from ..types import TensorType
from .base import EvalError, need, primitive

# What `host_call` finds its functions in, by key, in the interpreter.
HOST_FUNCTIONS: dict[str, Callable[..., Any]] = {}


@primitive
class VarRead(Op):
    """The value of variable `var` here, in program order. Evaluated only once functionalized."""

    name = "var_read"
    effects = True
    var: str
    dtype: DType
    shape: Shape

    def infer(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def eval(self) -> Any:
        raise NotImplementedError("a variable is read before `functionalize`")

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[()]:
        return ()


@primitive
class VarWrite(Op):
    """Gives variable `var` a new value, of its type. No result."""

    name = "var_write"
    effects = True
    var: str

    def infer(self, value: TensorType) -> tuple[()]:
        return ()

    def eval(self, value: Any) -> Any:
        raise NotImplementedError("a variable is written before `functionalize`")

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None]:
        return (None,)


@primitive
class Print(Op):
    """Writes a message and the operands (any tensors) to standard error. No result.

    Of each operand at most `summarize` elements are shown, all if it is negative.
    """

    name = "print"
    effects = True
    message: str = ""
    summarize: int = 3

    def infer(self, *xs: TensorType) -> tuple[()]:
        return ()

    def eval(self, *xs: Any) -> tuple[()]:
        print(self.message + "".join(map(self._text, xs)), file=sys.stderr)
        return ()

    def _text(self, x: Any) -> str:
        flat = np.asarray(x).reshape(-1)
        cut = 0 <= self.summarize < flat.size
        shown = flat[: self.summarize] if cut else flat
        return f"[{' '.join(map(str, shown))}{'...' if cut else ''}]"

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None, ...]:
        return (None,) * len(operands)


@primitive
class Assert(Op):
    """Error 4 with `message` unless every element of the bool operand is true. No result.

    Further operands are data for the message.
    """

    name = "assert_"
    effects = True
    message: str = ""

    def infer(self, ok: TensorType, *data: TensorType) -> tuple[()]:
        need(ok, "b", "condition")
        return ()

    def eval(self, ok: Any, *data: Any) -> tuple[()]:
        if not np.all(ok):
            raise EvalError(4, self.message)
        return ()

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None, ...]:
        return (None,) * len(operands)


@primitive
class HostCall(Op):
    """Calls the host's function `key` on the operands; results of `dtypes` and `shapes`.

    The interpreter looks it up in `HOST_FUNCTIONS`. An unknown function, or results of other types,
    are error 7. No gradient.
    """

    name = "host_call"
    effects = True
    key: str
    dtypes: tuple[DType, ...]
    shapes: tuple[Shape, ...]

    def infer(self, *xs: TensorType) -> tuple[TensorType, ...]:
        return tuple(map(TensorType, self.dtypes, self.shapes))

    def eval(self, *xs: Any) -> tuple[Any, ...]:
        fn = HOST_FUNCTIONS.get(self.key)
        if fn is None:
            raise EvalError(7, f"no host function {self.key!r}")
        out = tuple(np.asarray(v) for v in fn(*xs))
        if [(v.dtype, v.shape) for v in out] != [
            (d.np, s) for d, s in zip(self.dtypes, self.shapes, strict=True)
        ]:
            raise EvalError(7, f"host function {self.key!r} returned other types")
        return out

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None, ...]:
        return (None,) * len(operands)
