"""The text of scalar expressions: infix, shared subexpressions named by `let %n`.

An expression is a graph; its text is a list of abbreviations (``let %3 = exp(x[i, j])``), each for
a node that is used more than once or nests too deeply, and the text of its roots. Abbreviations
mean nothing at run time: where a load happens is said by the statement that holds it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..datatext import element_text
from ..dims import Dim
from ..text import quote
from .expr import INDEX, Expr, const_value, is_const_index, load_parts, walk

INFIX = {
    "or": ("|", 1), "xor": ("^", 2), "and": ("&", 3),
    "eq": ("==", 4), "ne": ("!=", 4), "lt": ("<", 4), "le": ("<=", 4), "gt": (">", 4),
    "ge": (">=", 4), "add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6), "div": ("/", 6),
}
COMPARES = frozenset(["eq", "ne", "lt", "le", "gt", "ge"])
ATOM = 7  # the precedence of what needs no parentheses
KEYWORDS = frozenset(
    ["if", "else", "for", "while", "let", "return", "alloc", "stage", "proc", "phase", "true",
     "false", "parallel", "vector", "unroll", "block", "thread", "within", "unbounded"])
MAX_TEXT = 120  # longer subexpressions get a name
MAX_HEIGHT = 12  # deeper ones too

Text = tuple[str, int]  # with the precedence of its outermost operation


def dim_text(d: Dim) -> str:
    """A dimension inside an expression: `%` with spaces, since `%3` is an abbreviation."""
    return str(d).replace("%", " % ")


class Namer:
    """Unique names of variables and buffers; `reserved` holds dimension symbols."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self.used = {*reserved, *KEYWORDS}
        self.of: dict[Any, str] = {}
        self.rank: dict[Any, int] = {}  # the order of declaration, which orders sums
        self._next = 0

    def declare(self, thing: Any, hint: str) -> str:
        """A new name for a variable or buffer."""
        base = re.sub(r"\W", "_", hint, flags=re.ASCII) or "v"
        base = base if base[0].isalpha() or base[0] == "_" else f"_{base}"
        name, n = base, 0
        while name in self.used:
            n += 1
            name = f"{base}_{n}"
        self.used.add(name)
        self.of[thing] = name
        self.rank[thing] = self._next
        self._next += 1
        return name

    def forget(self, things: Iterable[Any]) -> None:
        """End of scope: the names are free again."""
        for t in things:
            self.used.discard(self.of.pop(t))
            del self.rank[t]

    def __getitem__(self, thing: Any) -> str:
        found = self.of.get(thing)
        if found is None:
            hint = thing.attr.name if isinstance(thing, Expr) else thing.name
            return f"undeclared_{hint}"
        return found


