"""Picking elements by index or condition: gather, where, top_k, sort."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir.core import Value

from .. import dtypes as dt
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, need, scope, shape_tensor, static_ints
from .shape import same_type

_I32 = dt.int32.element


def gather(
    params: Like,
    indices: Like,
    validate_indices: Any = None,
    name: str | None = None,
    axis: Any = 0,
    batch_dims: int = 0,
) -> Tensor:
    """Slices of params along an axis, at indices; an index out of range is an error of the run."""
    with scope(name, "Gather") as s:
        p, i = convert(params, name="params"), convert(indices, name="indices")
        need(i, "iu", "indices")
        where = (static_ints(axis) or [0])[0] if axis is not None else batch_dims
        return apply("GatherV2", [p, i], p.dtype, s, axis=where, batch=batch_dims)


@expander("GatherV2")
def _gather(x: Expansion, node: Operation, p: Value, i: Value) -> Any:
    b, batch = x.b, node.attrs["batch"]
    axis, n = x.axis(node.attrs["axis"], p.ty.rank), i.ty.rank
    before = tuple(range(batch, axis))
    if before:
        order = (*range(batch), axis, *before, *range(axis + 1, p.ty.rank))
        p = b.transpose(p, perm=order)
    at = b.reshape(i, shape=(*i.ty.shape, 1))
    out = b.gather(p, at, batch=batch, bounds="check")
    if not before:
        return out
    count = n - batch  # axes that the indices brought
    lead, moved = list(range(batch)), list(range(batch + count, batch + count + len(before)))
    rest = range(batch + count + len(before), out.ty.rank)
    return b.transpose(out, perm=(*lead, *moved, *range(batch, batch + count), *rest))


def gather_nd(params: Like, indices: Like, name: str | None = None) -> Tensor:
    """Slices of params at positions: the last axis of indices holds the coordinates."""
    with scope(name, "GatherNd") as s:
        p, i = convert(params, name="params"), convert(indices, name="indices")
        return apply("GatherNd", [p, i], p.dtype, s)


@expander("GatherNd")
def _gather_nd(x: Expansion, node: Operation, p: Value, i: Value) -> Any:
    return x.b.gather(p, i, batch=0, bounds="check")


def scatter_nd(indices: Like, updates: Like, shape: Any, name: str | None = None) -> Tensor:
    """Zeros of a shape with updates added at positions."""
    with scope(name, "ScatterNd") as s:
        i, u = convert(indices, name="indices"), convert(updates, name="updates")
        return apply("ScatterNd", [i, u, shape_tensor(shape)], u.dtype, s)


@expander("ScatterNd")
def _scatter_nd(x: Expansion, node: Operation, i: Value, u: Value, shape: Value) -> Any:
    zero = x.b.broadcast_to(x.b.const(0, u.ty.dtype), x.sizes(shape))
    return x.b.scatter(zero, i, u, op="add", batch=0, bounds="check")


def unsorted_segment_sum(
    data: Like, segment_ids: Like, num_segments: Any, name: str | None = None
) -> Tensor:
    """Sums of the rows that have the same segment id."""
    with scope(name, "UnsortedSegmentSum") as s:
        d, i = convert(data, name="data"), convert(segment_ids, name="segment_ids")
        return apply("SegmentSum", [d, i, convert(num_segments)], d.dtype, s)


@expander("SegmentSum")
def _segment_sum(x: Expansion, node: Operation, d: Value, i: Value, n: Value) -> Any:
    shape = (x.sizes(n)[0], *d.ty.shape[i.ty.rank :])
    zero = x.b.broadcast_to(x.b.const(0, d.ty.dtype), shape)
    at = x.b.reshape(i, shape=(*i.ty.shape, 1))
    return x.b.scatter(zero, at, d, op="add", batch=0, bounds="drop")


# ---- Conditions.


def where(condition: Like, x: Like = None, y: Like = None, name: str | None = None) -> Tensor:
    """x where the condition is true, else y; a vector condition chooses rows.

    Without x and y: the indices of the true elements, int64[n, rank].
    """
    if x is None and y is None:
        with scope(name, "Where") as s:
            return apply("Where", [convert(condition, name="condition")], dt.int64, s)
    if x is None or y is None:
        raise ValueError("x and y must both be non-None or both be None.")
    with scope(name, "Select") as s:
        c = convert(condition, name="condition")
        need(c, "b", "condition")
        a, b = same_type([x, y], "Select")
        return apply("Select", [c, a, b], a.dtype, s)


select = where


@expander("Select")
def _select(x: Expansion, node: Operation, c: Value, a: Value, b: Value) -> Any:
    if c.ty.rank == 1 and a.ty.rank > 1 and a.ty.rank == b.ty.rank:
        a, b = x.broadcast(a, b)
        size = x.agree(c.ty.shape[0], a.ty.shape[0], "where: the condition chooses rows")
        c = x.conform(c, (size,))
        c = x.b.broadcast(c, shape=(size, *a.ty.shape[1:]), dims=(0,))
        a, b = (x.conform(v, (size, *a.ty.shape[1:])) for v in (a, b))
        return x.b.select(c, a, b)
    c, a, b = x.broadcast(c, a, b)
    return x.b.select(c, a, b)


@expander("Where", differentiable=False)
def _where(x: Expansion, node: Operation, c: Value) -> Any:
    found, _ = x.b.nonzero(c, symbol=str(x.b.fresh_symbol("N")))
    return found


# ---- Order.

_SELECTED = 64  # of a row: with more, sorting it is the safer way (insertion may move them all)


def top_k(
    input: Like, k: Any = 1, sorted: bool = True, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The k greatest elements of the last axis, in order, and their indices."""
    with scope(name, "TopKV2") as s:
        t = convert(input, name="input")
        need(t, "fiu", "input")
        known = static_ints(k)
        if known is None:
            raise ValueError("the k of top_k must be constant")
        count = known[0]
        op = get_default_graph().create_op("TopKV2", [t], [t.dtype, dt.int32], s, k=count)
        return TopK(*op.outputs)


