"""Values from nothing: literals, counting, and sizes as data."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op
from ..dims import Dim, Shape
from ..dtypes import DType
from ..kernel import expr as ex
from ..literal import Literal
from ..types import TensorType
from .base import axis_in, concrete, need, primitive
from .cast import convert
from .numeric import quiet


@primitive
class Constant(Op):
    """A literal array. Large ones are data of the artifact, bound to a kernel's input."""

    name = "constant"
    value: Literal

    def infer(self) -> TensorType:
        return self.value.type

    def eval(self) -> Any:
        return self.value.array

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[()]:
        return ()

    def lower(self, k: Any) -> Any:
        splat = self.value.splat
        if splat is None:
            raise NotImplementedError("a constant that is not a splat is bound as data")
        return k.compute(self.infer(), lambda *i: ex.const(splat, self.value.dtype), "c")


@primitive
class Iota(Op):
    """The index along `axis`, as numbers of `dtype`: result[…, i, …] = i (cast from i64)."""

    name = "iota"
    dtype: DType
    shape: Shape
    axis: int

    def infer(self) -> TensorType:
        out = TensorType(self.dtype, self.shape)
        need(out, "fiu", "result")
        axis_in(self.axis, len(self.shape))
        return out

    @quiet
    def eval(self) -> Any:
        shape = concrete(self.shape)
        line = convert(np.arange(shape[self.axis], dtype=np.int64), self.dtype)
        beside = [-1 if a == self.axis else 1 for a in range(len(shape))]
        return np.broadcast_to(line.reshape(beside), shape)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[()]:
        return ()

    def lower(self, k: Any) -> Any:
        return k.compute(self.infer(), lambda *i: ex.cast(i[self.axis], self.dtype))


@primitive
class DimSize(Op):
    """A dimension as a scalar of `dtype` (cast from i64): the size of a symbolic axis as data."""

    name = "dim_size"
    dim: Dim
    dtype: DType

    def infer(self) -> TensorType:
        out = TensorType(self.dtype, ())
        need(out, "fiu", "result")
        return out

    @quiet
    def eval(self) -> Any:
        (size,) = concrete((self.dim,))
        return convert(np.asarray(size, np.int64), self.dtype)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[()]:
        return ()

    def lower(self, k: Any) -> Any:
        return k.compute(self.infer(), lambda: ex.cast(ex.index(self.dim), self.dtype))
