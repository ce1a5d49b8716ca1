"""Function → Program: every op becomes stages over buffers, control flow becomes steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowc.ir import dims
from flowc.ir.core import Function, Instr, Value
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer
from flowc.ir.literal import Literal
from flowc.ir.plan import Cond, Copy, HostCall, Loop, Program, Raw, Step

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
    params = [low.param(p, i.name) for p, i in zip(f.params, f.infos, strict=True)]
    items, results = low.block(f, params)
    is_state = [i.kind == "state" for i in f.infos]
    state = [p for p, s in zip(params, is_state, strict=True) if s]
    updated = {i.updated_by: p for i, p in zip(f.infos, params, strict=True) if i.updated_by >= 0}
    outputs: list[Buffer] = []
    updates: dict[Buffer, Buffer] = {}
    taken: set[Buffer] = set()
    for n, r in enumerate(results):
        if r in taken or r in params or r in low.constants or r in low.shared:
            r = low.copy_of(r, items)
        taken.add(r)
        if n in updated:
            updates[updated[n]] = r
        else:
            outputs.append(r)
    infos = [i for i, s in zip(f.infos, is_state, strict=True) if not s]
    infos += [i for i, s in zip(f.infos, is_state, strict=True) if s]
    inputs = [p for p, s in zip(params, is_state, strict=True) if not s]
    return Program(
        f.name, tuple(inputs), tuple(state), tuple(outputs), low.constants, tuple(items),
        tuple(infos), f.guards, f.result_names, updates,
    )


class _Lowering:
    """The state of lowering one function: its stage builder and constants."""

    def __init__(self) -> None:
        self.k = Compute()
        self.constants: dict[Buffer, Literal] = {}
        self.literals: dict[Literal, Buffer] = {}
        self.shared: set[Buffer] = set()  # buffers that a loop writes more than once
        self.names: set[str] = set()

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
            return [i.op.lower(self.k)]
        if value not in self.literals:
            buffer = self.k.buffer(value.type, "const")
            self.literals[value] = buffer
            self.constants[buffer] = value
        return [self.literals[value]]

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
        n = op.carried
        current = [self.k.buffer(b.type, "loop") for b in ops[:n]]
        self.shared.update(current)
        first = [self._owned(b, items) for b in ops[:n]]
        items.extend(Copy(c, b) for c, b in zip(current, first, strict=True))
        args = [*current, *ops[n:]]
        test, (pred,) = self.block(op.cond, args)
        body, results = self.block(op.body, args)
        following = [self.copy_of(r, body) for r in results]
        body.extend(Copy(c, b) for c, b in zip(current, following, strict=True))
        trips, stacks, symbol = self._saved(i, current)
        items.append(Loop(tuple(test), pred, tuple(body), trips, stacks, symbol))
        extra = [trips] if trips is not None else []
        return [*current, *extra, *(s for s, _ in stacks)]

    def _saved(
        self, i: Instr, current: list[Buffer]
    ) -> tuple[Buffer | None, tuple[tuple[Buffer, Buffer], ...], str]:
        """The trip count and stacks of a loop whose values are kept for its gradient."""
        n = len(current)
        if len(i.results) == n:
            return None, (), ""
        trips = self.k.buffer(i.results[n].ty, "trips")
        save: tuple[int, ...] = i.op.save  # type: ignore[attr-defined]
        made = [self.k.buffer(r.ty, "stack") for r in i.results[n + 1 :]]
        self.shared.update((trips, *made))
        symbol = ""
        for b in made:
            (symbol,) = dims.symbols(b.shape[0])
        return trips, tuple((s, current[j]) for s, j in zip(made, save, strict=True)), symbol

    def op_dim_size(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        op: Any = i.op
        return [self.k.compute(i.result.ty, lambda: ex.cast(ex.index(op.dim), op.dtype))]

    def _host(self, i: Instr, ops: list[Buffer], items: list[Step]) -> list[Buffer]:
        outs = [self.k.buffer(r.ty, "host") for r in i.results]
        self.shared.update(outs)
        items.append(HostCall(i.op.name, tuple(ops), tuple(outs), i.op.attrs()))
        return outs

    op_print = op_assert = op_host_call = _host
