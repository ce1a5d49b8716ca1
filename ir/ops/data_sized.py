"""Results whose size only the data tells: a dimension symbol that the op defines."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim
from ..dtypes import i64
from ..kernel import expr as ex
from ..kernel.form import For, If, Let, Stmt, Store
from ..types import TensorType
from .base import primitive


@primitive
class Nonzero(Op):
    """Where x is not zero (or true): indices i64[N, rank], row-major, and N as an i64 scalar.

    `symbol` names N, which the op defines; its bound is the number of elements of x. NaN is not
    zero. Results that are sized by N occupy buffers sized by the bound. No gradient.
    """

    name = "nonzero"
    symbol: str

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        return TensorType(i64, (dims.sym(self.symbol), x.rank)), TensorType(i64, ())

    def defines(self) -> tuple[tuple[str, int], ...]:
        return ((self.symbol, 1),)

    def bound(self, x: TensorType) -> Dim:
        """The greatest value of the symbol."""
        return x.count

    def eval(self, x: Any) -> tuple[Any, ...]:
        # argwhere of a scalar has one row for true, none for false, as the shape [N, 0] asks
        found = np.argwhere(x).astype(np.int64)
        return found, np.asarray(len(found), np.int64)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None]:
        return (None,)

    def lower(self, k: Any, x: Any) -> tuple[Any, ...]:
        """One serial pass. The first buffer is sized by the bound: its first N rows count."""
        out = k.buffer(TensorType(i64, (self.bound(x.type), x.rank)), "where")
        count = k.buffer(TensorType(i64, ()), "count")

        def body() -> list[Stmt]:
            axes = tuple(ex.var(f"i{j}", d) for j, d in enumerate(x.shape))
            row = ex.let_var("row", ex.INDEX)
            found = [Store(out, (row, ex.index(j)), ex.cast(i, i64)) for j, i in enumerate(axes)]
            value = x[axes]
            test = value if x.dtype.is_bool else ex.compare("ne", value, 0)
            step = Store(count, (), ex.cast(row + 1, i64))
            block: list[Stmt] = [
                If(test, (Let(row, ex.cast(count[()], ex.INDEX)), *found, step))
            ]
            for i, d in zip(reversed(axes), reversed(x.shape), strict=True):
                block = [For(i, ex.index(d), "serial", tuple(block))]
            return [Store(count, (), ex.const(0, i64)), *block]

        k.proc((out, count), (), body)
        return out, count


def unique(b: Any, x: Value) -> tuple[Value, Value, Value]:
    """The distinct elements of x [n], in order of first occurrence, composed of primitives.

    Results: values [N], of each element of x the index of its value (i64[n]), and N (i64 scalar),
    for a fresh symbol N. Every NaN is distinct. Values have the gradient of a gather.
    """
    n = x.ty.shape[0]
    at = b.iota(dtype=i64, shape=(n,), axis=0)
    ordered, origin = b.sort(x, at, axis=0, descending=False, num_keys=1)
    # runs of equal elements; the sort is stable, so a run begins with its first occurrence
    before = b.pad(ordered, b.const(0, x.ty.dtype), lo=(1,), hi=(-1,), interior=(0,))
    begins = getattr(b, "or")(b.compare(ordered, before, op="ne"),
                              b.compare(at, b.const(0, at), op="eq"))
    run = b.cumulative(b.select(begins, at, b.const(0, at)), op="max", axis=0, exclusive=False,
                       reverse=False)
    first = _read(b, origin, run)  # of each sorted element: where its value occurs first
    new = _write(b, b.const(0, at), origin, b.cast(begins, dtype=i64))
    places, count = b.nonzero(new, symbol=str(b.fresh_symbol("N")))
    rank = b.cumulative(new, op="sum", axis=0, exclusive=True, reverse=False)
    index = _write(b, b.const(0, at), origin, _read(b, rank, first))
    return b.gather(x, places, batch=0, bounds="zero"), index, count


def _column(b: Any, index: Value) -> Any:
    return b.reshape(index, shape=(index.ty.shape[0], 1))


def _read(b: Any, x: Value, index: Value) -> Any:
    return b.gather(x, _column(b, index), batch=0, bounds="zero")


def _write(b: Any, x: Value, index: Value, updates: Value) -> Any:
    return b.scatter(x, _column(b, index), updates, op="set", batch=0, bounds="drop")
