"""Elementwise operations of one operand: the result has the operand's type."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..core import Op, Value
from ..dims import Dim, mul
from ..dtypes import dtype
from ..kernel import expr as ex
from ..types import TensorType
from . import numeric
from .base import need, primitive

TRANSCENDENTAL_FLOPS = 20  # a polynomial of degree 6 to 12 and the reduction of its argument


class Unary(Op):
    """Base. `fn` is the meaning on arrays: of f64 for floats, or of `wide` types if `exact`."""

    kinds: ClassVar[str] = "f"
    exact: ClassVar[bool] = False
    fn: ClassVar[Any]

    def infer(self, x: TensorType) -> TensorType:
        need(x, self.kinds)
        return x

    @numeric.quiet
    def eval(self, x: Any) -> Any:
        arg = numeric.wide(x) if self.exact else numeric.double(x)
        return numeric.fit(type(self).fn(arg), dtype(x.dtype))

    def lower(self, k: Any, x: Any) -> Any:
        return k.elementwise(x.type, lambda a: ex.unary(self.name, a), x)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return (self.backward(b, operands[0], results[0], gs[0]),)

    def flops(self, operands: Any, results: Any) -> Dim:
        return mul(results[0].count, 1 if self.exact else TRANSCENDENTAL_FLOPS)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        """g · dy/dx, or None where the derivative is 0 almost everywhere."""
        return None


# ---- exact: one rounding at most, integers too

@primitive
class Neg(Unary):
    """−x; integers wrap (the least integer is its own negative)."""

    name = "neg"
    kinds = "fiuc"
    exact = True
    fn = staticmethod(np.negative)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.neg(g)


def _abs(x: Any) -> Any:
    return x if x.dtype.kind == "u" else np.abs(x)


@primitive
class Abs(Unary):
    """|x|; the least integer is its own absolute value. The gradient at 0 is 0."""

    name = "abs"
    kinds = "fiu"
    exact = True
    fn = staticmethod(_abs)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.sign(x))


def _sign(x: Any) -> Any:
    if x.dtype.kind == "f":
        return np.where((x == 0) | np.isnan(x), x, np.copysign(x.dtype.type(1), x))
    return np.sign(x)


@primitive
class Sign(Unary):
    """−1, 0 or 1 by the sign of x; ±0 and NaN stay what they are. No gradient."""

    name = "sign"
    kinds = "fiu"
    exact = True
    fn = staticmethod(_sign)


@primitive
class Floor(Unary):
    """The greatest integer ≤ x, as a float; −0, infinities and NaN stay. No gradient."""

    name = "floor"
    exact = True
    fn = staticmethod(np.floor)


@primitive
class Ceil(Unary):
    """The least integer ≥ x, as a float (−0 for −1 < x < 0). No gradient."""

    name = "ceil"
    exact = True
    fn = staticmethod(np.ceil)


@primitive
class Round(Unary):
    """The nearest integer as a float, halves to even (−0 for −½ ≤ x < 0). No gradient."""

    name = "round"
    exact = True
    fn = staticmethod(np.rint)


@primitive
class Not(Unary):
    """Logical not of bools, bitwise not of integers. No gradient."""

    name = "not"
    kinds = "biu"
    exact = True
    fn = staticmethod(np.invert)


@primitive
class Sqrt(Unary):
    """√x, correctly rounded; −0 for −0, NaN below. The gradient at 0 is infinite."""

    name = "sqrt"
    fn = staticmethod(np.sqrt)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.div(b.mul(g, b.const(0.5, x)), y)


# ---- exponentials and logarithms

@primitive
class Rsqrt(Unary):
    """1/√x; inf at 0, −inf at −0, NaN below."""

    name = "rsqrt"
    fn = staticmethod(lambda x: 1 / np.sqrt(x))

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(b.mul(g, b.const(-0.5, x)), b.mul(y, b.mul(y, y)))


@primitive
class Exp(Unary):
    """eˣ; 0 at −inf, inf where it is too large."""

    name = "exp"
    fn = staticmethod(np.exp)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, y)


@primitive
class Expm1(Unary):
    """eˣ − 1, accurate near 0."""

    name = "expm1"
    fn = staticmethod(np.expm1)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.add(y, b.const(1, x)))


@primitive
class Log(Unary):
    """The natural logarithm; −inf at ±0, NaN below."""

    name = "log"
    fn = staticmethod(np.log)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.div(g, x)


@primitive
class Log1p(Unary):
    """ln(1 + x), accurate near 0; −inf at −1, NaN below."""

    name = "log1p"
    fn = staticmethod(np.log1p)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.div(g, b.add(x, b.const(1, x)))


# ---- trigonometry

@primitive
class Sin(Unary):
    """The sine of x radians; NaN at infinities."""

    name = "sin"
    fn = staticmethod(np.sin)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.cos(x))


@primitive
class Cos(Unary):
    """The cosine of x radians; NaN at infinities."""

    name = "cos"
    fn = staticmethod(np.cos)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.neg(b.mul(g, b.sin(x)))


@primitive
class Tan(Unary):
    """The tangent of x radians; NaN at infinities."""

    name = "tan"
    fn = staticmethod(np.tan)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.add(b.mul(y, y), b.const(1, x)))


def _circle(b: Any, x: Value) -> Any:
    """√(1 − x²), by factors: accurate near ±1."""
    one = b.const(1, x)
    return b.sqrt(b.mul(b.sub(one, x), b.add(one, x)))


@primitive
class Asin(Unary):
    """The arc sine in radians; NaN outside [−1, 1]."""

    name = "asin"
    fn = staticmethod(np.arcsin)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.div(g, _circle(b, x))


@primitive
class Acos(Unary):
    """The arc cosine in radians; NaN outside [−1, 1]."""

    name = "acos"
    fn = staticmethod(np.arccos)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.neg(b.div(g, _circle(b, x)))


@primitive
class Atan(Unary):
    """The arc tangent in radians, in [−π/2, π/2]."""

    name = "atan"
    fn = staticmethod(np.arctan)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.div(g, b.add(b.mul(x, x), b.const(1, x)))


@primitive
class Tanh(Unary):
    """The hyperbolic tangent."""

    name = "tanh"
    fn = staticmethod(np.tanh)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.sub(b.const(1, x), b.mul(y, y)))


@primitive
class Sigmoid(Unary):
    """1 / (1 + e⁻ˣ), accurate in both tails."""

    name = "sigmoid"
    fn = staticmethod(numeric.sigmoid)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.mul(y, b.sub(b.const(1, x), y)))


# ---- error and gamma functions

@primitive
class Erf(Unary):
    """2/√π · ∫₀ˣ e^(−t²) dt."""

    name = "erf"
    fn = staticmethod(numeric.erf)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        bell = b.exp(b.neg(b.mul(x, x)))
        return b.mul(g, b.mul(b.const(2 / math.sqrt(math.pi), x), bell))


@primitive
class Erfinv(Unary):
    """The inverse of erf; ±inf at ±1, NaN outside [−1, 1]."""

    name = "erfinv"
    fn = staticmethod(numeric.erfinv)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.mul(b.const(math.sqrt(math.pi) / 2, x), b.exp(b.mul(y, y))))


@primitive
class Lgamma(Unary):
    """ln |Γ(x)|; inf at 0, −1, −2 … and at both infinities."""

    name = "lgamma"
    fn = staticmethod(numeric.lgamma)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, b.digamma(x))


@primitive
class Digamma(Unary):
    """ψ(x) = d/dx ln |Γ(x)|; ∓inf at ±0, NaN at −1, −2 … and −inf, inf at inf."""

    name = "digamma"
    fn = staticmethod(numeric.digamma)

    def backward(self, b: Any, x: Value, y: Value, g: Value) -> Any:
        return b.mul(g, _trigamma(b, x))


def _trigamma(b: Any, x: Value) -> Any:
    """ψ'(x), by Abramowitz & Stegun 6.4.6, 6.4.7 and 6.4.12 after eight steps of recurrence."""
    one = b.const(1, x)
    low = b.compare(x, b.const(0.5, x), op="lt")
    z = b.select(low, b.sub(one, x), x)
    total = None
    for _ in range(8):
        r = b.div(one, z)
        total = b.mul(r, r) if total is None else b.add(total, b.mul(r, r))
        z = b.add(z, one)
    r = b.div(one, z)
    s = b.mul(r, r)
    tail = b.const(7 / 6, x)
    for c in (-691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6):
        tail = b.add(b.const(c, x), b.mul(s, tail))
    tail = b.add(b.add(r, b.mul(b.const(0.5, x), s)), b.mul(b.mul(r, s), tail))
    total = b.add(total, tail)
    phase = b.mul(b.const(math.pi, x), b.sub(x, b.round(x)))
    safe = b.select(low, phase, one)
    ratio = b.div(b.const(math.pi, x), b.sin(safe))
    return b.select(low, b.sub(b.mul(ratio, ratio), total), total)
