"""What the expansions share: constants of a type, polynomials, exponents as bits.

Polynomials here are minimax fits (Remez, in 45 digits) over the interval that each comment gives,
rounded to the type. Algorithms are the classical ones: Cody & Waite's argument reduction, and
Muller, "Elementary Functions", for the error analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowc.ir import dtypes as dt
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr


@dataclass(frozen=True)
class Kit:
    """A float type with its integer twin, and constants of it."""

    t: DType
    i: DType
    mantissa: int  # explicit bits
    bias: int
    magic: float  # 1.5·2^mantissa: adding it rounds to an integer, found in the low bits

    def c(self, x: float) -> Expr:
        """A constant."""
        return ex.const(x, self.t)

    def k(self, x: int) -> Expr:
        """A constant of the integer type."""
        return ex.const(x, self.i)

    @property
    def inf(self) -> Expr:
        return self.c(float("inf"))

    @property
    def nan(self) -> Expr:
        return self.c(float("nan"))

    def bits(self, x: Expr) -> Expr:
        """The float's bits as a signed integer."""
        return ex.bitcast(x, self.i)

    def from_bits(self, x: Expr) -> Expr:
        """The float of these bits."""
        return ex.bitcast(x, self.t)

    def shl(self, x: Expr, n: int) -> Expr:
        return ex.binary("shl", x, self.k(n))

    def shr(self, x: Expr, n: int) -> Expr:
        """Arithmetic shift."""
        return ex.binary("shr", x, self.k(n))

    def pow2(self, n: Expr) -> Expr:
        """2ⁿ of an integer n within the normal range."""
        return self.from_bits(self.shl(n + self.k(self.bias), self.mantissa))

    def nearest(self, x: Expr, factor: float) -> tuple[Expr, Expr]:
        """round(x · factor) as a float and as an integer; below 2^(mantissa − 2)."""
        t = ex.fma(x, self.c(factor), self.c(self.magic))
        return t - self.c(self.magic), self.bits(t) - self.bits(self.c(self.magic))

    def integer(self, n: Expr) -> Expr:
        """A small integer as a float: no conversion of 64-bit integers is needed."""
        return self.from_bits(n + self.bits(self.c(self.magic))) - self.c(self.magic)


F32 = Kit(dt.f32, dt.i32, 23, 127, 12582912.0)
F64 = Kit(dt.f64, dt.i64, 52, 1023, 6755399441055744.0)


def kit(x: Expr) -> Kit:
    """The kit of an expression's type."""
    return F32 if x.dtype == dt.f32 else F64


def poly(coefficients: Sequence[float], x: Expr) -> Expr:
    """c₀ + x·(c₁ + x·(…)), by fused multiply-adds."""
    k = kit(x)
    out = k.c(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        out = ex.fma(out, x, k.c(c))
    return out


def absolute(x: Expr) -> Expr:
    """|x|."""
    return ex.unary("abs", x)


def sign_bit(x: Expr) -> Expr:
    """The sign bit alone, as an integer."""
    k = kit(x)
    return ex.binary("and", k.bits(x), k.k(int(k.i.min)))


def with_sign(magnitude: Expr, sign: Expr) -> Expr:
    """A float ≥ 0 with its sign bit flipped by `sign` (bits as of `sign_bit`)."""
    k = kit(magnitude)
    return k.from_bits(ex.binary("xor", k.bits(magnitude), sign))


def is_infinite(x: Expr) -> Expr:
    """Whether |x| = ∞."""
    return absolute(x).eq(float("inf"))


def at_most(x: Expr, limit: float) -> Expr:
    """x, or the limit above it; NaN stays."""
    return ex.select(x > limit, kit(x).c(limit), x)


def at_least(x: Expr, limit: float) -> Expr:
    """x, or the limit below it; NaN stays."""
    return ex.select(x < limit, kit(x).c(limit), x)


def two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a + b exactly, as a rounded sum and its error (Knuth)."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


def fast_two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """The same where |a| ≥ |b| (Dekker)."""
    s = a + b
    return s, b - (s - a)


def two_product(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a · b exactly (f64), as a rounded product and its error; needs no fused operation."""
    k = kit(a)
    mask = k.k(~((1 << 27) - 1))

    def halves(x: Expr) -> tuple[Expr, Expr]:
        high = k.from_bits(ex.binary("and", k.bits(x), mask))
        return high, x - high

    (ah, al), (bh, bl) = halves(a), halves(b)
    p = a * b
    return p, (((ah * bh - p) + ah * bl) + al * bh) + al * bl


def in_f64(fn: object, *args: Expr) -> Expr:
    """An f32 function computed in f64 and rounded."""
    assert callable(fn)
    out: Expr = fn(*(ex.cast(a, dt.f64) for a in args))
    return ex.cast(out, dt.f32)
