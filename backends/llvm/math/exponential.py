"""exp, expm1, tanh, sigmoid."""

from __future__ import annotations

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import F32, Kit, absolute, at_least, at_most, kit, poly, sign_bit, with_sign

LOG2E = 1.4426950408889634
# ln 2 in two parts, the first short enough for its products with exponents to be exact
LN2 = {
    "f32": (0.693145751953125, 1.428606765330187e-06),
    "f64": (0.6931471805592082, 7.371002565167799e-13),
}

# (exp(r) − 1 − r) / r² on |r| ≤ ln 2 / 2; relative error of exp: 2^-28.3, 2^-57.9
_EXP = {
    "f32": (0.49999994, 0.16666521, 0.041668393, 0.0083687445, 0.0013814529),
    "f64": (
        0.5000000000000011, 0.1666666666666641, 0.04166666666652973, 0.00833333333349507,
        0.00138888889437596, 0.00019841269505573798, 2.4801492949639555e-05,
        2.7557586977540287e-06, 2.763030635488147e-07, 2.4999965953370417e-08,
    ),
}  # fmt: skip
# the same, for the relative error of exp(r) − 1: 2^-32, 2^-61.7
_EXPM1 = {
    "f32": (0.5, 0.16666667, 0.041666355, 0.008333272, 0.0013941049, 0.00019914401),
    "f64": (
        0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321579,
        0.0013888888888866652, 0.00019841269886464722, 2.4801587360867533e-05,
        2.7557244063408214e-06, 2.755724253171577e-07, 2.5109089912309838e-08,
        2.092450421819219e-09,
    ),
}  # fmt: skip
OVERFLOW = {"f32": 89.0, "f64": 710.0}  # exp is infinite from here on
UNDERFLOW = {"f32": -104.0, "f64": -746.0}  # and 0 from here down


def reduce(x: Expr, bias: int, low: Expr | None = None) -> tuple[Expr, Expr]:
    """(r, b) with x + low = n · ln 2 + r, |r| ≤ ln 2 / 2, n + bias in the low bits of the integer b
    (as many as are left of a mantissa)."""
    r, _, b = _reduce(x, bias)
    return (r if low is None else r + low), b


def _reduce(x: Expr, bias: int) -> tuple[Expr, Expr, Expr]:
    """(r, its rounding error, b): see `reduce`."""
    k = kit(x)
    magic = k.c(k.magic + bias)
    t = ex.fma(x, k.c(LOG2E), magic)
    r, low = _without(x, t - magic)
    return r, low, k.bits(t)


def _without(x: Expr, n: Expr) -> tuple[Expr, Expr]:
    """x − n · ln 2 and its rounding error."""
    k = kit(x)
    high, rest = LN2[k.t.name]
    first = ex.fma(n, k.c(-high), x)
    r = ex.fma(n, k.c(-rest), first)
    return r, ex.fma(n, k.c(-rest), first - r)


def _power(k: Kit, b: Expr) -> Expr:
    """2ⁿ where the low bits of b hold n + the type's bias."""
    return k.from_bits(k.shl(b, k.mantissa))


def _scale(k: Kit, q: Expr, b: Expr, zero: Expr | None = None) -> Expr:
    """(1 + q) · 2ⁿ, the low bits of b holding n + twice the bias, in two steps: n may leave the
    normal range, and the result is rounded once more only where it is denormal. 0 where `zero`."""
    half = k.shr(b, 1)
    first, second = _power(k, half), _power(k, b - half)
    if zero is not None:
        second = ex.select(zero, k.c(0.0), second)
    return ex.fma(first, q, first) * second


def exp_bounded(x: Expr, low: Expr | None = None, zero: Expr | None = None) -> Expr:
    """exp(x + low) for UNDERFLOW ≤ x ≤ OVERFLOW, |low| ≪ |x|; 0 where `zero`."""
    k = kit(x)
    r, b = reduce(x, 2 * k.bias, low)
    return _scale(k, ex.fma(r * r, poly(_EXP[k.t.name], r), r), b, zero)


