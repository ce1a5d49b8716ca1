"""Element types of tensors: one table; printers, interpreters and backends derive theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

_iinfo: Any = ml_dtypes.iinfo


@dataclass(frozen=True)
class DType:
    """An element type.

    name: the text form (``f32``); bits: the size of one element; kind: ``f`` float, ``i`` signed,
    ``u`` unsigned, ``b`` bool, ``c`` complex; np: the NumPy dtype that holds it (4-bit integers
    occupy a byte each).
    """

    name: str
    bits: int
    kind: str
    np: np.dtype[Any] = field(compare=False)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype, (self.name,)

    @property
    def size(self) -> int:
        """Bytes of one element in memory."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        """Signed or unsigned integer; bool is neither."""
        return self.kind in "iu"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def min(self) -> Any:
        """The least value: −inf for floats, as a NumPy scalar."""
        if self.is_float:
            return self.np.type(-np.inf)
        return self.np.type(False if self.is_bool else _iinfo(self.np).min)

    @property
    def max(self) -> Any:
        """The greatest value: inf for floats, as a NumPy scalar."""
        if self.is_float:
            return self.np.type(np.inf)
        return self.np.type(True if self.is_bool else _iinfo(self.np).max)


def _make(name: str, bits: int, kind: str, np_type: Any) -> DType:
    return DType(name, bits, kind, np.dtype(np_type))


f16 = _make("f16", 16, "f", np.float16)
bf16 = _make("bf16", 16, "f", ml_dtypes.bfloat16)
f32 = _make("f32", 32, "f", np.float32)
f64 = _make("f64", 64, "f", np.float64)
f8e4m3fn = _make("f8e4m3fn", 8, "f", ml_dtypes.float8_e4m3fn)
f8e5m2 = _make("f8e5m2", 8, "f", ml_dtypes.float8_e5m2)
i4 = _make("i4", 4, "i", ml_dtypes.int4)
i8 = _make("i8", 8, "i", np.int8)
i16 = _make("i16", 16, "i", np.int16)
i32 = _make("i32", 32, "i", np.int32)
i64 = _make("i64", 64, "i", np.int64)
u4 = _make("u4", 4, "u", ml_dtypes.uint4)
u8 = _make("u8", 8, "u", np.uint8)
u16 = _make("u16", 16, "u", np.uint16)
u32 = _make("u32", 32, "u", np.uint32)
u64 = _make("u64", 64, "u", np.uint64)
bool_ = _make("bool", 8, "b", np.bool_)
c64 = _make("c64", 64, "c", np.complex64)
c128 = _make("c128", 128, "c", np.complex128)

ALL: tuple[DType, ...] = (
    f16, bf16, f32, f64, f8e4m3fn, f8e5m2,
    i4, i8, i16, i32, i64, u4, u8, u16, u32, u64, bool_, c64, c128,
)
BY_NAME: dict[str, DType] = {t.name: t for t in ALL}
_BY_NP: dict[np.dtype[Any], DType] = {t.np: t for t in ALL}


def dtype(x: Any) -> DType:
    """The DType of a name, a DType, or anything that NumPy takes for a dtype.

    Raises TypeError for a dtype that flowc has no element type for (object, str, longdouble).
    """
    if isinstance(x, DType):
        return x
    if isinstance(x, str) and x in BY_NAME:
        return BY_NAME[x]
    try:
        return _BY_NP[np.dtype(x)]
    except (KeyError, TypeError):
        raise TypeError(f"no element type for {x!r}; known: {', '.join(BY_NAME)}") from None