class TopK(tuple[Tensor, Tensor]):
    """(values, indices), by name too."""

    __slots__ = ()

    def __new__(cls, values: Tensor, indices: Tensor) -> TopK:
        return super().__new__(cls, (values, indices))

    @property
    def values(self) -> Tensor:
        return self[0]

    @property
    def indices(self) -> Tensor:
        return self[1]


@expander("TopKV2")
def _top_k(x: Expansion, node: Operation, a: Value) -> Any:
    b, k, axis = x.b, node.attrs["k"], a.ty.rank - 1
    x.at_least(a.ty.shape[axis], k, f"input must have at least k={k} columns, got {a.type}")
    index = b.iota(dtype=_I32, shape=a.ty.shape, axis=axis)
    if 0 < k <= _SELECTED:
        return b.sort(a, index, axis=axis, descending=True, limit=k)
    ordered = b.sort(a, index, axis=axis, descending=True)
    return tuple(_first(x, v, axis, k) for v in ordered)


def _first(x: Expansion, v: Value, axis: int, k: int) -> Value:
    limits = tuple(k if i == axis else d for i, d in enumerate(v.ty.shape))
    zero, one = (0,) * v.ty.rank, (1,) * v.ty.rank
    return x.b.slice(v, starts=zero, limits=limits, strides=one)  # type: ignore[no-any-return]


def sort(
    values: Like, axis: int = -1, direction: str = "ASCENDING", name: str | None = None
) -> Tensor:
    """The elements along an axis in order."""
    with scope(name, "sort") as s:
        t = convert(values, name="values")
        return apply("Sort", [t], t.dtype, s, axis=axis, down=_down(direction))


def argsort(
    values: Like,
    axis: int = -1,
    direction: str = "ASCENDING",
    stable: bool = False,
    name: str | None = None,
) -> Tensor:
    """The indices that put the elements along an axis in order."""
    with scope(name, "argsort") as s:
        t = convert(values, name="values")
        return apply("ArgSort", [t], dt.int32, s, axis=axis, down=_down(direction))


def _down(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"Unknown direction {direction!r}")
    return direction == "DESCENDING"


@expander("Sort")
def _sort(x: Expansion, node: Operation, a: Value) -> Any:
    axis = x.axis(node.attrs["axis"], a.ty.rank)
    return x.b.sort(a, axis=axis, descending=node.attrs["down"])[0]


@expander("ArgSort", differentiable=False)
def _argsort(x: Expansion, node: Operation, a: Value) -> Any:
    axis = x.axis(node.attrs["axis"], a.ty.rank)
    index = x.b.iota(dtype=_I32, shape=a.ty.shape, axis=axis)
    return x.b.sort(a, index, axis=axis, descending=node.attrs["down"])[1]


def reverse_sequence(
    input: Like,
    seq_lengths: Like,
    seq_axis: Any = None,
    batch_axis: Any = None,
    name: str | None = None,
    seq_dim: Any = None,
    batch_dim: Any = None,
) -> Tensor:
    """The first seq_lengths[i] elements of each row in reverse."""
    seq = seq_axis if seq_axis is not None else seq_dim
    batch = batch_axis if batch_axis is not None else batch_dim or 0
    with scope(name, "ReverseSequence") as s:
        t, n = convert(input, name="input"), convert(seq_lengths, name="seq_lengths")
        return apply("ReverseSequence", [t, n], t.dtype, s, seq=int(seq), batch=int(batch))


@expander("ReverseSequence")
def _reverse_sequence(x: Expansion, node: Operation, a: Value, n: Value) -> Any:
    b, rank = x.b, a.ty.rank
    seq, batch = x.axis(node.attrs["seq"], rank), x.axis(node.attrs["batch"], rank)
    order = (batch, seq, *(i for i in range(rank) if i not in (batch, seq)))
    moved = b.transpose(a, perm=order)
    rows = x.agree(moved.ty.shape[0], n.ty.shape[0], f"lengths {n.type} for the rows of {a.type}")
    moved, n = x.conform(moved, (rows, *moved.ty.shape[1:])), x.conform(n, (rows,))
    shape = moved.ty.shape[:2]
    length = b.broadcast(b.cast(n, dtype=_I32), shape=shape, dims=(0,))
    index = b.iota(dtype=_I32, shape=shape, axis=1)
    mirrored = b.sub(b.sub(length, b.const(1, length)), index)
    at = b.select(b.compare(index, length, op="lt"), mirrored, index)
    out = b.gather(moved, b.reshape(at, shape=(*shape, 1)), batch=1, bounds="clamp")
    return b.transpose(out, perm=tuple(np.argsort(order).tolist()))
