"""erf and erfinv."""

from __future__ import annotations

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .common import F32, F64, absolute, at_most, kit, poly, sign_bit, with_sign
from .exponential import exp_bounded, exp_normal
from .logarithm import log

# erf(a) / a − 1 in a² on a ≤ 1; 2^-29.5, 2^-62.4
_ERF = {
    "f32": (
        0.12837917, -0.37612626, 0.11283582, -0.026853573, 0.0051876768, -0.0008002791,
        7.823964e-05,
    ),
    "f64": (
        0.1283791670955126, -0.3761263890318375, 0.11283791670954828, -0.026866170645066755,
        0.005223977624715041, -0.0008548326974631286, 0.00012055330875821467,
        -1.4925589387009762e-05, 1.6460903013399358e-06, -1.634924864882514e-07,
        1.4652428562109765e-08, -1.1343779106835394e-09, 5.906961746052706e-11,
    ),
}  # fmt: skip
# ln(1 − erf(a)) on 1 ≤ a ≤ 4; relative error of erf 2^-35
_LOG_ERFC = (
    0.00018846763, -1.1295803, -0.6332164, -0.10842209, 0.025210336, -0.0042052832,
    0.00044147234, -2.1697584e-05,
)  # fmt: skip
# e^(a²) · (1 − erf(a)) in u = (a − 2.5) / (a + 2.5) on 1 ≤ a ≤ 6; 2^-58.9
_ERFCX = (
    0.2108063640611436, -0.3717367339489734, 0.2517131932174493, -0.12503305237882478,
    0.039922539075588494, -0.003993701166220659, -0.002642365964398041,
    0.0008759154630936997, 0.00022838037961027437, -0.00012887741669384605,
    -3.418222792235661e-05, 1.8617090351583506e-05, 7.552400353660521e-06,
    -2.3141938689346115e-06, -1.8008884765506253e-06, 1.298694816139579e-07,
    3.4198584995142053e-07,
)  # fmt: skip


def _erf_small(a: Expr) -> Expr:
    return ex.fma(a, poly(_ERF[a.dtype.name], a * a), a)


def _erfc_large(a: Expr) -> Expr:
    """1 − erf(a) for 1 ≤ a ≤ 6, in f64, and 1/√(π)·e^(−a²)-like accuracy in the tail."""
    u = (a - 2.5) / (a + 2.5)
    return exp_bounded(a * a * -1.0) * poly(_ERFCX, u)


def erf(x: Expr) -> Expr:
    """2/√π · ∫₀ˣ e^(−t²) dt; 1 ULP."""
    k, a = kit(x), absolute(x)
    if k is F32:
        tail = exp_normal(poly(_LOG_ERFC, at_most(a, 4.0)))
    else:
        tail = _erfc_large(at_most(a, 6.0))
    out = ex.select(a > 1.0, k.c(1.0) - tail, _erf_small(a))
    return with_sign(out, sign_bit(x))


# erfinv(x) / x in w = −ln(1 − x²): on w < 5 in w − 2.5, beyond in √w − 3 or √w − 4;
# relative error f32 2^-28.7 (w ≤ 16.8), f64 2^-20.4 (w ≤ 37)
_NEAR = {
    "f32": (
        1.5014094, 0.2466403, -0.0041773394, -0.0012527447, 0.0002182826, -4.961882e-06,
        -3.4345944e-06, 4.6588514e-07, 1.8033923e-08, -8.772299e-09, 3.3575065e-10,
    ),
    "f64": (
        1.5014094218874772, 0.24664072604922255, -0.004177708320869811,
        -0.0012537076816711305, 0.00021860241899073044, -4.3967000751514285e-06,
        -3.528892856992286e-06, 3.437182445246873e-07, 2.853645536072231e-08,
    ),
}  # fmt: skip
_FAR = {
    "f32": (
        2.8329768, 1.0016752, 0.009445303, -0.007642764, 0.0056876987, -0.0035670903,
        0.0014751108, -0.00012004767, -0.00027749108, 0.00016055552, -2.9517167e-05,
    ),
    "f64": (
        3.8397822797823538, 1.0095046354280823, 0.0012823691775038306,
        -0.0009188860398062832, 0.00027566231381263314, -5.16815386565215e-05,
        7.971571427071672e-05, -6.937348716552983e-05, 1.9648171330284814e-05,
        -1.3072695090770876e-06,
    ),
}  # fmt: skip
_TWO_OVER_ROOT_PI = 1.1283791670955126


def _start(a: Expr) -> Expr:
    k, name = kit(a), a.dtype.name
    w = log((k.c(1.0) - a) * (a + 1.0)) * -1.0
    far = poly(_FAR[name], ex.unary("sqrt", w) - (3.0 if k is F32 else 4.0))
    return a * ex.select(w < 5.0, poly(_NEAR[name], w - 2.5), far)


def _polish(a: Expr, y: Expr) -> Expr:
    """One step of Halley's method on erf(y) − a, by erfc where that is the accurate one."""
    y = at_most(y, 6.0)
    below = y < 1.0
    safe = ex.select(below, F64.c(1.0), y)
    tail = (F64.c(1.0) - a) - _erfc_large(safe)
    miss = ex.select(below, _erf_small(y) - a, tail)
    step = miss / (exp_bounded(y * y * -1.0) * _TWO_OVER_ROOT_PI)
    return y - step / (y * step + 1.0)


def erfinv(x: Expr) -> Expr:
    """The inverse of erf: ±∞ at ±1, NaN outside; f32 4 ULP, f64 3 ULP."""
    k, a = kit(x), absolute(x)
    out = _start(a)
    if k is F64:
        out = ex.select(a < 2.0**-300, a * (1 / _TWO_OVER_ROOT_PI), _polish(a, out))
    out = ex.select(a < 1.0, out, ex.select(a.eq(1.0), k.inf, k.nan))
    return with_sign(out, sign_bit(x))
