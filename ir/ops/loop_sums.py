"""Sums over the rounds of a loop that are taken after it.

The gradient of a weight is Σ_t a_tᵀ·g_t. Instead of adding a product to an accumulator as large as
the weight in each round, the reverse loop gives the stacks of a and g, and one product contracts
the rounds together with the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dims
from ..core import Instr, Value

_AFTER = ("transpose", "reshape")  # of a sum: the same as the sum of those


@dataclass(frozen=True, eq=False)
class Late:
    """One term: `base`, linear in what it is given, then the ops of `chain` in order.

    base: a dot, a sum over axes, or what a gather or dynamic_slice has for a gradient: a scatter
    into zeros, or a dynamic_update_slice of one element of the first axis of zeros.
    """

    base: Instr
    chain: tuple[Instr, ...]

    @property
    def factors(self) -> tuple[Value, ...]:
        """The operands of base that are needed as stacks."""
        skip, count = {"scatter": (1, 3), "dynamic_update_slice": (1, 3)}.get(
            self.base.op.name, (0, len(self.base.operands))
        )
        return self.base.operands[skip:count]

    def emit(self, b: Any, stack: Callable[[Value], Value]) -> Value:
        """The term summed over the rounds, from the stacks of its factors."""
        with b.at(self.base.loc, self.base.source):
            args = [stack(v) for v in self.factors]
            out: Value = _EMIT[self.base.op.name](b, self.base, *args)
            for instr in self.chain:
                out = b.emit(instr.op, out)
        return out


def _dot(b: Any, base: Instr, x: Value, y: Value) -> Any:
    op: Any = base.op
    if (op.contract[0][:1], op.contract[1][:1]) == ((0,), (0,)):
        # the rounds and the batch are one axis: a sum over one axis is the simpler product
        return b.dot(_merged(b, x), _merged(b, y), contract=op.contract, batch=op.batch)
    contract = tuple((0, *(i + 1 for i in side)) for side in op.contract)
    batch = tuple(tuple(i + 1 for i in side) for side in op.batch)
    return b.dot(x, y, contract=contract, batch=batch)


def _merged(b: Any, x: Value) -> Value:
    """x with its first two axes as one."""
    t, n, *rest = x.ty.shape
    return b.reshape(x, shape=(dims.mul(t, n), *rest))  # type: ignore[no-any-return]


def _reduce(b: Any, base: Instr, x: Value) -> Any:
    op: Any = base.op
    return b.reduce(x, op="sum", axes=(0, *(i + 1 for i in op.axes)))


def _scatter(b: Any, base: Instr, indices: Value, updates: Value) -> Any:
    op: Any = base.op
    return b.scatter(b.const(0, base.result), indices, updates, op="add", batch=0, bounds=op.bounds)


def _update_rows(b: Any, base: Instr, updates: Value, starts: Value) -> Any:
    """Starts are clamped, as those of dynamic_update_slice are."""
    t, rest = updates.ty.shape[0], updates.ty.shape[2:]
    last = b.dim_size(dim=dims.add(base.result.ty.shape[0], -1), dtype=starts.ty.dtype)
    at = b.max(b.min(starts, b.broadcast_to(last, starts.ty.shape)), b.const(0, starts))
    return b.scatter(
        b.const(0, base.result), b.reshape(at, shape=(t, 1)), b.reshape(updates, shape=(t, *rest)),
        op="add", batch=0, bounds="drop",
    )


_EMIT: dict[str, Callable[..., Any]] = {
    "dot": _dot, "reduce": _reduce, "scatter": _scatter, "dynamic_update_slice": _update_rows,
}


def late_terms(
    sums: Sequence[Value], producer: Mapping[Value, Instr], varying: set[Value]
) -> tuple[list[list[Late]], list[list[Value]]]:
    """For each value to be summed over the rounds: its late terms, and the terms to accumulate.

    producer: what the reverse round computes. varying: the values that differ from round to round
    and can be stacked: a product with anything else is not a product of stacks.
    """
    late: list[list[Late]] = []
    rest: list[list[Value]] = []
    for v in sums:
        late.append([])
        rest.append([])
        for term in _addends(v, producer):
            found = _late(term, producer, varying)
            if found is not None and found.base.op.name != "reduce":
                late[-1].append(found)
            else:
                rest[-1].append(term)
    stacked = {u for terms in late for t in terms for u in t.factors}
    for terms, others in zip(late, rest, strict=True):
        for term in list(others):  # sums of what is stacked anyway: biases
            found = _late(term, producer, stacked)
            if found is not None:
                terms.append(found)
                others.remove(term)
    return late, rest


def _addends(v: Value, producer: Mapping[Value, Instr]) -> list[Value]:
    out, stack = [], [v]
    while stack:
        x = stack.pop()
        instr = producer.get(x)
        if instr is not None and instr.op.name == "add":
            stack.extend(reversed(instr.operands))
        else:
            out.append(x)
    return out


def _late(v: Value, producer: Mapping[Value, Instr], stackable: set[Value]) -> Late | None:
    chain: list[Instr] = []
    instr = producer.get(v)
    while instr is not None and instr.op.name in _AFTER:
        chain.append(instr)
        instr = producer.get(instr.operands[0])
    if instr is None or not _is_linear(instr, producer):
        return None
    late = Late(instr, tuple(reversed(chain)))
    return late if stackable.issuperset(late.factors) else None


def _is_linear(instr: Instr, producer: Mapping[Value, Instr]) -> bool:
    op: Any = instr.op
    if op.name == "reduce":
        return bool(op.op == "sum")
    if op.name == "scatter":
        return op.op == "add" and op.batch == 0 and _is_zero(instr.operands[0], producer)
    if op.name == "dynamic_update_slice":
        whole, update = instr.result.ty.shape, instr.operands[1].ty.shape
        row = len(whole) > 0 and update == (1, *whole[1:])
        return row and _is_zero(instr.operands[0], producer)
    return bool(op.name == "dot")


def _is_zero(v: Value, producer: Mapping[Value, Instr]) -> bool:
    instr = producer.get(v)
    if instr is not None and instr.op.name == "broadcast":
        instr = producer.get(instr.operands[0])
    return (instr is not None and instr.op.name == "constant"
            and not instr.op.attrs()["value"].array.any())


def depending(instrs: Iterable[Instr], on: Iterable[Value]) -> set[Value]:
    """The values that depend on any of `on`, those included."""
    out = set(on)
    for instr in instrs:
        if not out.isdisjoint(instr.operands):
            out.update(instr.results)
    return out
