"""Operations that only say where each element comes from."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import dims as dm
from ..core import Op, Value
from ..dims import Dim, Shape
from ..kernel import expr as ex
from ..types import TensorType, shape_text
from .base import axes_in, concrete, primitive

_count = lru_cache(maxsize=4096)(dm.product)


@primitive
class Broadcast(Op):
    """x repeated: its axis i becomes axis dims[i] of `shape` (of equal size, increasing)."""

    name = "broadcast"
    shape: Shape
    dims: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        axes_in(self.dims, len(self.shape))
        if len(self.dims) != x.rank:
            raise ValueError(f"dims {list(self.dims)} are not one an axis of {x}")
        for d, a in zip(x.shape, self.dims, strict=True):
            if d != self.shape[a]:
                to = shape_text(self.shape)
                raise ValueError(f"size {d} of {x} is not that of axis {a} of {to}")
        return x.with_shape(self.shape)

    def eval(self, x: Any) -> Any:
        shape = concrete(self.shape)
        at = set(self.dims)
        mid = [n if a in at else 1 for a, n in enumerate(shape)]
        return np.broadcast_to(np.asarray(x).reshape(mid), shape)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        axes = tuple(a for a in range(len(self.shape)) if a not in self.dims)
        return (b.reduce(gs[0], op="sum", axes=axes) if axes else gs[0],)

    def lower(self, k: Any, x: Any) -> Any:
        return k.compute(self.infer(x.type), lambda *i: x[tuple(i[a] for a in self.dims)])


@primitive
class Reshape(Op):
    """The elements of x, in row-major order, under another shape of as many elements."""

    name = "reshape"
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        if x.shape != self.shape and _count(x.shape) != _count(self.shape):
            raise ValueError(f"{x} has not as many elements as {shape_text(self.shape)}")
        return x.with_shape(self.shape)

    def eval(self, x: Any) -> Any:
        return np.asarray(x).reshape(concrete(self.shape))

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        return (b.reshape(gs[0], shape=operands[0].ty.shape),)

    def lower(self, k: Any, x: Any) -> Any:
        def element(*i: Any) -> Any:
            at: list[Any] = [ex.index(0)] * x.rank
            for ins, outs in reshape_groups(x.shape, self.shape):
                linear = ex.index(0)
                for a in outs:
                    linear = linear * self.shape[a] + i[a]
                for n, a in enumerate(reversed(ins)):
                    last = n == len(ins) - 1
                    at[a] = linear if last else ex.mod(linear, x.shape[a])
                    linear = linear if last else ex.floordiv(linear, x.shape[a])
            return x[tuple(at)]
        return k.compute(self.infer(x.type), element)


@lru_cache(maxsize=4096)
def reshape_groups(
    old: Shape, new: Shape
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """The least runs of axes of `old` and `new` that hold equally many elements, in order.

    Axes of size 1 belong to no run. Where nothing is known the last run takes all the rest.
    [B,28,28,1] → [B,784]: ((0,), (0,)), ((1, 2), (1,)).
    """
    ins = [a for a, d in enumerate(old) if d != 1]
    outs = [a for a, d in enumerate(new) if d != 1]
    if 0 in old or 0 in new:  # no element is ever asked for
        return ()
    groups = []
    while ins and outs:
        n, m = 1, 1
        p, q = old[ins[0]], new[outs[0]]
        while p != q:
            step = _shorter(p, q)
            if step < 0 and n < len(ins):
                p, n = dm.mul(p, old[ins[n]]), n + 1
            elif step > 0 and m < len(outs):
                q, m = dm.mul(q, new[outs[m]]), m + 1
            else:
                n, m = len(ins), len(outs)
                break
        groups.append((tuple(ins[:n]), tuple(outs[:m])))
        ins, outs = ins[n:], outs[m:]
    return tuple(groups)


def _shorter(p: Dim, q: Dim) -> int:
    """−1 where p has to grow, 1 where q has to, 0 where that is not known."""
    if isinstance(p, int) and isinstance(q, int):
        return -1 if p < q else 1
    if dm.exact_div(q, p) is not None:
        return -1
    return 1 if dm.exact_div(p, q) is not None else 0


@primitive
class Transpose(Op):
    """x with its axes permuted: axis i of the result is axis perm[i] of x."""

    name = "transpose"
    perm: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        if len(self.perm) != x.rank or sorted(self.perm) != list(range(x.rank)):
            raise ValueError(f"{list(self.perm)} does not permute the axes of {x}")
        return x.with_shape(tuple(x.shape[a] for a in self.perm))

    def eval(self, x: Any) -> Any:
        return np.transpose(x, self.perm)

    @property
    def inverse(self) -> tuple[int, ...]:
        """The permutation that undoes this one: where each axis of x goes."""
        out = [0] * len(self.perm)
        for i, a in enumerate(self.perm):
            out[a] = i
        return tuple(out)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        return (b.transpose(gs[0], perm=self.inverse),)

    def lower(self, k: Any, x: Any) -> Any:
        back = self.inverse
        return k.compute(self.infer(x.type), lambda *i: x[tuple(i[a] for a in back)])


@primitive
class Reverse(Op):
    """x with the order of its elements reversed along `axes`."""

    name = "reverse"
    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        axes_in(self.axes, x.rank)
        return x

    def eval(self, x: Any) -> Any:
        return np.asarray(np.flip(x, self.axes))

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None]:
        return (b.reverse(gs[0], axes=self.axes),)

    def lower(self, k: Any, x: Any) -> Any:
        def element(*i: Any) -> Any:
            flip = set(self.axes)
            ends = [ex.index(d) - 1 for d in x.shape]
            return x[tuple(ends[a] - j if a in flip else j for a, j in enumerate(i))]
        return k.compute(x.type, element)
