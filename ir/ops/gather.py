"""Reading slices at computed positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim, Shape
from ..kernel import expr as ex
from ..types import TensorType
from .base import EvalError, need, primitive

E_INDEX = 2  # FLOWC_E_INDEX
MODES = ("check", "clamp", "zero", "drop")


def split(x: TensorType, indices: TensorType, batch: int) -> tuple[Shape, int, Shape]:
    """(n.., k, s..) of gather and scatter: x [b.., d0..dk-1, s..], indices [b.., n.., k].

    Raises TypeError or ValueError where the operands do not fit each other.
    """
    need(indices, "iu", "indices")
    if batch < 0 or indices.rank < batch + 1:
        raise ValueError(f"indices {indices} need {batch} batch axes and one for the positions")
    k = indices.shape[-1]
    if not isinstance(k, int):
        raise ValueError(f"the last axis of indices {indices} must have a known size")
    if x.rank < batch + k:
        raise ValueError(f"positions of {k} axes after {batch} batch axes do not fit into {x}")
    if x.shape[:batch] != indices.shape[:batch]:
        raise ValueError(f"the first {batch} axes of {x} and {indices} differ")
    return indices.shape[batch:-1], k, x.shape[batch + k :]


def locate(x: Any, indices: Any, batch: int) -> tuple[tuple[Any, ...], Any]:
    """NumPy: index arrays [b.., n..] into x's leading axes, clipped, and which were inside."""
    k = indices.shape[-1]
    lead = np.indices(indices.shape[:-1], sparse=True)[:batch]
    ok = np.ones(indices.shape[:-1], np.bool_)
    at = []
    for j in range(k):
        size, i = x.shape[batch + j], indices[..., j]
        ok &= (i >= 0) & (i < size)
        at.append(np.clip(i, 0, max(size - 1, 0)).astype(np.int64))
    return tuple(np.broadcast_arrays(*lead, *at, ok)[:-1]), ok


def outside(x: Any, indices: Any, ok: Any, batch: int) -> EvalError:
    """The error that names the first position which is out of range."""
    bad = indices[np.unravel_index(int(np.argmin(ok)), ok.shape)]
    k = indices.shape[-1]
    sizes = list(x.shape[batch : batch + k])
    return EvalError(E_INDEX, f"index {bad.tolist()} is out of range for the sizes {sizes}")


def position(indices: Any, lead: Any, sizes: Shape) -> tuple[list[Any], Any]:
    """Kernel: the position that indices[lead…, :] holds, and whether it is inside."""
    at, ok = [], None
    for j, size in enumerate(sizes):
        position = (*lead, j)
        i = ex.cast(indices[position], ex.INDEX)
        inside = (i >= 0) & (i < ex.index(size))
        at.append(i)
        ok = inside if ok is None else ok & inside
    return at, ok


@primitive
class Gather(Op):
    """Slices of x at positions: x [b.., d0..dk-1, s..], indices [b.., n.., k] → [b.., n.., s..].

    `batch`: the number of leading axes b that both share. k, the size of the last axis of indices
    (any integers), is known when compiling. `bounds` says what a position outside gives: ``check``:
    error 2 at run time; ``clamp``: each coordinate moves to the nearest that is inside (of an empty
    axis: zeros); ``zero``: a slice of zeros. Negative positions are outside.
    """

    name = "gather"
    batch: int = 0
    bounds: str = "check"

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        if self.bounds not in ("check", "clamp", "zero"):
            raise ValueError(f"bounds is check, clamp or zero, not {self.bounds!r}")
        n, _, rest = split(x, indices, self.batch)
        return x.with_shape(x.shape[: self.batch] + n + rest)

    def eval(self, x: Any, indices: Any) -> Any:
        at, ok = locate(x, indices, self.batch)
        if self.bounds == "check" and not ok.all():
            raise outside(x, indices, ok, self.batch)
        k = indices.shape[-1]
        rest = x.shape[self.batch + k :]
        if 0 in x.shape[: self.batch + k]:
            return np.zeros((*ok.shape, *rest), x.dtype)
        out = x[at] if at else np.broadcast_to(x, (*ok.shape, *rest)).copy()
        if self.bounds == "zero":
            out = np.where(ok.reshape(ok.shape + (1,) * len(rest)), out, np.zeros((), x.dtype))
        return out

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x, indices), (g,) = operands, gs
        if self.bounds == "clamp":
            indices = clamped(b, x, indices, self.batch)
        zero = b.const(0, x)
        return b.scatter(zero, indices, g, op="add", batch=self.batch, bounds="drop"), None

    def lower(self, k: Any, x: Any, indices: Any) -> Any:
        out = self.infer(x.type, indices.type)
        n, depth, _ = split(x.type, indices.type, self.batch)
        sizes = x.shape[self.batch : self.batch + depth]
        split_at = self.batch + len(n)

        def element(*i: Any) -> Any:
            lead, rest = i[:split_at], i[split_at:]
            at, ok = position(indices, lead, sizes)
            if self.bounds == "clamp":
                at = [ex.imin(ex.imax(p, 0), dims.add(s, -1))
                      for p, s in zip(at, sizes, strict=True)]
                ok = _not_empty(sizes)
            value = x.at((*i[: self.batch], *at, *rest), ok)
            return k.check(value, ok, E_INDEX) if self.bounds == "check" and depth else value

        return k.compute(out, element, "gather")

    def flops(self, operands: Any, results: Any) -> Dim:
        return 0


def _not_empty(sizes: Shape) -> Any:
    """The test that no size is 0, where one may be."""
    ok = None
    for s in sizes:
        if not dims.nonnegative(dims.add(s, -1)):
            test = ex.index(s) > 0
            ok = test if ok is None else ok & test
    return ok


def clamped(b: Any, x: Value, indices: Value, batch: int) -> Value:
    """Indices with each coordinate moved into x's sizes (empty axes: −1, which is outside)."""
    dt = indices.ty.dtype
    _, k, _ = split(x.ty, indices.ty, batch)
    if not k:
        return indices
    tops = [b.reshape(b.dim_size(dim=dims.add(d, -1), dtype=dt), shape=(1,))
            for d in x.ty.shape[batch:][:k]]
    top = b.broadcast_to(b.concat(*tops, axis=0) if len(tops) > 1 else tops[0], indices.ty.shape)
    return b.min(b.max(indices, b.const(0, indices)), top)  # type: ignore[no-any-return]
