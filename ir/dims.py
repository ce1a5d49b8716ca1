"""Dimensions: an int, or an integer expression over symbols in canonical form.

A symbolic dimension is a polynomial with integer coefficients over *atoms*: symbols (``B``) and
the opaque operations ``floordiv``, ``mod``, ``max``, ``min`` of canonical operands. Equal
polynomials compare equal, so equal shapes do. A value that is constant is always a plain ``int``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Union

Dim = Union[int, "Expr"]
Shape = tuple[Dim, ...]
Atom = Union[str, "Opaque"]
Monomial = tuple[tuple[Atom, int], ...]  # ((atom, power), …), sorted; () is the constant term


class Opaque:
    """``floordiv | mod | max | min`` of two dimensions, not a polynomial of its own."""

    __slots__ = ("_hash", "args", "op", "text")

    def __init__(self, op: str, a: Dim, b: Dim) -> None:
        self.op, self.args = op, (a, b)
        sign = {"floordiv": "//", "mod": "%"}.get(op)
        self.text = f"{_paren(a)}{sign}{_paren(b)}" if sign else f"{op}({a}, {b})"
        self._hash = hash((op, self.args))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.op == other.op and self.args == other.args

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return self.text


def _paren(d: Dim) -> str:
    text = str(d)
    return f"({text})" if any(c in text for c in "+-*/% ") else text


class Expr:
    """A symbolic dimension that is not constant; immutable, made by arithmetic on symbols."""

    __slots__ = ("_hash", "terms", "text")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        items = sorted(terms.items(), key=lambda t: (-sum(p for _, p in t[0]), str(t[0])))
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(items)
        self.text = _text(self.terms)
        self._hash = hash(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return self.text

    def __add__(self, o: Dim) -> Dim:
        return add(self, o)

    __radd__ = __add__

    def __sub__(self, o: Dim) -> Dim:
        return add(self, mul(o, -1))

    def __rsub__(self, o: Dim) -> Dim:
        return add(o, mul(self, -1))

    def __mul__(self, o: Dim) -> Dim:
        return mul(self, o)

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return mul(self, -1)

    def __floordiv__(self, o: Dim) -> Dim:
        return floordiv(self, o)

    def __rfloordiv__(self, o: Dim) -> Dim:
        return floordiv(o, self)

    def __mod__(self, o: Dim) -> Dim:
        return mod(self, o)


def _atom_text(a: Atom, power: int) -> str:
    call = isinstance(a, str) or a.op in ("max", "min")
    text = str(a) if call else f"({a})"
    return "*".join([text] * power)


def _text(terms: tuple[tuple[Monomial, int], ...]) -> str:
    out = ""
    for mono, c in terms:
        body = "*".join(_atom_text(a, p) for a, p in mono)
        if not body:
            body = str(abs(c))
        elif abs(c) != 1:
            body = f"{abs(c)}*{body}"
        elif len(terms) == 1 and c == 1 and len(mono) == 1 and isinstance(mono[0][0], Opaque):
            if mono[0][1] == 1:
                body = mono[0][0].text
        sign = "-" if c < 0 else ("+" if out else "")
        out += sign + body
    return out


def sym(name: str) -> Expr:
    """The symbol `name` as a dimension."""
    return Expr({((name, 1),): 1})


def _terms(d: Dim) -> dict[Monomial, int]:
    return dict(d.terms) if isinstance(d, Expr) else ({(): int(d)} if d else {})


def _from(terms: dict[Monomial, int]) -> Dim:
    terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return Expr(terms)


def add(a: Dim, b: Dim) -> Dim:
    """a + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return _add(a, b)


@lru_cache(maxsize=1 << 16)
def _add(a: Dim, b: Dim) -> Dim:
    out = _terms(a)
    for m, c in _terms(b).items():
        out[m] = out.get(m, 0) + c
    return _from(out)


def _mono_mul(a: Monomial, b: Monomial) -> Monomial:
    out: dict[Atom, int] = dict(a)
    for atom, p in b:
        out[atom] = out.get(atom, 0) + p
    return tuple(sorted(out.items(), key=lambda t: str(t[0])))


