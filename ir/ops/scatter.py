"""Writing slices at computed positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dims
from ..core import Op, Value
from ..dims import Dim
from ..dtypes import bool_, dtype, i64
from ..kernel import expr as ex
from ..kernel.form import For, If, Let, Stmt, Store
from ..types import TensorType, shape_text
from . import numeric
from .base import need, primitive, same_dtype
from .gather import E_INDEX, locate, outside, position, split

CHUNK = 64  # elements of the last slice axis that one point of the parallel domain owns

_COMBINE: dict[str, Any] = {
    "add": np.add, "mul": np.multiply, "max": numeric.maximum, "min": numeric.minimum,
}


@primitive
class Scatter(Op):
    """x [b.., d0..dk-1, s..] with updates [b.., n.., s..] combined in at indices [b.., n.., k].

    op: ``add mul max min`` combine with what is there, ``set`` replaces it. Updates of one position
    combine in row-major order of n (floats round after each), so the last ``set`` wins. `batch`:
    the number of leading axes b that all share. `bounds` of a position outside: ``check``: error 2
    at run time; ``drop``: that update is left out. Negative positions are outside.

    Gradients: ``max`` and ``min`` share evenly among all that equal the result. ``mul`` has none
    towards the updates (NotImplementedError).
    """

    name = "scatter"
    op: str
    batch: int = 0
    bounds: str = "check"

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        if self.op not in (*_COMBINE, "set"):
            raise ValueError(f"op is set, {', '.join(_COMBINE)}, not {self.op!r}")
        if self.bounds not in ("check", "drop"):
            raise ValueError(f"bounds is check or drop, not {self.bounds!r}")
        same_dtype(x, updates)
        if self.op != "set":
            need(x, "fiuc" if self.op in ("add", "mul") else "fiu")
        n, _, rest = split(x, indices, self.batch)
        want = x.shape[: self.batch] + n + rest
        if updates.shape != want:
            raise ValueError(f"updates {updates} should have the shape {shape_text(want)}")
        return x

    def eval(self, x: Any, indices: Any, updates: Any) -> Any:
        at, ok = locate(x, indices, self.batch)
        if self.bounds == "check" and not ok.all():
            raise outside(x, indices, ok, self.batch)
        out, dt = x.copy(), dtype(x.dtype)
        for n in np.ndindex(ok.shape):
            if ok[n]:
                here = tuple(int(a[n]) for a in at)
                new = updates[n]
                if self.op != "set":
                    old = numeric.wide(out[here])
                    new = numeric.fit(_COMBINE[self.op](old, numeric.wide(new)), dt)
                out[here] = new
        return out

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, False, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        x, indices, updates = operands
        (g,) = gs
        if self.op == "add":
            return g, None, self._read(b, g, indices)
        if self.op == "set":
            cleared = self._write(b, g, indices, b.const(0, updates), "set")
            mine = b.select(self._last(b, x, indices, updates), self._read(b, g, indices),
                            b.const(0, updates))
            return cleared, None, mine
        if self.op == "mul":
            if needed[2]:
                raise NotImplementedError("scatter by mul has no gradient towards its updates")
            return self._write(b, g, indices, updates, "mul"), None, None
        return self._extremum_grad(b, operands, results[0], g)

    def _read(self, b: Any, x: Value, indices: Value) -> Any:
        return b.gather(x, indices, batch=self.batch, bounds="zero")

    def _write(self, b: Any, x: Value, indices: Value, updates: Value, op: str) -> Any:
        return b.scatter(x, indices, updates, op=op, batch=self.batch, bounds="drop")

    def _last(self, b: Any, x: Value, indices: Value, updates: Value) -> Any:
        """Which updates are the last ones of their position: each leaves its number there."""
        n, k, _ = split(x.ty, indices.ty, self.batch)
        lead = x.ty.shape[: self.batch]
        count = dims.product(n)
        numbers = b.broadcast_to(b.reshape(b.iota(dtype=i64, shape=(count,), axis=0), shape=n),
                                 lead + n)
        empty = b.const(-1, TensorType(i64, x.ty.shape[: self.batch + k]))
        left = self._read(b, self._write(b, empty, indices, numbers, "set"), indices)
        # a position outside reads 0, and so does update 0 of a real position: mask it separately
        ones = b.const(True, TensorType(bool_, x.ty.shape[: self.batch + k]))
        last = getattr(b, "and")(b.compare(left, numbers, op="eq"), self._read(b, ones, indices))
        return b.broadcast(last, shape=updates.ty.shape, dims=tuple(range(len(lead) + len(n))))

    def _extremum_grad(
        self, b: Any, operands: Any, y: Value, g: Value
    ) -> tuple[Value | None, ...]:
        x, indices, updates = operands
        dt = x.ty.dtype
        kept = b.cast(b.compare(x, y, op="eq"), dtype=dt)
        hit = b.cast(b.compare(updates, self._read(b, y, indices), op="eq"), dtype=dt)
        share = b.div(g, self._write(b, kept, indices, hit, "add"))
        return b.mul(kept, share), None, b.mul(hit, self._read(b, share, indices))

    def lower(self, k: Any, x: Any, indices: Any, updates: Any) -> Any:
        """Owner computes: a point owns a chunk of the last slice axis, for every position."""
        out = k.buffer(x.type, "scatter")
        n, depth, rest = split(x.type, indices.type, self.batch)
        width = rest[-1] if rest else 1
        wide = bool(rest) and not (isinstance(width, int) and width <= CHUNK)
        chunks: tuple[Dim, ...] = (dims.ceildiv(width, CHUNK),) if wide else ()
        domain = (*x.shape[: self.batch], *rest[:-1], *chunks)

        def body(*point: Any) -> list[Stmt]:
            lead = point[: self.batch]
            outer = point[self.batch : self.batch + max(0, len(rest) - 1)]
            first = point[-1] * CHUNK if wide else ex.index(0)
            count = ex.imin(ex.index(width) - first, CHUNK) if wide else ex.index(width)
            span = _Span(outer, first, count, bool(rest))
            copy = _nest(x.shape[self.batch : self.batch + depth], "d", lambda d: span.loop(
                lambda s: _copied(out, x, (*lead, *d, *s))))
            write = _nest(n, "n", lambda v: self._apply(
                k, out, indices, updates, lead, v, span, x.shape[self.batch:][:depth]))
            return [*copy, *write]

        k.proc((out,), domain, body)
        return out

    def _apply(
        self, k: Any, out: Any, indices: Any, updates: Any, lead: Any, v: Any, span: _Span,
        sizes: Any,
    ) -> list[Stmt]:
        """One update: read its position, test it, combine its slice."""
        at, ok = position(indices, (*lead, *v), sizes)
        names = [ex.let_var("p", ex.INDEX) for _ in at]
        stmts: list[Stmt] = [Let(p, i) for p, i in zip(names, at, strict=True)]


        def combine(s: tuple[ex.Expr, ...]) -> Store:
            to, of = (*lead, *names, *s), (*lead, *v, *s)
            return Store(out, to, self._combined(out[to], updates[of]))

        inside = span.loop(combine)
        if ok is None:
            return [*stmts, *inside]
        test = ex.let_var("ok", bool_)
        ok = k.check(ok, ok, E_INDEX) if self.bounds == "check" else ok
        return [*stmts, Let(test, ok), If(test, tuple(inside))]

    def _combined(self, old: Any, new: Any) -> Any:
        return new if self.op == "set" else ex.binary(self.op, old, new)

    def flops(self, operands: Any, results: Any) -> Dim:
        return operands[2].count  # type: ignore[no-any-return]


class _Span:
    """The part of a slice that one point owns: all outer slice axes fixed, a run of the last."""

    def __init__(self, outer: Any, first: Any, count: Any, sliced: bool) -> None:
        self.outer, self.first, self.count, self.sliced = outer, first, count, sliced

    def loop(self, make: Any) -> list[Stmt]:
        if not self.sliced:
            return [make(())]
        e = ex.var("e", ex.is_const_index(self.count))
        inside = make((*self.outer, self.first + e))
        return [For(e, self.count, "serial", (inside,))]


def _copied(out: Any, x: Any, at: tuple[ex.Expr, ...]) -> Store:
    return Store(out, at, x[at])


def _nest(extents: Any, name: str, make: Any) -> list[Stmt]:
    """Serial loops over `extents` around the statements that `make` gives for their variables."""
    axes = tuple(ex.var(f"{name}{j}", d) for j, d in enumerate(extents))
    block: list[Stmt] = list(make(axes))
    for axis, d in zip(reversed(axes), reversed(tuple(extents)), strict=True):
        block = [For(axis, ex.index(d), "serial", tuple(block))]
    return block
