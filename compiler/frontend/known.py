"""Integer values that are known while a function is built: sizes, and arithmetic on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import Instr, Value

_LIMIT = 4096  # elements: larger integer tensors are data, not shapes
Sizes = Any  # an object array of dimensions



_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": dims.add,
    "sub": lambda a, b: dims.add(a, dims.mul(b, -1)),
    "mul": dims.mul,
    "max": dims.maximum,
    "min": dims.minimum,
}
_REDUCE = {"sum": dims.add, "prod": dims.mul, "max": dims.maximum, "min": dims.minimum}
_START = {"sum": 0, "prod": 1}


class Known:
    """Evaluates integer values of a builder to arrays of dimensions."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.table: dict[Value, Sizes | None] = {}
        self.given: dict[Value, Sizes] = {}  # parameters whose values a specialization may assume
        self.used: dict[Value, None] = {}  # those that it does assume

    # where given, makes symbols of integers that nothing is known of
    unknowns: Callable[[Value], Sizes] | None = None

    def set(self, value: Value, sizes: Any) -> None:
        """Say what a value is, where its instructions do not show it."""
        self.table[value] = np.array(sizes, dtype=object)

    def same(self, new: Value, old: Value) -> None:
        if old in self.table:
            self.table[new] = self.table[old]

    def get(self, value: Value) -> Sizes | None:
        """The elements as ints and symbolic sizes, or None where they are not known."""
        found = self._find(value)
        if found is None or not self.b.merged:
            return found
        env = self.b.merged
        flat = [d if isinstance(d, int) else dims.substitute(d, env) for d in found.reshape(-1)]
        return _pack(flat, found.shape)

    def _find(self, value: Value) -> Sizes | None:
        work = [value]
        while work:
            v = work[-1]
            if v in self.table:
                work.pop()
                continue
            if v in self.given:
                self.table[work.pop()] = self.given[v]
                self.used[v] = None
                continue
            instr = self.b.producer.get(v)
            if instr is None and self.unknowns is not None and _small(v):
                self.table[work.pop()] = self.unknowns(v)
                continue
            if instr is None or not _small(v):
                self.table[work.pop()] = None
                continue
            todo = [] if instr.op.name == "constant" else _needed(instr)
            todo = [o for o in todo if o not in self.table]
            if todo:
                work.extend(todo)
                continue
            self.table[work.pop()] = self._evaluate(instr)
        return self.table[value]

    def _evaluate(self, instr: Instr) -> Sizes | None:
        rule = _RULES.get(instr.op.name)
        operands = [self.table.get(o) for o in instr.operands]
        if rule is None or any(o is None for o in operands):
            return None
        try:
            return rule(instr, *operands)
        except (ArithmeticError, IndexError, TypeError, ValueError):
            return None


def _small(v: Value) -> bool:
    t = v.ty
    if not (t.dtype.is_int or t.dtype.is_bool):
        return False
    return t.is_static and bool(t.count <= _LIMIT)  # type: ignore[operator]


def _needed(instr: Instr) -> tuple[Value, ...]:
    return instr.operands if instr.op.name in _RULES else ()


def _pack(flat: list[Any], shape: tuple[int, ...]) -> Sizes:
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(shape)


def _shape(instr: Instr) -> tuple[int, ...]:
    return tuple(int(d) for d in instr.result.ty.shape)  # type: ignore[arg-type]


def _constant(instr: Instr) -> Sizes:
    array = instr.op.value.array  # type: ignore[attr-defined]
    return _pack([int(v) for v in array.reshape(-1)], array.shape)


def _dim_size(instr: Instr) -> Sizes:
    return _pack([instr.op.dim], ())  # type: ignore[attr-defined]


def _binary(instr: Instr, x: Sizes, y: Sizes) -> Sizes:
    f = _BINARY[instr.op.name]
    return _pack([f(a, b) for a, b in zip(x.flat, y.flat, strict=True)], x.shape)


def _divide(instr: Instr, x: Sizes, y: Sizes) -> Sizes | None:
    if not all(dims.nonnegative(d) for d in (*x.flat, *y.flat)):
        return None  # `div` truncates and `floordiv` does not
    f = dims.mod if instr.op.name == "rem" else dims.floordiv
    return _pack([f(a, b) for a, b in zip(x.flat, y.flat, strict=True)], x.shape)


def _neg(instr: Instr, x: Sizes) -> Sizes:
    return _pack([dims.mul(a, -1) for a in x.flat], x.shape)


def _cast(instr: Instr, x: Sizes) -> Sizes | None:
    return x if instr.result.ty.dtype.is_int else None


def _reshape(instr: Instr, x: Sizes) -> Sizes:
    return x.reshape(_shape(instr))


def _broadcast(instr: Instr, x: Sizes) -> Sizes:
    shape = _shape(instr)
    kept = instr.op.dims  # type: ignore[attr-defined]
    lead = [shape[i] if i in kept else 1 for i in range(len(shape))]
    return np.broadcast_to(x.reshape(lead), shape)


def _slice(instr: Instr, x: Sizes) -> Sizes:
    op: Any = instr.op
    return x[tuple(slice(*s) for s in zip(op.starts, op.limits, op.strides, strict=True))]


def _concat(instr: Instr, *xs: Sizes) -> Sizes:
    return np.concatenate(xs, axis=instr.op.axis)  # type: ignore[attr-defined]


def _transpose(instr: Instr, x: Sizes) -> Sizes:
    return np.transpose(x, instr.op.perm)  # type: ignore[attr-defined]


def _reverse(instr: Instr, x: Sizes) -> Sizes:
    return np.flip(x, instr.op.axes)  # type: ignore[attr-defined]


def _iota(instr: Instr) -> Sizes:
    shape, axis = _shape(instr), instr.op.axis  # type: ignore[attr-defined]
    index = np.indices(shape)[axis]
    return _pack([int(v) for v in index.reshape(-1)], shape)


def _reduce(instr: Instr, x: Sizes) -> Sizes | None:
    op: Any = instr.op
    f = _REDUCE.get(op.op)
    if f is None:
        return None
    keep = [i for i in range(x.ndim) if i not in op.axes]
    count = int(np.prod([x.shape[a] for a in op.axes]))
    rows = np.transpose(x, (*keep, *op.axes)).reshape(-1, count)
    out = []
    for row in rows:
        items = list(row) if len(row) or op.op not in _START else [_START[op.op]]
        total = items[0]
        for item in items[1:]:
            total = f(total, item)
        out.append(total)
    return _pack(out, _shape(instr))


def _gather(instr: Instr, x: Sizes, indices: Sizes) -> Sizes | None:
    if instr.op.batch or indices.shape[-1] != 1:  # type: ignore[attr-defined]
        return None
    return x[indices[..., 0].astype(int)]


def _same(instr: Instr, x: Sizes) -> Sizes:
    return x


_RULES: dict[str, Any] = {
    "constant": _constant, "dim_size": _dim_size, "neg": _neg, "cast": _cast, "reshape": _reshape,
    "broadcast": _broadcast, "slice": _slice, "concat": _concat, "transpose": _transpose,
    "reverse": _reverse, "iota": _iota, "reduce": _reduce, "gather": _gather, "cut": _same,
    "stop_gradient": _same, "div": _divide, "rem": _divide,
} | dict.fromkeys(_BINARY, _binary)  # fmt: skip
