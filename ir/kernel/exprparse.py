"""Reading scalar expressions: precedence climbing over bounded, untrusted text."""

from __future__ import annotations

import re
from collections.abc import Callable

from .. import dims
from ..datatext import DataScanner
from ..dims import Dim
from ..dtypes import BY_NAME, DType, bool_, f32, u32
from ..text import IDENT, INT
from .expr import (
    BINARY,
    COMBINERS,
    COMPARE,
    INDEX,
    UNARY,
    Expr,
    const,
    dot_bf16,
    index,
    is_const_index,
    load,
    node,
    var,
)
from .exprtext import INFIX
from .form import Buffer

MAX_NESTING = 48  # parentheses, calls and reductions inside one another
MAX_TERMS = 4096  # of one index expression
MAX_BITS = 256  # of one integer in it

_OPERATOR = re.compile(r"==|!=|<=|>=|//|[-|^&<>+*/]|%(?![0-9])")
_ALIAS = re.compile(r"%[0-9]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_BY_SIGN = {sign: (op, level) for op, (sign, level) in INFIX.items()}
_BY_SIGN |= {"//": ("floordiv", 6), "%": ("mod", 6)}


class ExprParser(DataScanner):
    """A scanner of expressions over the buffers and variables that are in scope."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file, {})
        self.buffers: dict[str, Buffer] = {}
        self.vars: dict[str, Expr] = {}
        self.alias: dict[str, Expr] = {}
        self.axes: dict[str, Expr] = {}  # reduction variables of the statement
        self.symbols: set[str] = set()

    # ---- operators

    def expr(self, level: int = 1) -> Expr:
        """An expression whose operators bind at least as tightly as `level`."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail("expressions nest too deeply")
        left = self.primary()
        while True:
            m = _OPERATOR.match(self.text, self.pos)
            if m is None or m.group() not in _BY_SIGN or _BY_SIGN[m.group()][1] < level:
                break
            op, at = _BY_SIGN[m.group()], self.pos
            self._skip(m.end())
            left = self.combine(op[0], left, self.expr(op[1] + 1), at)
        self.depth -= 1
        return left

    def typed(self, dt: DType, what: str) -> Expr:
        """An expression that must have this element type."""
        start = self.pos
        e = self.expr()
        if e.dtype != dt:
            self.fail(f"{what} must be {dt}, found {e.dtype}", start)
        return e

    def combine(self, op: str, a: Expr, b: Expr, at: int) -> Expr:
        if a.dtype != b.dtype:
            self.fail(f"{op}: {a.dtype} and {b.dtype}", at)
        if op in COMPARE:
            return node(op, (a, b), None, bool_)
        if a.dtype is not INDEX:
            if op in ("floordiv", "mod"):
                self.fail("// and % are for index expressions", at)
            return node(op, (a, b), None, a.dtype)
        return self.index_op(op, a, b, at)

    def index_op(self, op: str, a: Expr, b: Expr, at: int) -> Expr:
        x, y = is_const_index(a), is_const_index(b)
        if op in ("floordiv", "mod"):
            if y == 0:
                self.fail("division by zero", at)
            if x is None or y is None:
                return node(op, (a, b), None, INDEX)
            return index(dims.floordiv(x, y) if op == "floordiv" else dims.mod(x, y))
        if op not in ("add", "sub", "mul"):
            self.fail(f"index expressions have no infix {op!r}", at)
        if op == "mul" and _size(a) * _size(b) > MAX_TERMS:
            self.fail("an index expression that is too large", at)
        out = a + b if op == "add" else a - b if op == "sub" else a * b
        if _size(out) > MAX_TERMS or _bits(out) > MAX_BITS:
            self.fail("an index expression that is too large", at)
        return out

    # ---- operands

    def primary(self) -> Expr:
        if self.accept("-"):
            start = self.pos
            self.depth += 1
            if self.depth > MAX_NESTING:
                self.fail("expressions nest too deeply")
            e = self.primary()
            self.depth -= 1
            return -e if e.dtype is INDEX else self.fail("negation of data is neg(x)", start)
        if self.at("%"):
            start = self.pos
            name = self.need(_ALIAS, "an abbreviation like %3")
            return self.alias.get(name) or self.fail(f"{name} is not defined", start)
        if self.accept("("):
            return self.parenthesis()
        start = self.pos
        if self.match(INT) is not None:
            self.pos = start
            value = self.integer()
            return index(value) if value.bit_length() <= MAX_BITS else self.fail(
                "an integer that is too large", start)
        return self.named(start)

    def parenthesis(self) -> Expr:
        start = self.pos
        e = self.expr()
        if self.word("if"):
            if e.op != "load" or len(e.args) != len(e.attr.shape):
                self.fail("only a load is guarded by 'if'", start)
            e = node("load", (*e.args, self.typed(bool_, "a guard")), e.attr, e.dtype)
        self.expect(")")
        return e

    def named(self, start: int) -> Expr:
        name = self.need(_NAME, "an expression")
        if name in ("true", "false"):
            return const(name == "true", bool_)
        if self.at("["):
            return self.load(name, start)
        if self.at("("):
            return self.call(name, start)
        if name in self.vars:
            return self.vars[name]
        if name in self.symbols:
            return index(dims.sym(name))
        return self.fail(f"no variable or symbol is named {name!r} here", start)

    def buffer(self, name: str, start: int) -> Buffer:
        return self.buffers.get(name) or self.fail(f"no buffer is named {name!r} here", start)

    def load(self, name: str, start: int) -> Expr:
        b = self.buffer(name, start)
        return load(b, self.indices(b, start))

    def indices(self, b: Buffer, start: int, count: int | None = None) -> list[Expr]:
        """``[i, j]``: as many as the buffer has axes, or `count`."""
        out: list[Expr] = []
        self.expect("[")
        self.items("]", lambda: out.append(self.typed(INDEX, "an index")))
        if len(out) != (b.rank if count is None else count):
            self.fail(f"{b} has {b.rank} axes, found {len(out)} indices", start)
        return out

    # ---- calls

    def call(self, name: str, start: int) -> Expr:
        if name in BY_NAME:
            return self.constant(BY_NAME[name])
        if name in COMBINERS and self.begins_reduction():
            return self.reduction(name)
        if name in ("cast", "bitcast"):
            return self.conversion(name, start)
        if name in ("check", "hreduce"):
            return self.check() if name == "check" else self.hreduce()
        special: dict[str, Callable[[list[Expr]], Expr | None]] = {
            "select": _select, "imin": _index_pair("min"), "imax": _index_pair("max"),
            "imul": _index_pair("imul"), "dot_bf16": _dot,
        }
        args: list[Expr] = []
        self.expect("(")
        self.items(")", lambda: args.append(self.expr()))
        made = special[name](args) if name in special else _plain_call(name, args)
        if made is None:
            kinds = ", ".join(a.dtype.name for a in args)
            self.fail(f"no operation {name}({kinds})", start)
        return made

    def constant(self, dt: DType) -> Expr:
        if dt.is_complex:
            value = self.element(dt)
        else:
            self.expect("(")
            value = self.element(dt)
            self.expect(")")
        return node("const", (), value.tobytes(), dt)

    def to_dtype(self) -> DType:
        return INDEX if self.word("index") else self.dtype()

    def conversion(self, name: str, start: int) -> Expr:
        self.expect("(")
        x = self.expr()
        self.expect(",")
        to = self.to_dtype()
        self.expect(")")
        if name == "bitcast" and x.dtype.bits != to.bits:
            self.fail(f"bitcast from {x.dtype} to {to}", start)
        return node(name, (x,), None, to)

    def check(self) -> Expr:
        self.expect("(")
        value = self.expr()
        self.expect(",")
        ok = self.typed(bool_, "what is checked")
        self.expect(",")
        code = self.integer()
        self.expect(",")
        op = self.string()
        self.expect(",")
        loc = self.string()
        self.expect(")")
        return node("check", (value, ok), (code, op, loc), value.dtype)

    def hreduce(self) -> Expr:
        """``hreduce(sum, acc[i])``: all but the last index."""
        self.expect("(")
        start = self.pos
        op = self.need(IDENT, "a combiner")
        if op not in COMBINERS:
            self.fail(f"no combiner {op!r}; known: {', '.join(COMBINERS)}", start)
        self.expect(",")
        start = self.pos
        b = self.buffer(self.need(_NAME, "a buffer"), start)
        lead = self.indices(b, start, b.rank - 1)
        self.expect(")")
        return node("hreduce", tuple(lead), (op, b), b.dtype)

    def begins_reduction(self) -> bool:
        """Whether ``(r<…`` follows where r is a new name, or ``()``."""
        m = re.compile(r"\(\s*(?:([A-Za-z_]\w*)\s*<(?![=])|\))").match(self.text, self.pos)
        return m is not None and m.group(1) not in self.vars and m.group(1) not in self.symbols

    def reduction(self, op: str) -> Expr:
        axes: list[tuple[str, Expr]] = []
        self.expect("(")
        self.items(")", lambda: axes.append(self.axis(self.axes)))
        known = dict(self.alias)
        self.vars.update(axes)
        self.depth += 1
        body = self.value_block()
        self.depth -= 1
        self.alias = known
        for name, _ in axes:
            del self.vars[name]
        return node("reduce", (body, *(v for _, v in axes)), op, body.dtype)

    def axis(self, known: dict[str, Expr]) -> tuple[str, Expr]:
        """``r<784``: in one statement, the same name and extent are the same variable."""
        start = self.pos
        name = self.need(IDENT, "a new variable")
        if name in self.vars or name in self.symbols:
            self.fail(f"{name!r} has a meaning here already", start)
        self.expect("<")
        extent = self.dim()
        self.known_symbols(extent, start)
        if name not in known or known[name].attr.extent != extent:
            known[name] = var(name, extent)
        return name, known[name]

    def known_symbols(self, d: Dim, start: int) -> None:
        for name in sorted(dims.symbols(d) - self.symbols):
            self.fail(f"no symbol is named {name!r}", start)

    def value_block(self) -> Expr:
        """``{ let %0 = …  return e }`` or ``{ e }``."""
        self.expect("{")
        named = False
        while self.word("let"):
            self.abbreviation()
            named = True
        if named and not self.word("return"):
            self.fail(f"expected 'return', found {self.found()}")
        e = self.expr()
        self.expect("}")
        return e

    def abbreviation(self) -> None:
        """After let: ``%3 = e``."""
        start = self.pos
        name = self.need(_ALIAS, "an abbreviation like %3")
        if name in self.alias:
            self.fail(f"{name} is defined twice", start)
        self.expect("=")
        self.alias[name] = self.expr()


def _select(args: list[Expr]) -> Expr | None:
    if len(args) != 3 or args[0].dtype != bool_ or args[1].dtype != args[2].dtype:
        return None
    return node("select", tuple(args), None, args[1].dtype)


def _index_pair(op: str) -> Callable[[list[Expr]], Expr | None]:
    def make(args: list[Expr]) -> Expr | None:
        if len(args) != 2 or any(a.dtype is not INDEX for a in args):
            return None
        return node(op, tuple(args), None, INDEX)
    return make


def _dot(args: list[Expr]) -> Expr | None:
    if [a.dtype for a in args] != [f32, u32, u32]:
        return None
    return dot_bf16(*args)


def _plain_call(name: str, args: list[Expr]) -> Expr | None:
    count = 1 if name in UNARY else 2 if name in BINARY | COMPARE else 3 if name == "fma" else -1
    if len(args) != count or any(a.dtype != args[0].dtype for a in args):
        return None
    dt = args[0].dtype
    if dt is INDEX and name in ("min", "max"):
        x, y = is_const_index(args[0]), is_const_index(args[1])
        if x is not None and y is not None:
            return index(dims.minimum(x, y) if name == "min" else dims.maximum(x, y))
    out = bool_ if name in COMPARE or name == "is_nan" else dt
    return node(name, tuple(args), None, out)


def _size(e: Expr) -> int:
    if e.op != "lin":
        return 1
    ks, c = e.attr
    return sum(len(d.terms) if isinstance(d, dims.Expr) else 1 for d in (*ks, c))


def _bits(e: Expr) -> int:
    if e.op != "lin":
        return 0
    ks, c = e.attr
    numbers = [d for d in (*ks, c) if isinstance(d, int)]
    numbers += [n for d in (*ks, c) if isinstance(d, dims.Expr) for _, n in d.terms]
    powers = [p for d in (*ks, c) if isinstance(d, dims.Expr) for m, _ in d.terms for _, p in m]
    return max([n.bit_length() for n in numbers] + [8 * p for p in powers], default=0)
