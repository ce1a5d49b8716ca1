"""Integer operations without an instruction: sign, mulhi of 64 bits, pow."""

from __future__ import annotations

from flowc.ir import dtypes as dt
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr


def sign(x: Expr) -> Expr:
    """−1, 0 or 1."""
    t = x.dtype
    one, zero = ex.const(1, t), ex.const(0, t)
    if t.kind == "u":
        return ex.select(x.eq(0), zero, one)
    return ex.select(x > zero, one, ex.select(x < zero, ex.const(-1, t), zero))


def mulhi64(a: Expr, b: Expr) -> Expr:
    """The upper 64 bits of a product, by 32-bit halves (vectors have no wider multiplication)."""
    t = a.dtype
    ua, ub = (ex.bitcast(v, dt.u64) for v in (a, b))
    mask = ex.const(0xFFFFFFFF, dt.u64)

    def low(v: Expr) -> Expr:
        return ex.binary("and", v, mask)

    def high(v: Expr) -> Expr:
        return ex.binary("shr", v, ex.const(32, dt.u64))

    cross = high(ua) * low(ub)
    middle = low(ua) * high(ub) + low(cross) + high(low(ua) * low(ub))
    out = high(ua) * high(ub) + high(cross) + high(middle)
    if t.kind == "u":
        return out
    zero = ex.const(0, dt.u64)
    for x, y in ((a, ub), (b, ua)):
        out = out - ex.select(ex.compare("lt", x, ex.const(0, t)), y, zero)
    return ex.bitcast(out, t)


def pow_(x: Expr, y: Expr) -> Expr:
    """xʸ, wrapping, by squaring; a negative exponent gives 0, but ±1 of ±1."""
    t = x.dtype
    one, zero = ex.const(1, t), ex.const(0, t)
    out, square = one, x
    for n in range(t.bits - (t.kind == "i")):
        bit = ex.binary("and", ex.binary("shr", y, ex.const(n, t)), one)
        out = ex.select(ex.compare("ne", bit, zero), out * square, out)
        square = square * square
    if t.kind == "u":
        return out
    odd = ex.compare("ne", ex.binary("and", y, one), zero)
    unit = x.eq(1) | x.eq(-1)
    small = ex.select(unit, ex.select(odd, x, one), zero)
    return ex.select(y < zero, small, out)
