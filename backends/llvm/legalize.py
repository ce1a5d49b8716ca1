"""Expressions to basic expressions: what remains is what `scalar.py` has instructions for.

Narrow floats are computed in f32 and rounded once an operation; 4-bit integers in a byte, wrapped
after each; transcendentals are expanded (`math/`); `check` nodes hold only where their value is
asked for. Everything maps expressions to expressions and knows nothing of vectors or devices.
"""

from __future__ import annotations

from flowc.ir import dtypes as dt
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import COMPARE, INDEX, Expr
from flowc.ir.kernel.form import Stmt, map_stmts
from flowc.runtime.errors import UnimplementedError

from . import narrow
from .emit import Target
from .math import EXPANSIONS, SCALED
from .math.integer import mulhi64
from .scalar import has_scale

_BITWISE = {"select", "bitcast", "load", "var", "const", "check", "hreduce"}


def legalize_body(
    body: tuple[Stmt, ...], target: Target, keep: frozenset[str] = frozenset()
) -> tuple[Stmt, ...]:
    """Statements with all their expressions legalized for the target.

    keep: transcendentals on floats that stay as they are.
    """
    legal = Legalizer(target, keep)
    return map_stmts(body, legal)


def legalize(e: Expr, target: Target) -> Expr:
    """One expression, legalized."""
    return Legalizer(target)(e)


class Legalizer:
    """Legalizes expressions that share subexpressions: `legal(e)`."""

    def __init__(self, target: Target, keep: frozenset[str] = frozenset()) -> None:
        self.target, self.keep = target, keep
        self._memo: dict[Expr, Expr] = {}
        self._roundings: dict[Expr, Expr] = {}

    def __call__(self, root: Expr) -> Expr:
        root = guard_checks(root)
        if root in self._memo:
            return self._memo[root]
        for e in ex.walk(root):  # arguments first
            if e not in self._memo:
                args = tuple(self._memo[a] for a in e.args)
                same = all(a is b for a, b in zip(args, e.args, strict=True))
                self._memo[e] = self._step(e if same else ex.rebuild(e, args))
        return self._memo[root]

    def _step(self, e: Expr) -> Expr:
        if e.dtype.is_complex:
            raise UnimplementedError(f"no code is generated for {e.dtype} yet")
        if e.op == "cast":
            return self._cast(e.args[0], e.dtype)
        first = e.args[0].dtype if e.args else e.dtype
        if e.op in _BITWISE or first is INDEX or e.dtype is INDEX:
            return e
        if narrow.is_narrow(first):
            return self._narrow(e, first)
        if first.bits == 4 and e.op not in COMPARE:
            wide = dt.i8 if first.kind == "i" else dt.u8
            inner = ex.node(e.op, tuple(ex.cast(a, wide) for a in e.args), e.attr, wide)
            return self._four(self._basic(inner), e, first)
        return self._basic(e)

    def _four(self, inner: Expr, e: Expr, t: DType) -> Expr:
        if e.op == "popcount" and t.kind == "i":
            low = ex.binary("and", ex.cast(e.args[0], dt.u8), ex.const(15, dt.u8))
            return ex.cast(ex.unary("popcount", low), t)
        if e.op == "mulhi":
            wide = inner.dtype
            a, b = (ex.cast(x, wide) for x in e.args)
            return ex.cast(ex.binary("shr", a * b, ex.const(4, wide)), t)
        return ex.cast(inner, t)

    # ---- narrow floats

    def _widen(self, x: Expr) -> Expr:
        if x.op == "const":
            return ex.const(float(ex.const_value(x)), dt.f32)
        if x.dtype == dt.f16 and self.target.has_f16:
            return ex.cast(x, dt.f32)
        return narrow.widen(x)

    def _round(self, x: Expr, to: DType) -> Expr:
        if to == dt.f16 and self.target.has_f16:
            return ex.cast(x, to)
        return narrow.round_to(x, to)

    def _narrow(self, e: Expr, t: DType) -> Expr:
        if e.op in ("neg", "abs"):
            bits = narrow.bits_type(t)
            top, op = 1 << (t.bits - 1), "xor" if e.op == "neg" else "and"
            mask = ex.const(top if op == "xor" else top - 1, bits)
            return ex.bitcast(ex.binary(op, ex.bitcast(e.args[0], bits), mask), t)
        args = tuple(self._widen(a) for a in e.args)
        if e.dtype.is_bool:
            return ex.node(e.op, args, e.attr, e.dtype)
        return self._round(self._basic(ex.node(e.op, args, e.attr, dt.f32)), t)

    def _cast(self, x: Expr, to: DType) -> Expr:
        src = x.dtype
        if src.is_complex or to.is_complex:
            raise UnimplementedError(f"no code is generated for casts of {src} to {to} yet")
        if narrow.is_narrow(src):
            x, src = self._widen(x), dt.f32
        if not narrow.is_narrow(to):
            return ex.cast(x, to)
        if src == dt.f32:
            return self._round(x, to)
        if src == dt.f64:
            return self._round(narrow.odd_from_f64(x), to)
        if src.is_bool:
            return self._round(ex.cast(x, dt.f32), to)
        return narrow.from_integer(x, to)

    # ---- wide types

    def _basic(self, e: Expr) -> Expr:
        """An operation on f32, f64, integers of 8 bits and more, or bool."""
        first = e.args[0].dtype
        if e.op == "mulhi" and first.bits == 64:
            return mulhi64(*e.args)
        if e.op == "dot_bf16":
            return e if self.target.has_bf16_dot else _dot(*e.args)
        if e.op in ("floor", "ceil", "round") and self.target.has_round:
            return e
        if e.op in self.keep and first.is_float:
            return e
        if e.op in SCALED and first.kind == "f" and has_scale(self.target):
            return SCALED[e.op](*e.args)
        if e.op in EXPANSIONS and e.op != "mulhi":
            expand = EXPANSIONS[e.op].get(first.kind)
            if expand is not None:
                return self._rounding(expand(*e.args))
        return e

    def _rounding(self, e: Expr) -> Expr:
        """An expansion whose own floor, ceil and round nodes are expanded where they have to be."""
        if self.target.has_round:
            return e
        return ex.rewrite(e, self._one_rounding, self._roundings)

    def _one_rounding(self, e: Expr) -> Expr | None:
        if e.op not in ("floor", "ceil", "round") or not e.dtype.is_float:
            return None
        inner = ex.rewrite(e.args[0], self._one_rounding, self._roundings)
        return EXPANSIONS[e.op]["f"](inner)


