"""What makes a function well formed; every pass must keep it."""

from __future__ import annotations

from typing import NoReturn

from . import dims
from .core import Function, Instr, IRError, Module, Value
from .ops.base import REGISTRY
from .parser import arity_problem
from .printer import Names, context
from .text import MAX_DEPTH
from .types import TensorType, TokenType, Type


def verify(program: Function | Module) -> None:
    """Raise IRError unless the program keeps these rules:

    - each value is defined once, before its uses; sub-functions use only their own values;
    - result types are what `infer` gives;
    - a symbol in a type or attribute is, alone, a dimension of a parameter of this function or of
      one around it, or defined by an op before (`defines`);
    - state parameters name the result that updates them, each result at most once;
    - a token is used at most once, so that effects have one order.

    The message names the op, the operand types, the user's line, and shows the lines around.
    """
    if isinstance(program, Module):
        for name, f in program.functions.items():
            if f.name != name:
                raise IRError(f"function @{f.name} is listed as @{name}")
            _Verifier(f, frozenset(), 0).run()
    else:
        _Verifier(program, frozenset(), 0).run()


class _Verifier:
    def __init__(self, f: Function, outer: frozenset[str], depth: int) -> None:
        self.f, self.depth = f, depth
        self.outer = outer
        self.names = Names(f)
        self.known: set[Value] = set()
        self.symbols: set[str] = set(outer)
        self.spent: set[Value] = set()  # tokens that have been used
        self.at = 0

    def fail(self, message: str, instr: Instr | None = None) -> NoReturn:
        where = f"in @{self.f.name}"
        if instr is None:
            raise IRError(f"{message} ({where})")
        kinds = ", ".join(str(v.type) for v in instr.operands)
        name = f"{instr.source} ({instr.op.name})" if instr.source else instr.op.name
        operands = f" [operands: {kinds}]" if kinds else ""
        error = IRError(f"{message}{operands} ({where})", name, instr.loc)
        error.args = (f"{error}\n{context(self.f, self.at, self.names)}",)
        raise error

    def run(self) -> None:
        if self.depth > MAX_DEPTH:
            self.fail("functions nest too deeply")
        self.params()
        for n, instr in enumerate(self.f.instrs):
            self.at = n
            self.instr(instr)
        self.results()

    def params(self) -> None:
        f = self.f
        if len(f.infos) != len(f.params):
            self.fail(f"{len(f.params)} parameters have {len(f.infos)} infos")
        for p in f.params:
            if p in self.known:
                self.fail(f"parameter {self.names[p]} is listed twice")
            self.known.add(p)
            if isinstance(p.type, TensorType):
                for d in p.type.shape:
                    self.symbols |= plain_symbol(d)
        for p in f.params:
            for name in _type_symbols(p.type) - self.symbols:
                self.fail(f"no parameter has a dimension that is {name}, alone: {p.type}")
        updated: set[int] = set()
        for p, info in zip(f.params, f.infos, strict=True):
            if info.kind not in ("input", "state"):
                self.fail(f"parameter {self.names[p]} has the kind {info.kind!r}")
            if info.updated_by == -1:
                continue
            self.update(p, info.kind, info.updated_by, updated)

    def update(self, p: Value, kind: str, by: int, updated: set[int]) -> None:
        name = self.names[p]
        if kind != "state":
            self.fail(f"only state is updated, {name} is {kind}")
        if not 0 <= by < len(self.f.results) or by in updated:
            self.fail(f"{name} is updated by result {by}, which is not its own")
        if self.f.results[by].type != p.type:
            self.fail(f"{name}: {p.type} is updated by a {self.f.results[by].type}")
        updated.add(by)

    def instr(self, instr: Instr) -> None:
        op = instr.op
        if REGISTRY.get(op.name) is not type(op):
            self.fail(f"no operation is registered as {op.name!r}", instr)
        for v in instr.operands:
            self.operand(v, instr)
        problem = arity_problem(op, len(instr.operands))
        if problem:
            self.fail(problem, instr)
        self.types(instr)
        self.attr_symbols(instr)
        for r in instr.results:
            if r in self.known:
                self.fail(f"{self.names[r]} is defined twice", instr)
            self.known.add(r)
        for sub in op.subfunctions():
            _Verifier(sub, frozenset(self.symbols), self.depth + 1).run()

    def operand(self, v: Value, instr: Instr) -> None:
        if v not in self.known:
            self.fail(f"operand {self.names[v]} is not defined before its use", instr)
        if isinstance(v.type, TokenType):
            if v in self.spent:
                self.fail(f"token {self.names[v]} is used twice", instr)
            self.spent.add(v)

    def types(self, instr: Instr) -> None:
        try:
            types = instr.op.infer(*(v.type for v in instr.operands))
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as e:
            self.fail(str(e), instr)
        inferred = types if isinstance(types, tuple) else (types,)
        stored = tuple(r.type for r in instr.results)
        if inferred != stored:
            def text(ts: tuple[Type, ...]) -> str:
                return f"({', '.join(map(str, ts))})"
            self.fail(f"results are {text(stored)}, infer gives {text(inferred)}", instr)

    def attr_symbols(self, instr: Instr) -> None:
        used: set[str] = set()
        stack: list[object] = list(instr.op.attrs().values())
        while stack:
            v = stack.pop()
            if isinstance(v, tuple):
                stack.extend(v)
            elif isinstance(v, dims.Expr):
                used |= dims.symbols(v)
        made: set[str] = set()
        for r in instr.results:
            made |= _type_symbols(r.type)
        self.symbols |= {name for name, _ in instr.op.defines()}
        for name in sorted((used | made) - self.symbols):
            self.fail(f"the symbol {name} is not bound by a parameter or an op before", instr)

    def results(self) -> None:
        f = self.f
        for r in f.results:
            if r not in self.known:
                self.fail(f"result {self.names[r]} is not defined")
        if len(f.result_names) > len(f.results):
            self.fail(f"{len(f.results)} results have {len(f.result_names)} names")


def plain_symbol(d: dims.Dim) -> frozenset[str]:
    """{name} where the dimension is one symbol, alone; else empty."""
    names = dims.symbols(d)
    return names if len(names) == 1 and d == dims.sym(next(iter(names))) else frozenset()


def _type_symbols(t: Type) -> frozenset[str]:
    out: frozenset[str] = frozenset()
    if isinstance(t, TensorType):
        for d in t.shape:
            if isinstance(d, dims.Expr):
                out |= dims.symbols(d)
    return out