def mul(a: Dim, b: Dim) -> Dim:
    """a · b."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return _mul(a, b)


@lru_cache(maxsize=1 << 16)
def _mul(a: Dim, b: Dim) -> Dim:
    out: dict[Monomial, int] = {}
    for m, c in _terms(a).items():
        for n, d in _terms(b).items():
            k = _mono_mul(m, n)
            out[k] = out.get(k, 0) + c * d
    return _from(out)


def _mono_div(a: Monomial, b: Monomial) -> Monomial | None:
    out: dict[Atom, int] = dict(a)
    for atom, p in b:
        if out.get(atom, 0) < p:
            return None
        out[atom] -= p
    return tuple((x, p) for x, p in out.items() if p)


def exact_div(a: Dim, b: Dim) -> Dim | None:
    """a / b where the quotient is known to be exact, else None. Division by 0 gives None."""
    if isinstance(b, int) and b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a // b if a % b == 0 else None
    if a == b:
        return 1
    bt = list(_terms(b).items())
    if len(bt) != 1:
        return _poly_div(a, b)
    (bm, bc), = bt
    out: dict[Monomial, int] = {}
    for m, c in _terms(a).items():
        q = _mono_div(m, bm)
        if q is None or c % bc:
            return None
        out[q] = c // bc
    return _from(out)


def _poly_div(a: Dim, b: Dim) -> Dim | None:
    """Exact division of polynomials by repeated cancelling of leading terms, at most 16 steps."""
    rest: Dim = a
    quotient: Dim = 0
    if not isinstance(b, Expr):
        return None
    lead = Expr(dict([b.terms[0]]))
    for _ in range(16):
        if rest == 0:
            return quotient
        first: Dim = _from(dict([rest.terms[0]])) if isinstance(rest, Expr) else rest
        step = exact_div(first, lead)
        if step is None:
            return None
        quotient, rest = add(quotient, step), add(rest, mul(mul(step, b), -1))
    return None


def floordiv(a: Dim, b: Dim) -> Dim:
    """⌊a / b⌋; ZeroDivisionError where b is the constant 0."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    q = exact_div(a, b)
    if q is not None:
        return q
    if isinstance(b, int) and b > 0:  # split off the terms that divide: (4*B+5)//4 = B+1+1//4
        whole = {m: c // b for m, c in _terms(a).items() if c % b == 0 or not m}
        rest = {m: (c % b if not m else c) for m, c in _terms(a).items() if c % b}
        if any(whole.values()):
            return add(_from(whole), floordiv(_from(rest), b))
    return Expr({((Opaque("floordiv", a, b), 1),): 1})


def mod(a: Dim, b: Dim) -> Dim:
    """a mod b, of b's sign."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if exact_div(a, b) is not None:
        return 0
    return Expr({((Opaque("mod", a, b), 1),): 1})


def ceildiv(a: Dim, b: Dim) -> Dim:
    """⌈a / b⌉."""
    return -floordiv(-a, b)


def _extremum(op: str, a: Dim, b: Dim) -> Dim:
    pick = max if op == "max" else min
    if isinstance(a, int) and isinstance(b, int):
        return pick(a, b)
    diff = add(a, mul(b, -1))
    if isinstance(diff, int):
        return (a if diff >= 0 else b) if op == "max" else (b if diff >= 0 else a)
    for x, y in ((a, b), (b, a)):
        if x == 0 and nonnegative(y):
            return y if op == "max" else 0
    first, second = sorted((a, b), key=str)
    return Expr({((Opaque(op, first, second), 1),): 1})


def maximum(a: Dim, b: Dim) -> Dim:
    """The greater of a and b."""
    return _extremum("max", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The lesser of a and b."""
    return _extremum("min", a, b)


def nonnegative(d: Dim) -> bool:
    """Whether d ≥ 0 is certain, symbols being sizes (≥ 0)."""
    if isinstance(d, int):
        return d >= 0
    return all(c >= 0 and all(_atom_nonnegative(a) for a, _ in m) for m, c in d.terms)


def _atom_nonnegative(a: Atom) -> bool:
    if isinstance(a, str):
        return True
    x, y = a.args
    if a.op == "max":
        return nonnegative(x) or nonnegative(y)
    if a.op == "mod":
        return nonnegative(y)
    return nonnegative(x) and nonnegative(y)


def product(shape: Shape) -> Dim:
    """The number of elements of a shape."""
    out: Dim = 1
    for d in shape:
        out = mul(out, d)
    return out


def symbols(d: Dim) -> frozenset[str]:
    """The names of the symbols in d."""
    if isinstance(d, int):
        return frozenset()
    out: set[str] = set()
    for mono, _ in d.terms:
        for atom, _ in mono:
            if isinstance(atom, str):
                out.add(atom)
            else:
                out |= symbols(atom.args[0]) | symbols(atom.args[1])
    return frozenset(out)


_OPS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "floordiv": floordiv, "mod": mod, "max": maximum, "min": minimum,
}


