"""Scalar expressions of kernels: what they are made of and how they are walked and rewritten.

Two families of interned nodes. *Index* expressions (dtype `INDEX`, 64-bit, exact) address buffers;
their arithmetic is in `arith`. *Data* expressions have an element type and the operations of
`SCALAR_OPS`; they never simplify algebraically (floating point), that is the tensor IR's work.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from .. import dims
from ..dims import Dim
from ..dtypes import DType, bool_, f32, u32
from .arith import (
    BINARY,
    COMPARE,
    INDEX,
    Axis,
    Expr,
    binary,
    bounds,
    compare,
    const,
    const_value,
    floordiv,
    imax,
    imin,
    index,
    is_const_index,
    let_var,
    lin_mul,
    linear,
    mod,
    node,
    var,
    within,
    wrap,
)

__all__ = [
    "BINARY",
    "COMBINERS",
    "COMPARE",
    "INDEX",
    "SCALAR_OPS",
    "UNARY",
    "Axis",
    "Expr",
    "binary",
    "bitcast",
    "bounds",
    "cast",
    "check",
    "compare",
    "const",
    "const_value",
    "dot_bf16",
    "floordiv",
    "fma",
    "hreduce",
    "imax",
    "imin",
    "index",
    "is_const_index",
    "let_var",
    "linear",
    "load",
    "load_parts",
    "loads",
    "mod",
    "node",
    "rebuild",
    "reduce",
    "rewrite",
    "select",
    "substitute",
    "substitute_dims",
    "unary",
    "var",
    "walk",
    "walk_new",
    "within",
    "wrap",
]

UNARY = frozenset(
    ("neg", "abs", "sign", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan",
     "asin", "acos", "atan", "tanh", "sigmoid", "erf", "erfinv", "lgamma", "digamma", "floor",
     "ceil", "round", "not", "is_nan", "popcount")
)
# const load var dim lin floordiv mod reduce hreduce: described where they are made.
# fma(a, b, c): one rounding where the target has it. select(bool, a, b). cast, bitcast: dtype in
# the node. check(value, ok): value, reporting attr = (error code, op, loc) where not ok.
# dot_bf16(f32, u32, u32): see there.
SCALAR_OPS = UNARY | BINARY | COMPARE | {"fma", "dot_bf16", "select", "cast", "bitcast", "check"}
COMBINERS = ("sum", "prod", "max", "min", "and", "or")


def unary(op: str, x: Expr) -> Expr:
    """A unary operation; the result has x's dtype (`is_nan`: bool)."""
    if op not in UNARY:
        raise ValueError(f"no unary operation {op!r}")
    return node(op, (x,), None, bool_ if op == "is_nan" else x.dtype)


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


def dot_bf16(acc: Expr, a: Expr, b: Expr) -> Expr:
    """acc + a₁·b₁ + a₀·b₀, where a and b (u32) hold two bf16 each, number 1 in the upper half.

    In f32; the target's instruction may take subnormal numbers for 0, and round less often.
    """
    if acc.dtype != f32 or a.dtype != u32 or b.dtype != u32:
        raise TypeError(f"dot_bf16: {acc.dtype}, {a.dtype}, {b.dtype}")
    return node("dot_bf16", (acc, a, b), None, f32)


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
            out = out + lin_mul(index(k), a)
        return out
    if e.op == "imul":
        return lin_mul(*args)
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
            out = out + lin_mul(index(dims.substitute(k, env)), substitute_dims(a, env, memo))
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
            if e.args:
                stack.append((e, True))
                stack.extend([(a, False) for a in reversed(e.args) if a not in seen])
            else:
                out.append(e)
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
