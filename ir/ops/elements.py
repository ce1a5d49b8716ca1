"""Loops that read or write one row of an array in each round, as scans over those arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..autodiff import live
from ..core import Function, Instr, Value
from .base import REGISTRY
from .counting import Counter


def scan_body(op: Any, c: Counter) -> tuple[Function, int, int, tuple[int, ...]]:
    """(body, carried, xs, places) of the scan that a counted `while` is.

    An array [rounds, …] of which a round reads the row that the counter tells becomes one of the
    xs; invariants that are then not used are dropped. The last carried values, if they are arrays
    of which a round only writes that row, become values that are kept. places: which of the loop's
    operands each operand of the scan is.
    """
    body: Function = op.body
    index = _Index(body, c)
    written = _written_rows(op, index)
    n = op.carried - len(written)
    rows: dict[Value, Value] = {}  # invariant → its element
    instrs: list[Instr] = []
    kept: list[Value] = []
    for i in body.instrs:
        if i in written:
            update = i.operands[1]
            kept.append(Value(update.ty.with_shape(update.ty.shape[1:])))
            i = Instr(_reshape(kept[-1]), (update,), (kept[-1],), i.loc, i.source)
        elif index.is_row(i, body.params[op.carried :]):
            x = i.operands[0]
            if x not in rows:
                rows[x] = Value(x.ty.with_shape(x.ty.shape[1:]), x.name)
            i = Instr(_reshape(i.result), (rows[x],), i.results, i.loc, i.source)
        instrs.append(i)
    last = [i.result for i in body.instrs if i in written]
    row = dict(zip(last, kept, strict=True))
    results = (*body.results[:n], *(row[r] for r in body.results[n : op.carried]))
    instrs = live(instrs, results)
    used = {v for i in instrs for v in i.operands} | set(results)
    places = list(range(n))
    places += [j for j, p in enumerate(body.params) if p in rows]
    places += [j for j, p in enumerate(body.params) if j >= op.carried and p in used]
    params = [*body.params[:n], *(rows[p] for p in body.params if p in rows)]
    params += [p for p in body.params[op.carried :] if p in used]
    new = Function(body.name, tuple(params), tuple(instrs), results)
    return new, n, len(rows), tuple(places)


def _written_rows(op: Any, index: _Index) -> set[Instr]:
    """What writes the last carried values, where that is a row of each round and all of their use.

    The loop writes all rows, so that nothing is left of what the arrays held before.
    """
    body: Function = op.body
    users = body.users()
    producer = body.producers()
    out: set[Instr] = set()
    for j in reversed(range(op.carried)):
        i, p = producer.get(body.results[j]), body.params[j]
        if i is None or not index.writes_row(i) or i.operands[0] is not p or users[p] != [i]:
            break
        if i.operands.count(p) > 1 or users[i.result] or body.results.count(i.result) > 1:
            break
        out.add(i)
    return out


def _reshape(v: Value) -> Any:
    return REGISTRY["reshape"](shape=v.ty.shape)  # type: ignore[call-arg]


class _Index:
    """Which values of a body are the number of the round."""

    def __init__(self, body: Function, c: Counter) -> None:
        self.producer: Mapping[Value, Instr] = body.producers()
        self.rounds = c.count
        self.counter = body.params[c.at] if (c.start, c.step) == (0, 1) else None

    def is_row(self, i: Instr, invariants: tuple[Value, ...]) -> bool:
        """Whether i reads the row of this round of an invariant that has one for each round."""
        op: Any = i.op
        if op.name not in ("gather", "dynamic_slice") or i.operands[0] not in invariants:
            return False
        x = i.operands[0].ty
        if not x.rank or x.shape[0] != self.rounds:
            return False
        if op.name == "gather":
            return op.batch == 0 and i.operands[1].ty.count == 1 and self._is_counter(i.operands[1])
        whole = op.sizes == (1, *x.shape[1:])  # the other starts are clamped to 0
        return whole and self._is_counter(i.operands[1])

    def writes_row(self, i: Instr) -> bool:
        """Whether i replaces the row of this round of an array that has one for each round."""
        if i.op.name != "dynamic_update_slice":
            return False
        x, update, start, *_ = (*i.operands, i.operands[0])
        return (
            x.ty.rank > 0 and x.ty.shape[0] == self.rounds
            and update.ty.shape == (1, *x.ty.shape[1:]) and self._is_counter(start)
        )

    def _is_counter(self, v: Value) -> bool:
        while v is not self.counter:
            i = self.producer.get(v)
            if i is None or i.result.ty.count != 1:
                return False
            if i.op.name in ("reshape", "cast", "broadcast") and _holds(v, i.operands[0]):
                v = i.operands[0]
            elif i.op.name == "select" and self._is_below_zero(i.operands[0]):
                v = i.operands[2]  # counted from the end where negative, which it never is
            elif i.op.name == "gather" and self._counts(i.operands[0]):
                v = i.operands[1]  # 0, 1, 2 … at the counter
            else:
                return False
        return True

    def _counts(self, v: Value) -> bool:
        """Whether v is the numbers of all rounds."""
        i = self.producer.get(v)
        return i is not None and i.op.name == "iota" and v.ty.shape == (self.rounds,)

    def _is_below_zero(self, v: Value) -> bool:
        """Whether v is ``counter < 0``."""
        i = self.producer.get(v)
        if i is None or i.op.name != "compare" or i.op.op != "lt":  # type: ignore[attr-defined]
            return False
        zero = self.producer.get(i.operands[1])
        return (zero is not None and zero.op.name == "constant"
                and not zero.op.attrs()["value"].array.any() and self._is_counter(i.operands[0]))


def _holds(to: Value, of: Value) -> bool:
    """Whether every integer of the one type is the same in the other."""
    a, b = to.ty.dtype, of.ty.dtype
    return a == b or (a.kind == b.kind == "i" and a.bits >= b.bits)
