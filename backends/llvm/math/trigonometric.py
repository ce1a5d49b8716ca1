"""sin, cos, tan by Cody & Waite's reduction; asin, acos, atan, atan2.

The reduction multiplies quadrants by π/2 in pieces of 33 bits, exact below 2^20 quadrants with or
without fused operations. f32 reduces in f64: 2 ULP for |x| < 2^30 (with FMA; else 2^20). f64 keeps
the rest of the reduced argument: 2 ULP for |x| < 2^20, beyond it an absolute error below 2^-50 to
|x| = 2^36 (with FMA). Beyond 2^48 (f32) and 2^40 (f64) the result is NaN.
"""

from __future__ import annotations

from flowc.ir import dtypes as dt
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import F32, F64, Kit, absolute, at_most, kit, poly, sign_bit, with_sign

_TWO_OVER_PI = 0.6366197723675814
_PIECES = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21,
           8.478427660368898e-32)  # fmt: skip
_LIMIT = {"f32": 2.0**48, "f64": 2.0**40}

# (sin r − r) / r³ and (cos r − 1 + r²/2) / r⁴ in z = r², |r| ≤ π/4
_SIN = {
    "f32": (-0.16666667, 0.008333329, -0.00019839327, 2.7182368e-06),
    "f64": (
        -0.16666666666666666, 0.008333333333333323, -0.0001984126984125499, 2.7557319214149e-06,
        -2.505210490058075e-08, 1.6058365198490728e-10, -7.578625749153859e-13,
    ),
}  # fmt: skip
_COS = {
    "f32": (0.041666646, -0.0013887362, 2.4437766e-05),
    "f64": (
        0.041666666666666664, -0.0013888888888888874, 2.480158730157138e-05,
        -2.7557319215326035e-07, 2.0876754354736155e-09, -1.1470291947605229e-11,
        4.7380485852482465e-14,
    ),
}  # fmt: skip


def _reduce(x: Expr) -> tuple[Expr, Expr | None, Expr]:
    """(r, rest, n): x = n·π/2 + r + rest, |r| ≤ π/4; n an integer of x's width. x ≥ 0."""
    k, wide = kit(x), x if kit(x) is F64 else ex.cast(x, dt.f64)
    wide = ex.select(wide < _LIMIT[k.t.name], wide, F64.nan)
    q, n = F64.nearest(wide, _TWO_OVER_PI)
    a, b, c, d = (F64.c(-p) for p in _PIECES)
    t = ex.fma(q, a, wide)
    if k is F32:
        r = ex.fma(q, c, ex.fma(q, b, t))
        return ex.cast(r, dt.f32), None, ex.cast(n, dt.i32)
    w = q * b  # exact
    r1 = t + w
    e1 = (t - r1) + w
    v = q * c  # exact
    r2 = r1 + v
    e2 = (r1 - r2) + v
    low = (e1 + e2) + q * d
    r = r2 + low
    return r, (r2 - r) + low, n


def _sin_poly(r: Expr, rest: Expr | None) -> Expr:
    k, z = kit(r), r * r
    tail = r * z * poly(_SIN[k.t.name], z)
    if rest is not None:
        tail = tail + rest * ex.fma(z, k.c(-0.5), k.c(1.0))
    return r + tail


def _cos_poly(r: Expr, rest: Expr | None) -> Expr:
    k, z = kit(r), r * r
    half = z * 0.5
    w = k.c(1.0) - half
    tail = z * z * poly(_COS[k.t.name], z)
    if rest is not None:
        tail = tail - r * rest
    return w + (((k.c(1.0) - w) - half) + tail)


def _quadrant(k: Kit, n: Expr, bit: int, to: int) -> Expr:
    """Bit `bit` of n, moved to bit `to`."""
    return k.shl(ex.binary("and", n, k.k(1 << bit)), to - bit)


def sin(x: Expr) -> Expr:
    """The sine; NaN at infinities."""
    k = kit(x)
    r, rest, n = _reduce(absolute(x))
    odd = ex.compare("ne", _quadrant(k, n, 0, 0), k.k(0))
    sign = ex.binary("xor", sign_bit(x), _quadrant(k, n, 1, k.t.bits - 1))
    return with_sign(ex.select(odd, _cos_poly(r, rest), _sin_poly(r, rest)), sign)


def cos(x: Expr) -> Expr:
    """The cosine; NaN at infinities."""
    k = kit(x)
    r, rest, n = _reduce(absolute(x))
    odd = ex.compare("ne", _quadrant(k, n, 0, 0), k.k(0))
    sign = _quadrant(k, n + k.k(1), 1, k.t.bits - 1)
    return with_sign(ex.select(odd, _sin_poly(r, rest), _cos_poly(r, rest)), sign)


def tan(x: Expr) -> Expr:
    """The tangent; NaN at infinities; 3 ULP."""
    k = kit(x)
    r, rest, n = _reduce(absolute(x))
    odd = ex.compare("ne", _quadrant(k, n, 0, 0), k.k(0))
    s, c = _sin_poly(r, rest), _cos_poly(r, rest)
    ratio = ex.select(odd, c, s) / ex.select(odd, s, c)
    sign = ex.binary("xor", sign_bit(x), _quadrant(k, n, 0, k.t.bits - 1))
    return with_sign(ratio, sign)


# ---- inverse functions