def exp_normal(x: Expr) -> Expr:
    """exp(x) where the result and 2^round(x / ln 2) are normal numbers."""
    k = kit(x)
    r, b = reduce(x, k.bias)
    power = _power(k, b)
    return ex.fma(power, ex.fma(r * r, poly(_EXP[k.t.name], r), r), power)


def exp(x: Expr) -> Expr:
    """eˣ; f32 0.9 ULP, f64 0.9 ULP, denormal results too."""
    name = x.dtype.name
    # what underflows is 0 by selection: a product that underflows takes a slow path of the
    # processor (0.7 ns an element on Zen 4), and the masked scores of attention all do
    tiny = x < kit(x).c(UNDERFLOW[name])
    return exp_bounded(at_least(at_most(x, OVERFLOW[name]), UNDERFLOW[name]), zero=tiny)


def exp_scaled(x: Expr) -> Expr:
    """exp on targets that have `scale`: the same accuracy with a third fewer instructions."""
    k = kit(x)
    x = at_least(at_most(x, OVERFLOW[k.t.name]), UNDERFLOW[k.t.name])
    magic = k.c(k.magic)
    n = ex.fma(x, k.c(LOG2E), magic) - magic
    r, _ = _without(x, n)
    p = ex.fma(r * r, poly(_EXP[k.t.name], r), r) + 1.0
    return ex.node("scale", (p, n), None, x.dtype)


def _expm1(x: Expr) -> Expr:
    """eˣ − 1 but for the sign of 0 and odd denormals."""
    k = kit(x)
    x = at_least(at_most(x, OVERFLOW[k.t.name]), -20.0 if k is F32 else -40.0)
    r, b = reduce(x, k.bias - 1)
    p = ex.fma(r * r, poly(_EXPM1[k.t.name], r), r)
    half = _power(k, b)  # 2ⁿ may overflow where the result does not
    out = ex.fma(half, p, half - 0.5)
    return out + out


def expm1(x: Expr) -> Expr:
    """eˣ − 1; f32 and f64 below 1.5 ULP."""
    tiny = 2.0**-26 if kit(x) is F32 else 2.0**-55
    return ex.select(absolute(x) < tiny, x, _expm1(x))


# (tanh x − x) / x³ in x² on x ≤ 0.6; 2^-28.5, 2^-57.8
_TANH = {
    "f32": (-0.333333, 0.13331959, -0.053786684, 0.020805381, -0.005905863),
    "f64": (
        -0.3333333333333313, 0.13333333333300906, -0.053968253949875936, 0.0218694880159829,
        -0.008863226955789581, 0.003592038844916826, -0.001455223061745067,
        0.0005872143046110905, -0.00023045079857378446, 7.937745502776306e-05,
        -1.721094787429092e-05,
    ),
}  # fmt: skip


def tanh(x: Expr) -> Expr:
    """1 − 2e / (1 + e), e = e^(−2|x|), a polynomial up to 0.6; below 2 ULP."""
    k, a = kit(x), absolute(x)
    z = a * a
    near = ex.fma(a * z, poly(_TANH[k.t.name], z), a)
    e = exp_normal(at_least(a * -2.0, -20.0 if k is F32 else -40.0))
    far = k.c(1.0) - (e + e) / (e + 1.0)
    return with_sign(ex.select(a < 0.6, near, far), sign_bit(x))


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e⁻ˣ) with one exponential of −|x|, so that both tails are accurate; f32 below 2
    ULP, by putting back what 1 + e rounds off; f64 2.3."""
    k = kit(x)
    arg = at_least(absolute(x) * -1.0, UNDERFLOW[k.t.name])
    e = _exp_closer(arg) if k is F32 else exp_bounded(arg)
    den = e + 1.0
    out = ex.select(x < 0.0, e, k.c(1.0)) / den
    return ex.fma(out, (den - 1.0) - e, out) if k is F32 else out


def _exp_closer(x: Expr) -> Expr:
    """exp for UNDERFLOW ≤ x ≤ OVERFLOW with the reduction's rounding error put back: 0.7 ULP."""
    k = kit(x)
    r, low, b = _reduce(x, 2 * k.bias)
    return _scale(k, r + ex.fma(r * r, poly(_EXP[k.t.name], r), low), b)
