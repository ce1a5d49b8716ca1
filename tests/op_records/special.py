"""Special functions to 40 digits, by series of other kinds than the compiler uses."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

DIGITS = 60


def each(fn: Callable[..., Any]) -> Callable[..., np.ndarray[Any, Any]]:
    """A function of Python numbers on arrays (object arrays come out)."""
    def apply(*xs: Any) -> np.ndarray[Any, Any]:
        shape = np.shape(xs[0])
        lists = [np.asarray(x).reshape(-1).tolist() for x in xs]
        flat = [fn(*row) for row in zip(*lists, strict=True)]
        out = np.empty(len(flat), object)
        out[:] = flat
        return out.reshape(shape)
    return apply


@cache
def erf(x: float) -> float:
    """The Maclaurin series; |x| ≤ 6."""
    with localcontext() as c:
        c.prec = DIGITS
        return float(_erf(Decimal(x)))


def _erf(d: Decimal) -> Decimal:
    term, total, n = d, d, 0
    while abs(term) > Decimal(10) ** -50:
        n += 1
        term = -term * d * d / n
        total += term / (2 * n + 1)
    return 2 * total / _PI.sqrt()


@cache
def sigmoid(x: float) -> float:
    with localcontext() as c:
        c.prec = DIGITS
        return float(1 / (1 + (-Decimal(x)).exp()))


@cache
def erfinv(x: float) -> float:
    """Newton steps in 60 digits from the normal quantile (AS 241) of the nearer tail."""
    start = -NormalDist().inv_cdf((1 - abs(x)) / 2) / math.sqrt(2)
    with localcontext() as c:
        c.prec = DIGITS
        y, want = Decimal(math.copysign(start, x)), Decimal(x)
        for _ in range(2):
            y -= (_erf(y) - want) * _PI.sqrt() / 2 * (y * y).exp()
        return float(y)


_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
_BERNOULLI = (  # B₂, B₄ …
    (1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510),
    (43867, 798), (-174611, 330), (854513, 138), (-236364091, 2730),
)
_SHIFT = 60


@cache
def lgamma(x: float) -> float:
    """ln|Γ|: Stirling's series at x + 60 and above, and the recurrence down from there."""
    with localcontext() as c:
        c.prec = DIGITS
        z, total = Decimal(x), Decimal(0)
        while z < _SHIFT:
            total -= abs(z).ln()
            z += 1
        total += (z - Decimal("0.5")) * z.ln() - z + (2 * _PI).ln() / 2
        for k, (n, d) in enumerate(_BERNOULLI, 1):
            total += Decimal(n) / d / (2 * k * (2 * k - 1)) / z ** (2 * k - 1)
        return float(total)


@cache
def digamma(x: float) -> float:
    """ψ: the asymptotic series at x + 60 and above, and the recurrence down, for either sign."""
    with localcontext() as c:
        c.prec = DIGITS
        z, total = Decimal(x), Decimal(0)
        while z < _SHIFT:
            total -= 1 / z
            z += 1
        total += z.ln() - 1 / (2 * z)
        for k, (n, d) in enumerate(_BERNOULLI, 1):
            total -= Decimal(n) / d / (2 * k) / z ** (2 * k)
        return float(total)
