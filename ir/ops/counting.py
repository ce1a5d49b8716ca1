"""Loops whose number of rounds is known before they start: `for (i = a; i < n; i += step)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dims
from ..core import Function, Instr, Value
from ..dims import Dim
from ..dtypes import i32, i64


def _sub(a: Dim, b: Dim) -> Dim:
    return dims.add(a, dims.mul(b, -1))


_FOLDS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "add": dims.add, "mul": dims.mul, "max": dims.maximum, "min": dims.minimum, "sub": _sub,
}
_DEPTH = 12  # how far a size is followed through casts, sums and shape vectors


@dataclass(frozen=True)
class Counter:
    """The carried value `at` is start, start + step, …; there are `count` rounds."""

    at: int
    start: Dim
    step: int
    count: Dim


def counter(
    op: Any, operands: Sequence[Value], producer: Mapping[Value, Instr]
) -> Counter | None:
    """The counter of a `while`, if one alone decides the number of rounds, else None.

    The pattern: `cond` is i < n (or ≤, or turned round); i is carried and grows by a constant; n is
    a size or constant that does not change. producer: which instruction defines a value around the
    loop.
    """
    outer = _Sizes(producer, lambda v: None)
    test = _made(op.cond.producers(), op.cond.results[0])
    if test is None or test.op.name != "compare":
        return None
    left, right = test.operands
    relation = test.op.op  # type: ignore[attr-defined]
    if relation in ("gt", "ge"):
        left, right, relation = right, left, {"gt": "lt", "ge": "le"}[relation]
    if relation not in ("lt", "le") or left not in op.cond.params[: op.carried]:
        return None
    at = op.cond.params.index(left)
    step = _step(op.body, at)
    start = outer.of(operands[at])
    limit = _Sizes(op.cond.producers(), lambda v: _unchanging(op, operands, v, outer)).of(right)
    if step is None or start is None or limit is None:
        return None
    if step != 1 and not isinstance(limit, int):
        return None  # i might step over the greatest integer
    room = dims.add(dims.add(limit, -start), 1 if relation == "le" else 0)
    count = dims.maximum(dims.ceildiv(room, step), 0)
    if op.max_trips is not None:
        count = dims.minimum(count, op.max_trips)
    return Counter(at, start, step, count)


def _made(producer: Mapping[Value, Instr], v: Value) -> Instr | None:
    """What makes v; reshapes to the shape that there is already are looked through."""
    instr = producer.get(v)
    while instr is not None and instr.op.name == "reshape" and instr.operands[0].type == v.type:
        instr = producer.get(instr.operands[0])
    return instr


def _step(body: Function, at: int) -> int | None:
    """c > 0 where body's result `at` is its parameter `at` plus the constant c."""
    made = _made(body.producers(), body.results[at])
    if made is None or made.op.name != "add":
        return None
    sizes = _Sizes(body.producers(), lambda v: None)
    for i, c in (made.operands, made.operands[::-1]):
        step = sizes.of(c)
        if i is body.params[at] and isinstance(step, int) and step > 0:
            return step
    return None


def _unchanging(op: Any, operands: Sequence[Value], v: Value, outer: _Sizes) -> Dim | None:
    """A parameter of `cond` that has the same value in all rounds, as a size."""
    at = op.cond.params.index(v) if v in op.cond.params else -1
    if at < 0 or (at < op.carried and op.body.results[at] is not op.body.params[at]):
        return None
    return outer.of(operands[at])


class _Sizes:
    """Integer scalars as dimensions: constants, `dim_size`, and what is computed from those."""

    def __init__(
        self, producer: Mapping[Value, Instr], given: Callable[[Value], Dim | None]
    ) -> None:
        self.producer, self.given = producer, given

    def of(self, v: Value, depth: int = _DEPTH) -> Dim | None:
        """The scalar (or vector of one element) v as a dimension; None where it is not known."""
        instr = self.producer.get(v)
        if v.ty.dtype not in (i32, i64) or depth == 0:
            return None
        if instr is None:
            return self.given(v)
        op: Any = instr.op
        if op.name == "constant":
            return int(op.value.array.reshape(-1)[0]) if op.value.array.size == 1 else None
        if op.name == "dim_size":
            return op.dim  # type: ignore[no-any-return]
        args = instr.operands
        if op.name in ("reshape", "cast", "broadcast"):
            return self.of(args[0], depth - 1) if v.ty.count == 1 else None
        if op.name == "cut":
            return None if op.fed else self.of(args[0], depth - 1)
        if op.name == "slice" and v.ty.count == 1 and v.ty.rank == 1:
            return self._element(args[0], op.starts[0], depth - 1)
        fold = _FOLDS.get(op.name)
        if fold is None:
            return None
        a, b = self.of(args[0], depth - 1), self.of(args[1], depth - 1)
        return None if a is None or b is None else fold(a, b)

    def _element(self, v: Value, at: Dim, depth: int) -> Dim | None:
        """Element `at` of a shape vector: a constant, or a concatenation of scalars."""
        instr = self.producer.get(v)
        while instr is not None and instr.op.name == "cut" and not instr.op.fed:  # type: ignore[attr-defined]
            instr = self.producer.get(instr.operands[0])
        if instr is None or not isinstance(at, int):
            return None
        if instr.op.name == "constant":
            return int(instr.op.value.array[at])  # type: ignore[attr-defined]
        if instr.op.name == "concat" and all(p.ty.shape == (1,) for p in instr.operands):
            return self.of(instr.operands[at], depth)
        return None
