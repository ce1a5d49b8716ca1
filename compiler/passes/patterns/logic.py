"""Rules of comparison and choice."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from ..rewrite import Replacement, Rewriter, rule

INVERSE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


@rule("compare-self", "compare")
def compare_self(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """Of integers and bools; a float may be NaN."""
    if x is y and x.ty.dtype.kind in "iub":
        like = x.ty.with_dtype(op.infer(x.ty, y.ty).dtype)
        return lambda: b.const(op.op in ("eq", "le", "ge"), like)
    return None


@rule("compare-unsigned", "compare")
def compare_unsigned(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """0 ≤ x is true of unsigned integers, x < 0 false."""
    if x.ty.dtype.kind != "u" or op.op not in ("lt", "ge"):
        return None
    c = b.splat(y)
    if c is None or c != 0:
        return None
    return lambda: b.const(op.op == "ge", op.infer(x.ty, y.ty))


@rule("compare-bool", "compare")
def compare_bool(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x = true is x, x = false is not x."""
    if not x.ty.dtype.is_bool or op.op not in ("eq", "ne"):
        return None
    for v, c in ((x, b.splat(y)), (y, b.splat(x))):
        if c is not None:
            if bool(c) == (op.op == "eq"):
                return v
            return lambda: getattr(b, "not")(v)
    return None


@rule("not-compare", "not")
def not_compare(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Of floats only = and ≠ have an inverse: with NaN every order is false."""
    made = b.made(x, "compare")
    if made is None:
        return None
    test = made.op.op  # type: ignore[attr-defined]
    if made.operands[0].ty.dtype.kind in "fc" and test not in ("eq", "ne"):
        return None
    return lambda: b.compare(*made.operands, op=INVERSE[test])


@rule("select-known", "select")
def select_known(b: Rewriter, op: Any, c: Value, x: Value, y: Value) -> Replacement:
    known = b.splat(c)
    if known is not None:
        return x if bool(known) else y
    return x if x is y else None


@rule("select-not", "select")
def select_not(b: Rewriter, op: Any, c: Value, x: Value, y: Value) -> Replacement:
    made = b.made(c, "not")
    return (lambda: b.select(made.operands[0], y, x)) if made else None


@rule("select-of-bools", "select")
def select_of_bools(b: Rewriter, op: Any, c: Value, x: Value, y: Value) -> Replacement:
    """select(c, true, false) = c."""
    if not x.ty.dtype.is_bool:
        return None
    u, v = b.splat(x), b.splat(y)
    if u is None or v is None or bool(u) == bool(v):
        return None
    return c if bool(u) else (lambda: getattr(b, "not")(c))


@rule("select-in-select", "select")
def select_in_select(b: Rewriter, op: Any, c: Value, x: Value, y: Value) -> Replacement:
    """A choice by the same condition inside one: the outer has decided it."""
    u, v = b.made(x, "select"), b.made(y, "select")
    if u and u.operands[0] is c:
        return lambda: b.select(c, u.operands[1], y)
    if v and v.operands[0] is c:
        return lambda: b.select(c, x, v.operands[2])
    return None
