"""Rules of conversions."""

from __future__ import annotations

from typing import Any

from flowc.ir import dtypes as dt
from flowc.ir.core import Value
from flowc.ir.dtypes import DType

from ..rewrite import Replacement, Rewriter, rule

DIGITS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53, "f8e4m3fn": 4, "f8e5m2": 3}
EXPONENTS = {"f16": 5, "bf16": 8, "f32": 8, "f64": 11, "f8e4m3fn": 4, "f8e5m2": 5}


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide` (infinities and NaN are)."""
    if wide == narrow:
        return True
    if wide.is_complex or narrow.is_complex or wide.is_bool:
        return False
    if narrow.is_bool:
        return True
    if narrow.is_float:
        return (wide.is_float and wide.name != "f8e4m3fn"
                and DIGITS[wide.name] >= DIGITS[narrow.name]
                and EXPONENTS[wide.name] >= EXPONENTS[narrow.name] + (narrow.name == "f8e4m3fn"))
    magnitude = narrow.bits - (narrow.kind == "i")
    if wide.is_int:
        room = wide.bits - (wide.kind == "i")
        return room >= magnitude and (wide.kind == "i" or narrow.kind == "u")
    return DIGITS[wide.name] >= magnitude and EXPONENTS[wide.name] >= 8


@rule("cast-to-itself", "cast", "bitcast")
def cast_to_itself(b: Rewriter, op: Any, x: Value) -> Replacement:
    return x if x.ty.dtype == op.dtype else None


@rule("cast-of-cast", "cast")
def cast_of_cast(b: Rewriter, op: Any, x: Value) -> Replacement:
    """a → b → c is a → c where b holds every a, or where all are integers that only lose bits."""
    made = b.made(x, "cast")
    if made is None:
        return None
    source = made.operands[0]
    first, middle, last = source.ty.dtype, x.ty.dtype, op.dtype
    whole = all(t.is_int for t in (first, middle, last)) and last.bits <= middle.bits
    # float → integer saturates and integer → integer wraps: these agree only without either
    detour = first.is_int and middle.is_float and last.is_int and not holds(last, first)
    if whole or (holds(middle, first) and not detour):
        return lambda: b.cast(source, dtype=last)
    return None


@rule("cast-of-count", "cast")
def cast_of_count(b: Rewriter, op: Any, x: Value) -> Replacement:
    """iota and dim_size are casts from i64 themselves."""
    made = b.producer.get(x)
    if made is None or x.ty.dtype != dt.i64 or not (op.dtype.is_int or op.dtype.is_float):
        return None
    inner: Any = made.op
    if inner.name == "iota":
        return lambda: b.iota(dtype=op.dtype, shape=inner.shape, axis=inner.axis)
    if inner.name == "dim_size":
        return lambda: b.dim_size(dim=inner.dim, dtype=op.dtype)
    return None


@rule("known-size", "dim_size")
def known_size(b: Rewriter, op: Any) -> Replacement:
    if isinstance(op.dim, int):
        return lambda: b.const(op.eval(), op.dtype)
    return None


@rule("bitcast-of-bitcast", "bitcast")
def bitcast_of_bitcast(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "bitcast")
    return (lambda: b.bitcast(made.operands[0], dtype=op.dtype)) if made else None
