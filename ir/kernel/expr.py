"""Scalar expressions of kernels, and the index arithmetic that addresses buffers.

Expressions are interned: equal expressions are the same object, so sharing costs nothing and a
dictionary keyed by expression is common-subexpression elimination. Two families:

*Index* expressions (dtype `INDEX`, 64-bit, exact) address buffers. A sum is kept as one canonical
`lin` node: Σ coefficient·atom + constant, coefficients being dimensions (ints or symbolic), atoms
loop variables or nonlinear index operations (`floordiv mod max min select cast`).

*Data* expressions have an element type and the operations of `SCALAR_OPS`; they never simplify
algebraically (floating point), that is the tensor IR's work.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from .. import dims
from ..dims import Dim
from ..dtypes import DType, bool_, dtype

INDEX = DType("index", 64, "i", np.dtype(np.int64))

UNARY = frozenset(
    "neg abs sign exp expm1 log log1p sqrt rsqrt sin cos tan asin acos atan tanh sigmoid erf erfinv"
    " lgamma digamma floor ceil round not is_nan popcount".split()
)
BINARY = frozenset(
    "add sub mul div rem max min pow atan2 and or xor shl shr mulhi".split()
)  # div, rem: floats as C's / and fmod; integers truncate, see docs/ir.md
COMPARE = frozenset("eq ne lt le gt ge".split())
# const load var dim lin floordiv mod reduce hreduce: described where they are made below.
# fma(a, b, c): one rounding where the target has it. select(bool, a, b). cast, bitcast: dtype in
# the node. check(value, ok): value, reporting attr = (error code, op, loc) where not ok.
SCALAR_OPS = UNARY | BINARY | COMPARE | {"fma", "select", "cast", "bitcast", "check"}
COMBINERS = ("sum", "prod", "max", "min", "and", "or")


class Expr:
    """An interned expression node: `op`, `args`, `attr`, `dtype`. Make them by the functions below."""

    __slots__ = ("__weakref__", "args", "attr", "dtype", "op")
    op: str
    args: tuple[Expr, ...]
    attr: Any
    dtype: DType

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
        return self * -1 if self.dtype is INDEX else unary("neg", self)

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


_table: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()


def node(op: str, args: tuple[Expr, ...], attr: Any, dt: DType) -> Expr:
    """The interned node; the functions below check and simplify before they call this."""
    key = (op, tuple(map(id, args)), attr, dt.name)
    found = _table.get(key)
    if found is None:
        found = Expr.__new__(Expr)
        found.op, found.args, found.attr, found.dtype = op, args, attr, dt
        _table[key] = found
    return found


# ---- leaves

_fresh = itertools.count()


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
    return (0, a.attr.serial) if a.op == "var" else (1, id(a))


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


def _lin_mul(a: Expr, b: Expr) -> Expr:
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
            return _lin_mul(a, b)
        if op == "div":
            raise TypeError("index expressions divide by floordiv")
        return _lin_add(a, b, 1 if op == "add" else -1)
    return binary(op, a, b)


def unary(op: str, x: Expr) -> Expr:
    """A unary operation; the result has x's dtype (`is_nan`: bool)."""
    if op not in UNARY:
        raise ValueError(f"no unary operation {op!r}")
    return node(op, (x,), None, bool_ if op == "is_nan" else x.dtype)


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


def select(c: Expr, a: Any, b: Any) -> Expr:
    """a where c else b; both are evaluated, neither traps."""
    dt = a.dtype if isinstance(a, Expr) else b.dtype
    a, b = wrap(a, dt), wrap(b, dt)
    if a.dtype != b.dtype or c.dtype != bool_:
        raise TypeError(f"select: {c.dtype}, {a.dtype}, {b.dtype}")
    return a if a is b else node("select", (c, a, b), None, a.dtype)


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """a·b + c with one rounding where the target fuses (the interpreter rounds twice)."""
    if not a.dtype == b.dtype == c.dtype:
        raise TypeError(f"fma: {a.dtype}, {b.dtype}, {c.dtype}")
    return node("fma", (a, b, c), None, a.dtype)


def cast(x: Expr, to: DType) -> Expr:
    """Conversion by value; float → int truncates and saturates, NaN gives 0."""
    return x if x.dtype is to or x.dtype == to else node("cast", (x,), None, to)


def bitcast(x: Expr, to: DType) -> Expr:
    """The same bits as another dtype of equal width."""
    if x.dtype.bits != to.bits:
        raise TypeError(f"bitcast from {x.dtype} to {to}")
    return x if x.dtype == to else node("bitcast", (x,), None, to)


def check(value: Expr, ok: Expr, code: int, op: str, loc: str) -> Expr:
    """value; where `ok` is false an error (a FLOWC_E_ code) is reported for the op at loc."""
    return node("check", (value, ok), (code, op, loc), value.dtype)


