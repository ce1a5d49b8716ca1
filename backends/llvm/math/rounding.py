"""round, floor, ceil without instructions for them (LLVM would call libm, which musl lacks in
part), and sign."""

from __future__ import annotations

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import absolute, kit, sign_bit, with_sign


def round_(x: Expr) -> Expr:
    """Halves to even: adding 2^mantissa leaves no fraction. Larger numbers have none."""
    k, a = kit(x), absolute(x)
    big = 2.0**k.mantissa
    near = (a + big) - big
    return with_sign(ex.select(a < big, near, a), sign_bit(x))


def floor(x: Expr) -> Expr:
    """⌊x⌋."""
    r = round_(x)
    return _keep_sign(x, ex.select(r > x, r - 1.0, r))


def ceil(x: Expr) -> Expr:
    """⌈x⌉."""
    r = round_(x)
    return _keep_sign(x, ex.select(r < x, r + 1.0, r))


def _keep_sign(x: Expr, out: Expr) -> Expr:
    """out ≠ 0 has x's sign already; a zero gets it."""
    return with_sign(absolute(out), sign_bit(x))


def sign(x: Expr) -> Expr:
    """−1 or 1; ±0 and NaN stay."""
    k = kit(x)
    return ex.select(x > 0.0, k.c(1.0), ex.select(x < 0.0, k.c(-1.0), x))