def _dot(acc: Expr, a: Expr, b: Expr) -> Expr:
    """`dot_bf16` by two multiplications and additions."""
    for op, bits in (("and", 0xFFFF0000), ("shl", 16)):
        x, y = (ex.bitcast(ex.binary(op, w, ex.const(bits, dt.u32)), dt.f32) for w in (a, b))
        acc = ex.fma(x, y, acc)
    return acc


def guard_checks(root: Expr) -> Expr:
    """Checks below a `select`'s branch or in a predicated load's index hold only where the branch
    is taken, or the element loaded: a producer with a check may be inlined into a consumer that
    guards it (concat, pad)."""
    inside: set[Expr] = set()
    for e in ex.walk(root):
        if e.op == "check" or any(a in inside for a in e.args):
            inside.add(e)
    if not inside:
        return root
    memo: dict[tuple[Expr, Expr | None], Expr] = {}

    def both(a: Expr | None, b: Expr) -> Expr:
        return b if a is None else a & b

    def go(e: Expr, cond: Expr | None) -> Expr:
        if e not in inside:
            return e
        if (e, cond) not in memo:
            memo[e, cond] = ex.rebuild(e, tuple(arguments(e, cond)))
        return memo[e, cond]

    def arguments(e: Expr, cond: Expr | None) -> list[Expr]:
        if e.op == "select":
            c = go(e.args[0], cond)
            no = ex.unary("not", c)
            return [c, go(e.args[1], both(cond, c)), go(e.args[2], both(cond, no))]
        if e.op == "load":
            _, idx, pred = ex.load_parts(e)
            if pred is not None:
                p = go(pred, cond)
                return [*(go(i, both(cond, p)) for i in idx), p]
        out = [go(a, cond) for a in e.args]
        if e.op == "check" and cond is not None:
            out[1] = out[1] | ex.unary("not", cond)
        return out

    return go(root, None)
