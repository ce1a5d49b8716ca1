"""Evaluating scalar expressions: the variables are numbers, or arrays of equal length (lanes)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import dims
from ..core import IRError
from ..dims import Dim
from .expr import INDEX, Expr, const_value, load_parts, walk
from .form import Buffer
from .scalars import COMBINE, SCALAR_EVAL, combine, convert, identity

REDUCE_POINTS = 1 << 20  # elements of a reduction evaluated at once


class KernelError(IRError):
    """A kernel that breaks a rule or fails a check: `code` is a FLOWC_E_ number, or 0."""

    def __init__(self, message: str, code: int = 0, op: str = "") -> None:
        self.code = code
        super().__init__(message, op)


class Evaluator:
    """Expressions in an environment of variables, symbols and buffers.

    `read` is called with each buffer and index tuple that a load touches.
    """

    def __init__(
        self,
        buffers: Mapping[Buffer, Any],
        env: Mapping[str, int],
        read: Callable[[Buffer, tuple[Any, ...]], None] | None = None,
    ) -> None:
        self.buffers, self.env, self.read = buffers, env, read
        self.vars: dict[Expr, Any] = {}
        self._plans: dict[Expr, list[Expr]] = {}
        self._dims: dict[Dim, int] = {}

    def dim(self, d: Dim) -> int:
        """The value of a dimension."""
        if isinstance(d, int):
            return d
        found = self._dims.get(d)
        if found is None:
            value = dims.substitute(d, dict(self.env))
            if not isinstance(value, int):
                raise KernelError(f"the dimension {d} has no value")
            found = self._dims[d] = value
        return found

    def plan(self, root: Expr) -> list[Expr]:
        """The nodes to evaluate, arguments first; the bodies of reductions are left to these."""
        found = self._plans.get(root)
        if found is None:
            found, seen = [], set()
            stack = [(root, False)]
            while stack:
                e, done = stack.pop()
                if done:
                    found.append(e)
                elif e not in seen:
                    seen.add(e)
                    stack.append((e, True))
                    if e.op != "reduce":
                        stack.extend((a, False) for a in e.args)
            self._plans[root] = found
        return found

    def __call__(self, root: Expr, memo: dict[Expr, Any] | None = None) -> Any:
        """The value: an int (index), a NumPy scalar or 0-d array, or an array over the lanes."""
        values: dict[Expr, Any] = {} if memo is None else memo
        for e in self.plan(root):
            if e not in values:
                values[e] = self.node(e, values)
        return values[root]

    def node(self, e: Expr, values: dict[Expr, Any]) -> Any:
        if e.op == "var":
            if e not in self.vars:
                raise KernelError(f"the variable {e.attr.name} has no value here")
            return self.vars[e]
        if e.op == "const":
            return const_value(e)
        if e.op == "load":
            return self.load(e, values)
        if e.op == "reduce":
            return self.reduce(e, values)
        if e.op == "hreduce":
            return self.hreduce(e, tuple(values[a] for a in e.args))
        args = [values[a] for a in e.args]
        if e.op == "check":
            return self.check(e, *args)
        if e.dtype is INDEX:
            return self.index(e, args)
        if e.op in ("cast", "bitcast"):
            return convert(e.op, args[0], e.dtype)
        return SCALAR_EVAL[e.op](*args)

    def index(self, e: Expr, args: list[Any]) -> Any:
        if e.op == "lin":
            ks, c = e.attr
            return sum((a * self.dim(k) for a, k in zip(args, ks, strict=True)), self.dim(c))
        if e.op in ("floordiv", "mod"):
            if np.any(np.asarray(args[1]) <= 0):
                raise KernelError(f"{e.op} by {args[1]}, which is not positive")
            return args[0] // args[1] if e.op == "floordiv" else args[0] % args[1]
        if e.op == "imul":
            return args[0] * args[1]
        if e.op in ("cast", "bitcast"):
            return _plain(convert(e.op, args[0], INDEX))
        return _plain(SCALAR_EVAL[e.op](*args))

    def check(self, e: Expr, value: Any, ok: Any) -> Any:
        if not np.all(ok):
            code, op, loc = e.attr
            raise KernelError(f"check failed{f' at {loc}' if loc else ''}", code, op)
        return value

    # ---- memory

    def element(self, b: Buffer, idx: tuple[Any, ...], last: bool = False) -> Any:
        """b[idx], or with `last` the row b[idx, :]; KernelError outside the buffer."""
        array = self.buffers.get(b)
        if array is None:
            raise KernelError(f"the buffer {b} has no memory here")
        for n, (i, size) in enumerate(zip(idx, array.shape, strict=False)):
            bad = not 0 <= i < size if isinstance(i, int) else bool(np.any((i < 0) | (i >= size)))
            if bad:
                raise KernelError(f"index {i} of axis {n} is outside {b}, here {array.shape}", 2)
        if self.read is not None:
            self.read(b, (*idx, np.arange(array.shape[-1])) if last else idx)
        return array[idx]

    def load(self, e: Expr, values: dict[Expr, Any]) -> Any:
        buffer, indices, pred = load_parts(e)
        idx = tuple(values[i] for i in indices)
        if pred is None:
            return self.element(buffer, idx)
        ok = np.asarray(values[pred])
        if ok.ndim == 0:
            zero = np.zeros((), buffer.dtype.np)[()]
            return self.element(buffer, idx) if ok else zero
        shape = np.broadcast_shapes(ok.shape, *(np.shape(i) for i in idx))
        ok = np.broadcast_to(ok, shape)
        out = np.zeros(shape, buffer.dtype.np)
        taken = tuple(np.broadcast_to(i, shape)[ok] for i in idx)
        if ok.any():
            out[ok] = self.element(buffer, taken)
        return out

    def hreduce(self, e: Expr, lead: tuple[Any, ...]) -> Any:
        op, buffer = e.attr
        if any(np.ndim(i) for i in lead):
            raise KernelError(f"hreduce of rows of {buffer} that differ from lane to lane")
        row = self.element(buffer, lead, last=True)
        return combine(op, row) if len(row) else identity(op, e.dtype)

    # ---- reductions: a new leading axis runs over the reduced points

    def reduce(self, e: Expr, values: dict[Expr, Any]) -> Any:
        body, axes = e.args[0], e.args[1:]
        shape = tuple(self.dim(a.attr.extent) for a in axes)
        total = int(np.prod(shape, dtype=np.int64))
        free = self.depends(body, axes)
        outer = {k: v for k, v in values.items() if k not in free}
        lanes = np.broadcast_shapes(*(np.shape(v) for v in self.vars.values()))
        step = max(1, REDUCE_POINTS // max(1, int(np.prod(lanes, dtype=np.int64))))
        out = None
        for start in range(0, total, step):
            points = np.unravel_index(np.arange(start, min(start + step, total)), shape)
            for a, p in zip(axes, points, strict=True):
                self.vars[a] = p.reshape(-1, *[1] * len(lanes))
            part = self.part(e, self(body, dict(outer)), len(points[0]) if axes else 1, lanes)
            out = part if out is None else SCALAR_EVAL[COMBINE[e.attr]](out, part)
        for a in axes:
            self.vars.pop(a, None)
        if out is None:
            return identity(e.attr, e.dtype)
        return out.astype(e.dtype.np)

    def part(self, e: Expr, body: Any, count: int, lanes: tuple[int, ...]) -> Any:
        """The reduction of some points; sums of floats are kept in f64 (c128)."""
        wide = {"f": np.float64, "c": np.complex128}.get(e.dtype.kind)
        values = np.asarray(body)
        if values.ndim < len(lanes) + 1 or len(values) != count:
            values = np.broadcast_to(values, (count, *lanes))
        if e.attr in ("sum", "prod") and wide is not None:
            fn = np.add if e.attr == "sum" else np.multiply
            return fn.reduce(values.astype(wide), axis=0)
        return combine(e.attr, values)

    def depends(self, body: Expr, axes: tuple[Expr, ...]) -> set[Expr]:
        """The nodes of the body whose value differs from point to point."""
        out: set[Expr] = set(axes)
        for x in walk(body):
            if any(a in out for a in x.args):
                out.add(x)
        return out


def _plain(x: Any) -> Any:
    """An index value: a Python int, or an i64 array."""
    x = np.asarray(x)
    return int(x) if x.ndim == 0 else x.astype(np.int64)
