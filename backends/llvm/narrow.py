"""Narrow floats by integer operations: to f32 exactly, and from f32 rounded to nearest even.

LLVM would call runtime functions for them (``__truncsfbf2``), which artifacts do not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir import dtypes as dt
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr


@dataclass(frozen=True)
class Format:
    """A binary format: mantissa bits, exponent bias, the patterns (without sign) of the greatest
    finite number, of what overflow gives, and of NaN."""

    mantissa: int
    bias: int
    greatest: int
    overflow: int
    nan: int


FORMATS = {
    "f16": Format(10, 15, 0x7BFF, 0x7C00, 0x7E00),
    "bf16": Format(7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    "f8e5m2": Format(2, 15, 0x7B, 0x7C, 0x7E),
    "f8e4m3fn": Format(3, 7, 0x7E, 0x7F, 0x7F),  # no infinities: overflow is NaN
}


def is_narrow(t: DType) -> bool:
    """Whether t is a float that is computed in f32."""
    return t.name in FORMATS


def bits_type(t: DType) -> DType:
    """The unsigned integer of t's width."""
    return {8: dt.u8, 16: dt.u16, 32: dt.u32, 64: dt.u64}[t.bits]


def _word(x: int) -> Expr:
    return ex.const(x, dt.u32)


def _shl(x: Expr, n: int) -> Expr:
    return ex.binary("shl", x, _word(n)) if n else x


def _shr(x: Expr, n: int) -> Expr:
    return ex.binary("shr", x, _word(n))


def _float(x: float) -> Expr:
    return ex.const(x, dt.f32)


def widen(x: Expr) -> Expr:
    """A narrow float as f32, exactly."""
    f, width = FORMATS[x.dtype.name], x.dtype.bits
    raw = ex.cast(ex.bitcast(x, bits_type(x.dtype)), dt.u32)
    if x.dtype.name == "bf16":
        return ex.bitcast(_shl(raw, 16), dt.f32)
    magnitude = ex.binary("and", raw, _word((1 << (width - 1)) - 1))
    sign = _shl(ex.binary("and", raw, _word(1 << (width - 1))), 32 - width)
    shifted = ex.bitcast(_shl(magnitude, 23 - f.mantissa), dt.f32)
    value = ex.bitcast(shifted * _float(2.0 ** (127 - f.bias)), dt.u32)  # denormals come out right
    infinite = _word(0x7F800000)
    if f.overflow == f.nan:
        value = ex.select(magnitude.eq(f.nan), _word(0x7FC00000), value)
    else:
        special = value | infinite
        value = ex.select(magnitude >= _word(f.overflow), special, value)
    return ex.bitcast(value | sign, dt.f32)


def round_to(x: Expr, to: DType) -> Expr:
    """f32 as a narrow float, to nearest even."""
    f, width = FORMATS[to.name], to.bits
    raw = ex.bitcast(x, dt.u32)
    sign = _shr(ex.binary("and", raw, _word(0x80000000)), 32 - width)
    magnitude = ex.binary("and", raw, _word(0x7FFFFFFF))
    drop = 23 - f.mantissa
    odd = ex.binary("and", _shr(magnitude, drop), _word(1))
    rounded = _shr(magnitude + _word((1 << (drop - 1)) - 1) + odd, drop)
    if f.bias != 127:
        rounded = rounded - _word((127 - f.bias) << f.mantissa)
        magic = 2.0 ** (23 + 1 - f.bias - f.mantissa)  # adding it rounds to the least denormal
        tiny = ex.bitcast(ex.bitcast(magnitude, dt.f32) + _float(magic), dt.u32)
        tiny = tiny - ex.bitcast(_float(magic), dt.u32)
        normal = _word((127 - f.bias + 1) << 23)
        rounded = ex.select(magnitude < normal, tiny, rounded)
        large = magnitude >= _word((127 + 16) << 23)  # beyond this `rounded` may have wrapped
        rounded = ex.select(large | (rounded > _word(f.greatest)), _word(f.overflow), rounded)
    nan = magnitude > _word(0x7F800000)
    rounded = ex.select(nan, _word(f.nan), rounded)
    return ex.bitcast(ex.cast(rounded | sign, bits_type(to)), to)


def odd_from_f64(x: Expr) -> Expr:
    """f64 as f32 rounded to odd, so that a second rounding to a narrow type is right."""
    near = ex.cast(x, dt.f32)
    back = ex.cast(near, dt.f64)
    raw = ex.bitcast(near, dt.u32)
    above = ex.unary("abs", back) > ex.unary("abs", x)
    raw = ex.select(above, raw - _word(1), raw)
    inexact = ex.compare("ne", back, x) & ex.compare("eq", x, x)
    return ex.bitcast(ex.select(inexact, raw | _word(1), raw), dt.f32)


def odd_from_int64(x: Expr) -> Expr:
    """A 64-bit integer as f64, to odd where it has more than 53 bits."""
    t = x.dtype
    low, mask = ex.const(0x7FF, t), ex.const(~0x7FF if t.kind == "i" else (1 << 64) - 2048, t)
    kept = ex.binary("and", x, mask)
    sticky = ex.select(
        ex.compare("ne", ex.binary("and", x, low), 0), kept | ex.const(0x800, t), kept
    )
    limit = ex.const(1 << 53, t)
    big = x >= limit
    if t.kind == "i":
        big = big | (x <= ex.const(-(1 << 53), t))
    return ex.cast(ex.select(big, sticky, x), dt.f64)


def from_integer(x: Expr, to: DType) -> Expr:
    """An integer as a narrow float, rounded once."""
    if x.dtype.bits <= 16:
        return round_to(ex.cast(x, dt.f32), to)
    wide = odd_from_int64(x) if x.dtype.bits == 64 else ex.cast(x, dt.f64)
    return round_to(odd_from_f64(wide), to)
