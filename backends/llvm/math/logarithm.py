"""log and log1p."""

from __future__ import annotations

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import F32, Kit, absolute, kit, poly, two_sum
from .exponential import LN2

# (ln(1 + f) − f + f²/2) / f³ on √½ ≤ 1 + f ≤ √2; relative error of ln: 2^-30.3
_LOG32 = (
    0.33333313, -0.2500001, 0.20002119, -0.16668, 0.14219543, -0.12405537, 0.118881814,
    -0.116759256, 0.06746899,
)  # fmt: skip
# (ln((1 + s) / (1 − s)) / s − 2) / s², in z = s² ≤ 0.0295; 2^-58.5
_LOG64 = (
    0.6666666666666735, 0.3999999999941107, 0.2857142874326696, 0.22222198475617314,
    0.18183569756972742, 0.1531390283408348, 0.1479751172504523,
)  # fmt: skip
_ROOT_HALF = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}  # bits of √½


def split(x: Expr) -> tuple[Expr, Expr]:
    """(m, e) of a normal number x > 0: x = m · 2ᵉ, √½ ≤ m < √2; e an integer."""
    k = kit(x)
    bits = k.bits(x)
    e = k.shr(bits - k.k(_ROOT_HALF[k.t.name]), k.mantissa)
    return k.from_bits(bits - k.shl(e, k.mantissa)), e


def normal(x: Expr) -> tuple[Expr, Expr]:
    """x > 0 scaled out of the denormals, and the exponent (a float) to add to its logarithm's."""
    k = kit(x)
    small = x < 2.0 ** (1 - k.bias)
    shift = k.mantissa + 1
    scaled = ex.select(small, x * 2.0**shift, x)
    return scaled, ex.select(small, k.c(-float(shift)), k.c(0.0))


def _assemble(k: Kit, f: Expr, e: Expr) -> Expr:
    """ln(1 + f) + e · ln 2."""
    high, low = LN2[k.t.name]
    z = f * f
    if k is F32:
        tail = ex.fma(e, k.c(low), f * z * poly(_LOG32, f))
        return ex.fma(e, k.c(high), f + ex.fma(z, k.c(-0.5), tail))
    s = f / (f + 2.0)
    sz = s * s
    r = sz * poly(_LOG64, sz)
    half = z * 0.5
    tail = ex.fma(s, half + r, e * k.c(low))
    return ex.fma(e, k.c(high), f - (half - tail))


def _edges(x: Expr, out: Expr) -> Expr:
    """out where 0 < x < ∞; −∞ at ±0, ∞ at ∞, else NaN."""
    k = kit(x)
    special = ex.select(x > 0.0, x, ex.select(x.eq(0.0), k.c(float("-inf")), k.nan))
    return ex.select((x > 0.0) & (x < k.inf), out, special)


def log(x: Expr) -> Expr:
    """ln x; 1 ULP, denormals too."""
    k = kit(x)
    scaled, shift = normal(x)
    m, e = split(scaled)
    return _edges(x, _assemble(k, m - 1.0, k.integer(e) + shift))


def log1p(x: Expr) -> Expr:
    """ln(1 + x): the rounding error of 1 + x goes into the reduced argument; 1.5 ULP."""
    k = kit(x)
    u, rest = two_sum(x, k.c(1.0))
    m, e = split(u)
    down = ex.binary("max", k.k(0) - e, k.k(-100))  # where x is large `rest` does not count
    f = (m - 1.0) + rest * k.pow2(down)
    out = _edges(u, _assemble(k, f, k.integer(e)))
    return ex.select(absolute(x) < (2.0**-26 if k is F32 else 2.0**-55), x, out)
