"""Sorting along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..dtypes import dtype, i32, i64
from ..kernel import expr as ex
from ..kernel.expr import Expr
from ..kernel.form import Alloc, Buffer, For, If, Let, Stmt, Store, While
from ..types import TensorType
from .base import axis_in, drop, need, primitive, same_shape
from .numeric import Array, wide


@primitive
class Sort(Op):
    """The operands reordered together along `axis`, so that the first `num_keys` of them ascend.

    The keys count in order, the first most; equal ones keep their order (stable), descending too.
    NaN comes last in either direction, and −0 equals 0. Any number of operands of one shape and any
    types (keys not complex); the results are a tuple of the same types. The gradient carries each
    element back to where it came from.
    """

    name = "sort"
    axis: int
    descending: bool = False
    num_keys: int = 1

    def infer(self, *xs: TensorType) -> tuple[TensorType, ...]:
        if not 1 <= self.num_keys <= len(xs):
            raise ValueError(f"{self.num_keys} keys among {len(xs)} operands")
        same_shape(*xs)
        axis_in(self.axis, xs[0].rank)
        for x in xs[: self.num_keys]:
            need(x, "fiub", "key")
        return xs

    def eval(self, *xs: Any) -> Any:
        ranks = [_ranks(key, self.descending) for key in xs[: self.num_keys]]
        order = np.argsort(ranks[-1], axis=self.axis, kind="stable")
        for r in reversed(ranks[:-1]):
            moved = np.take_along_axis(r, order, self.axis)
            again = np.argsort(moved, axis=self.axis, kind="stable")
            order = np.take_along_axis(order, again, self.axis)
        return tuple(np.take_along_axis(np.asarray(x), order, self.axis) for x in xs)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        x = operands[0]
        n = x.ty.shape[self.axis]
        counting = i32 if isinstance(n, int) and n < 2**31 else i64
        place = b.iota(dtype=counting, shape=x.ty.shape, axis=self.axis)
        keys = operands[: self.num_keys]
        came = b.sort(
            *keys, place, axis=self.axis, descending=self.descending, num_keys=self.num_keys
        )[-1]
        present = [g for g in gs if g is not None]
        back = iter(b.sort(came, *present, axis=self.axis)[1:])
        return tuple(None if g is None else next(back) for g in gs)

    def lower(self, k: Any, *xs: Any) -> Any:
        outs = [k.buffer(x.type) for x in xs]
        rows = drop(xs[0].shape, (self.axis,))
        k.proc(outs, rows, lambda *row: _merge_sort(self, xs, outs, row))
        return tuple(outs)

    def flops(self, operands: Any, results: Any) -> Any:
        return operands[0].count * 20


def _ranks(key: Array, descending: bool) -> Array:
    """Integers in the order of the keys: NaN last, −0 as 0."""
    v = wide(np.asarray(key))
    nan = np.isnan(v) if v.dtype.kind == "f" else np.zeros(v.shape, bool)
    values, codes = np.unique(np.where(nan, v.dtype.type(0), v), return_inverse=True)
    codes = codes.reshape(v.shape).astype(np.int64)
    return np.where(nan, len(values) + 1, -codes if descending else codes)


def _before(a: list[Expr], c: list[Expr], descending: bool) -> Expr:
    """Whether the keys a come strictly before the keys c."""
    out: Expr | None = None
    for x, y in zip(reversed(a), reversed(c), strict=True):
        less = ex.compare("gt" if descending else "lt", x, y)
        same = x.eq(y)
        if x.dtype.is_float:
            nx, ny = ex.unary("is_nan", x), ex.unary("is_nan", y)
            less = less | (ny & ex.unary("not", nx))
            same = same | (nx & ny)
        out = less if out is None else less | (same & out)
    assert out is not None
    return out


def _merge_sort(op: Sort, xs: Any, outs: list[Buffer], row: tuple[Expr, ...]) -> list[Stmt]:
    """Bottom-up and stable: runs of width 1, 2, 4 … of the row merge through a copy of it."""
    axis = op.axis
    n = ex.index(xs[0].shape[axis])
    temps = [Buffer(f"m{i}", x.dtype, (xs[0].shape[axis],), "local") for i, x in enumerate(xs)]
    width, low, left, right = (_Counter(name) for name in ("width", "low", "left", "right"))

    def at(j: Expr) -> tuple[Expr, ...]:
        return (*row[:axis], j, *row[axis:])

    def loop(name: str, fill: Any) -> For:
        j = ex.var(name, xs[0].shape[axis])
        return For(j, n, "serial", tuple(fill(j)))

    start = loop("s", lambda j: [Store(o, at(j), x[at(j)]) for o, x in zip(outs, xs, strict=True)])
    back = loop("c", lambda j: [Store(o, at(j), t[j]) for o, t in zip(outs, temps, strict=True)])

    w, lo = ex.let_var("w", ex.INDEX), ex.let_var("lo", ex.INDEX)
    mid, end = ex.let_var("mid", ex.INDEX), ex.let_var("end", ex.INDEX)
    p = ex.var("p")
    i, j = ex.let_var("i", ex.INDEX), ex.let_var("j", ex.INDEX)
    have_left, have_right = i < mid, j < end
    keys_left = [o.at(at(i), have_left) for o in outs[: op.num_keys]]
    keys_right = [o.at(at(j), have_right) for o in outs[: op.num_keys]]
    take = ex.let_var("take", dtype("bool"))
    takes_right = have_right & (
        ex.unary("not", have_left) | _before(keys_right, keys_left, op.descending)
    )

    def emit(source: Expr, counter: _Counter) -> tuple[Stmt, ...]:
        moves = [Store(t, (lo + p,), o[at(source)]) for o, t in zip(outs, temps, strict=True)]
        return (*moves, counter.set(source + 1))

    step: tuple[Stmt, ...] = (
        Let(i, left.get), Let(j, right.get), Let(take, takes_right),
        If(take, emit(j, right), emit(i, left)),
    )
    merge: tuple[Stmt, ...] = (
        Let(lo, low.get), Let(mid, ex.imin(lo + w, n)), Let(end, ex.imin(lo + w + w, n)),
        left.set(lo), right.set(mid),
        For(p, end - lo, "serial", step), low.set(end),
    )
    one_pass: tuple[Stmt, ...] = (
        Let(w, width.get), low.set(ex.index(0)), While(low.get < n, merge), back,
        width.set(w + w),
    )
    body: tuple[Stmt, ...] = (start, width.set(ex.index(1)), While(width.get < n, one_pass))
    for buffer in (*temps, width.cell, low.cell, left.cell, right.cell):
        body = (Alloc(buffer, body),)
    return list(body)


class _Counter:
    """An index variable that changes: a cell of one i64."""

    def __init__(self, name: str) -> None:
        self.cell = Buffer(name, i64, (1,), "register")

    @property
    def get(self) -> Expr:
        return ex.cast(self.cell[ex.index(0)], ex.INDEX)

    def set(self, value: Expr) -> Store:
        return Store(self.cell, (ex.index(0),), ex.cast(value, i64))
