"""Rules of parts of tensors and tensors from parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.dims import Dim

from ..rewrite import Replacement, Rewriter, rule


def minus(a: Dim, b: Dim) -> Dim:
    return dims.add(a, dims.mul(b, -1))


def at_most(a: Dim, b: Dim) -> bool:
    """Whether a ≤ b is certain."""
    return dims.nonnegative(minus(b, a))


@rule("whole-slice", "slice")
def whole_slice(b: Rewriter, op: Any, x: Value) -> Replacement:
    whole = all(s == 0 for s in op.starts) and op.limits == x.ty.shape
    return x if whole and all(s == 1 for s in op.strides) else None


@rule("slice-of-slice", "slice")
def slice_of_slice(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "slice")
    if made is None:
        return None
    inner: Any = made.op
    starts, limits, strides = [], [], []
    for s, e, k, s0, k0 in zip(
        op.starts, op.limits, op.strides, inner.starts, inner.strides, strict=True
    ):
        start = dims.add(s0, dims.mul(s, k0))
        if k0 == 1:
            limit = dims.add(s0, e)
        elif isinstance(s, int) and isinstance(e, int) and e > s:
            limit = dims.add(start, (e - s - 1) * k0 + 1)
        else:
            return None
        starts.append(start)
        limits.append(limit)
        strides.append(k * k0)
    return lambda: b.slice(
        made.operands[0], starts=tuple(starts), limits=tuple(limits), strides=tuple(strides)
    )


@rule("slice-of-pad", "slice")
def slice_of_pad(b: Rewriter, op: Any, x: Value) -> Replacement:
    """A window inside what was padded, or inside the padding of one axis."""
    made = b.made(x, "pad")
    if made is None:
        return None
    pad: Any = made.op
    source, value = made.operands
    starts, limits, inside = [], [], True
    sizes = source.ty.shape
    for s, e, lo, k, d in zip(op.starts, op.limits, pad.lo, pad.interior, sizes, strict=True):
        end = dims.add(lo, d)
        if k == 0 and (at_most(e, lo) or at_most(end, s)):
            t = op.infer(x.ty)
            return lambda: b.broadcast(value, shape=t.shape, dims=())
        inside = inside and k == 0 and at_most(lo, s) and at_most(e, end)
        starts.append(minus(s, lo))
        limits.append(minus(e, lo))
    if not inside:
        return None
    return lambda: b.slice(source, starts=tuple(starts), limits=tuple(limits), strides=op.strides)


@rule("slice-of-concat", "slice")
def slice_of_concat(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Without the parts that lie outside the window."""
    made = b.made(x, "concat")
    if made is None:
        return None
    axis: int = made.op.axis  # type: ignore[attr-defined]
    start, limit = op.starts[axis], op.limits[axis]
    kept: list[Value] = []
    offset: Dim = 0
    first: Dim = 0
    for part in made.operands:
        end = dims.add(offset, part.ty.shape[axis])
        if not kept and at_most(end, start):
            first = end
        elif at_most(limit, offset):
            break
        else:
            kept.append(part)
        offset = end
    if not kept or len(kept) == len(made.operands):
        return None
    starts, limits = list(op.starts), list(op.limits)
    starts[axis], limits[axis] = minus(start, first), minus(limit, first)

    def build() -> Any:
        whole = b.concat(*kept, axis=axis)
        return b.slice(whole, starts=tuple(starts), limits=tuple(limits), strides=op.strides)

    return build


@rule("slice-of-broadcast", "slice")
def slice_of_broadcast(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "broadcast")
    if made is None:
        return None
    at: tuple[int, ...] = made.op.dims  # type: ignore[attr-defined]
    parts = [tuple(v[a] for a in at) for v in (op.starts, op.limits, op.strides)]
    shape = op.infer(x.ty).shape

    def build() -> Any:
        small = made.operands[0]
        if at:
            small = b.slice(small, starts=parts[0], limits=parts[1], strides=parts[2])
        return b.broadcast(small, shape=shape, dims=at)

    return build


@rule("pad-by-nothing", "pad")
def pad_by_nothing(b: Rewriter, op: Any, x: Value, value: Value) -> Replacement:
    quiet = all(
        lo == 0 and hi == 0 and (k == 0 or d == 1)
        for lo, hi, k, d in zip(op.lo, op.hi, op.interior, x.ty.shape, strict=True)
    )
    return x if quiet else None


@rule("pad-of-pad", "pad")
def pad_of_pad(b: Rewriter, op: Any, x: Value, value: Value) -> Replacement:
    """One padding with one value; where neither crops."""
    made = b.made(x, "pad")
    if made is None or any(op.interior):
        return None
    inner: Any = made.op
    same = made.operands[1] is value or _same(b.splat(made.operands[1]), b.splat(value))
    if not same or not all(map(dims.nonnegative, (*op.lo, *op.hi, *inner.lo, *inner.hi))):
        return None
    lo = tuple(map(dims.add, op.lo, inner.lo))
    hi = tuple(map(dims.add, op.hi, inner.hi))
    return lambda: b.pad(made.operands[0], value, lo=lo, hi=hi, interior=inner.interior)


