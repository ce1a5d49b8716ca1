"""Parts of tensors, and tensors from parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dims as dm
from ..core import Op, Value
from ..dims import Dim, Shape
from ..dtypes import bool_
from ..kernel import expr as ex
from ..types import TensorType, shape_text
from .base import axis_in, concrete, need, primitive, same_dtype


def _negative(d: Dim) -> bool:
    """Whether d < 0 is certain."""
    return dm.nonnegative(dm.add(dm.mul(d, -1), -1))


def _per_axis(x: TensorType, **lists: Sequence[Any]) -> None:
    for name, v in lists.items():
        if len(v) != x.rank:
            raise ValueError(f"{name} {list(v)} are not one an axis of {x}")


def conjunction(terms: Sequence[Any]) -> Any:
    """The `and` of bool expressions; None for no terms."""
    out = None
    for t in terms:
        out = t if out is None else out & t
    return out


def inside(j: Any, extent: Dim) -> list[Any]:
    """The conditions under which 0 ≤ j < extent that are not certain by themselves."""
    low, high = [j >= 0], [j < extent]
    known = ex.bounds(j)
    if known is not None and dm.nonnegative(known[0]):
        low = []
    if known is not None and dm.nonnegative(dm.add(dm.add(extent, -1), dm.mul(known[1], -1))):
        high = []
    return low + high


@primitive
class Slice(Op):
    """x[starts[i] : limits[i] : strides[i]] of each axis; ⌈(limit − start) / stride⌉ elements.

    0 ≤ start ≤ limit ≤ size; strides are ints > 0. Where symbols leave that open, whoever builds
    the op answers for it. A limit less than a stride below the start leaves nothing.
    """

    name = "slice"
    starts: tuple[Dim, ...]
    limits: tuple[Dim, ...]
    strides: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        _per_axis(x, starts=self.starts, limits=self.limits, strides=self.strides)
        shape = []
        for d, lo, hi, s in zip(x.shape, self.starts, self.limits, self.strides, strict=True):
            if not isinstance(s, int) or s < 1:
                raise ValueError(f"stride {s} is not a positive integer")
            n = dm.add(hi, dm.mul(lo, -1))
            if _negative(lo) or _negative(dm.add(n, s - 1)) or _negative(dm.add(d, dm.mul(hi, -1))):
                raise ValueError(f"[{lo}:{hi}] is outside an axis of {d} elements")
            shape.append(n if s == 1 else dm.ceildiv(n, s))
        return x.with_shape(tuple(shape))

    def eval(self, x: Any) -> Any:
        lo = concrete(self.starts)
        hi = tuple(map(max, concrete(self.limits), lo))
        return np.asarray(np.asarray(x)[tuple(map(slice, lo, hi, self.strides))])

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        (x,), (y,), (g,) = operands, results, gs
        spans = [pad_span(n, s - 1) for n, s in zip(y.ty.shape, self.strides, strict=True)]
        used = [dm.add(a, n) for a, n in zip(self.starts, spans, strict=True)]
        rest = tuple(dm.add(d, dm.mul(u, -1)) for d, u in zip(x.ty.shape, used, strict=True))
        interior = tuple(s - 1 for s in self.strides)
        zero = b.const(0, g.ty.dtype)
        return (b.pad(g, zero, lo=self.starts, hi=rest, interior=interior),)

    def lower(self, k: Any, x: Any) -> Any:
        def element(*i: Any) -> Any:
            steps = zip(i, self.starts, self.strides, strict=True)
            return x[tuple(j * s + a for j, a, s in steps)]
        return k.compute(self.infer(x.type), element)


def pad_span(n: Dim, interior: int) -> Dim:
    """The size of n elements with `interior` others between neighbours."""
    if interior == 0:
        return n
    return dm.add(n, dm.mul(dm.maximum(dm.add(n, -1), 0), interior))


@primitive
class Pad(Op):
    """x with `value` (a scalar) around it: lo before, hi after, interior between elements.

    Per axis; lo and hi are dimensions ≥ 0, or negative ints, which crop; interior is an int ≥ 0.
    Cropping takes place after the interior is filled.
    """

    name = "pad"
    lo: tuple[Dim, ...]
    hi: tuple[Dim, ...]
    interior: tuple[int, ...]

    def infer(self, x: TensorType, value: TensorType) -> TensorType:
        _per_axis(x, lo=self.lo, hi=self.hi, interior=self.interior)
        same_dtype(x, value)
        if value.rank:
            raise ValueError(f"the padding value {value} is not a scalar")
        shape = []
        for d, lo, hi, n in zip(x.shape, self.lo, self.hi, self.interior, strict=True):
            size = dm.add(dm.add(lo, hi), pad_span(d, n))
            if n < 0 or _negative(size):
                raise ValueError(f"padding ({lo}, {hi}, {n}) of an axis of {d} elements")
            shape.append(size)
        return x.with_shape(tuple(shape))

    def eval(self, x: Any, value: Any) -> Any:
        lo, hi = concrete(self.lo), concrete(self.hi)
        spans = [int(pad_span(n, k)) for n, k in zip(x.shape, self.interior, strict=True)]  # type: ignore[arg-type]
        before, after = [max(a, 0) for a in lo], [max(a, 0) for a in hi]
        full = np.full([sum(t) for t in zip(before, spans, after, strict=True)], value, x.dtype)
        at = zip(before, spans, self.interior, strict=True)
        full[tuple(slice(a, a + n, k + 1) for a, n, k in at)] = x
        crop = zip(lo, hi, full.shape, strict=True)
        return np.asarray(full[tuple(slice(max(-a, 0), n + min(c, 0)) for a, c, n in crop)])

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        x, (g,) = operands[0], gs
        gx = self._crop(b, g, b.const(0, g.ty.dtype), x.ty.shape) if needed[0] else None
        if not needed[1]:
            return gx, None
        ours = b.pad(
            b.const(True, TensorType(bool_, x.ty.shape)), b.const(False, bool_),
            lo=self.lo, hi=self.hi, interior=self.interior,
        )
        outside = b.select(ours, b.const(0, g), g)
        return gx, b.reduce(outside, op="sum", axes=tuple(range(g.ty.rank)))

    def _crop(self, b: Any, g: Value, zero: Value, shape: Shape) -> Any:
        """g without the padding; what was cropped gets 0."""
        def cut(d: Dim) -> int:
            return max(-d, 0) if isinstance(d, int) else 0

        lo, hi = tuple(map(cut, self.lo)), tuple(map(cut, self.hi))
        if any(lo) or any(hi):
            g = b.pad(g, zero, lo=lo, hi=hi, interior=(0,) * len(shape))
        starts = tuple(dm.add(a, c) for a, c in zip(self.lo, lo, strict=True))
        # for a symbolic size n, step·(n − 1) + 1: ⌈that / step⌉ is n, which max(n − 1, 0) hides
        spans = [
            pad_span(n, k) if isinstance(n, int) else dm.add(dm.mul(n, k + 1), -k)
            for n, k in zip(shape, self.interior, strict=True)
        ]
        limits = tuple(dm.add(a, n) for a, n in zip(starts, spans, strict=True))
        return b.slice(g, starts=starts, limits=limits, strides=tuple(k + 1 for k in self.interior))

    def lower(self, k: Any, x: Any, value: Any) -> Any:
        def element(*i: Any) -> Any:
            at, conditions = [], []
            for j, d, lo, n in zip(i, x.shape, self.lo, self.interior, strict=True):
                j = j - lo
                if n:
                    conditions.append(ex.mod(j, n + 1).eq(0))
                    j = ex.floordiv(j, n + 1)
                conditions += inside(j, d)
                at.append(j)
            pred = conjunction(conditions)
            return x[tuple(at)] if pred is None else ex.select(pred, x.at(at, pred), value[()])
        return k.compute(self.infer(x.type, value.type), element)


@primitive
class Concat(Op):
    """The operands one after the other along `axis`; the other sizes are equal."""

    name = "concat"
    axis: int

    def infer(self, *xs: TensorType) -> TensorType:
        if not xs:
            raise ValueError("nothing to concatenate")
        same_dtype(*xs)
        first = xs[0]
        axis_in(self.axis, first.rank)
        total: Dim = 0
        for x in xs:
            beside = x.shape[: self.axis], x.shape[self.axis + 1 :]
            if beside != (first.shape[: self.axis], first.shape[self.axis + 1 :]):
                raise ValueError(f"shapes differ beside axis {self.axis}: {first}, {x}")
            total = dm.add(total, x.shape[self.axis])
        shape = first.shape
        return first.with_shape((*shape[: self.axis], total, *shape[self.axis + 1 :]))

    def eval(self, *xs: Any) -> Any:
        return np.concatenate(xs, axis=self.axis)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (g,) = gs
        rank = g.ty.rank
        out: list[Value] = []
        at: Dim = 0
        for x in operands:
            end = dm.add(at, x.ty.shape[self.axis])
            starts = tuple(at if a == self.axis else 0 for a in range(rank))
            limits = tuple(end if a == self.axis else g.ty.shape[a] for a in range(rank))
            out.append(b.slice(g, starts=starts, limits=limits, strides=(1,) * rank))
            at = end
        return tuple(out)

    def lower(self, k: Any, *xs: Any) -> Any:
        parts = [x for x in xs if x.shape[self.axis] != 0] or list(xs[:1])
        offsets: list[Dim] = [0]
        for x in parts:
            offsets.append(dm.add(offsets[-1], x.shape[self.axis]))

        def element(*i: Any) -> Any:
            along = i[self.axis]

            def piece(n: int) -> Any:
                j = along - offsets[n]
                pred = conjunction(inside(j, parts[n].shape[self.axis]))
                return parts[n].at((*i[: self.axis], j, *i[self.axis + 1 :]), pred)

            def choose(lo: int, hi: int) -> Any:  # a balanced tree: the depth is logarithmic
                if hi - lo == 1:
                    return piece(lo)
                mid = (lo + hi) // 2
                return ex.select(along < offsets[mid], choose(lo, mid), choose(mid, hi))

            return choose(0, len(parts))

        return k.compute(self.infer(*(x.type for x in xs)), element)


def _starts(x: TensorType, sizes: Shape, starts: tuple[TensorType, ...]) -> None:
    if len(starts) != x.rank or len(sizes) != x.rank:
        raise ValueError(f"{len(starts)} starts and sizes {shape_text(sizes)} for {x}")
    for s in starts:
        need(s, "i", "start")
        if s.rank:
            raise ValueError(f"start {s} is not a scalar")
    for d, n in zip(x.shape, sizes, strict=True):
        if _negative(n) or _negative(dm.add(d, dm.mul(n, -1))):
            raise ValueError(f"a window {shape_text(sizes)} does not fit into {x}")


def _clamped(starts: tuple[Any, ...], shape: Shape, sizes: Shape) -> list[Any]:
    """Start indices as expressions, moved so that the window lies inside."""
    out = []
    for s, d, n in zip(starts, shape, sizes, strict=True):
        room = dm.add(d, dm.mul(n, -1))
        out.append(ex.index(0) if room == 0 else
                   ex.imin(ex.imax(ex.cast(s[()], ex.INDEX), 0), room))
    return out


def _clamp_ints(starts: tuple[Any, ...], shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    at = zip(starts, shape, sizes, strict=True)
    return [min(max(int(s), 0), d - n) for s, d, n in at]


@primitive
class DynamicSlice(Op):
    """The window of `sizes` of x that begins at the starts (one signed scalar an axis).

    Starts are clamped to [0, size − window], so that the window lies inside.
    """

    name = "dynamic_slice"
    sizes: Shape

    def infer(self, x: TensorType, *starts: TensorType) -> TensorType:
        _starts(x, self.sizes, starts)
        return x.with_shape(self.sizes)

    def eval(self, x: Any, *starts: Any) -> Any:
        sizes = concrete(self.sizes)
        at = _clamp_ints(starts, x.shape, sizes)
        return np.asarray(x[tuple(slice(s, s + n) for s, n in zip(at, sizes, strict=True))])

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        x, *starts = operands
        return b.dynamic_update_slice(b.const(0, x), gs[0], *starts), *(None for _ in starts)

    def lower(self, k: Any, x: Any, *starts: Any) -> Any:
        at = _clamped(starts, x.shape, self.sizes)
        return k.compute(
            x.type.with_shape(self.sizes),
            lambda *i: x[tuple(a + j for a, j in zip(at, i, strict=True))],
        )


@primitive
class DynamicUpdateSlice(Op):
    """x with the window of update's shape at the starts replaced by update; see dynamic_slice."""

    name = "dynamic_update_slice"

    def infer(self, x: TensorType, update: TensorType, *starts: TensorType) -> TensorType:
        same_dtype(x, update)
        _starts(x, update.shape, starts)
        return x

    def eval(self, x: Any, update: Any, *starts: Any) -> Any:
        at = _clamp_ints(starts, x.shape, update.shape)
        out = np.array(x)
        out[tuple(slice(s, s + n) for s, n in zip(at, update.shape, strict=True))] = update
        return out

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (_, update, *starts), (g,) = operands, gs
        gx = b.dynamic_update_slice(g, b.const(0, update), *starts)
        gu = b.dynamic_slice(g, *starts, sizes=update.ty.shape)
        return gx, gu, *(None for _ in starts)

    def lower(self, k: Any, x: Any, update: Any, *starts: Any) -> Any:
        at = _clamped(starts, x.shape, update.shape)

        def element(*i: Any) -> Any:
            window = [j - a for a, j in zip(at, i, strict=True)]
            tests = [inside(w, n) for w, n in zip(window, update.shape, strict=True)]
            pred = conjunction([t for two in tests for t in two])
            if pred is None:
                return update[tuple(window)]
            return ex.select(pred, update.at(window, pred), x[i])

        return k.compute(x.type, element)
