"""Convolution: one general primitive, closed under differentiation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim, Shape
from ..dtypes import dtype
from ..kernel import expr as ex
from ..types import TensorType
from .base import concrete, need, primitive, same_dtype
from .dot import accumulator

Ints = tuple[int, ...]
Pads = tuple[tuple[Dim, Dim], ...]


def dilated(size: Dim, by: int) -> Dim:
    """The extent of `size` elements with by−1 holes between neighbours; 0 elements stay 0."""
    return size if by == 1 else dims.maximum(dims.add(dims.mul(dims.add(size, -1), by), 1), 0)


def reach(size: Dim, dilation: int) -> Dim:
    """From the first to the last tap of a window, inclusive."""
    return dims.add(dims.mul(dims.add(size, -1), dilation), 1)


def window_count(padded: Dim, window: Dim, stride: int, dilation: int) -> Dim:
    """How many windows fit into `padded` elements; 0 where none does."""
    room = dims.add(padded, dims.mul(reach(window, dilation), -1))
    return dims.maximum(dims.add(dims.floordiv(room, stride), 1), 0)


@primitive
class Conv(Op):
    """Cross-correlation: x [N, *spatial, Cin] with w [*spatial, Cin/groups, Cout].

    Result [N, *out, Cout]. Along each spatial axis, x has `lhs_dilation`−1 zeros put between its
    elements (transposed convolution), then `pads` = (lo, hi) zeros around (negative: cropped), and
    output o, tap t reads position o·stride + t·rhs_dilation. Output channel c belongs to group
    c // (Cout/groups), which reads input channels of the same group. Any number of spatial axes.
    Narrow floats accumulate in f32. Errors: ranks, channels or attribute lengths that do not fit.
    Source: XLA's ConvGeneralDilated, in NHWC / HWIO layout.
    """

    name = "conv"
    strides: Ints
    pads: Pads
    lhs_dilation: Ints
    rhs_dilation: Ints
    groups: int = 1

    def infer(self, x: TensorType, w: TensorType) -> TensorType:
        same_dtype(x, w)
        need(x, "fiuc")
        n = len(self.strides)
        if x.rank != n + 2 or w.rank != n + 2:
            raise ValueError(f"{n} spatial axes need operands of rank {n + 2}, not {x}, {w}")
        self._check_attributes(n)
        cin, cout = x.shape[-1], w.shape[-1]
        if cin != dims.mul(w.shape[-2], self.groups):
            raise ValueError(
                f"input channels: {x} has {cin}, filter {w} takes {w.shape[-2]} in each of "
                f"{self.groups} groups"
            )
        if dims.exact_div(cout, self.groups) is None:
            raise ValueError(f"{cout} output channels do not divide into {self.groups} groups")
        return x.with_shape((x.shape[0], *self._out_sizes(x.shape, w.shape), cout))

    def _check_attributes(self, n: int) -> None:
        if {len(self.pads), len(self.lhs_dilation), len(self.rhs_dilation)} != {n}:
            raise ValueError(f"strides, pads and dilations must all have {n} entries")
        if any(v < 1 for v in self.strides + self.lhs_dilation + self.rhs_dilation):
            raise ValueError("strides and dilations must be at least 1")
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, not {self.groups}")

    def _out_sizes(self, x: Shape, w: Shape) -> Shape:
        out: list[Dim] = []
        for i, (lo, hi) in enumerate(self.pads):
            padded = dims.add(dims.add(dilated(x[i + 1], self.lhs_dilation[i]), lo), hi)
            out.append(window_count(padded, w[i], self.strides[i], self.rhs_dilation[i]))
        return tuple(out)

    def eval(self, x: Any, w: Any) -> Any:
        acc = accumulator(dtype(x.dtype)).np
        taps, (cing, cout) = w.shape[:-2], w.shape[-2:]
        sizes = concrete(self._out_sizes(x.shape, w.shape))
        wide = self._padded(x.astype(acc))
        cog = cout // self.groups
        out = np.zeros((x.shape[0], *sizes, self.groups, cog), acc)
        for tap in itertools.product(*map(range, taps)):
            part = wide[self._tap_slices(tap, sizes)]
            part = part.reshape(*part.shape[:-1], self.groups, cing)
            out += np.einsum("...gi,igo->...go", part,
                             w[tap].astype(acc).reshape(cing, self.groups, cog))
        return out.reshape(x.shape[0], *sizes, cout).astype(x.dtype)

    def _padded(self, x: Any) -> Any:
        sizes = concrete(tuple(map(dilated, x.shape[1:-1], self.lhs_dilation)))
        holes = np.zeros((x.shape[0], *sizes, x.shape[-1]), x.dtype)
        filled = (slice(None), *(slice(None, None, d) for d in self.lhs_dilation))
        holes[filled] = x
        pads = [concrete(p) for p in self.pads]
        keep = (slice(None), *(slice(max(0, -lo), max(0, n - max(0, -hi)))
                               for n, (lo, hi) in zip(sizes, pads, strict=True)))
        grow = [(max(0, lo), max(0, hi)) for lo, hi in pads]
        return np.pad(holes[keep], [(0, 0), *grow, (0, 0)])

    def _tap_slices(self, tap: Ints, sizes: Ints) -> tuple[slice, ...]:
        cut = [slice(None)]
        for t, n, s, d in zip(tap, sizes, self.strides, self.rhs_dilation, strict=True):
            cut.append(slice(t * d, t * d + max(0, n - 1) * s + (n > 0), s))
        return tuple(cut)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        x, w = operands
        dx = self._towards_x(b, x, w, gs[0]) if needed[0] else None
        dw = self._towards_w(b, x, w, gs[0]) if needed[1] else None
        return dx, dw

    def _towards_x(self, b: Any, x: Value, w: Value, g: Value) -> Any:
        """g, dilated by the strides, with the filter flipped and its channels exchanged."""
        n = len(self.strides)
        flipped = b.reverse(w, axes=tuple(range(n))) if n else w
        filt = _exchange(b, flipped, n + 1, self.groups, (*range(n), n + 2, n + 1, n))
        pads: list[tuple[Dim, Dim]] = []
        for i, (lo, _) in enumerate(self.pads):
            # lo' = (k−1)·d − lo; hi' so that exactly x's size comes out
            left = dims.add(reach(w.ty.shape[i], self.rhs_dilation[i]), dims.add(-1, -lo))
            total = dims.add(reach(x.ty.shape[i + 1], self.lhs_dilation[i]),
                             dims.add(reach(w.ty.shape[i], self.rhs_dilation[i]), -1))
            have = dilated(g.ty.shape[i + 1], self.strides[i])
            pads.append((left, dims.add(total, dims.mul(dims.add(have, left), -1))))
        return b.conv(
            g, filt, strides=self.lhs_dilation, pads=tuple(pads), lhs_dilation=self.strides,
            rhs_dilation=self.rhs_dilation, groups=self.groups,
        )

    def _towards_w(self, b: Any, x: Value, w: Value, g: Value) -> Any:
        """x as a batch of its channels, g as the filter: the batch is what is contracted."""
        n = len(self.strides)
        spatial = tuple(range(1, n + 1))
        lhs = _exchange(b, x, n + 1, self.groups, (n + 2, *spatial, n + 1, 0))
        rhs = b.transpose(g, perm=(*spatial, 0, n + 1))
        pads: list[tuple[Dim, Dim]] = []
        for i, (lo, _) in enumerate(self.pads):
            total = dims.add(reach(w.ty.shape[i], self.rhs_dilation[i]),
                             dims.add(reach(g.ty.shape[i + 1], self.strides[i]), -1))
            have = dims.add(dilated(x.ty.shape[i + 1], self.lhs_dilation[i]), lo)
            pads.append((lo, dims.add(total, dims.mul(have, -1))))
        out = b.conv(
            lhs, rhs, strides=self.rhs_dilation, pads=tuple(pads), lhs_dilation=self.lhs_dilation,
            rhs_dilation=self.strides, groups=self.groups,
        )
        return b.transpose(out, perm=(*spatial, 0, n + 1))

    def lower(self, k: Any, x: Any, w: Any) -> Any:
        out = self.infer(x.type, w.type)
        acc = accumulator(x.dtype)
        n = len(self.strides)
        cing = w.shape[-2]
        per_group = dims.floordiv(w.shape[-1], self.groups)

        def element(*i: Any) -> Any:
            first = 0 if self.groups == 1 else ex.floordiv(i[-1], per_group) * cing

            def product(*r: Any) -> Any:
                at, ok = [i[0]], None
                for axis in range(n):
                    index, inside = self._position(axis, i[axis + 1], r[axis], x.shape[axis + 1])
                    at.append(index)
                    ok = inside if ok is None else ok if inside is None else ok & inside
                xv = x.at((*at, r[n] + first), ok)
                tap = (*r, i[-1])
                return ex.cast(xv, acc) * ex.cast(w[tap], acc)

            total = k.reduce("sum", [*w.shape[:n], cing], product)
            return ex.cast(total, x.dtype)

        return k.compute(out, element, "conv")

    def _position(self, axis: int, o: Any, t: Any, size: Dim) -> tuple[Any, Any]:
        """The index into x that output o, tap t reads, and where it is one (None: always)."""
        lo, ld = self.pads[axis][0], self.lhs_dilation[axis]
        p = o * self.strides[axis] + t * self.rhs_dilation[axis] - lo
        ok = None
        if ld > 1:
            q, hit = ex.floordiv(p, ld), ex.mod(p, ld)
            ok = None if ex.is_const_index(hit) == 0 else hit.eq(0)
            p = q
        return p, bounds_guard(p, size, ok)

    def flops(self, operands: Any, results: Any) -> Dim:
        taps = dims.product(operands[1].shape[:-1])
        return dims.mul(2, dims.mul(dims.product(results[0].shape), taps))


def bounds_guard(p: Any, size: Dim, ok: Any = None) -> Any:
    """`ok` and 0 ≤ p < size, without what is certain; None where nothing is left to test."""
    if ex.within(p, size):
        return ok
    found = ex.bounds(p)
    tests = [] if ok is None else [ok]
    if found is None or not dims.nonnegative(found[0]):
        tests.append(p >= 0)
    if found is None or not dims.nonnegative(dims.add(size, dims.add(-1, -found[1]))):
        tests.append(p < size)
    out = tests[0]
    for test in tests[1:]:
        out = out & test
    return out


def _exchange(b: Any, x: Value, axis: int, groups: int, perm: Ints) -> Value:
    """Take the groups out of the channel axis `axis` and put them in front of another axis.

    `axis` splits into (groups, rest), `perm` orders the axes of that, and the group axis joins the
    one behind it. With one group nothing splits, and `perm` loses the group axis.
    """
    if groups == 1:
        kept = tuple(i if i < axis else i - 1 for i in perm if i != axis)
        return b.transpose(x, perm=kept)  # type: ignore[no-any-return]
    shape = x.ty.shape
    each = dims.exact_div(shape[axis], groups)
    moved = b.transpose(
        b.reshape(x, shape=(*shape[:axis], groups, each, *shape[axis + 1 :])), perm=perm
    )
    at, m = perm.index(axis), moved.ty.shape
    return b.reshape(moved, shape=(*m[:at], dims.mul(m[at], m[at + 1]), *m[at + 2 :]))  # type: ignore[no-any-return]
