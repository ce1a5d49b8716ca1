"""What `eval` methods share: the precision that they compute in, and special functions in f64.

Narrow floats are computed in f32 and rounded once; transcendental functions of f32 are computed in
f64 and rounded once, so that the interpreter is within a hair of half a unit in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import DType, dtype

Array = np.ndarray[Any, Any]
quiet = np.errstate(all="ignore")  # as a decorator: no warnings from NaN, overflow, 1/0


def wide(x: Any) -> Array:
    """x in the type that its arithmetic is done in: f32 for narrow floats, i8 and u8 for i4, u4."""
    t = dtype(x.dtype)
    if t.is_float and t.bits < 32:
        return np.asarray(x).astype(np.float32)
    if t.is_int and t.bits == 4:
        return np.asarray(x).astype(np.int8 if t.kind == "i" else np.uint8)
    return np.asarray(x)


def double(x: Any) -> Array:
    """x (a float) in f64."""
    return np.asarray(x).astype(np.float64)


@quiet
def fit(value: Any, to: DType) -> Array:
    """Rounded or wrapped to an element type of its own kind, floats narrower than f32 by f32."""
    v: Array = np.asarray(value)
    if v.dtype == to.np:
        return v
    if to.is_float and to.bits < 32:
        return np.asarray(v.astype(np.float32).astype(to.np))
    if to.is_int and to.bits == 4:
        low = v.astype(np.int64) & 15
        return np.asarray(((low ^ 8) - 8 if to.kind == "i" else low).astype(to.np))
    return np.asarray(v.astype(to.np))


def unsigned(x: Array) -> Array:
    """The same bits as an unsigned integer (x is not a 4-bit type)."""
    return x.astype(np.dtype(f"u{x.dtype.itemsize}"))


def maximum(x: Array, y: Array) -> Array:
    """IEEE 754-2019 maximum: NaN where either is, and +0 is greater than −0."""
    r = np.maximum(x, y)
    return r if r.dtype.kind in "iub" else np.where((x == 0) & (y == 0), x + y, r)


def minimum(x: Array, y: Array) -> Array:
    """IEEE 754-2019 minimum: NaN where either is, and −0 is less than +0."""
    r = np.minimum(x, y)
    return r if r.dtype.kind in "iub" else np.where((x == 0) & (y == 0), -(-x + -y), r)


def elementwise(fn: Callable[[float], float]) -> Callable[[Array], Array]:
    """A scalar function on f64 arrays."""
    ufunc = np.frompyfunc(fn, 1, 1)
    return lambda x: np.asarray(ufunc(x)).astype(np.float64)


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # poles at 0, −1, −2 …; overflow above 2.5e305
        return math.inf


erf = elementwise(math.erf)
erfc = elementwise(math.erfc)
lgamma = elementwise(_lgamma)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), accurate in both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


# Giles, "Approximating the erfinv function" (2010), single precision: where Newton starts.
_GILES = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)


@quiet
def erfinv(x: Array) -> Array:
    """The inverse of erf: ±inf at ±1, NaN outside; three Halley steps.

    They start from Giles' approximation, in the tails from erfc(y) ≈ exp(−y²) / (y√π). The residual
    is taken through erfc where |x| > 1/2, so that the tails keep their precision.
    """
    a = np.abs(x)
    w = -np.log((1 - a) * (1 + a))
    tail = np.sqrt(w)
    for _ in range(3):
        tail = np.sqrt(-np.log((1 - a) * math.sqrt(math.pi) * tail))
    start = np.where(w < 5, np.polyval(_GILES, w - 2.5) * a, tail)
    y = np.where(a < 1, start, 0.0)
    for _ in range(3):
        residual = np.where(a > 0.5, (1 - a) - erfc(y), erf(y) - a)
        u = residual * (math.sqrt(math.pi) / 2) * np.exp(y * y)
        y = y - u / (1 + y * u)
    y = np.where(a < 1, y, np.where(a == 1, np.inf, np.nan))
    return np.where(x == 0, x, np.copysign(y, x))


@quiet
def digamma(x: Array) -> Array:
    """ψ(x) = Γ'(x)/Γ(x): ∓inf at ±0, NaN at the other poles; Abramowitz & Stegun 6.3.5, .7, .18."""
    z = np.where(x <= 0, 1 - x, x)
    total = np.zeros_like(z)
    for _ in range(10):
        small = z < 10
        total = total - np.where(small, 1 / z, 0)
        z = np.where(small, z + 1, z)
    s = 1 / (z * z)
    series = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
    tail = np.zeros_like(z)
    for c in reversed(series):
        tail = s * (c + tail)
    total = total + np.log(z) - 0.5 / z - tail
    r = x - np.rint(x)
    reflected = np.where(r == 0, np.nan, total - math.pi / np.tan(math.pi * r))
    out = np.where(x <= 0, reflected, total)
    out = np.where(x == np.inf, np.inf, out)
    return np.where(x == 0, np.copysign(np.inf, -x), out)