# (atan t − t) / t³ in z = t²: f32 on t ≤ 1 (2^-28.7), f64 on t ≤ tan π/8 (2^-64)
_ATAN = {
    "f32": (
        -0.33333302, 0.19998638, -0.14265245, 0.10957574, -0.08419456, 0.058234543,
        -0.03145572, 0.011064461, -0.0018272193,
    ),
    "f64": (
        -0.33333333333333326, 0.1999999999999767, -0.14285714285388057, 0.11111111088180305,
        -0.09090908144603058, 0.07692282760049693, -0.0666622677421824, 0.05877021931857806,
        -0.05218405067861327, 0.04503551486782146, -0.03347448901630121, 0.01519516994902418,
    ),
}  # fmt: skip
# (asin s − s) / s³ in z = s² ≤ 1/4; 2^-31.7, 2^-59.8
_ASIN = {
    "f32": (0.1666666, 0.07500511, 0.04451572, 0.031817608, 0.014402607, 0.03756521),
    "f64": (
        0.16666666666666763, 0.07499999999970275, 0.04464285717510848, 0.03038194268419261,
        0.022372215644413766, 0.017351600372478997, 0.013980958140054817,
        0.011397802652130588, 0.010786382042372958, 0.003683587928084759,
        0.021762193622113526, -0.021075476740293166, 0.03267577413870918,
    ),
}  # fmt: skip
PI = {
    "f32": (3.1415927410125732, -8.742277657347586e-08),
    "f64": (3.141592653589793, 1.2246467991473532e-16),
}


def _minus(k: Kit, factor: float, p: Expr) -> Expr:
    """π · factor − p, π in two parts; factor a power of 2."""
    high, low = PI[k.t.name]
    return (k.c(high * factor) - p) + k.c(low * factor)


def _atan_ratio(num: Expr, den: Expr) -> Expr:
    """atan(num / den) for 0 ≤ num ≤ den, not both infinite, den > 0."""
    k = kit(num)
    if k is F32:
        t = num / den
        z = t * t
        return ex.fma(t * z, poly(_ATAN["f32"], z), t)
    large = den > 2.0**1000  # num + den must not overflow
    num, den = (ex.select(large, v * 2.0**-100, v) for v in (num, den))
    upper = num > den * 0.41421356
    t = ex.select(upper, num - den, num) / ex.select(upper, num + den, den)
    z = t * t
    tail = t * z * poly(_ATAN["f64"], z)
    high, low = (v * 0.25 for v in PI["f64"])
    shifted = k.c(high) + (t + (tail + k.c(low)))
    return ex.select(upper, shifted, t + tail)


def atan(x: Expr) -> Expr:
    """The arc tangent in [−π/2, π/2]; 1.5 ULP."""
    k, a = kit(x), absolute(x)
    swap = a > 1.0
    huge = at_most(a, 2.0 ** (k.mantissa + 3))  # π/2 to the last bit from there on
    p = _atan_ratio(ex.select(swap, k.c(1.0), a), ex.select(swap, huge, k.c(1.0)))
    return with_sign(ex.select(swap, _minus(k, 0.5, p), p), sign_bit(x))


def atan2(y: Expr, x: Expr) -> Expr:
    """The angle of the point (x, y) in [−π, π], with C's results at zeros and infinities."""
    k = kit(x)
    a, b = absolute(y), absolute(x)
    swap = a > b
    num, den = ex.select(swap, b, a), ex.select(swap, a, b)
    same = num.eq(den)  # equal, infinite, or both 0
    one = ex.select(den.eq(0.0), k.c(0.0), k.c(1.0))
    p = _atan_ratio(ex.select(same, one, num), ex.select(same, k.c(1.0), den))
    p = ex.select(swap, _minus(k, 0.5, p), p)
    left = ex.compare("lt", k.bits(x), k.k(0))
    p = ex.select(left, _minus(k, 1.0, p), p)
    nan = ex.unary("is_nan", x) | ex.unary("is_nan", y)
    return ex.select(nan, k.nan, with_sign(p, sign_bit(y)))


def _asin_parts(a: Expr) -> tuple[Expr, Expr, Expr]:
    """(near, p, s) for a = |x|: asin a = p where a < ½ (near); else π/2 − 2s."""
    k = kit(a)
    near = a < 0.5
    half = (k.c(1.0) - a) * 0.5
    z = ex.select(near, a * a, half)
    q = z * poly(_ASIN[k.t.name], z)
    root = ex.unary("sqrt", half)
    # the square root's own error, where it is not 0
    rest = ex.fma(root * -1.0, root, half) / ex.select(root.eq(0.0), k.c(1.0), root + root)
    return near, ex.fma(a, q, a), root + ex.fma(root, q, rest)


def asin(x: Expr) -> Expr:
    """The arc sine; NaN outside [−1, 1]; 1.5 ULP."""
    k = kit(x)
    near, p, s = _asin_parts(absolute(x))
    return with_sign(ex.select(near, p, _minus(k, 0.5, s + s)), sign_bit(x))


def acos(x: Expr) -> Expr:
    """The arc cosine; NaN outside [−1, 1]; 1.5 ULP."""
    k = kit(x)
    near, p, s = _asin_parts(absolute(x))
    signed = with_sign(p, sign_bit(x))
    far = ex.select(x < 0.0, _minus(k, 1.0, s + s), s + s)
    return ex.select(near, _minus(k, 0.5, signed), far)
