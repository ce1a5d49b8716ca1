"""What rewriting passes share: sub-functions, symbols, dead code, and a builder that simplifies.

A rule looks at one operation and the producers of its operands and answers with a value, or with a
function that builds the replacement; matching builds nothing. Rules are tried in the order of their
registration on every operation that is emitted, those of replacements included, so that one pass
over the instructions leaves little for the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import Function, Instr, IRError, Op, Value
from flowc.ir.literal import Literal
from flowc.ir.types import TensorType, Type

from .base import Context

MAX_NESTED = 64  # replacements that lead to replacements: more is a pair of rules at odds

Replacement = Value | Callable[[], Any] | None
Matcher = Callable[..., Replacement]  # a function: its code tells where the rule is written
M = TypeVar("M", bound=Matcher)
RULES: dict[str, list[tuple[str, Matcher]]] = {}


def rule(name: str, *ops: str) -> Callable[[M], M]:
    """Register ``fn(b, op, *operands)`` as the rewrite `name` of the operations `ops`."""
    def add(fn: M) -> M:
        for op in ops:
            RULES.setdefault(op, []).append((name, fn))
        return fn
    return add


def map_subfunctions(op: Op, fn: Callable[[Function], Function]) -> Op:
    """The op with fn applied to the functions among its attributes; op itself if none changes."""
    changed: dict[str, Any] = {}
    for key, value in op.attrs().items():
        if isinstance(value, Function):
            new = fn(value)
            if new is not value:
                changed[key] = new
    return dataclasses.replace(op, **changed) if changed else op  # type: ignore[type-var]


def has_effects(op: Op) -> bool:
    """Whether the op, or one inside its sub-functions, has effects."""
    return op.effects or any(i.op.effects for f in op.subfunctions() for i in f.walk())


def type_symbols(t: Type) -> frozenset[str]:
    """The symbols in a type."""
    if not isinstance(t, TensorType) or t.is_static:
        return frozenset()
    return frozenset().union(*(dims.symbols(d) for d in t.shape))


def instr_symbols(i: Instr) -> set[str]:
    """The symbols in the attributes and result types, those of sub-functions too."""
    out: set[str] = set()
    stack: list[Any] = [*i.op.attrs().values()]
    for r in i.results:
        out |= type_symbols(r.type)
    while stack:
        v = stack.pop()
        if isinstance(v, dims.Expr):
            out |= dims.symbols(v)
        elif isinstance(v, tuple):
            stack.extend(v)
        elif isinstance(v, Function):
            for p in v.params:
                out |= type_symbols(p.type)
            for inner in v.instrs:
                out |= instr_symbols(inner)
    return out


def sweep(instrs: Sequence[Instr], roots: Iterable[Value]) -> tuple[Instr, ...]:
    """The instructions that the roots or effects need, as data or as the meaning of a symbol."""
    wanted = set(roots)
    definers = {name: i for i in instrs for name, _ in i.op.defines()}
    needed: set[str] = set()
    for v in wanted:
        needed |= type_symbols(v.type)
    kept: list[Instr] = []
    for i in reversed(instrs):
        own = definers and any(name in needed for name, _ in i.op.defines())
        if not own and wanted.isdisjoint(i.results) and not has_effects(i.op):
            continue
        kept.append(i)
        wanted.update(i.operands)
        if definers:
            needed |= instr_symbols(i)
    kept.reverse()
    return tuple(kept)


class Rewriter(Builder):
    """A builder that applies the rules to what it is asked to emit."""

    def __init__(self, f: Function, ctx: Context, skip: frozenset[str] = frozenset()) -> None:
        super().__init__(f.name)
        self.ctx, self.skip, self.nested, self.count = ctx, skip, 0, 0
        self.current: Instr | None = None  # the instruction being looked at, not a replacement
        self.f = f
        self.uses: dict[Value, int] = {}
        for i in f.instrs:
            for v in i.operands:
                self.uses[v] = self.uses.get(v, 0) + 1
        for v in f.results:
            self.uses[v] = self.uses.get(v, 0) + 1

    # What rules ask.

    def made(self, v: Value, name: str) -> Instr | None:
        """The instruction that makes v, if it is a `name`."""
        i = self.producer.get(v)
        return i if i is not None and i.op.name == name else None

    def literal(self, v: Value) -> Literal | None:
        """The constant that v is."""
        i = self.made(v, "constant")
        return None if i is None else i.op.value  # type: ignore[attr-defined]

    def splat(self, v: Value) -> Any | None:
        """The one value that all elements of v are known to have, as a NumPy scalar."""
        i = self.producer.get(v)
        if i is not None and i.op.name == "broadcast":
            i = self.producer.get(i.operands[0])
        if i is None or i.op.name != "constant":
            return None
        return i.op.value.splat  # type: ignore[attr-defined]

    def single(self, v: Value) -> bool:
        """Whether v has one use, and that is the operation being looked at."""
        return self.uses.get(v) == 1

    # Emitting.

    def emit(self, op: Op, *operands: Value) -> Any:
        found = self.replaced(op, operands)
        return super().emit(op, *operands) if found is None else found

    def replaced(self, op: Op, operands: tuple[Value, ...]) -> Any:
        """What the first rule that applies makes of the operation; None where none does."""
        rules = RULES.get(op.name)
        if not rules or self.nested > MAX_NESTED:
            return None
        for name, match in rules:
            if name in self.skip:
                continue
            found = match(self, op, *operands)
            if found is None:
                continue
            if not self.ctx.allow(name):
                return None
            self.count += 1
            self.nested += 1
            self.current = None
            out = found if isinstance(found, Value) else found()
            self.nested -= 1
            return out
        return None

    def copy(self, i: Instr, op: Op, operands: tuple[Value, ...]) -> None:
        """Append an instruction as it is, keeping its results."""
        if op is not i.op or operands != i.operands:
            i = Instr(op, operands, i.results, i.loc, i.source)
        self.instrs.append(i)
        for r in i.results:
            self.producer[r] = i

    def run(self, visit: Callable[[Function], Function]) -> Function:
        """The function rewritten; `visit` is applied to sub-functions first."""
        f, env = self.f, dict[Value, Value]()
        for i in f.instrs:
            operands = tuple([env.get(v, v) for v in i.operands])
            op = map_subfunctions(i.op, visit)
            self.loc, self.source, self.current = i.loc, i.source, i
            out = self.replaced(op, operands)
            if out is None:
                self.copy(i, op, operands)
                continue
            outs = out if isinstance(out, tuple) else (out,)
            for old, new in zip(i.results, outs, strict=True):
                if new is None:  # nothing reads it
                    continue
                if old.type != new.type:
                    raise IRError(f"a rewrite made {new.type} of {old.type}", op.name, i.loc)
                if new is not old:
                    env[old] = new
        results = tuple([env.get(r, r) for r in f.results])
        instrs = tuple(self.instrs)
        if results == f.results and instrs == f.instrs:
            return f
        return f.replace(instrs=instrs, results=results)
