"""Transcendentals and their like as basic expressions, for f32 and f64, any width, any device.

`EXPANSIONS[op][kind]` maps the arguments of an operation on ``f`` floats, ``i`` signed or ``u``
unsigned integers to an expression that computes it.
"""

from __future__ import annotations

from collections.abc import Callable

from flowc.ir import dtypes as dt
from flowc.ir.kernel.expr import Expr

from . import error, exponential, gamma, integer, logarithm, power, rounding, trigonometric
from .common import in_f64

Expansion = Callable[..., Expr]


def _wide(fn: Expansion) -> Expansion:
    """f32 by way of f64."""
    def expand(*args: Expr) -> Expr:
        return in_f64(fn, *args) if args[0].dtype == dt.f32 else fn(*args)
    return expand


EXPANSIONS: dict[str, dict[str, Expansion]] = {
    "exp": {"f": exponential.exp},
    "expm1": {"f": exponential.expm1},
    "tanh": {"f": exponential.tanh},
    "sigmoid": {"f": exponential.sigmoid},
    "log": {"f": logarithm.log},
    "log1p": {"f": logarithm.log1p},
    "sin": {"f": trigonometric.sin},
    "cos": {"f": trigonometric.cos},
    "tan": {"f": trigonometric.tan},
    "asin": {"f": trigonometric.asin},
    "acos": {"f": trigonometric.acos},
    "atan": {"f": trigonometric.atan},
    "atan2": {"f": trigonometric.atan2},
    "erf": {"f": error.erf},
    "erfinv": {"f": error.erfinv},
    "lgamma": {"f": _wide(gamma.lgamma)},
    "digamma": {"f": _wide(gamma.digamma)},
    "rsqrt": {"f": power.rsqrt},
    "pow": {"f": power.pow_, "i": integer.pow_, "u": integer.pow_},
    "sign": {"f": rounding.sign, "i": integer.sign, "u": integer.sign},
    "floor": {"f": rounding.floor},
    "ceil": {"f": rounding.ceil},
    "round": {"f": rounding.round_},
}

# where the target has `scale(p, n)`: p · 2ⁿ of an n that is whole, rounded once
SCALED: dict[str, Expansion] = {"exp": exponential.exp_scaled}
