"""What the text forms share: the scanner, exact errors, numbers, and the types of attributes.

Both parsers (`parser.py`, `kernel/parse.py`) read untrusted text: every failure is a `ParseError`
with line and column, and nesting, digits and sizes are bounded before anything is built.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from typing import Any, NoReturn

import numpy as np

from . import dims
from .core import Function, IRError, Loc, Op
from .dims import Dim, Shape
from .dtypes import BY_NAME, DType
from .literal import Literal
from .types import TensorType, TokenType

MAX_DEPTH = 32  # nested functions, statements and expressions
MAX_DIGITS = 40  # of one integer
MAX_DIM_TEXT = 256  # characters of one dimension
MAX_RANK = 32
MAX_TERMS = 4096  # monomials in a shape's element count

_SPACE = re.compile(r"(?:\s|;[^\n]*)*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
INT = re.compile(r"-?[0-9]+(?![0-9A-Za-z_.])")
FLOAT = re.compile(
    r"-?(?:nan\(0x[0-9a-f]{1,16}\)|nan|inf|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,5})?)(?![0-9A-Za-z_.])"
)


class ParseError(IRError):
    """Text that is no program: says file, line, column (from 1), the line itself, and a caret."""

    def __init__(self, message: str, file: str, line: int, column: int, source: str) -> None:
        self.file, self.line, self.column, self.problem = file, line, column, message
        first = max(0, column - 100)
        shown = source[first : first + 160]
        caret = " " * (column - 1 - first)
        super().__init__(f"{file}:{line}:{column}: {message}\n  {shown}\n  {caret}^")


class Scanner:
    """A position in a text. `pos` is always at the beginning of the next token."""

    def __init__(self, text: str, file: str = "<text>") -> None:
        self.text, self.file = text, file
        self.depth = 0
        self.pos = 0
        self._skip(0)

    def _skip(self, pos: int) -> None:
        m = _SPACE.match(self.text, pos)
        self.pos = m.end() if m else pos

    def where(self, pos: int) -> tuple[int, int]:
        """Line and column, both from 1."""
        return self.text.count("\n", 0, pos) + 1, pos - self.text.rfind("\n", 0, pos)

    def fail(self, message: str, pos: int | None = None) -> NoReturn:
        """Raise ParseError at `pos`, or here."""
        at = self.pos if pos is None else pos
        line, column = self.where(at)
        start = at - column + 1
        end = self.text.find("\n", start)
        source = self.text[start : len(self.text) if end < 0 else end]
        raise ParseError(message, self.file, line, column, source)

    def found(self) -> str:
        """The next token, for messages."""
        if self.pos >= len(self.text):
            return "the end of the text"
        m = re.compile(r"[%@]?[\w.]+|\S").match(self.text, self.pos)
        return repr(m.group()[:40]) if m else "nothing"

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Take what the pattern matches here."""
        m = pattern.match(self.text, self.pos)
        if m is None:
            return None
        self._skip(m.end())
        return m.group()

    def need(self, pattern: re.Pattern[str], what: str) -> str:
        """Take what the pattern matches, or fail."""
        out = self.match(pattern)
        return self.fail(f"expected {what}, found {self.found()}") if out is None else out

    def at(self, token: str) -> bool:
        """Whether the text goes on with `token`."""
        return self.text.startswith(token, self.pos)

    def accept(self, token: str) -> bool:
        """Take `token` if it is next."""
        if not self.text.startswith(token, self.pos):
            return False
        self._skip(self.pos + len(token))
        return True

    def expect(self, token: str) -> None:
        """Take `token`, or fail."""
        if not self.accept(token):
            self.fail(f"expected {token!r}, found {self.found()}")

    def word(self, token: str) -> bool:
        """Take the identifier `token` if it is next, as a whole word."""
        m = IDENT.match(self.text, self.pos)
        return m is not None and m.group() == token and self.accept(token)

    def string(self) -> str:
        """A quoted string."""
        start = self.pos
        token = self.need(_STRING, "a quoted string")
        try:
            return str(json.loads(token))
        except ValueError:
            self.fail("a string with an unknown escape", start)

    def integer(self) -> int:
        """An integer of at most MAX_DIGITS digits."""
        start = self.pos
        token = self.need(INT, "an integer")
        if len(token) > MAX_DIGITS:
            self.fail("an integer with too many digits", start)
        return int(token)

    def dim(self) -> Dim:
        """A dimension: up to a comma, bracket, brace, quote, or `=` outside parentheses."""
        start, depth, i = self.pos, 0, self.pos
        text, end = self.text, min(len(self.text), self.pos + MAX_DIM_TEXT + 1)
        while i < end and (c := text[i]) not in '[]{}"=\n;:' and (depth or c not in ",)"):
            depth += (c == "(") - (c == ")")
            i += 1
        return self.dim_text(text[start:i], start, i)

    def dim_text(self, text: str, start: int, end: int) -> Dim:
        """The dimension that text[start:end] is; the position moves behind it."""
        if not text.strip():
            self.fail(f"expected a dimension, found {self.found()}", start)
        if len(text) > MAX_DIM_TEXT:
            self.fail("a dimension that is too long", start)
        try:
            out = dims.parse(text.strip())
        except (dims.DimSyntaxError, ZeroDivisionError) as e:
            self.fail(str(e), start)
        self._skip(end)
        return out

    def check_shape(self, shape: Shape, start: int) -> None:
        """Fail where a shape's element count would take long to expand."""
        terms = 1
        for d in shape:
            terms *= len(d.terms) if isinstance(d, dims.Expr) else 1
        if len(shape) > MAX_RANK or terms > MAX_TERMS:
            self.fail("a shape that is too large", start)

    def dtype(self) -> DType:
        """The name of an element type."""
        start = self.pos
        name = self.need(IDENT, "an element type")
        if name not in BY_NAME:
            self.fail(f"no element type {name!r}; known: {', '.join(BY_NAME)}", start)
        return BY_NAME[name]

    def loc(self) -> tuple[Loc | None, str]:
        """``loc("file":line, "source")`` after the word loc: either part may be absent."""
        self.expect("(")
        loc, source, first = None, "", self.string()
        if self.accept(":"):
            loc = Loc(first, self.integer())
            source = self.string() if self.accept(",") else ""
        else:
            source = first
        self.expect(")")
        return loc, source


