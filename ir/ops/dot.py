"""The general matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim, Shape
from ..dtypes import DType, dtype, f32
from ..kernel import expr as ex
from ..types import TensorType
from .base import axis_in, need, primitive, same_dtype

Axes = tuple[int, ...]


def accumulator(dt: DType) -> DType:
    """What sums of products of `dt` are kept in: f32 for floats narrower than that."""
    return f32 if dt.is_float and dt.bits < 32 else dt


@primitive
class Dot(Op):
    """Sum of products over the `contract` axes, for each index of the `batch` axes.

    contract, batch: ((axes of a), (axes of b)), paired in order, of equal sizes. Result: the batch
    axes in that order, a's free axes, b's free axes; of the operands' element type. Narrow floats
    accumulate in f32 and round once; integers wrap. Source: XLA's DotGeneral.
    """

    name = "dot"
    contract: tuple[Axes, Axes]
    batch: tuple[Axes, Axes]

    def free(self, rank_a: int, rank_b: int) -> tuple[Axes, Axes]:
        """The axes of each operand that are neither contracted nor batch."""
        a = tuple(i for i in range(rank_a) if i not in self.contract[0] + self.batch[0])
        b = tuple(i for i in range(rank_b) if i not in self.contract[1] + self.batch[1])
        return a, b

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        same_dtype(a, b)
        need(a, "fiuc")
        for side, t in ((0, a), (1, b)):
            used = self.contract[side] + self.batch[side]
            for axis in used:
                axis_in(axis, t.rank)
            if len(set(used)) != len(used):
                raise ValueError(f"axes {list(used)} repeat")
        for what, (left, right) in (("contract", self.contract), ("batch", self.batch)):
            if len(left) != len(right):
                raise ValueError(f"{what} names {len(left)} and {len(right)} axes")
            for i, j in zip(left, right, strict=True):
                if a.shape[i] != b.shape[j]:
                    raise ValueError(
                        f"{what} axes {i} of {a} and {j} of {b}: {a.shape[i]} is not {b.shape[j]}"
                    )
        fa, fb = self.free(a.rank, b.rank)
        lead = tuple(a.shape[i] for i in self.batch[0])
        return a.with_shape(
            lead + tuple(a.shape[i] for i in fa) + tuple(b.shape[i] for i in fb)
        )

    def eval(self, a: Any, b: Any) -> Any:
        fa, fb = self.free(a.ndim, b.ndim)
        acc = accumulator(dtype(a.dtype)).np
        (ca, cb), (ba, bb) = self.contract, self.batch
        lead = tuple(a.shape[i] for i in ba)
        rows, cols = tuple(a.shape[i] for i in fa), tuple(b.shape[i] for i in fb)
        k = int(np.prod([a.shape[i] for i in ca], dtype=np.int64))
        m, n = int(np.prod(rows, dtype=np.int64)), int(np.prod(cols, dtype=np.int64))
        left = a.transpose(ba + fa + ca).astype(acc).reshape(*lead, m, k)
        right = b.transpose(bb + cb + fb).astype(acc).reshape(*lead, k, n)
        return np.matmul(left, right).astype(a.dtype).reshape(lead + rows + cols)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        left = self._towards_a(b, operands, gs[0]) if needed[0] else None
        right = self._towards_b(b, operands, gs[0]) if needed[1] else None
        return left, right

    def _towards_a(self, b: Any, operands: Any, g: Value) -> Value:
        x, y = operands
        fx, fy = self.free(x.ty.rank, y.ty.rank)
        (cx, cy), (bx, by) = self.contract, self.batch
        nb, nx = len(bx), len(fx)
        over = tuple(range(nb + nx, nb + nx + len(fy)))
        out = b.dot(g, y, contract=(over, fy), batch=(tuple(range(nb)), by))
        # out: batch, x's free axes, then y's contracted axes in the order in which y has them
        rest = tuple(cx[cy.index(j)] for j in sorted(cy))
        return _transpose_to(b, out, bx + fx + rest)

    def _towards_b(self, b: Any, operands: Any, g: Value) -> Value:
        x, y = operands
        fx, fy = self.free(x.ty.rank, y.ty.rank)
        (cx, cy), (bx, by) = self.contract, self.batch
        nb, nx = len(bx), len(fx)
        over = tuple(range(nb, nb + nx))
        out = b.dot(x, g, contract=(fx, over), batch=(bx, tuple(range(nb))))
        rest = tuple(cy[cx.index(i)] for i in sorted(cx))
        return _transpose_to(b, out, by + rest + fy)

    def lower(self, k: Any, a: Any, b: Any) -> Any:
        out = self.infer(a.type, b.type)
        acc = accumulator(a.dtype)
        fa, fb = self.free(a.rank, b.rank)
        nb, na = len(self.batch[0]), len(fa)

        def element(*i: Any) -> Any:
            def product(*r: Any) -> Any:
                at_a = _place(a.rank, (self.batch[0], i[:nb]), (fa, i[nb : nb + na]),
                              (self.contract[0], r))
                at_b = _place(b.rank, (self.batch[1], i[:nb]), (fb, i[nb + na :]),
                              (self.contract[1], r))
                return ex.cast(a[at_a], acc) * ex.cast(b[at_b], acc)

            total = k.reduce("sum", [a.shape[c] for c in self.contract[0]], product)
            return ex.cast(total, a.dtype)

        return k.compute(out, element, "dot")

    def flops(self, operands: Any, results: Any) -> Dim:
        over: Shape = tuple(operands[0].shape[i] for i in self.contract[0])
        return dims.mul(2, dims.mul(dims.product(results[0].shape), dims.product(over)))


def _place(rank: int, *pairs: tuple[Axes, Any]) -> tuple[Any, ...]:
    """The index tuple that has indices[n] at axes[n], for each pair (axes, indices)."""
    at: list[Any] = [None] * rank
    for axes, indices in pairs:
        for axis, i in zip(axes, indices, strict=True):
            at[axis] = i
    return tuple(at)


def _transpose_to(b: Any, x: Value, axes: Axes) -> Value:
    """x's axis n becomes axis axes[n]."""
    perm = tuple(axes.index(i) for i in range(len(axes)))
    if perm == tuple(range(len(perm))):
        return x
    return b.transpose(x, perm=perm)  # type: ignore[no-any-return]
