"""Common subexpressions: an operation that was done already is not done again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flowc.ir.core import Function, Instr, Op, Value

from .base import Context, Pass, Unit, register
from .rewrite import map_subfunctions

COMMUTATIVE = frozenset({"add", "mul", "max", "min", "and", "or", "xor"})


@register
@dataclass(frozen=True)
class Cse(Pass):
    """Merge operations that have equal attributes and the same operands.

    Operations with effects, and those that define a size, stay as they are. Functions inside
    control flow are equal if their text is, up to names: they are interned, from the inside out.
    """

    name = "cse"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        table = _Table()
        return unit.map_functions(lambda f: table.function(f, ctx))


@dataclass
class _Table:
    """Numbers for functions: equal ones get the same."""

    numbers: dict[Any, int] = field(default_factory=dict)
    known: dict[Function, int] = field(default_factory=dict)

    def number(self, f: Function) -> int:
        found = self.known.get(f)
        if found is None:
            at: dict[Value, int] = {p: n for n, p in enumerate(f.params)}
            keys = []
            for i in f.instrs:
                keys.append((self.op_key(i.op), tuple(at[v] for v in i.operands)))
                for r in i.results:
                    at[r] = len(at)
            key = (f.param_types, tuple(keys), tuple(at[r] for r in f.results))
            found = self.known[f] = self.numbers.setdefault(key, len(self.numbers))
        return found

    def op_key(self, op: Op) -> Any:
        """What makes two ops equal; hashable."""
        if not op.subfunctions():
            return op
        values = op.attrs().values()
        parts = (("func", self.number(v)) if isinstance(v, Function) else v for v in values)
        return (op.name, *parts)

    def function(self, f: Function, ctx: Context) -> Function:
        """One function and those inside it."""
        env: dict[Value, Value] = {}
        seen: dict[Any, tuple[Value, ...]] = {}
        out: list[Instr] = []
        for i in f.instrs:
            operands = tuple([env.get(v, v) for v in i.operands])
            op = map_subfunctions(i.op, lambda sub: self.function(sub, ctx))
            if not op.effects and not op.defines():
                args: Any = operands
                if op.name in COMMUTATIVE and operands[0] is not operands[1]:
                    args = frozenset(operands)
                results = seen.setdefault((self.op_key(op), args), i.results)
                if results is not i.results and ctx.allow("merge"):
                    env.update(zip(i.results, results, strict=True))
                    continue
            if op is not i.op or operands != i.operands:
                i = Instr(op, operands, i.results, i.loc, i.source)
            out.append(i)
        if len(out) == len(f.instrs) and all(x is y for x, y in zip(out, f.instrs, strict=True)):
            return f
        return f.replace(instrs=tuple(out), results=tuple(env.get(r, r) for r in f.results))