@rule("pad-of-splat", "pad")
def pad_of_splat(b: Rewriter, op: Any, x: Value, value: Value) -> Replacement:
    """Padding with the value that is there already."""
    if not x.ty.rank or not _same(b.splat(x), b.splat(value)):
        return None
    shape = op.infer(x.ty, value.ty).shape
    return lambda: b.broadcast(value, shape=shape, dims=())


def _same(c: Any, d: Any) -> bool:
    """Whether two scalars have the same bits."""
    return c is not None and d is not None and np.asarray(c).tobytes() == np.asarray(d).tobytes()


@rule("concat-of-one", "concat")
def concat_of_one(b: Rewriter, op: Any, *xs: Value) -> Replacement:
    """Parts without elements add nothing."""
    kept = [x for x in xs if x.ty.shape[op.axis] != 0] or list(xs[:1])
    if len(kept) == 1:
        return kept[0]
    return (lambda: b.concat(*kept, axis=op.axis)) if len(kept) < len(xs) else None


@rule("concat-of-concat", "concat")
def concat_of_concat(b: Rewriter, op: Any, *xs: Value) -> Replacement:
    parts: list[Value] = []
    for x in xs:
        made = b.made(x, "concat")
        same = made is not None and made.op.axis == op.axis and b.single(x)  # type: ignore[attr-defined]
        parts.extend(made.operands if made is not None and same else (x,))
    if len(parts) == len(xs) or len(parts) > 256:
        return None
    return lambda: b.concat(*parts, axis=op.axis)


@rule("concat-of-slices", "concat")
def concat_of_slices(b: Rewriter, op: Any, *xs: Value) -> Replacement:
    """Neighbouring slices of one array, put together again."""
    out: list[Value | tuple[Value, Any, Dim]] = []
    for x in xs:
        made = b.made(x, "slice")
        if made is None or made.op.strides[op.axis] != 1:  # type: ignore[attr-defined]
            out.append(x)
            continue
        new: Any = made.op
        last = out[-1] if out else None
        source, limit = made.operands[0], new.limits[op.axis]
        if isinstance(last, tuple) and last[0] is source and _adjoin(*last[1:], new, op.axis):
            out[-1] = (source, last[1], limit)
        else:
            out.append((source, new, limit))
    if len(out) == len(xs):
        return None

    def piece(p: Any) -> Any:
        if isinstance(p, Value):
            return p
        source, s, limit = p
        limits = (*s.limits[: op.axis], limit, *s.limits[op.axis + 1 :])
        return b.slice(source, starts=s.starts, limits=limits, strides=s.strides)

    return lambda: b.concat(*map(piece, out), axis=op.axis)


def _adjoin(s: Any, end: Dim, t: Any, axis: int) -> bool:
    """Whether slice t begins along the axis where slice s, extended to `end`, ends."""
    def beside(v: tuple[Any, ...]) -> tuple[Any, ...]:
        return v[:axis] + v[axis + 1 :]
    return (t.starts[axis] == end and s.strides == t.strides
            and beside(s.starts) == beside(t.starts) and beside(s.limits) == beside(t.limits))


@rule("known-start", "dynamic_slice")
def known_start(b: Rewriter, op: Any, x: Value, *starts: Value) -> Replacement:
    """A window at a known place is a slice; so is one as large as its axis."""
    at = _known(b, x, op.sizes, starts)
    if at is None:
        return None
    limits = tuple(map(dims.add, at, op.sizes))
    return lambda: b.slice(x, starts=at, limits=limits, strides=(1,) * len(at))


@rule("update-all", "dynamic_update_slice")
def update_all(b: Rewriter, op: Any, x: Value, update: Value, *starts: Value) -> Replacement:
    return update if update.ty.shape == x.ty.shape else None


def _known(
    b: Rewriter, x: Value, sizes: tuple[Dim, ...], starts: tuple[Value, ...]
) -> tuple[int, ...] | None:
    """The clamped starts, where they are known."""
    at = []
    for d, n, s in zip(x.ty.shape, sizes, starts, strict=True):
        c = b.splat(s)
        if d == n:
            at.append(0)
        elif c is not None and isinstance(d, int) and isinstance(n, int):
            at.append(min(max(int(c), 0), d - n))
        else:
            return None
    return tuple(at)


@rule("known-indices", "gather")
def known_indices(b: Rewriter, op: Any, x: Value, indices: Value) -> Replacement:
    """Consecutive known positions of one axis are a slice."""
    lit = b.literal(indices)
    if lit is None and b.splat(indices) is not None and indices.ty.count == 1:
        array = np.full((1,), b.splat(indices))
    elif lit is not None and lit.array.size <= 4096:
        array = lit.array.reshape(-1)
    else:
        return None
    if op.batch or indices.ty.shape[-1] != 1 or not array.size:
        return None
    d, first, n = x.ty.shape[0], int(array[0]), int(array.size)
    consecutive = all(int(v) == first + i for i, v in enumerate(array))
    if not consecutive or not isinstance(d, int) or first < 0 or first + n > d:
        return None
    rest = x.ty.shape[1:]
    starts, limits = (first, *(0,) * len(rest)), (first + n, *rest)

    def build() -> Any:
        part = b.slice(x, starts=starts, limits=limits, strides=(1,) * x.ty.rank)
        return b.reshape(part, shape=op.infer(x.ty, indices.ty).shape)

    return build
