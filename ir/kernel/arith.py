"""Expression nodes, their operators, and the index arithmetic that addresses buffers.

Expressions are interned: equal expressions are the same object, so sharing costs nothing and a
dictionary keyed by expression is common-subexpression elimination. `expr` makes the other nodes and
is what is imported elsewhere.

An index expression that is a sum is kept as one canonical `lin` node: Σ coefficient·atom +
constant, coefficients being dimensions (ints or symbolic), atoms loop variables or nonlinear index
operations (`floordiv mod imul max min select cast`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from .. import dims
from ..dims import Dim
from ..dtypes import DType, bool_, dtype

INDEX = DType("index", 64, "i", np.dtype(np.int64))

BINARY = frozenset(
    ("add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "and", "or", "xor", "shl",
     "shr", "mulhi")
)  # div, rem: floats as C's / and fmod; integers truncate, see docs/ir.md
COMPARE = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))


class Expr:
    """An interned node: `op`, `args`, `attr`, `dtype`; made by functions here and in `expr`."""

    __slots__ = ("__weakref__", "args", "attr", "dtype", "op", "serial")
    op: str
    args: tuple[Expr, ...]
    attr: Any
    dtype: DType
    serial: int  # rises: what is printed or generated has the same order in every process

    def __repr__(self) -> str:
        return f"<{self.op} {self.attr if self.attr is not None else ''} {self.dtype}>"

    # Identity is equality: nodes are interned.
    def __add__(self, o: Any) -> Expr:
        return _arith("add", self, o)

    def __radd__(self, o: Any) -> Expr:
        return _arith("add", o, self)

    def __sub__(self, o: Any) -> Expr:
        return _arith("sub", self, o)

    def __rsub__(self, o: Any) -> Expr:
        return _arith("sub", o, self)

    def __mul__(self, o: Any) -> Expr:
        return _arith("mul", self, o)

    def __rmul__(self, o: Any) -> Expr:
        return _arith("mul", o, self)

    def __truediv__(self, o: Any) -> Expr:
        return _arith("div", self, o)

    def __rtruediv__(self, o: Any) -> Expr:
        return _arith("div", o, self)

    def __floordiv__(self, o: Any) -> Expr:
        return floordiv(self, o)

    def __mod__(self, o: Any) -> Expr:
        return mod(self, o)

    def __neg__(self) -> Expr:
        return self * -1 if self.dtype is INDEX else node("neg", (self,), None, self.dtype)

    def __lt__(self, o: Any) -> Expr:
        return compare("lt", self, o)

    def __le__(self, o: Any) -> Expr:
        return compare("le", self, o)

    def __gt__(self, o: Any) -> Expr:
        return compare("gt", self, o)

    def __ge__(self, o: Any) -> Expr:
        return compare("ge", self, o)

    def eq(self, o: Any) -> Expr:
        """The comparison ==, as an expression."""
        return compare("eq", self, o)

    def __and__(self, o: Any) -> Expr:
        return binary("and", self, o)

    def __or__(self, o: Any) -> Expr:
        return binary("or", self, o)


_fresh = itertools.count()
_table: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()


def node(op: str, args: tuple[Expr, ...], attr: Any, dt: DType) -> Expr:
    """The interned node; the functions below check and simplify before they call this."""
    key = (op, tuple(map(id, args)), attr, dt.name)
    found = _table.get(key)
    if found is None:
        found = Expr.__new__(Expr)
        found.op, found.args, found.attr, found.dtype = op, args, attr, dt
        found.serial = next(_fresh)
        _table[key] = found
    return found


# ---- leaves

class Axis:
    """What a loop variable ranges over: 0 ≤ v < extent. `extent` None: no bound is known."""

    __slots__ = ("extent", "name", "serial")

    def __init__(self, name: str, extent: Dim | None) -> None:
        self.name, self.extent, self.serial = name, extent, next(_fresh)

    def __repr__(self) -> str:
        return f"{self.name}<{self.extent}"


def var(name: str, extent: Dim | None = None) -> Expr:
    """A fresh loop variable (index), different from all others whatever its name."""
    return node("var", (), Axis(name, extent), INDEX)


def let_var(name: str, dt: DType) -> Expr:
    """A fresh variable of any dtype, for `Let`."""
    return node("var", (), Axis(name, None), dt)


def const(value: Any, dt: DType | str) -> Expr:
    """A constant: kept as the bytes of its element type, so −0.0 and NaNs stay what they are."""
    dt = dt if dt is INDEX else dtype(dt)
    if dt is INDEX:
        return index(int(value))
    return node("const", (), np.asarray(value).astype(dt.np).tobytes(), dt)


def const_value(e: Expr) -> Any:
    """The NumPy scalar of a `const` node."""
    return np.frombuffer(e.attr, e.dtype.np)[0]


def index(d: Dim | Expr) -> Expr:
    """A dimension as an index expression."""
    return d if isinstance(d, Expr) else _lin({}, d)


# ---- linear index forms

def _join_divisions(terms: Mapping[Expr, Dim]) -> Mapping[Expr, Dim]:
    """d·k·(x // d) + k·(x mod d) = k·x: what a reshape of a dense buffer leaves of itself."""
    for m, k in terms.items():
        if m.op != "mod":
            continue
        d = is_const_index(m.args[1])
        q = node("floordiv", m.args, None, INDEX)
        if d is not None and terms.get(q, 0) == dims.mul(d, k) and k != 0:
            rest = {a: v for a, v in terms.items() if a is not m and a is not q}
            inner, c = linear(m.args[0])
            if c != 0:
                continue
            for a, v in inner.items():
                rest[a] = dims.add(rest.get(a, 0), dims.mul(v, k))
            return _join_divisions(rest)
    return terms


def _lin(terms: Mapping[Expr, Dim], c: Dim) -> Expr:
    if len(terms) > 1:
        terms = _join_divisions(terms)
    items = sorted(((a, k) for a, k in terms.items() if k != 0), key=_order)
    if c == 0 and len(items) == 1 and items[0][1] == 1:
        return items[0][0]
    return node("lin", tuple(a for a, _ in items), (tuple(k for _, k in items), c), INDEX)


def _order(item: tuple[Expr, Dim]) -> tuple[Any, ...]:
    a = item[0]
    return (0, a.attr.serial) if a.op == "var" else (1, a.serial)


def linear(e: Expr) -> tuple[dict[Expr, Dim], Dim]:
    """An index expression as ({atom: coefficient}, constant)."""
    if e.op == "lin":
        ks, c = e.attr
        return dict(zip(e.args, ks, strict=True)), c
    return {e: 1}, 0


def is_const_index(e: Expr) -> Dim | None:
    """The dimension that the index expression is, if it has no atoms."""
    return e.attr[1] if e.op == "lin" and not e.args else None


def _lin_add(a: Expr, b: Expr, sign: int = 1) -> Expr:
    ta, ca = linear(a)
    tb, cb = linear(b)
    for atom, k in tb.items():
        ta[atom] = dims.add(ta.get(atom, 0), dims.mul(k, sign))
    return _lin(ta, dims.add(ca, dims.mul(cb, sign)))


def lin_mul(a: Expr, b: Expr) -> Expr:
    """The product of index expressions: linear where one of them is a dimension."""
    for x, y in ((a, b), (b, a)):
        k = is_const_index(x)
        if k is not None:
            t, c = linear(y)
            return _lin({atom: dims.mul(v, k) for atom, v in t.items()}, dims.mul(c, k))
    return node("imul", (a, b), None, INDEX)


def bounds(e: Expr) -> tuple[Dim, Dim] | None:
    """Inclusive bounds of an index expression, where they are known."""
    terms, c = linear(e)
    lo: Dim = c
    hi: Dim = c
    for atom, k in terms.items():
        r = _atom_bounds(atom)
        if r is None:
            return None
        if dims.nonnegative(k):
            lo, hi = dims.add(lo, dims.mul(k, r[0])), dims.add(hi, dims.mul(k, r[1]))
        elif dims.nonnegative(dims.mul(k, -1)):
            lo, hi = dims.add(lo, dims.mul(k, r[1])), dims.add(hi, dims.mul(k, r[0]))
        else:
            return None
    return lo, hi


def _atom_bounds(a: Expr) -> tuple[Dim, Dim] | None:
    if a.op == "var":
        return None if a.attr.extent is None else (0, dims.add(a.attr.extent, -1))
    if a.op == "mod":
        d = is_const_index(a.args[1])
        return None if d is None else (0, dims.add(d, -1))
    if a.op == "floordiv":
        r, d = bounds(a.args[0]), is_const_index(a.args[1])
        if r and isinstance(d, int) and d > 0:
            return dims.floordiv(r[0], d), dims.floordiv(r[1], d)
    return None


def within(e: Expr, extent: Dim) -> bool:
    """Whether 0 ≤ e < extent is certain (loops of no iterations count as certain)."""
    r = bounds(e)
    if r is None:
        return False
    return dims.nonnegative(r[0]) and dims.nonnegative(dims.add(dims.add(extent, -1), -r[1]))


def _split(a: Expr, d: Dim) -> tuple[Expr, Expr]:
    """a = whole·d + rest, with the terms that divide exactly in `whole`."""
    terms, c = linear(a)
    whole: dict[Expr, Dim] = {}
    rest: dict[Expr, Dim] = {}
    for atom, k in terms.items():
        q = dims.exact_div(k, d)
        if q is None:
            rest[atom] = k
        else:
            whole[atom] = q
    q = dims.exact_div(c, d)
    cw, cr = (q, 0) if q is not None else (0, c)
    if q is None and isinstance(c, int) and isinstance(d, int):
        cw, cr = divmod(c, d)
    return _lin(whole, cw), _lin(rest, cr)


def floordiv(a: Expr | Dim, b: Expr | Dim) -> Expr:
    """⌊a / b⌋ of index expressions; b > 0."""
    a, b = index(a), index(b)
    d = is_const_index(b)
    if d is None:
        return node("floordiv", (a, b), None, INDEX)
    if d == 0:
        return index(0)  # an axis of a tensor without elements: nothing is evaluated
    k = is_const_index(a)
    if k is not None:
        return index(dims.floordiv(k, d))
    whole, rest = _split(a, d)
    if within(rest, d):
        return whole
    if is_const_index(whole) == 0:
        return node("floordiv", (a, b), None, INDEX)
    return whole + floordiv(rest, b)


def mod(a: Expr | Dim, b: Expr | Dim) -> Expr:
    """a mod b of index expressions; b > 0, the result is in [0, b)."""
    a, b = index(a), index(b)
    d = is_const_index(b)
    if d is None:
        return node("mod", (a, b), None, INDEX)
    if d == 0:
        return index(0)
    k = is_const_index(a)
    if k is not None:
        return index(dims.mod(k, d))
    _, rest = _split(a, d)
    return rest if within(rest, d) else node("mod", (rest, b), None, INDEX)


def imin(a: Expr | Dim, b: Expr | Dim) -> Expr:
    """The lesser of two index expressions."""
    return _iextremum("min", index(a), index(b))


def imax(a: Expr | Dim, b: Expr | Dim) -> Expr:
    """The greater of two index expressions."""
    return _iextremum("max", index(a), index(b))


def _iextremum(op: str, a: Expr, b: Expr) -> Expr:
    if a is b:
        return a
    diff = bounds(a - b)
    if diff is not None:
        if dims.nonnegative(diff[0]):
            return a if op == "max" else b
        if dims.nonnegative(dims.mul(diff[1], -1)):
            return b if op == "max" else a
    return node(op, (a, b), None, INDEX)


# ---- data operations

def wrap(x: Any, dt: DType) -> Expr:
    """x as an expression of dtype dt: expressions pass, numbers become constants."""
    if isinstance(x, Expr):
        return x
    if dt is INDEX:
        return index(x)
    return const(x, dt)


def _arith(op: str, a: Any, b: Any) -> Expr:
    dt = a.dtype if isinstance(a, Expr) else b.dtype
    a, b = wrap(a, dt), wrap(b, dt)
    if dt is INDEX:
        if op == "mul":
            return lin_mul(a, b)
        if op == "div":
            raise TypeError("index expressions divide by floordiv")
        return _lin_add(a, b, 1 if op == "add" else -1)
    return binary(op, a, b)


def binary(op: str, a: Any, b: Any) -> Expr:
    """A binary operation on two expressions of one dtype (numbers are wrapped)."""
    if op not in BINARY:
        raise ValueError(f"no binary operation {op!r}")
    dt = a.dtype if isinstance(a, Expr) else b.dtype
    a, b = wrap(a, dt), wrap(b, dt)
    if a.dtype != b.dtype:
        raise TypeError(f"{op}: {a.dtype} and {b.dtype}")
    return node(op, (a, b), None, dt)


def compare(op: str, a: Any, b: Any) -> Expr:
    """A comparison; false for NaN but for `ne`."""
    if op not in COMPARE:
        raise ValueError(f"no comparison {op!r}")
    dt = a.dtype if isinstance(a, Expr) else b.dtype
    a, b = wrap(a, dt), wrap(b, dt)
    if a.dtype != b.dtype:
        raise TypeError(f"{op}: {a.dtype} and {b.dtype}")
    return node(op, (a, b), None, bool_)
