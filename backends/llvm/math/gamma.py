"""lgamma and digamma, in f64."""

from __future__ import annotations

import math

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import F64, absolute, poly
from .logarithm import log
from .trigonometric import sin, tan

# ln Γ(2 + t) / t on |t| ≤ ½; 2^-59.5
_LGAMMA = (
    0.42278433509846713, 0.32246703342411326, -0.06735230105319831, 0.02058080842778057,
    -0.00738555102864971, 0.0028905103310237217, -0.0011927539127585738,
    0.0005096695156759808, -0.00022315473516117132, 9.945767003791548e-05,
    -4.492653118415482e-05, 2.0505617351342916e-05, -9.437236353913778e-06,
    4.38458996089928e-06, -2.049755901772811e-06, 9.203140881589662e-07,
    -4.200394959468156e-07, 2.784951630715757e-07, -1.4329838389455295e-07,
)  # fmt: skip
# (ln Γ(x) − (x − ½) ln x + x − ½ ln 2π) · x in 1/x², x ≥ 8
_STIRLING = (
    0.08333333333333333, -0.00277777777777247, 0.0007936507884850762, -0.0005952362045996288,
    0.0008414193274694536, -0.001887291900719668, 0.004995945990112752,
)  # fmt: skip
# ψ(x) / (x − x₀) in x − 1.5 on 1 ≤ x ≤ 2, x₀ its root; 2^-58.5
_PSI = (
    0.9510558760318328, -0.4236274212814606, 0.24054248424078722, -0.1484049230538803,
    0.0949887244528496, -0.06192213327554179, 0.040760833943403935, -0.02697579665765433,
    0.017907248235174717, -0.011908220152597833, 0.007927023334696139,
    -0.005279936643194971, 0.0035180886214160813, -0.002345499775566118,
    0.0015635040284656912, -0.0010364323424529441, 0.0006902790667900022,
    -0.0004860335543929069, 0.0003258901115897347, -0.00014465838668085979,
    9.327897833456181e-05, -0.00017833179000046657, 0.0001211853020058926,
)  # fmt: skip
_ROOT = (1.4616321449683622, 9.549995429965697e-17)
# (ln x − 1/(2x) − ψ(x)) · x² in 1/x², x ≥ 10
_PSI_TAIL = (
    0.08333333333333331, -0.008333333333304145, 0.003968253943826632, -0.004166656949518483,
    0.007573679769172042, -0.020846018642396137, 0.06772785330714695,
)  # fmt: skip
_HALF_LOG_2PI = 0.9189385332046728


def _stirling(x: Expr) -> Expr:
    r = F64.c(1.0) / x
    logx = log(x)
    tail = ex.fma(r, poly(_STIRLING, r * r), F64.c(_HALF_LOG_2PI))
    return ex.select(x > 2.0**60, x * (logx - 1.0), ex.fma(x - 0.5, logx - 1.0, tail - 0.5))


def _lgamma_positive(x: Expr) -> Expr:
    """x > 0. Below 8 it is moved to Γ(2 + t), |t| ≤ ½, by factors that one logarithm takes."""
    small, one = x < 0.5, F64.c(1.0)
    shift, _ = F64.nearest(ex.select(x < 8.0, x, F64.c(2.0)) - 2.0, 1.0)
    shift = ex.select(shift < 0.0, F64.c(0.0), shift)
    t = ex.select(small, x, ex.select(x < 1.5, x - 1.0, (x - 2.0) - shift))
    product = ex.select(small, x * (x + 1.0), ex.select(x < 1.5, x, one))
    for n in range(1, 7):
        product = ex.select(shift > n - 0.5, product * (x - float(n)), product)
    logs = log(product)
    base = t * poly(_LGAMMA, t)
    near = ex.select(x < 1.5, base - logs, base + logs)
    return ex.select(x < 8.0, near, _stirling(x))


def lgamma(x: Expr) -> Expr:
    """ln |Γ(x)|; f64: 4 ULP for x > 0, below 0 as accurate in absolute terms (zeros lie there)."""
    a = absolute(x)
    up = _lgamma_positive(a)
    part = x - ex.unary("round", x)
    sine = absolute(sin(part * math.pi))
    down = log(F64.c(math.pi) / (a * sine)) - up
    tiny = a < 2.0**-60  # the product above could underflow
    down = ex.select(tiny, log(a) * -1.0, down)
    whole = part.eq(0.0)
    out = ex.select(x > 0.0, up, ex.select(whole, F64.inf, down))
    return ex.select(a.eq(float("inf")), F64.inf, out)


def _psi_positive(x: Expr) -> Expr:
    """x > 0."""
    one, zero = F64.c(1.0), F64.c(0.0)
    below = x < 1.0
    whole = ex.unary("floor", ex.select(x < 10.0, x, F64.c(2.0))) - 1.0
    steps = ex.select(whole > 0.0, whole, zero)
    y = ex.select(below, x + 1.0, x - steps)
    y = ex.select(x < 10.0, y, F64.c(1.5))
    total = ((y - _ROOT[0]) - _ROOT[1]) * poly(_PSI, y - 1.5)
    more = zero
    for n in range(8):
        more = more + ex.select(steps > n + 0.5, one / (y + float(n)), zero)
    total = total + more - ex.select(below, one / x, zero)
    r = one / x
    z = r * r
    tail = log(x) - ex.fma(z, poly(_PSI_TAIL, z), r * 0.5)
    return ex.select(x < 10.0, total, tail)


def digamma(x: Expr) -> Expr:
    """ψ(x); f64: 4 ULP for x > 0, below 0 as accurate in absolute terms."""
    low = x < 0.0
    arg = ex.select(low, F64.c(1.0) - x, x)
    up = _psi_positive(arg)
    part = x - ex.unary("round", x)
    down = up - F64.c(math.pi) / tan(part * math.pi)
    # near 0 the reflection would round 1 − x: ψ(x) = ψ(1 + x) − 1/x
    near = absolute(x) < 0.5
    first = _psi_positive(ex.select(near, x + 1.0, F64.c(1.5))) - F64.c(1.0) / x
    out = ex.select(near, first, ex.select(low, down, up))
    pole = low & part.eq(0.0)
    out = ex.select(pole, F64.nan, out)
    return ex.select(absolute(x).eq(float("inf")), ex.select(low, F64.nan, F64.inf), out)
