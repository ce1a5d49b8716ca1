"""Sliding windows over all axes: pooling and its gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim, Shape
from ..dtypes import DType, bool_, dtype, i32
from ..kernel import expr as ex
from ..types import TensorType
from . import numeric
from .base import concrete, need, primitive, same_dtype
from .conv import Ints, Pads, bounds_guard, window_count
from .dot import accumulator

_COMBINE: dict[str, Any] = {"sum": np.add, "max": numeric.maximum, "min": numeric.minimum}
NO_TAP = 2**31 - 1


class Window(Op):
    """Base: windows of `window` elements (`dilation` apart), `strides` apart, over padded axes."""

    window: Ints
    strides: Ints
    pads: Pads

    @property
    def dilations(self) -> Ints:
        return getattr(self, "dilation", None) or (1,) * len(self.window)

    def counts(self, x: TensorType) -> Shape:
        """How many windows there are along each axis; checks the attributes."""
        lengths = {len(self.window), len(self.strides), len(self.pads), len(self.dilations)}
        if lengths != {x.rank}:
            raise ValueError(f"window, strides, pads and dilation must have {x.rank} entries")
        if any(v < 1 for v in self.window + self.strides + self.dilations):
            raise ValueError("window, strides and dilation must be at least 1")
        out = []
        for size, w, s, (lo, hi), d in zip(
            x.shape, self.window, self.strides, self.pads, self.dilations, strict=True
        ):
            out.append(window_count(dims.add(size, dims.add(lo, hi)), w, s, d))
        return tuple(out)

    def taps(self) -> Iterator[Ints]:
        """All positions inside a window, row-major."""
        return itertools.product(*map(range, self.window))

    def view(self, x: Any, tap: Ints, fill: Any) -> tuple[Any, Any]:
        """NumPy: what each window has at `tap` (`fill` outside), and where that is inside x."""
        t = TensorType(dtype(x.dtype), x.shape)
        grids = []
        for axis, n in enumerate(concrete(self.counts(t))):
            at = np.arange(n) * self.strides[axis] + tap[axis] * self.dilations[axis]
            grids.append(at - concrete(self.pads[axis])[0])
        inside = [(g >= 0) & (g < n) for g, n in zip(grids, x.shape, strict=True)]
        clipped = [np.clip(g, 0, max(n - 1, 0)) for g, n in zip(grids, x.shape, strict=True)]
        ok = _outer_and(inside)
        if not x.size:
            return np.full(ok.shape, fill, x.dtype), ok
        return np.where(ok, x[np.ix_(*clipped)], np.asarray(fill, x.dtype)), ok

    def load(self, x: Any, o: Any, t: Any) -> tuple[Any, Any]:
        """Kernel: the load at window o, tap t, and its bounds test (None: always inside)."""
        at, ok = [], None
        for axis, size in enumerate(x.shape):
            p = o[axis] * self.strides[axis] + t[axis] * self.dilations[axis] - self.pads[axis][0]
            ok = bounds_guard(p, size, ok)
            at.append(p)
        return x.at(tuple(at), ok), ok

    def wide_axes(self) -> Ints:
        """The axes along which a window has more than one element."""
        return tuple(i for i, w in enumerate(self.window) if w > 1)

    def spread(self, r: Any) -> list[Any]:
        """Reduction variables of the wide axes as a full tap."""
        tap: list[Any] = [ex.index(0)] * len(self.window)
        for axis, v in zip(self.wide_axes(), r, strict=True):
            tap[axis] = v
        return tap

    def extents(self) -> list[int]:
        return [self.window[a] for a in self.wide_axes()]


def _outer_and(masks: list[Any]) -> Any:
    out = np.ones((), np.bool_)
    for mask in masks:
        out = out[..., None] & mask
    return out


def identity(op: str, dt: DType) -> Any:
    """What sum, max and min give over no elements."""
    return {"sum": dt.np.type(0), "max": dt.min, "min": dt.max}[op]


@primitive
class ReduceWindow(Window):
    """Reduce each window by `op`: sum max min; positions outside x do not take part.

    window, strides, pads ((lo, hi), may be negative) and dilation have one entry an axis of x. Max
    and min give NaN where a window holds one. Narrow floats sum in f32. Source: XLA ReduceWindow.
    """

    name = "reduce_window"
    op: str
    window: Ints
    strides: Ints
    pads: Pads
    dilation: Ints = ()

    def infer(self, x: TensorType) -> TensorType:
        if self.op not in _COMBINE:
            raise ValueError(f"windows reduce by {', '.join(_COMBINE)}, not {self.op!r}")
        need(x, "fiu")
        return x.with_shape(self.counts(x))

    def eval(self, x: Any) -> Any:
        dt = dtype(x.dtype)
        acc = accumulator(dt).np if self.op == "sum" else dt.np
        start = identity(self.op, dt)
        out = np.full(concrete(self.counts(TensorType(dt, x.shape))), start, acc)
        for tap in self.taps():
            out = _COMBINE[self.op](out, self.view(x, tap, start)[0].astype(acc))
        return out.astype(x.dtype)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x,), (g,) = operands, gs
        if self.op == "sum":
            return (self._sum_grad(b, x, g),)
        if any(d > 1 for d in self.dilations):
            raise NotImplementedError(f"the gradient of a dilated {self.op} window")
        source = b.neg(x) if self.op == "min" else x
        back = b.select_and_scatter(
            source, g, window=self.window, strides=self.strides, pads=self.pads
        )
        return (back,)

    def _sum_grad(self, b: Any, x: Value, g: Value) -> Any:
        """The windows that hold an element, summed: g with holes, padded, in windows again."""
        lows: list[Dim] = []
        highs: list[Dim] = []
        for axis, size in enumerate(x.ty.shape):
            over = (self.window[axis] - 1) * self.dilations[axis]
            low = dims.add(over, -self.pads[axis][0])
            n, s = g.ty.shape[axis], self.strides[axis]
            have = n if s == 1 else dims.maximum(dims.add(dims.mul(dims.add(n, -1), s), 1), 0)
            total = dims.add(size, over)
            lows.append(low)
            highs.append(dims.add(total, dims.mul(dims.add(have, low), -1)))
        holes = tuple(s - 1 for s in self.strides)
        wide = b.pad(g, b.const(0, g.ty.dtype), lo=tuple(lows), hi=tuple(highs), interior=holes)
        ones = (1,) * len(self.window)
        return b.reduce_window(
            wide, op="sum", window=self.window, strides=ones, pads=((0, 0),) * len(ones),
            dilation=self.dilations,
        )

    def lower(self, k: Any, x: Any) -> Any:
        acc = accumulator(x.dtype) if self.op == "sum" else x.dtype
        start = ex.const(identity(self.op, x.dtype), acc)

        def element(*o: Any) -> Any:
            def tap(*r: Any) -> Any:
                value, ok = self.load(x, o, self.spread(r))
                value = ex.cast(value, acc)
                return value if ok is None or self.op == "sum" else ex.select(ok, value, start)

            return ex.cast(k.reduce(self.op, self.extents(), tap), x.dtype)

        return k.compute(self.infer(x.type), element, "pool")

    def flops(self, operands: Any, results: Any) -> Dim:
        return dims.mul(dims.product(results[0].shape), dims.product(self.window))


@primitive
class SelectAndScatter(Window):
    """The gradient of max pooling: each g goes to the first maximum of its window, others get 0.

    x: the pooled tensor; g: one element a window. Result of x's type: the sum of what reaches each
    element. First is meant in row-major order; NaN counts as the greatest. A window that
    lies wholly outside x sends its g nowhere. The gradient towards x is zero almost everywhere.
    Source: XLA SelectAndScatter with ge and add.
    """

    name = "select_and_scatter"
    window: Ints
    strides: Ints
    pads: Pads

    def infer(self, x: TensorType, g: TensorType) -> TensorType:
        same_dtype(x, g)
        need(x, "fiu")
        if self.counts(x) != g.shape:
            raise ValueError(f"{x} has {list(self.counts(x))} windows, but g is {g}")
        return x

    def first_maximum(self, x: Any) -> Any:
        """NumPy: the number of the tap that each window's first maximum is at, −1 for none."""
        best = np.full(concrete(self.counts(TensorType(dtype(x.dtype), x.shape))), 0, x.dtype)
        chosen = np.full(best.shape, -1)
        for n, tap in enumerate(self.taps()):
            value, inside = self.view(x, tap, 0)
            better = (chosen < 0) | (value > best) | ((value != value) & (best == best))
            better &= inside
            best, chosen = np.where(better, value, best), np.where(better, n, chosen)
        return chosen

    def eval(self, x: Any, g: Any) -> Any:
        chosen = self.first_maximum(x)
        out = np.zeros(x.shape, accumulator(dtype(x.dtype)).np)
        for n, tap in enumerate(self.taps()):
            hit = np.nonzero(chosen == n)
            low = [concrete(p)[0] for p in self.pads]
            at = tuple(
                i * s + t - lo for i, s, t, lo in zip(hit, self.strides, tap, low, strict=True)
            )
            np.add.at(out, at, g[hit].astype(out.dtype))
        return out.astype(x.dtype)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x, g), (h,) = operands, gs
        return None, self._gather_maxima(b, x, h, g.ty.shape)

    def _gather_maxima(self, b: Any, x: Value, h: Value, counts: Shape) -> Value:
        """For each window, h at the first maximum of x: a running choice over the taps."""
        inside = b.broadcast_to(b.const(True, bool_), x.ty.shape)
        both, either = getattr(b, "and"), getattr(b, "or")
        best = out = chosen = None
        for tap in self.taps():
            value, part = self._tap(b, x, tap, counts), self._tap(b, h, tap, counts)
            valid = self._tap(b, inside, tap, counts)
            if best is None:
                best, out, chosen = value, part, valid
                continue
            nan, was = b.compare(value, value, op="ne"), b.compare(best, best, op="eq")
            greater = either(b.compare(value, best, op="gt"), both(nan, was))
            better = both(valid, either(greater, getattr(b, "not")(chosen)))
            best, out = b.select(better, value, best), b.select(better, part, out)
            chosen = either(chosen, valid)
        return out  # type: ignore[return-value]

    def _tap(self, b: Any, x: Value, tap: Ints, counts: Shape) -> Any:
        """What each window has at `tap`; zero (false) outside x."""
        lows, highs, limits = [], [], []
        for axis, size in enumerate(x.ty.shape):
            lo, s, n = self.pads[axis][0], self.strides[axis], counts[axis]
            span = dims.maximum(dims.add(dims.mul(dims.add(n, -1), s), 1), 0)
            low = dims.add(lo, -tap[axis])
            lows.append(low)
            highs.append(dims.add(span, dims.mul(dims.add(size, low), -1)))
            limits.append(span)
        rank = len(counts)
        cut = b.pad(x, b.const(0, x.ty.dtype), lo=tuple(lows), hi=tuple(highs),
                    interior=(0,) * rank)
        return b.slice(cut, starts=(0,) * rank, limits=tuple(limits), strides=self.strides)

    def lower(self, k: Any, x: Any, g: Any) -> Any:
        first = self._lower_first(k, x, g.type)
        if all(w <= s for w, s in zip(self.window, self.strides, strict=True)):
            return self._lower_disjoint(k, x, g, first)
        acc = accumulator(x.dtype)

        def element(*i: Any) -> Any:
            def from_window(*r: Any) -> Any:
                tap = self.spread(r)
                at, ok = [], None
                for axis, count in enumerate(g.shape):
                    o, hit = self._window_of(i[axis], tap[axis], axis)
                    ok = bounds_guard(o, count, hit if ok is None else ok if hit is None
                                      else ok & hit)
                    at.append(o)
                me = ex.cast(self._number(tap), i32)
                mine = first.at(tuple(at), ok).eq(me)
                mine = mine if ok is None else mine & ok
                return ex.select(mine, ex.cast(g.at(tuple(at), ok), acc), 0)

            return ex.cast(k.reduce("sum", self.extents(), from_window), x.dtype)

        return k.compute(x.type, element, "unpool")

    def _lower_disjoint(self, k: Any, x: Any, g: Any, first: Any) -> Any:
        """Windows that do not overlap: an element is in one at most, so nothing is summed."""
        def element(*i: Any) -> Any:
            at, taps, ok = [], [], None
            for axis, (w, s) in enumerate(zip(self.window, self.strides, strict=True)):
                p = i[axis] + self.pads[axis][0]
                o, t = ex.floordiv(p, s), ex.mod(p, s)
                hit = t < w if w < s else None
                ok = hit if ok is None else ok if hit is None else ok & hit
                ok = bounds_guard(o, g.shape[axis], ok)
                at.append(o)
                taps.append(t)
            mine = first.at(tuple(at), ok).eq(ex.cast(self._number(taps), i32))
            mine = mine if ok is None else mine & ok
            # 0 + g, as in the sum over one window: −0 becomes 0
            return ex.select(mine, g.at(tuple(at), ok), 0) + ex.const(0, x.dtype)

        return k.compute(x.type, element, "unpool")

    def _lower_first(self, k: Any, x: Any, windows: TensorType) -> Any:
        """Two stages: each window's maximum, then the least tap number that has it."""
        low = ex.const(x.dtype.min, x.dtype)

        def greatest(*o: Any) -> Any:
            def tap(*r: Any) -> Any:
                value, ok = self.load(x, o, self.spread(r))
                return value if ok is None else ex.select(ok, value, low)

            return k.reduce("max", self.extents(), tap)

        top = k.compute(windows, greatest, "top")

        def number(*o: Any) -> Any:
            def tap(*r: Any) -> Any:
                full = self.spread(r)
                value, ok = self.load(x, o, full)
                hit = value.eq(top[o])
                if x.dtype.is_float:
                    hit = hit | ex.unary("is_nan", value)
                hit = hit if ok is None else hit & ok
                return ex.select(hit, ex.cast(self._number(full), i32), NO_TAP)

            return k.reduce("min", self.extents(), tap)

        return k.compute(windows.with_dtype(i32), number, "first")

    def _number(self, tap: Any) -> Any:
        """A tap's row-major number."""
        out = ex.index(0)
        for t, w in zip(tap, self.window, strict=True):
            out = out * w + t
        return out

    def _window_of(self, i: Any, t: Any, axis: int) -> tuple[Any, Any]:
        """Which window has element i at tap t along an axis, and the test that one has."""
        p, s = i + self.pads[axis][0] - t, self.strides[axis]
        if s == 1:
            return p, None
        hit = ex.mod(p, s)
        return ex.floordiv(p, s), None if ex.is_const_index(hit) == 0 else hit.eq(0)
