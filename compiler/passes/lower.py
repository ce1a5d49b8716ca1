"""Function → Program: every op becomes stages over buffers, control flow becomes steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowc.ir.core import Function, Instr, Value
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer
from flowc.ir.literal import Literal
from flowc.ir.ops.base import concrete
from flowc.ir.plan import (
    Cond,
    Copy,
    Define,
    HostCall,
    Loop,
    Program,
    Push,
    Raw,
    Step,
)

from .base import Context, Pass, Unit, register

ALIASES = frozenset({"cut", "stop_gradient"})  # their result is their operand


@register
@dataclass(frozen=True)
class Lower(Pass):
    """Lower each function to a program of raw stages and control steps."""

    name = "lower"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return Unit({
            k: lower_function(f) if isinstance(f, Function) else f for k, f in unit.items.items()
        })


def lower_function(f: Function) -> Program:
    """The program of a functionalized function (no variables left, state is parameters)."""
    low = _Lowering()
    updated = {i.updated_by: n for n, i in enumerate(f.infos) if i.updated_by >= 0}
    low.stored = {f.results[n] for n in updated}
    params = [low.param(p, i.name) for p, i in zip(f.params, f.infos, strict=True)]
    items, results = low.block(f, params)
    is_state = [i.kind == "state" for i in f.infos]
    state = [p for p, s in zip(params, is_state, strict=True) if s]
    outputs: list[Buffer] = []
    updates: dict[Buffer, Buffer] = {}
    taken: set[Buffer] = set()
    for n, r in enumerate(results):
        if n in updated and r in low.constants:  # the plan copies it, which is no kernel
            updates[params[updated[n]]] = r
            continue
        if r in taken or r in params or r in low.constants or r in low.shared:
            r = low.copy_of(r, items)
        taken.add(r)
        if n in updated:
            updates[params[updated[n]]] = r
        else:
            outputs.append(r)
    infos = [i for i, s in zip(f.infos, is_state, strict=True) if not s]
    infos += [i for i, s in zip(f.infos, is_state, strict=True) if s]
    inputs = [p for p, s in zip(params, is_state, strict=True) if not s]
    return Program(
        f.name, tuple(inputs), tuple(state), tuple(outputs), low.constants, tuple(items),
        tuple(infos), f.guards, f.result_names, updates, low.bounds, low.views,
    )


_FILLED = 1 << 16  # bytes of equal elements from which a loop writes them


class _Lowering:
    """The state of lowering one function: its stage builder and constants."""

    def __init__(self) -> None:
        self.k = Compute()
        self.constants: dict[Buffer, Literal] = {}
        self.literals: dict[Literal, Buffer] = {}
        self.stored: set[Value] = set()  # results that become values of variables
        self.scalars: dict[Value, Literal] = {}
        self.shared: set[Buffer] = set()  # buffers that a loop writes more than once
        self.names: set[str] = set()
        self.views: dict[Buffer, Buffer] = {}
        self.bounds: dict[str, Dim] = {}

    def param(self, v: Value, hint: str) -> Buffer:
        name = "".join(c if c.isalnum() or c == "_" else "_" for c in hint) or "arg"
        if not name[0].isalpha():
            name = f"p_{name}"
        base, n = name, 1
        while name in self.names:
            name, n = f"{base}_{n}", n + 1
        self.names.add(name)
        return Buffer(f"{name}.in", v.ty.dtype, v.ty.shape)

    def block(self, f: Function, args: Sequence[Buffer]) -> tuple[list[Step], list[Buffer]]:
        """A function's instructions as steps, its parameters bound to buffers."""
        env: dict[Value, Buffer] = dict(zip(f.params, args, strict=True))
        items: list[Step] = []
        for instr in f.instrs:
            self.instr(instr, env, items)
        return items, [env[r] for r in f.results]

    def instr(self, i: Instr, env: dict[Value, Buffer], items: list[Step]) -> None:
        ops = [env[v] for v in i.operands if v in env]
        with self.k.at(i.loc, i.source or i.op.name):
            handler = getattr(self, f"op_{i.op.name}", None)
            if i.op.name in ALIASES:
                outs = ops[:1]
            elif handler is not None:
                outs = handler(i, ops, items)
            else:
                out = i.op.lower(self.k, *ops)
                outs = list(out) if isinstance(out, tuple | list) else [out]
        items.extend(Raw(s) for s in self.k.stages)
        self.k.stages = []
        env.update(zip(i.results, outs, strict=True))

    def copy_of(self, src: Buffer, items: list[Step]) -> Buffer:
        """A stage that copies a buffer; fusion treats it as any other."""
        out = self.k.elementwise(src.type, lambda a: a, src)
        items.extend(Raw(s) for s in self.k.stages)
        self.k.stages = []
        return out

    def op_constant(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        value: Literal = i.op.value  # type: ignore[attr-defined]
        if value.splat is not None:
            if not value.type.rank:
                self.scalars[i.result] = value
            return [self.literal(value) if i.result in self.stored else i.op.lower(self.k)]
        return [self.literal(value)]

    def op_broadcast(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        """What a variable starts from, if it is small, is copied: a loop for each is more code."""
        value, ty = self.scalars.get(i.operands[0]), i.result.ty
        size = ty.nbytes if ty.is_static else None
        if value is None or i.result not in self.stored or not isinstance(size, int):
            return [i.op.lower(self.k, *ops)]
        if size > _FILLED:
            return [i.op.lower(self.k, *ops)]
        shape = concrete(ty.shape)
        return [self.literal(Literal(np.broadcast_to(value.array, shape)))]

    def literal(self, value: Literal) -> Buffer:
        """The buffer of a constant; one for equal ones."""
        if value not in self.literals:
            buffer = self.k.buffer(value.type, "const")
            self.literals[value] = buffer
            self.constants[buffer] = value
        return self.literals[value]

    def op_cond(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        op: Any = i.op
        outs = [self.k.buffer(r.ty, "phi") for r in i.results]
        sides: list[tuple[Step, ...]] = []
        for f in (op.then, op.otherwise):
            steps, results = self.block(f, ops[1:])
            moved = [self._owned(r, steps) for r in results]
            steps.extend(Copy(o, r) for o, r in zip(outs, moved, strict=True))
            sides.append(tuple(steps))
        self.shared.update(outs)
        items.append(Cond(ops[0], sides[0], sides[1]))
        return outs

    def _owned(self, b: Buffer, steps: list[Step]) -> Buffer:
        """b, or a copy where a later step of the block could overwrite it."""
        return self.copy_of(b, steps) if b in self.shared else b

    def op_while(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        op: Any = i.op
        current = self._carried(ops[: op.carried], items)
        args = [*current, *ops[op.carried :]]
        test, (pred,) = self.block(op.cond, args)
        pred = self._owned(pred, test)
        stacks = [self.k.buffer(r.ty, "stack") for r in i.results[op.carried + 1 :]]
        body = self._body(op.body, args, current, stacks, bool(op.trips))
        trips = self.k.buffer(i.results[op.carried].ty, "trips") if op.trips else None
        items.append(Loop(
            body, tuple(test), pred, trips=trips, symbol=op.trips, max_trips=op.max_trips
        ))
        extra = [] if trips is None else [trips]
        self.shared.update((*extra, *stacks))
        return [*current, *extra, *stacks]

    def op_scan(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        op: Any = i.op
        n, end = op.carried, op.carried + op.xs
        current = self._carried(ops[:n], items)
        elements = [self.k.buffer(p.ty, "element") for p in op.body.params[n:end]]
        self.shared.update(elements)
        stacks = [self.k.buffer(r.ty, "stack") for r in i.results[n:]]
        body = self._body(op.body, [*current, *elements, *ops[end:]], current, stacks, False)
        xs = tuple(zip(elements, ops[n:end], strict=True))
        items.append(Loop(body, count=op.trip, reverse=op.reverse, xs=xs))
        self.shared.update(stacks)
        return [*current, *stacks]

    def _carried(self, first: list[Buffer], items: list[Step]) -> list[Buffer]:
        """Buffers of loop-carried values, holding what they begin with."""
        current = [self.k.buffer(b.type, "loop") for b in first]
        owned = [self._owned(b, items) for b in first]
        self.shared.update(current)
        items.extend(Copy(c, b) for c, b in zip(current, owned, strict=True))
        return current

    def _body(
        self, f: Function, args: list[Buffer], current: list[Buffer], stacks: list[Buffer],
        grows: bool,
    ) -> tuple[Step, ...]:
        """A round: the body, what it keeps, then all carried values at once."""
        body, results = self.block(f, args)
        n = len(current)
        kept = [self._owned(y, body) for y in results[n:]]
        following = [self.copy_of(r, body) for r in results[:n]]
        body.extend(Push(s, y, grows) for s, y in zip(stacks, kept, strict=True))
        body.extend(Copy(c, b) for c, b in zip(current, following, strict=True))
        return tuple(body)

    def op_nonzero(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        op: Any = i.op
        found, count = i.op.lower(self.k, *ops)
        items.extend(Raw(s) for s in self.k.stages)
        self.k.stages = []
        self.bounds[op.symbol] = found.shape[0]
        items.append(Define(op.symbol, count))
        cut = self.k.buffer(i.results[0].ty, "where")
        self.views[cut] = found
        self.shared.add(cut)
        return [cut, count]

    def op_dim_size(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        op: Any = i.op
        return [self.k.compute(i.result.ty, lambda: ex.cast(ex.index(op.dim), op.dtype))]

    def _host(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        outs = [self.k.buffer(r.ty, "host") for r in i.results]
        self.shared.update(outs)
        items.append(HostCall(i.op.name, tuple(ops), tuple(outs), i.op.attrs()))
        return outs

    op_print = op_assert_ = op_host_call = _host
