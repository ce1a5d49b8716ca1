"""Rules of arithmetic. Each says in a word why it is exact where that is not plain."""

from __future__ import annotations

import math
from typing import Any

from flowc.ir.core import Value

from ..rewrite import Replacement, Rewriter, rule

IDEMPOTENT = ("abs", "sign", "floor", "ceil", "round")
COMMUTATIVE = ("add", "mul", "max", "min", "and", "or", "xor")


def is_zero(v: Value, c: Any, negative: bool) -> bool:
    """Whether c, a scalar of v's type, is the zero of that sign (integers have one zero)."""
    dt = v.ty.dtype
    if c is None or dt.is_complex or c != 0:
        return False
    return not dt.is_float or math.copysign(1.0, float(c)) == (-1.0 if negative else 1.0)


def pairs(b: Rewriter, x: Value, y: Value) -> list[tuple[Value, Any]]:
    """(the other operand, the splat value) for each operand that has one."""
    found = ((x, b.splat(y)), (y, b.splat(x)))
    return [(v, c) for v, c in found if c is not None]


def is_float(v: Value) -> bool:
    return v.ty.dtype.is_float


@rule("add-zero", "add")
def add_zero(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x + 0 = x of integers, x + (−0) = x of floats; x + 0.0 turns −0 into 0 and stays."""
    return next((v for v, c in pairs(b, x, y) if is_zero(v, c, is_float(v))), None)


@rule("add-negated", "add")
def add_negated(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x + (−y) = x − y."""
    for u, v in ((x, y), (y, x)):
        made = b.made(v, "neg")
        if made:
            inner = made.operands[0]
            return lambda: b.sub(u, inner)
    return None


@rule("subtract-zero", "sub")
def subtract_zero(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x − 0 = x, of floats too (−0 − 0 = −0)."""
    return x if is_zero(x, b.splat(y), False) else None


@rule("subtract-self", "sub", "xor")
def subtract_self(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """Of integers: x − x = 0."""
    if x is y and x.ty.dtype.kind in "iub":
        return lambda: b.const(0, x)
    return None


@rule("subtract-negated", "sub")
def subtract_negated(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    made = b.made(y, "neg")
    return (lambda: b.add(x, made.operands[0])) if made else None


@rule("multiply-one", "mul")
def multiply_one(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    if x.ty.dtype.is_complex:
        return None
    return next((v for v, c in pairs(b, x, y) if c == 1), None)


@rule("multiply-minus-one", "mul")
def multiply_minus_one(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    for v, c in pairs(b, x, y):
        if v.ty.dtype.kind in "fi" and c == -1:
            return lambda: b.neg(v)
    return None


@rule("multiply-zero", "mul", "and")
def multiply_zero(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """Of integers and bools; a float may be NaN, infinite or negative."""
    if x.ty.dtype.kind in "iub" and any(c == 0 for _, c in pairs(b, x, y)):
        return lambda: b.const(0, x)
    return None


@rule("multiply-negated", "mul", "div")
def multiply_negated(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """(−x)·(−y) = x·y. Of integer quotients the least integer forbids it."""
    u, v = b.made(x, "neg"), b.made(y, "neg")
    if u and v and (op.name == "mul" or is_float(x)):
        return lambda: b.emit(op, u.operands[0], v.operands[0])
    return None


@rule("divide-one", "div")
def divide_one(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    c = b.splat(y)
    return x if c is not None and c == 1 and not x.ty.dtype.is_complex else None


@rule("divide-power-of-two", "div")
def divide_power_of_two(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x / 2ⁿ = x · 2⁻ⁿ where 2⁻ⁿ is a normal number: both round the same real number."""
    c = b.splat(y)
    if c is None or not is_float(x) or x.ty.dtype.bits < 16:
        return None
    mantissa, exponent = math.frexp(float(c))
    limit = {"f16": 14, "bf16": 126, "f32": 126, "f64": 1022}[x.ty.dtype.name]
    if abs(mantissa) != 0.5 or abs(exponent - 1) > limit or exponent == 1:
        return None
    inverse = 1.0 / float(c)
    return lambda: b.mul(x, b.const(inverse, x))


@rule("divide-power-of-two", "div", "rem")
def divide_unsigned(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """Of unsigned integers a shift or a mask."""
    c = b.splat(y)
    if c is None or x.ty.dtype.kind != "u" or int(c) < 1 or int(c) & (int(c) - 1):
        return None
    n = int(c)
    if op.name == "div":
        return lambda: b.shr(x, b.const(n.bit_length() - 1, x))
    return lambda: getattr(b, "and")(x, b.const(n - 1, x))


@rule("divide-minus-one", "div")
def divide_minus_one(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """Also of the least integer, whose quotient wraps as its negative does."""
    c = b.splat(y)
    if c is not None and x.ty.dtype.kind in "fi" and c == -1:
        return lambda: b.neg(x)
    return None


@rule("remainder-one", "rem")
def remainder_one(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    c = b.splat(y)
    if c is not None and x.ty.dtype.is_int and c == 1:
        return lambda: b.const(0, x)
    return None


@rule("power", "pow")
def power(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x⁰ = 1 (of NaN too), x¹ = x, x² = x·x, which rounds once."""
    c = b.splat(y)
    if c is None:
        return None
    if c == 1:
        return x
    if c == 0:
        return lambda: b.const(1, x)
    return (lambda: b.mul(x, x)) if c == 2 else None


@rule("double-negation", "neg", "not")
def double_negation(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, op.name)
    return made.operands[0] if made else None


@rule("negate-difference", "neg")
def negate_difference(b: Rewriter, op: Any, x: Value) -> Replacement:
    """−(x − y) = y − x of integers; of equal floats the zero has another sign."""
    made = b.made(x, "sub")
    if made and x.ty.dtype.is_int:
        return lambda: b.sub(made.operands[1], made.operands[0])
    return None


@rule("idempotent", *IDEMPOTENT)
def idempotent(b: Rewriter, op: Any, x: Value) -> Replacement:
    return x if b.made(x, op.name) else None


@rule("absolute-of-negated", "abs")
def absolute_of_negated(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "neg")
    return (lambda: b.abs(made.operands[0])) if made else None


@rule("same-operands", "max", "min", "and", "or")
def same_operands(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    return x if x is y else None


@rule("bound-without-effect", "max", "min")
def extreme_bound(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """max(x, −∞) = x, NaN included; of integers with the least."""
    if not (is_float(x) or x.ty.dtype.is_int):
        return None
    dt = x.ty.dtype
    limit = dt.min if op.name == "max" else dt.max
    return next((v for v, c in pairs(b, x, y) if c == limit), None)


@rule("bits-without-effect", "and", "or", "xor")
def neutral_bits(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x | 0, x ^ 0, x & ~0; and x | ~0 = ~0."""
    for v, c in pairs(b, x, y):
        full = bool(c) if v.ty.dtype.is_bool else int(c) in (-1, (1 << v.ty.dtype.bits) - 1)
        if op.name == "and" and full:
            return v
        if op.name != "and" and c == 0:
            return v
        if op.name == "or" and full:
            return y if v is x else x
    return None


@rule("flip", "xor")
def flip(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    """x ^ true = not x."""
    for v, c in pairs(b, x, y):
        if v.ty.dtype.is_bool and bool(c):
            return lambda: getattr(b, "not")(v)
    return None


@rule("shift-by-nothing", "shl", "shr")
def no_shift(b: Rewriter, op: Any, x: Value, y: Value) -> Replacement:
    c = b.splat(y)
    return x if c is not None and c == 0 else None


@rule("mark", "cut", "stop_gradient")
def mark(b: Rewriter, op: Any, x: Value) -> Replacement:
    return x
