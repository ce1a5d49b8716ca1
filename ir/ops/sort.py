"""Sorting along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op, Value
from ..dims import Dim
from ..dtypes import dtype, i32, i64
from ..kernel import expr as ex
from ..kernel.expr import Expr
from ..kernel.form import Alloc, Buffer, For, If, Let, Stmt, Store, While
from ..types import TensorType
from . import radix
from .base import axis_in, drop, need, primitive, same_shape
from .numeric import Array, wide


@primitive
class Sort(Op):
    """The operands reordered together along `axis`, so that the first `num_keys` of them ascend.

    The keys count in order, the first most; equal ones keep their order (stable), descending too.
    NaN comes last in either direction, and −0 equals 0. Any number of operands of one shape and any
    types (keys not complex); the results are a tuple of the same types. A limit other than 0 keeps
    that many elements, the first ones (zeros behind them where there are fewer). The gradient
    carries each element back to where it came from.
    """

    name = "sort"
    axis: int
    descending: bool = False
    num_keys: int = 1
    limit: int = 0

    def infer(self, *xs: TensorType) -> tuple[TensorType, ...]:
        if not 1 <= self.num_keys <= len(xs):
            raise ValueError(f"{self.num_keys} keys among {len(xs)} operands")
        same_shape(*xs)
        axis_in(self.axis, xs[0].rank)
        for x in xs[: self.num_keys]:
            need(x, "fiub", "key")
        if self.limit < 0:
            raise ValueError(f"a limit of {self.limit} elements")
        if not self.limit:
            return xs
        lead, tail = xs[0].shape[: self.axis], xs[0].shape[self.axis + 1 :]
        return tuple(x.with_shape((*lead, self.limit, *tail)) for x in xs)

    def eval(self, *xs: Any) -> Any:
        ranks = [_ranks(key, self.descending) for key in xs[: self.num_keys]]
        order = np.argsort(ranks[-1], axis=self.axis, kind="stable")
        for r in reversed(ranks[:-1]):
            moved = np.take_along_axis(r, order, self.axis)
            again = np.argsort(moved, axis=self.axis, kind="stable")
            order = np.take_along_axis(order, again, self.axis)
        outs = tuple(np.take_along_axis(np.asarray(x), order, self.axis) for x in xs)
        return tuple(_first(x, self.axis, self.limit) for x in outs) if self.limit else outs

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        x = operands[0]
        n = x.ty.shape[self.axis]
        counting = i32 if isinstance(n, int) and n < 2**31 else i64
        place = b.iota(dtype=counting, shape=x.ty.shape, axis=self.axis)
        if self.limit:
            place = b.add(place, b.const(1, place.ty))
        keys = operands[: self.num_keys]
        came = b.sort(
            *keys, place, axis=self.axis, descending=self.descending, num_keys=self.num_keys,
            limit=self.limit,
        )[-1]
        if self.limit:  # places behind a shorter row are −1, which scatter drops
            came = b.sub(came, b.const(1, came.ty))
            zeros = [b.const(0, x.ty) for x in operands]
            return tuple(
                None if g is None else _scattered(b, z, came, g, self.axis)
                for z, g in zip(zeros, gs, strict=True)
            )
        present = [g for g in gs if g is not None]
        back = iter(b.sort(came, *present, axis=self.axis)[1:])
        return tuple(None if g is None else next(back) for g in gs)

    def lower(self, k: Any, *xs: Any) -> Any:
        outs = [k.buffer(t) for t in self.infer(*(x.type for x in xs))]
        rows = drop(xs[0].shape, (self.axis,))
        n = xs[0].shape[self.axis]
        passes = sum(radix.digits(x.dtype) for x in xs[: self.num_keys])
        sort = _select if self.limit else _merge_sort if _short(n, passes) else _radix_sort
        k.proc(outs, rows, lambda *row: sort(self, xs, outs, row))
        return tuple(outs)

    def flops(self, operands: Any, results: Any) -> Any:
        return operands[0].count * 20


def _short(n: Dim, passes: int) -> bool:
    """Whether a row is certainly so short that counting digits costs more than it saves."""
    return isinstance(n, int) and n < 32 * passes


def _radix_sort(op: Sort, xs: Any, outs: list[Buffer], row: tuple[Expr, ...]) -> list[Stmt]:
    axis = op.axis
    return radix.sort_row(
        xs, outs, op.num_keys, op.descending, xs[0].shape[axis],
        lambda j: (*row[:axis], j, *row[axis:]),
    )


def _first(x: Array, axis: int, limit: int) -> Array:
    """The first `limit` elements along an axis, zeros where there are fewer."""
    out = np.zeros((*x.shape[:axis], limit, *x.shape[axis + 1 :]), x.dtype)
    have = min(limit, x.shape[axis])
    np.moveaxis(out, axis, 0)[:have] = np.moveaxis(x, axis, 0)[:have]
    return out


def _scattered(b: Any, x: Value, place: Value, g: Value, axis: int) -> Value:
    """x with the elements of g added at their places along the axis."""
    rank = x.ty.rank
    perm = (*(a for a in range(rank) if a != axis), axis)
    back = tuple(perm.index(a) for a in range(rank))
    x, place, g = (b.transpose(v, perm=perm) for v in (x, place, g))
    place = b.reshape(place, shape=(*place.ty.shape, 1))
    out = b.scatter(x, place, g, op="add", batch=rank - 1, bounds="drop")
    return b.transpose(out, perm=back)  # type: ignore[no-any-return]


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


def _select(op: Sort, xs: Any, outs: list[Buffer], row: tuple[Expr, ...]) -> list[Stmt]:
    """The first `limit` by insertion: an element that comes behind all of them costs a comparison.
    """
    axis, limit = op.axis, ex.index(op.limit)
    n = xs[0].shape[axis]
    have, place = _Counter("have"), _Counter("place")

    def at(j: Expr) -> tuple[Expr, ...]:
        return (*row[:axis], j, *row[axis:])

    j, p = ex.var("j", n), ex.let_var("p", ex.INDEX)
    new = [ex.let_var(f"v{i}", x.dtype) for i, x in enumerate(xs)]
    keys = new[: op.num_keys]
    count = have.get

    def goes_before(q: Expr, exists: Expr) -> Expr:
        """Whether the new element comes before the one at q, where that exists."""
        return exists & _before(keys, [o.at(at(q), exists) for o in outs[: op.num_keys]],
                                op.descending)

    full = count.eq(limit)
    enters = ex.unary("not", full) | goes_before(limit - 1, full)
    above = place.get - 1
    shift: tuple[Stmt, ...] = (
        Let(p, place.get), *(Store(o, at(p), o[at(p - 1)]) for o in outs), place.set(p - 1),
    )
    insert: tuple[Stmt, ...] = (
        place.set(ex.imin(count, limit - 1)), have.set(ex.imin(count + 1, limit)),
        While(goes_before(above, place.get > ex.index(0)), shift),
        *(Store(o, at(place.get), v) for o, v in zip(outs, new, strict=True)),
    )
    read = tuple(Let(v, x[at(j)]) for v, x in zip(new, xs, strict=True))
    z = ex.var("z", op.limit)
    clear = tuple(Store(o, at(z), ex.const(0, o.dtype)) for o in outs)
    body: tuple[Stmt, ...] = (
        For(z, limit, "serial", clear), have.set(ex.index(0)),
        For(j, ex.index(n), "serial", (*read, If(enters, insert))),
    )
    for cell in (have.cell, place.cell):
        body = (Alloc(cell, body),)
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
