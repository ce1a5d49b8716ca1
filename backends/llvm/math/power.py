"""pow: exp(y · ln |x|), the logarithm in two f64 words; and rsqrt."""

from __future__ import annotations

from flowc.ir import dtypes as dt
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import F32, F64, absolute, fast_two_sum, kit, poly, sign_bit, two_product, two_sum
from .exponential import UNDERFLOW, exp, exp_bounded
from .logarithm import log, normal, split

# (ln((1+s)/(1−s))/s − 2 − 2/3·s²) / s⁴ in z = s² ≤ 0.0295; 2^-72
_TAIL = (
    0.3999999999999998, 0.2857142857144522, 0.22222222217511003, 0.18181818873445088,
    0.15384556657019802, 0.1333632566689239, 0.11674650768914413, 0.11990412712960229,
)  # fmt: skip
_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LN2 = (0.6931471803691238, 1.9082149292705877e-10)  # 32 bits, and the rest


def _log_pair(x: Expr) -> tuple[Expr, Expr]:
    """ln x in two words, relative error about 2^-64, of finite x > 0."""
    scaled, shift = normal(x)
    m, exponent = split(scaled)
    e = F64.integer(exponent) + shift
    f = m - 1.0
    den, den_low = two_sum(m, F64.c(1.0))
    s = f / den
    p, p_low = two_product(s, den)
    s_low = (((f - p) - p_low) - s * den_low) / den
    z, z_low = two_product(s, s)
    z_low = z_low + s * s_low * 2.0
    # 2s + s·z·(2/3) in pairs, the rest in one word
    c, c_low = two_product(z, F64.c(_THIRDS[0]))
    c_low = c_low + (z_low * _THIRDS[0] + z * _THIRDS[1])
    c, more = two_sum(c, z * z * poly(_TAIL, z))
    c_low = c_low + more
    t, t_low = two_product(s, c)
    t_low = t_low + (s * c_low + s_low * c)
    high, low = fast_two_sum(s * 2.0, t)
    low = low + (t_low + s_low * 2.0)
    big, big_low = two_sum(e * _LN2[0], high)
    return fast_two_sum(big, big_low + (low + e * _LN2[1]))


def _magnitude64(a: Expr, y: Expr) -> Expr:
    """aʸ for finite a > 0, in f64."""
    high, low = _log_pair(a)
    y = ex.select(absolute(y) > 2.0**70, y * 2.0**-900, y)  # beyond, the result is 0, 1 or ∞
    y = ex.select(absolute(y) > 2.0**70, F64.c(2.0**70), y)
    p, p_low = two_product(y, high)
    p_low = p_low + y * low
    p, p_low = fast_two_sum(p, p_low)
    inside = (p < 710.0) & (p > UNDERFLOW["f64"])
    out = exp_bounded(ex.select(inside, p, F64.c(0.0)), ex.select(inside, p_low, F64.c(0.0)))
    return ex.select(inside, out, ex.select(p > 0.0, F64.inf, F64.c(0.0)))


def pow_(x: Expr, y: Expr) -> Expr:
    """xʸ as C's pow (C17 F.10.4.4); f32 1 ULP, f64 2 ULP."""
    k = kit(x)
    wide_x, wide_y = (v if k is F64 else ex.cast(v, dt.f64) for v in (x, y))
    a, one = absolute(wide_x), F64.c(1.0)
    regular = (a > 0.0) & (a < float("inf"))
    base = ex.select(regular, a, one)
    if k is F32:
        out = exp(wide_y * log(base))
    else:
        out = _magnitude(base, wide_y)
    out = ex.select(regular, out, _irregular(a, wide_y))
    out = _signed(wide_x, wide_y, out)
    unit = (a.eq(1.0) & absolute(wide_y).eq(float("inf"))) | wide_x.eq(1.0) | wide_y.eq(0.0)
    out = ex.select(unit, one, out)
    return out if k is F64 else ex.cast(out, dt.f32)


def _magnitude(a: Expr, y: Expr) -> Expr:
    """aʸ for finite a > 0 and any y but NaN times…: infinite and huge y by the sign of ln a."""
    huge = absolute(y) > 2.0**65  # |y · ln a| > 745 unless a = 1
    grows = ex.compare("eq", a > 1.0, y > 0.0)
    limit = ex.select(a.eq(1.0), F64.c(1.0), ex.select(grows, F64.inf, F64.c(0.0)))
    usual = _magnitude64(a, ex.select(huge, F64.c(1.0), y))
    nan = ex.unary("is_nan", y)
    return ex.select(nan, F64.nan, ex.select(huge, limit, usual))


def _irregular(a: Expr, y: Expr) -> Expr:
    """aʸ for a = 0, ∞ or NaN."""
    zero = a.eq(0.0)
    vanishes = ex.compare("eq", zero, y > 0.0)
    out = ex.select(vanishes, F64.c(0.0), F64.inf)
    nan = ex.unary("is_nan", a) | ex.unary("is_nan", y)
    return ex.select(nan, F64.nan, out)


def _signed(x: Expr, y: Expr, magnitude: Expr) -> Expr:
    """The sign for odd y, and NaN for a negative x to a power that is no integer."""
    whole = ex.unary("round", y).eq(y)
    half = y * 0.5
    odd = whole & ex.compare("ne", ex.unary("round", half), half)
    flip = ex.select(odd, sign_bit(x), F64.k(0))
    out = F64.from_bits(ex.binary("xor", F64.bits(magnitude), flip))
    bad = (x < 0.0) & (x > float("-inf")) & ex.unary("not", whole) & y.eq(y)
    return ex.select(bad, F64.nan, out)


def rsqrt(x: Expr) -> Expr:
    """1 / √x; 1 ULP."""
    return kit(x).c(1.0) / ex.unary("sqrt", x)
