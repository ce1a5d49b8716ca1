"""Rules of reductions and matrix products."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from ..rewrite import Replacement, Rewriter, rule

ORDERLESS = ("max", "min", "and", "or")  # any order and any repetition give the same bits


@rule("reduce-nothing", "reduce")
def reduce_nothing(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Over no axes, or over axes of one element. A float sum of −0 alone is +0, so it stays."""
    if not op.axes:
        return x
    if any(x.ty.shape[a] != 1 for a in op.axes) or (op.op == "sum" and not x.ty.dtype.is_int):
        return None
    shape = tuple(d for a, d in enumerate(x.ty.shape) if a not in op.axes)
    return lambda: b.reshape(x, shape=shape)


@rule("reduce-of-reduce", "reduce")
def reduce_of_reduce(b: Rewriter, op: Any, x: Value) -> Replacement:
    """One reduction over all axes, where no order can be told: not of float sums and products."""
    made = b.made(x, "reduce")
    if made is None:
        return None
    inner: Any = made.op
    if inner.op != op.op or not (op.op in ORDERLESS or x.ty.dtype.is_int) or not b.single(x):
        return None
    source = made.operands[0]
    left = [a for a in range(source.ty.rank) if a not in inner.axes]
    axes = tuple(sorted({*inner.axes, *(left[a] for a in op.axes)}))
    return lambda: b.reduce(source, op=op.op, axes=axes)


@rule("reduce-of-broadcast", "reduce")
def reduce_of_broadcast(b: Rewriter, op: Any, x: Value) -> Replacement:
    """The greatest of repeated values is the value, where there is at least one."""
    made = b.made(x, "broadcast")
    if made is None or op.op not in ORDERLESS:
        return None
    inner: Any = made.op
    repeated = [a for a in op.axes if a not in inner.dims]
    if not repeated or not all(isinstance(n := x.ty.shape[a], int) and n > 0 for a in repeated):
        return None
    kept = [a for a in range(x.ty.rank) if a not in op.axes]
    shape = tuple(x.ty.shape[a] for a in kept)
    over = tuple(i for i, a in enumerate(inner.dims) if a in op.axes)
    at = tuple(kept.index(a) for a in inner.dims if a not in op.axes)

    def build() -> Any:
        small = b.reduce(made.operands[0], op=op.op, axes=over)
        return b.broadcast(small, shape=shape, dims=at)

    return build


@rule("reduce-of-transpose", "reduce")
def reduce_of_transpose(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Reduce the axes where they were, if the rest keeps its order; a float sum keeps its, too."""
    made = b.made(x, "transpose")
    if made is None:
        return None
    perm: tuple[int, ...] = made.op.perm  # type: ignore[attr-defined]
    left = [perm[a] for a in range(len(perm)) if a not in op.axes]
    over = [perm[a] for a in op.axes]
    ordered = over == sorted(over) or op.op in ORDERLESS or x.ty.dtype.is_int
    if left != sorted(left) or not ordered:
        return None
    return lambda: b.reduce(made.operands[0], op=op.op, axes=tuple(sorted(over)))


@rule("transpose-into-dot", "dot")
def transpose_into_dot(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """A product says itself which axes it takes; the free ones have to stay in order."""
    for side, v in ((0, x), (1, y)):
        made = b.made(v, "transpose")
        if made is None:
            continue
        perm: tuple[int, ...] = made.op.perm  # type: ignore[attr-defined]
        free = [perm[a] for a in op.free(x.ty.rank, y.ty.rank)[side]]
        if free != sorted(free):
            continue
        contract, batch = list(op.contract), list(op.batch)
        contract[side] = tuple(perm[a] for a in contract[side])
        batch[side] = tuple(perm[a] for a in batch[side])
        pair = [x, y]
        pair[side] = made.operands[0]
        return lambda: b.dot(*pair, contract=tuple(contract), batch=tuple(batch))
    return None


@rule("transpose-of-dot", "transpose")
def transpose_of_dot(b: Rewriter, op: Any, x: Value) -> Replacement:
    """(a·b)ᵀ = bᵀ·aᵀ, of a product that has no other use: the factors change places."""
    made = b.made(x, "dot")
    if made is None or not b.single(x):
        return None
    dot: Any = made.op
    u, v = made.operands
    fu, fv = dot.free(u.ty.rank, v.ty.rank)
    n, m = len(dot.batch[0]), len(fu)
    swapped = (*range(n), *range(n + m, n + m + len(fv)), *range(n, n + m))
    if op.perm != swapped:
        return None
    return lambda: b.dot(v, u, contract=dot.contract[::-1], batch=dot.batch[::-1])


@rule("slice-of-dot", "slice")
def slice_of_dot(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Only those rows and columns of a product are computed that are used."""
    made = b.made(x, "dot")
    if made is None or not b.single(x):
        return None
    d: Any = made.op
    cuts = list(zip(op.starts, op.limits, op.strides, strict=True))
    shared, free = cuts[: len(d.batch[0])], cuts[len(d.batch[0]) :]
    parts: list[list[tuple[Any, Any, Any]]] = []
    for v, summed, batch in zip(made.operands, d.contract, d.batch, strict=True):
        part = [(0, n, 1) for n in v.ty.shape]
        for axis, cut in zip(batch, shared, strict=True):
            part[axis] = cut
        for axis in range(v.ty.rank):
            if axis not in summed and axis not in batch:
                part[axis] = free.pop(0)
        parts.append(part)

    def build() -> Any:
        sides = []
        for v, part in zip(made.operands, parts, strict=True):
            starts, limits, strides = zip(*part, strict=True) if part else ((), (), ())
            whole = part == [(0, n, 1) for n in v.ty.shape]
            sides.append(v if whole else b.slice(
                v, starts=starts, limits=limits, strides=strides))
        return b.dot(*sides, contract=d.contract, batch=d.batch)

    return build