class ExprPrinter:
    """The expressions of one statement: reduction variables keep one name throughout it."""

    def __init__(self, names: Namer, serial: list[int]) -> None:
        self.names, self.serial = names, serial
        self.alias: dict[Expr, str] = {}
        self.axes: list[Expr] = []  # reduction variables declared by this statement
        self.keys: dict[Expr, bytes] = {}

    def done(self) -> None:
        """The statement ends, and with it the names of its reduction variables."""
        self.names.forget(self.axes)

    # ---- blocks: abbreviations, then roots

    def block(self, roots: Sequence[Expr], indent: str) -> tuple[list[str], list[str]]:
        """Lines of `let %n`, and the texts of the roots."""
        order = self.reach(roots)
        free = self.free_axes(order)
        counts: dict[Expr, int] = {}
        for e in order:
            for a in e.args if e not in self.alias else ():
                counts[a] = counts.get(a, 0) + 1
        for r in roots:
            counts[r] = counts.get(r, 0) + 1
        lines: list[str] = []
        texts: dict[Expr, Text] = {}
        height: dict[Expr, int] = {}
        for e in order:
            if free[e]:
                continue
            if e in self.alias:
                texts[e], height[e] = (self.alias[e], ATOM), 0
                continue
            texts[e] = self.text(e, texts, indent)
            height[e] = 1 + max((height.get(a, 0) for a in e.args), default=0)
            only_root = counts[e] == 1 and any(e is r for r in roots)
            if self.wants_name(e, texts[e][0], counts[e], height[e]) and not only_root:
                lines.append(f"{indent}let {self.abbreviate(e)} = {texts[e][0]}")
                texts[e], height[e] = (self.alias[e], ATOM), 0
        return lines, [texts[r][0] for r in roots]

    def wants_name(self, e: Expr, text: str, count: int, height: int) -> bool:
        if e.op in ("var", "const") or is_const_index(e) is not None:
            return False
        if height > MAX_HEIGHT or len(text) > MAX_TEXT:
            return True
        plain = e.dtype is INDEX or e.op == "load"
        return count > 1 and (not plain or len(text) > 24)

    def abbreviate(self, e: Expr) -> str:
        name = f"%{self.serial[0]}"
        self.serial[0] += 1
        self.alias[e] = name
        return name

    def reach(self, roots: Sequence[Expr]) -> list[Expr]:
        """The nodes to print, arguments first, in an order that the text determines."""
        seen: set[Expr] = set()
        out: list[Expr] = []
        stack = [(r, False) for r in reversed(roots)]
        while stack:
            e, done = stack.pop()
            if done:
                out.append(e)
            elif e not in seen:
                seen.add(e)
                stack.append((e, True))
                if e not in self.alias:
                    stack.extend((a, False) for a in reversed(self.children(e)))
        return out

    def children(self, e: Expr) -> Sequence[Expr]:
        return [a for a, _ in self.terms(e)] if e.op == "lin" else e.args

    def free_axes(self, order: list[Expr]) -> dict[Expr, frozenset[Expr]]:
        """The reduction variables in each node that no reduction around it has declared yet."""
        none: frozenset[Expr] = frozenset()
        inner = {a for e in order if e.op == "reduce" for a in e.args[1:]}
        inner -= self.open
        out: dict[Expr, frozenset[Expr]] = {}
        for e in order:
            if e.op == "var":
                out[e] = frozenset([e]) if e in inner else none
            elif e in self.alias:
                out[e] = none
            else:
                sets = {out[a] for a in (e.args[:1] if e.op == "reduce" else e.args)}
                found = frozenset().union(*sets) if len(sets) > 1 else next(iter(sets), none)
                out[e] = found - frozenset(e.args[1:]) if e.op == "reduce" else found
        return out

    @property
    def open(self) -> set[Expr]:
        """Reduction variables of the reductions that are being printed."""
        return set(self._open)

    _open: tuple[Expr, ...] = ()

    # ---- one node

    def text(self, e: Expr, texts: dict[Expr, Text], indent: str) -> Text:
        """The text of a node whose arguments have theirs."""
        def at(a: Expr, level: int) -> str:
            body, precedence = texts[a]
            return body if precedence >= level else f"({body})"

        args = ", ".join(texts[a][0] for a in e.args) if e.op != "reduce" else ""
        if e.op == "var":
            return self.names[e], ATOM
        if e.op == "const":
            return _const_text(e), ATOM
        if e.op == "lin":
            return self.lin(e, texts)
        if e.op == "imul":
            return f"{at(e.args[0], ATOM)} * {at(e.args[1], ATOM)}", 6
        if e.dtype is INDEX and e.op in ("floordiv", "mod"):
            sign = "//" if e.op == "floordiv" else "%"
            return f"{at(e.args[0], ATOM)} {sign} {at(e.args[1], ATOM)}", 6
        if e.op == "load":
            return self.load(e, texts), ATOM
        if e.op == "hreduce":
            return f"hreduce({e.attr[0]}, {self.names[e.attr[1]]}[{args}])", ATOM
        if e.op == "reduce":
            return self.reduce(e, indent), ATOM
        if e.op in ("cast", "bitcast"):
            return f"{e.op}({args}, {e.dtype.name})", ATOM
        if e.op == "check":
            code, op, loc = e.attr
            return f"check({args}, {code}, {quote(op)}, {quote(loc)})", ATOM
        if e.op in INFIX and (e.op in COMPARES or e.dtype is not INDEX):
            sign, level = INFIX[e.op]
            left = level + 1 if e.op in COMPARES else level
            return f"{at(e.args[0], left)} {sign} {at(e.args[1], level + 1)}", level
        return f"{self.call_name(e)}({args})", ATOM

    def call_name(self, e: Expr) -> str:
        both = all(is_const_index(a) is not None for a in e.args)
        return f"i{e.op}" if e.dtype is INDEX and e.op in ("min", "max") and both else e.op

    def load(self, e: Expr, texts: dict[Expr, Text]) -> str:
        buffer, idx, pred = load_parts(e)
        body = f"{self.names[buffer]}[{', '.join(texts[i][0] for i in idx)}]"
        return body if pred is None else f"({body} if {texts[pred][0]})"

    def reduce(self, e: Expr, indent: str) -> str:
        axes, before = e.args[1:], self._open
        for a in axes:
            if a not in self.names.of:
                self.names.declare(a, a.attr.name)
                self.axes.append(a)
        self._open = (*before, *axes)
        known = dict(self.alias)
        lines, (body,) = self.block(e.args[:1], indent + "  ")
        self.alias, self._open = known, before
        head = ", ".join(f"{self.names[a]}<{dim_text(a.attr.extent)}" for a in axes)
        if not lines:
            return f"{e.attr}({head}) {{ {body} }}"
        inner = "\n".join([*lines, f"{indent}  return {body}"])
        return f"{e.attr}({head}) {{\n{inner}\n{indent}}}"

    # ---- sums of index terms

    def terms(self, e: Expr) -> list[tuple[Expr, Dim]]:
        """The terms of a `lin`, variables by declaration, then the rest by their structure."""
        pairs = list(zip(e.args, e.attr[0], strict=True))
        others = [p for p in pairs if p[0].op != "var"]
        rank = self.names.rank
        plain = sorted((p for p in pairs if p[0].op == "var"),
                       key=lambda p: (rank.get(p[0], 1 << 60), _stem(p[0].attr.name)))
        if len(others) > 1:
            others.sort(key=lambda p: self.key(p[0]))
        return plain + others

    def lin(self, e: Expr, texts: dict[Expr, Text]) -> Text:
        c = e.attr[1]
        terms = self.terms(e)
        if not terms:
            simple = (isinstance(c, int) and c >= 0) or dim_text(c).isidentifier()
            return dim_text(c), ATOM if simple else 1
        parts = [self.term(texts[atom], k) for atom, k in terms]
        minus = isinstance(c, int) and c < 0
        constant = (minus, str(-c) if minus else _factor(c))
        if c != 0:  # first where that spares a leading minus
            parts.insert(0 if parts[0][0] and not minus else len(parts), constant)
        out = ("-" if parts[0][0] else "") + parts[0][1]
        for negative, body in parts[1:]:
            out += (" - " if negative else " + ") + body
        return out, 5

    def term(self, text: Text, k: Dim) -> tuple[bool, str]:
        """Whether it is subtracted, and its text: ``i``, ``i*4``, ``(i // 3)*(2*B)``."""
        body, precedence = text
        minus = isinstance(k, int) and k < 0
        size: Dim = -k if minus else k
        if size == 1:
            return minus, f"({body})" if precedence < (ATOM if minus else 6) else body
        return minus, f"{body if precedence >= ATOM else f'({body})'}*{_factor(size)}"

    def key(self, e: Expr) -> bytes:
        """A hash of the structure of a node, which does not depend on memory addresses."""
        for x in walk(e) if e not in self.keys else ():
            if x not in self.keys:
                args = [self.keys[a] for a in x.args]
                if x.op == "lin":
                    parts = sorted(zip(args, map(str, x.attr[0]), strict=True))
                    head = f"lin {parts} {x.attr[1]}"
                elif x.op == "var":
                    head = f"var {self.names.rank.get(x)} {_stem(x.attr.name)}"
                else:
                    attr = x.attr.name if x.op == "load" else x.attr
                    attr = f"{attr[0]} {attr[1].name}" if x.op == "hreduce" else attr
                    head = f"{x.op} {_stem(str(attr))} {x.dtype} {args}"
                self.keys[x] = hashlib.md5(head.encode(), usedforsecurity=False).digest()
        return self.keys[e]


def _stem(name: str) -> str:
    return re.sub(r"(_\d+)+$", "", name)


def _factor(d: Dim) -> str:
    text = dim_text(d)
    return text if re.fullmatch(r"\w[\w.]*", text) else f"({text})"


def _const_text(e: Expr) -> str:
    value = const_value(e)
    if e.dtype.is_bool:
        return "true" if value else "false"
    text = element_text(value, e.dtype)
    return f"{e.dtype.name}{text}" if e.dtype.is_complex else f"{e.dtype.name}({text})"