def quote(s: str) -> str:
    """A string literal."""
    return json.dumps(s, ensure_ascii=not s.isprintable())


def loc_text(loc: Loc | None, source: str = "") -> str:
    """``loc("file":3, "MatMul")``; empty where there is neither."""
    parts = [f"{quote(loc.file)}:{loc.line}"] if loc else []
    parts += [quote(source)] if source else []
    return f"loc({', '.join(parts)})" if parts else ""


# ---- numbers

def float_text(x: Any, dt: DType) -> str:
    """The shortest decimal that gives back the same bits; NaNs other than the usual one in hex."""
    x = np.asarray(x, dt.np)
    value = float(x)
    if value != value:
        bits = int.from_bytes(x.tobytes(), "little")
        usual = int.from_bytes(np.asarray(np.nan, dt.np).tobytes(), "little")
        return "nan" if bits == usual else f"nan({bits:#x})"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    if dt.bits == 64:
        return repr(value)
    text = str(x[()]) if dt.name == "f32" else _shortest(value, dt)
    return text if dt.np.type(float(text)) == x else repr(value)


def _shortest(value: float, dt: DType) -> str:
    for digits in range(1, 10):
        text = repr(float(f"{value:.{digits}g}"))
        if float(dt.np.type(float(text))) == value:
            return text
    return repr(value)


def float_value(token: str, dt: DType) -> Any:
    """The element that `float_text` wrote, as a 0-d array; ValueError where bits do not fit."""
    if "(" not in token:
        return np.asarray(float(token)).astype(dt.np)
    bits = int(token[token.index("(") + 1 : -1], 16)
    if token[0] == "-" or bits >> dt.bits:
        raise ValueError(f"{token} does not fit {dt}")
    out = np.frombuffer(bits.to_bytes(dt.size, "little"), dt.np)[0:1].reshape(())
    if not np.isnan(out):
        raise ValueError(f"{token} is no NaN of {dt}")
    return out


# ---- the types of attributes

_SPECS: dict[Any, dict[str, tuple[Any, ...]]] = {}


def attr_specs(cls: type[Op]) -> dict[str, tuple[Any, ...]]:
    """Attribute name → what its values are, from the annotations of the op's fields."""
    found = _SPECS.get(cls)
    if found is None:
        here = {"Expr": dims.Expr}  # `Dim` refers to it by name
        hints = typing.get_type_hints(cls, localns=here)
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        found = _SPECS[cls] = {n: _spec(hints[n], cls.name) for n in names}
    return found


_PLAIN: dict[Any, tuple[Any, ...]] = {
    int: ("int",), bool: ("bool",), str: ("str",), float: ("float",), DType: ("dtype",),
    dims.Expr: ("dim",), Function: ("function",), Literal: ("literal",),
    TensorType: ("type",), TokenType: ("type",),
}


def _spec(hint: Any, op: str) -> tuple[Any, ...]:
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return ("list", _spec(args[0], op))
    if origin is tuple:
        return ("tuple", tuple(_spec(a, op) for a in args))
    if origin is typing.Literal:
        return ("str",)
    if origin in (typing.Union, types.UnionType):
        kinds = {_spec(a, op) for a in args if a is not type(None)}
        if kinds == {("int",), ("dim",)}:
            kinds = {("dim",)}
        if kinds == {("int",), ("float",)}:
            kinds = {("float",)}
        if len(kinds) == 1:
            one = kinds.pop()
            return ("optional", one) if type(None) in args else one
    raise TypeError(f"{op}: attributes of type {hint} have no text form")