def load(buffer: Any, indices: Iterable[Expr | Dim], pred: Expr | None = None) -> Expr:
    """buffer[indices]; with `pred`, 0 where it is false and memory is not touched there."""
    idx = tuple(index(i) for i in indices)
    if len(idx) != len(buffer.shape):
        raise ValueError(f"{len(idx)} indices for {buffer}")
    if pred is not None and (pred.op == "const" and const_value(pred)):
        pred = None
    args = idx if pred is None else (*idx, pred)
    return node("load", args, buffer, buffer.dtype)


def load_parts(e: Expr) -> tuple[Any, tuple[Expr, ...], Expr | None]:
    """A load's buffer, indices and predicate."""
    n = len(e.attr.shape)
    return e.attr, e.args[:n], (e.args[n] if len(e.args) > n else None)


def reduce(op: str, axes: Iterable[Expr], body: Expr) -> Expr:
    """The reduction of body over fresh axis variables (each with its extent); see `COMBINERS`.

    The sum of no elements is 0, the product 1, max −inf or the least integer, min the opposite.
    Over no axes it is the body itself.
    """
    if op not in COMBINERS:
        raise ValueError(f"no combiner {op!r}")
    axes = tuple(axes)
    return node("reduce", (body, *axes), op, body.dtype) if axes else body


def hreduce(op: str, buffer: Any, lead: Iterable[Expr | Dim] = ()) -> Expr:
    """All elements of a register buffer's last axis combined by `op` (see `COMBINERS`), scheduled.

    `lead` indexes the axes before the last. n elements combine by halving: with h = ⌈n/2⌉, element
    i < n−h is combined as x[i] ∘ x[i+h], the others stay, and so on with h elements until one is
    left; the order is the same for every vector width and target. Node: attr (op, buffer), args
    lead, dtype the buffer's.
    """
    if op not in COMBINERS:
        raise ValueError(f"no combiner {op!r}")
    idx = tuple(index(i) for i in lead)
    if len(idx) + 1 != len(buffer.shape):
        raise ValueError(f"{len(idx)} leading indices for {buffer}")
    return node("hreduce", idx, (op, buffer), buffer.dtype)


# ---- traversal

def rewrite(e: Expr, fn: Callable[[Expr], Expr | None], memo: dict[Expr, Expr]) -> Expr:
    """e with subexpressions replaced, parents first: where `fn` answers, its answer stands."""
    found = memo.get(e)
    if found is not None:
        return found
    stack = [e]
    asked: set[Expr] = set()
    while stack:
        x = stack[-1]
        if x in memo:
            stack.pop()
            continue
        if x not in asked:
            asked.add(x)
            answer = fn(x)
            if answer is not None:
                memo[x] = answer
                continue
            missing = [a for a in x.args if a not in memo]
            if missing:
                stack.extend(reversed(missing))
                continue
        args = tuple(memo[a] for a in x.args)
        same = all(p is q for p, q in zip(args, x.args, strict=True))
        memo[x] = x if same else rebuild(x, args)
        stack.pop()
    return memo[e]


def rebuild(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """The node e on other arguments, simplified anew where it is index arithmetic."""
    if e.op == "lin":
        ks, c = e.attr
        out = index(c)
        for a, k in zip(args, ks, strict=True):
            out = out + _lin_mul(index(k), a)
        return out
    if e.op == "imul":
        return _lin_mul(*args)
    if e.dtype is INDEX and e.op in ("floordiv", "mod", "max", "min"):
        fn = {"floordiv": floordiv, "mod": mod, "max": imax, "min": imin}[e.op]
        return fn(*args)
    if e.op == "select":
        return select(*args)
    return node(e.op, args, e.attr, e.dtype)


def substitute(e: Expr, env: Mapping[Expr, Expr], memo: dict[Expr, Expr] | None = None) -> Expr:
    """e with variables (or any nodes) replaced."""
    return rewrite(e, env.get, {} if memo is None else memo)


def substitute_dims(e: Expr, env: Mapping[str, Dim], memo: dict[Expr, Expr]) -> Expr:
    """e with dimension symbols replaced in its linear forms."""
    def step(x: Expr) -> Expr | None:
        if x.op != "lin":
            return None
        ks, c = x.attr
        out = index(dims.substitute(c, env))
        for a, k in zip(x.args, ks, strict=True):
            out = out + _lin_mul(index(dims.substitute(k, env)), substitute_dims(a, env, memo))
        return out
    return rewrite(e, step, memo)


def walk(*roots: Expr) -> list[Expr]:
    """All nodes below the roots, each once, arguments before users; does not recurse."""
    seen: set[Expr] = set()
    out: list[Expr] = []
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            out.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args) if a not in seen)
    return out


def loads(*roots: Expr) -> list[Expr]:
    """The load nodes below the roots."""
    return [e for e in walk(*roots) if e.op == "load"]


def walk_new(root: Expr, known: Container[Expr]) -> list[Expr]:
    """The nodes below the root that are not in `known`, arguments first; stops at known ones."""
    seen: set[Expr] = set()
    out: list[Expr] = []
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        e, done = stack.pop()
        if done:
            out.append(e)
        elif e not in seen and e not in known:
            seen.add(e)
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args))
    return out
