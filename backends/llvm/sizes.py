"""Dimension expressions and predicates over them as LLVM instructions on i64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flowc.ir import dims
from flowc.ir.dims import Dim, Opaque
from flowc.ir.kernel.expr import Expr
from flowc.runtime.errors import InternalError


class Sink(Protocol):
    """Where instructions go: an `emit.Function` or anything like it."""

    def fresh(self, hint: str = "v") -> str: ...
    def emit(self, line: str) -> None: ...


class Sizes:
    """Evaluates dimensions in a function, each once.

    symbol: gives the value (a name or number) of a symbol. overflow: the name of an i1 pointer that
    is set where the arithmetic overflows 64 bits, or None to compute unchecked (sizes that
    `workspace_size` has checked already).
    """

    def __init__(
        self, out: Sink, symbol: Callable[[str], str], overflow: str | None = None,
        volatile: frozenset[str] = frozenset(),
    ) -> None:
        self.out, self.symbol, self.overflow, self.volatile = out, symbol, overflow, volatile
        self.memo: dict[Dim, str] = {}

    def dim(self, d: Dim) -> str:
        """The value of a dimension."""
        if isinstance(d, int):
            return str(d)
        found = self.memo.get(d)
        if found is None:
            found = self._expr(d)
            if not dims.symbols(d) & self.volatile:
                self.memo[d] = found
        return found

    def _op(self, text: str) -> str:
        name = self.out.fresh("d")
        self.out.emit(f"{name} = {text}")
        return name

    def arith(self, op: str, a: str, b: str) -> str:
        """add, sub or mul, checked if this evaluator checks."""
        if op in ("add", "sub") and b == "0":
            return a
        if op == "mul" and a == "1":
            return b
        if self.overflow is None:
            return self._op(f"{op} i64 {a}, {b}")
        pair = self._op(f"call {{ i64, i1 }} @llvm.s{op}.with.overflow.i64(i64 {a}, i64 {b})")
        bad = self._op(f"extractvalue {{ i64, i1 }} {pair}, 1")
        old = self._op(f"load i1, ptr {self.overflow}")
        both = self._op(f"or i1 {old}, {bad}")
        self.out.emit(f"store i1 {both}, ptr {self.overflow}")
        return self._op(f"extractvalue {{ i64, i1 }} {pair}, 0")

    def _expr(self, d: dims.Expr) -> str:
        total = ""
        for mono, c in d.terms:
            term = str(c)
            for atom, power in mono:
                value = self.symbol(atom) if isinstance(atom, str) else self._opaque(atom)
                for _ in range(power):
                    term = self.arith("mul", term, value)
            total = term if not total else self.arith("add", total, term)
        return total

    def _opaque(self, a: Opaque) -> str:
        x, y = (self.dim(v) for v in a.args)
        return self.binary(a.op, x, y)

    def binary(self, op: str, x: str, y: str) -> str:
        """floordiv, mod, max, min of i64 values; division by 0 gives 0."""
        if op in ("max", "min"):
            less = self._op(f"icmp s{'gt' if op == 'max' else 'lt'} i64 {x}, {y}")
            return self._op(f"select i1 {less}, i64 {x}, i64 {y}")
        known = y.isdigit() and y != "0"
        zero = "false" if known else self._op(f"icmp eq i64 {y}, 0")
        safe = y if known else self._op(f"select i1 {zero}, i64 1, i64 {y}")
        q = self._op(f"sdiv i64 {x}, {safe}")
        r = self._op(f"srem i64 {x}, {safe}")
        signs = self._op(f"xor i64 {r}, {safe}")
        negative = self._op(f"icmp slt i64 {signs}, 0")
        inexact = self._op(f"icmp ne i64 {r}, 0")
        fix = self._op(f"and i1 {negative}, {inexact}")
        if op == "floordiv":
            less1 = self._op(f"sub i64 {q}, 1")
            out = self._op(f"select i1 {fix}, i64 {less1}, i64 {q}")
        else:
            moved = self._op(f"add i64 {r}, {safe}")
            out = self._op(f"select i1 {fix}, i64 {moved}, i64 {r}")
        return out if known else self._op(f"select i1 {zero}, i64 0, i64 {out}")

    def index(self, e: Expr) -> str:
        """The value of an index expression without loop variables, or of a predicate over such."""
        if e.op == "lin":
            ks, c = e.attr
            total = self.dim(c)
            for k, a in zip(ks, e.args, strict=True):
                total = self.arith("add", self.arith("mul", self.dim(k), self.index(a)), total)
            return total
        if e.op in ("floordiv", "mod", "max", "min"):
            return self.binary(e.op, *(self.index(a) for a in e.args))
        if e.op == "imul":
            return self.arith("mul", *(self.index(a) for a in e.args))
        if e.op in ("lt", "le", "gt", "ge", "eq", "ne"):
            word = e.op if e.op in ("eq", "ne") else f"s{e.op}"
            x, y = (self.index(a) for a in e.args)
            return self._op(f"icmp {word} i64 {x}, {y}")
        if e.op in ("and", "or"):
            x, y = (self.index(a) for a in e.args)
            return self._op(f"{e.op} i1 {x}, {y}")
        if e.op == "not":
            return self._op(f"xor i1 {self.index(e.args[0])}, true")
        raise InternalError(f"{e.op} in an expression over sizes")
