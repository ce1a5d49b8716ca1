"""Variables become parameters and results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowc.ir.core import Function, Instr, IRError, Op, Param, Value
from flowc.ir.types import Type

from .base import Context, Pass, Unit, register
from .regions import Layout, layout_of, map_functions

ACCESS = ("var_read", "var_write")


@register
@dataclass(frozen=True)
class Functionalize(Pass):
    """Replace ``var_read`` and ``var_write`` by state parameters and results.

    A read sees the last write before it in program order, within control flow too: there a variable
    that is read becomes an operand, one that is written a result, in a loop a carried value. A
    written variable's new value is a result after all others, named by its parameter's
    `updated_by`. Raises IRError where a variable has two types, or where a loop's condition writes.
    """

    name = "functionalize"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_functions(functionalize)


@dataclass
class _Access:
    """The variables that a function uses, in order of first use, and which of them it writes."""

    types: dict[str, Type] = dataclasses.field(default_factory=dict)
    written: dict[str, None] = dataclasses.field(default_factory=dict)

    def merge(self, other: _Access, instr: Instr) -> None:
        for name, t in other.types.items():
            self.use(name, t, instr)
        self.written.update(other.written)

    def use(self, name: str, t: Type, instr: Instr) -> None:
        known = self.types.setdefault(name, t)
        if known != t:
            raise IRError(f"variable {name!r} is {known} and {t}", instr.op.name, instr.loc)


def _access(f: Function) -> _Access:
    out = _Access()
    for i in f.instrs:
        op: Any = i.op
        if op.name == "var_read":
            out.use(op.var, i.result.type, i)
        elif op.name == "var_write":
            out.use(op.var, i.operands[0].type, i)
            out.written[op.var] = None
        for sub in op.subfunctions():
            out.merge(_access(sub), i)
    return out


def functionalize(f: Function) -> Function:
    """The function without variables; f itself where it has none."""
    found = _access(f)
    if not found.types:
        return f
    state = {i.name: p for p, i in zip(f.params, f.infos, strict=True) if i.kind == "state"}
    params, infos = list(f.params), list(f.infos)
    for name, t in found.types.items():
        if name not in state:
            state[name] = Value(t, name)
            params.append(state[name])
            infos.append(Param(name, "state"))
        elif state[name].type != t:
            raise IRError(f"variable {name!r} is {state[name].type} and {t}")
    walk = _Walk({name: state[name] for name in found.types})
    walk.block(f.instrs)
    results = [walk.env.get(r, r) for r in f.results]
    names = list(f.result_names)
    named = len(names) == len(results)
    for name in found.written:
        at = next(n for n, p in enumerate(params) if p is state[name])
        if infos[at].updated_by >= 0:
            raise IRError(f"variable {name!r} is updated already")
        infos[at] = dataclasses.replace(infos[at], updated_by=len(results))
        results.append(walk.now[name])
        names.append(name)
    return f.replace(
        params=tuple(params), instrs=tuple(walk.out), results=tuple(results), infos=tuple(infos),
        result_names=tuple(names) if named else f.result_names,
    )


class _Walk:
    """One function's instructions, with the values that its variables have at each of them."""

    def __init__(self, now: dict[str, Value]) -> None:
        self.now = now
        self.env: dict[Value, Value] = {}
        self.out: list[Instr] = []

    def block(self, instrs: Sequence[Instr]) -> None:
        for i in instrs:
            op: Any = i.op
            operands = tuple(self.env.get(v, v) for v in i.operands)
            if op.name == "var_read":
                self.env[i.result] = self.now[op.var]
            elif op.name == "var_write":
                self.now[op.var] = operands[0]
            elif op.subfunctions():
                self.control(i, operands)
            else:
                self.emit(i, op, operands, i.results)

    def emit(
        self, i: Instr, op: Op, operands: tuple[Value, ...], results: tuple[Value, ...]
    ) -> None:
        if op is not i.op or operands != i.operands or results != i.results:
            i = Instr(op, operands, results, i.loc, i.source)
        self.out.append(i)

    def control(self, i: Instr, operands: tuple[Value, ...]) -> None:
        """Operands for the variables read inside, results for those written."""
        found = _Access()
        for sub in i.op.subfunctions():
            found.merge(_access(sub), i)
        lay = layout_of(i.op)
        if not found.types:
            self.emit(i, i.op, operands, i.results)
            return
        if lay is None:
            raise IRError("variables are used inside", i.op.name, i.loc)
        written = list(found.written)
        read = [v for v in found.types if v not in found.written]
        if i.op.name == "while" and _access(i.op.cond).written:  # type: ignore[attr-defined]
            raise IRError("a loop's condition writes a variable", i.op.name, i.loc)
        at = lay.carried if lay.body else len(operands)  # where written ones go among operands
        new = [self.now[v] for v in written]
        operands = (*operands[:at], *new, *operands[at:], *(self.now[v] for v in read))
        op = map_functions(i.op, lambda name, f: _threaded(name, f, lay, found, read))
        if lay.body:
            op = dataclasses.replace(op, carried=lay.carried + len(written))  # type: ignore[type-var]
        values = [Value(found.types[v], v) for v in written]
        end = lay.carried if lay.body else len(i.results)
        self.emit(i, op, operands, (*i.results[:end], *values, *i.results[end:]))
        self.now.update(zip(written, values, strict=True))


def _threaded(
    name: str, f: Function, lay: Layout, found: _Access, read: list[str]
) -> Function:
    """A sub-function that takes the variables, and returns those written if it is a body."""
    written = list(found.written)
    now = {v: Value(t, v) for v, t in found.types.items()}
    at = lay.carried if lay.body else len(f.params)
    new = [now[v] for v in written]
    params = (*f.params[:at], *new, *f.params[at:], *(now[v] for v in read))
    walk = _Walk(now)
    walk.block(f.instrs)
    results = [walk.env.get(r, r) for r in f.results]
    if name == lay.body or not lay.body:
        end = lay.carried if lay.body else len(results)
        results[end:end] = [walk.now[v] for v in written]
    return f.replace(
        params=params, instrs=tuple(walk.out), results=tuple(results), infos=(), result_names=()
    )