def linear(d: Dim) -> tuple[str, int, int] | None:
    """(s, c, e) where d is c·s + e for one symbol s, else None."""
    if isinstance(d, int):
        return None
    constant, found = 0, None
    for mono, c in d.terms:
        if not mono:
            constant = c
        elif found is None and len(mono) == 1 and mono[0][1] == 1 and isinstance(mono[0][0], str):
            found = (mono[0][0], c)
        else:
            return None
    return None if found is None else (*found, constant)


def substitute(d: Dim, env: Mapping[str, Dim]) -> Dim:
    """d with its symbols replaced; with ints for all of them the result is an int."""
    if isinstance(d, int):
        return d
    out: Dim = 0
    for mono, c in d.terms:
        term: Dim = c
        for atom, power in mono:
            if isinstance(atom, str):
                value = env.get(atom, sym(atom))
            else:
                value = _OPS[atom.op](*(substitute(x, env) for x in atom.args))
            for _ in range(power):
                term = mul(term, value)
        out = add(out, term)
    return out


def shape_substitute(shape: Shape, env: Mapping[str, Dim]) -> Shape:
    """The shape with its symbols replaced."""
    return tuple(substitute(d, env) for d in shape)


class DimSyntaxError(ValueError):
    """A dimension's text that does not parse."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Dim:
    """The dimension that `text` prints: ``2*B+1``, ``B//4``, ``max(B, 3)``."""
    p = _Parser(text)
    out = p.sum()
    if p.pos != len(p.tokens):
        raise DimSyntaxError(f"unexpected {p.tokens[p.pos]!r} in dimension {text!r}")
    return out


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.pos, self.depth = text, _tokenize(text), 0, 0

    def peek(self) -> str:
        return self.tokens[self.pos] if self.pos < len(self.tokens) else ""

    def take(self) -> str:
        tok = self.peek()
        if not tok:
            raise DimSyntaxError(f"dimension {self.text!r} ends too early")
        self.pos += 1
        return tok

    def expect(self, tok: str) -> None:
        if self.take() != tok:
            raise DimSyntaxError(f"expected {tok!r} in dimension {self.text!r}")

    def sum(self) -> Dim:
        self.depth += 1
        if self.depth > 64:
            raise DimSyntaxError(f"dimension {self.text[:40]!r}… nests too deeply")
        out = self.product()
        while self.peek() in ("+", "-"):
            out = add(out, self.product()) if self.take() == "+" else add(out, -self.product())
        self.depth -= 1
        return out

    def product(self) -> Dim:
        out = self.atom()
        while self.peek() in ("*", "//", "%"):
            op, rhs = self.take(), self.atom()
            if op != "*" and rhs == 0:
                raise DimSyntaxError(f"division by zero in dimension {self.text!r}")
            if _size(out) * _size(rhs) > 256:
                raise DimSyntaxError(f"dimension {self.text[:40]!r}… has too many terms")
            out = mul(out, rhs) if op == "*" else (floordiv if op == "//" else mod)(out, rhs)
        return out

    def atom(self) -> Dim:
        tok = self.take()
        if tok == "-":
            self.depth += 1
            if self.depth > 64:
                raise DimSyntaxError(f"dimension {self.text[:40]!r}… nests too deeply")
            out = -self.atom()
            self.depth -= 1
            return out
        if tok == "(":
            out = self.sum()
            self.expect(")")
            return out
        if tok.isascii() and tok.isdigit():
            if len(tok) > 18:
                raise DimSyntaxError(f"dimension {tok[:20]}… is too large")
            return int(tok)
        if tok in ("max", "min") and self.peek() == "(":
            self.take()
            a = self.sum()
            self.expect(",")
            b = self.sum()
            self.expect(")")
            return _extremum(tok, a, b)
        if not (tok[0].isalpha() or tok[0] == "_"):
            raise DimSyntaxError(f"unexpected {tok!r} in dimension {self.text!r}")
        return sym(tok)


def _size(d: Dim) -> int:
    return len(d.terms) if isinstance(d, Expr) else 1


def _tokenize(text: str) -> list[str]:
    out: list[str] = []
    i = 0
    while i < len(text):
        c, j = text[i], i + 1
        if c.isspace():
            i += 1
            continue
        if c.isalnum() or c == "_":
            while j < len(text) and (text[j].isalnum() or text[j] in "_."):
                j += 1
        elif text[i : i + 2] == "//":
            j = i + 2
        out.append(text[i:j])
        i = j
    return out
