"""`tf.DType`: the element types by TensorFlow's names, over those of the IR."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from flowc.ir import dtypes as ir

_ENUMS = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7,
    "complex64": 8, "int64": 9, "bool": 10, "bfloat16": 14, "uint16": 17, "complex128": 18,
    "float16": 19, "uint32": 22, "uint64": 23, "float8_e5m2": 24, "float8_e4m3fn": 25,
    "int4": 29, "uint4": 30,
}  # fmt: skip


class DType:
    """An element type; there is one object a type, and it equals its name and its NumPy dtype.

    ir: the type that the IR computes with, None for strings, which stay on the host.
    """

    __slots__ = ("as_datatype_enum", "ir", "name", "np")

    def __init__(self, name: str, element: ir.DType | None) -> None:
        self.name = name
        self.ir = element
        self.np: np.dtype[Any] = element.np if element else np.dtype(object)
        self.as_datatype_enum = _ENUMS[name]

    @property
    def element(self) -> ir.DType:
        """The IR's element type; TypeError for strings."""
        if self.ir is None:
            raise TypeError(f"a {self.name} tensor cannot be computed with")
        return self.ir

    @property
    def as_numpy_dtype(self) -> Any:
        return self.np.type

    @property
    def base_dtype(self) -> DType:
        return self

    @property
    def real_dtype(self) -> DType:
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    @property
    def is_floating(self) -> bool:
        return self.ir is not None and self.ir.is_float

    @property
    def is_integer(self) -> bool:
        return self.ir is not None and self.ir.is_int

    @property
    def is_bool(self) -> bool:
        return self.name == "bool"

    @property
    def is_complex(self) -> bool:
        return self.ir is not None and self.ir.is_complex

    @property
    def is_unsigned(self) -> bool:
        return self.ir is not None and self.ir.kind == "u"

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.element.size

    @property
    def min(self) -> Any:
        """The least finite value."""
        return self._limit(-1)

    @property
    def max(self) -> Any:
        """The greatest finite value."""
        return self._limit(1)

    @property
    def limits(self) -> tuple[Any, Any]:
        return self.min, self.max

    def _limit(self, sign: int) -> Any:
        if self.is_floating:
            return ml_dtypes.finfo(self.np).max * sign  # type: ignore[no-untyped-call]
        element = self.element
        if element.is_complex:
            raise TypeError(f"{self.name} has no limits")
        return element.max if sign > 0 else element.min

    def is_compatible_with(self, other: Any) -> bool:
        return self == as_dtype(other)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other is None or isinstance(other, DType):
            return False
        try:
            return as_dtype(other) is self
        except TypeError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self.as_datatype_enum

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    def __str__(self) -> str:
        return f"<dtype: '{self.name}'>"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


float16 = half = DType("float16", ir.f16)
bfloat16 = DType("bfloat16", ir.bf16)
float32 = DType("float32", ir.f32)
float64 = double = DType("float64", ir.f64)
float8_e4m3fn = DType("float8_e4m3fn", ir.f8e4m3fn)
float8_e5m2 = DType("float8_e5m2", ir.f8e5m2)
int4 = DType("int4", ir.i4)
int8 = DType("int8", ir.i8)
int16 = DType("int16", ir.i16)
int32 = DType("int32", ir.i32)
int64 = DType("int64", ir.i64)
uint4 = DType("uint4", ir.u4)
uint8 = DType("uint8", ir.u8)
uint16 = DType("uint16", ir.u16)
uint32 = DType("uint32", ir.u32)
uint64 = DType("uint64", ir.u64)
bool_ = DType("bool", ir.bool_)
complex64 = DType("complex64", ir.c64)
complex128 = DType("complex128", ir.c128)
string = DType("string", None)

ALL = (
    float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2, int4, int8, int16, int32,
    int64, uint4, uint8, uint16, uint32, uint64, bool_, complex64, complex128, string,
)  # fmt: skip
_BY_NAME = {t.name: t for t in ALL} | {"float": float32, "double": float64, "half": float16}
_BY_IR = {t.ir: t for t in ALL if t.ir is not None}
_BY_NP = {t.np: t for t in ALL if t.ir is not None}
_PYTHON: dict[Any, DType] = {float: float32, int: int32, bool: bool_, str: string, bytes: string}


def as_dtype(x: Any) -> DType:
    """The DType of a DType, its name, a NumPy dtype or scalar type, or a Python type.

    `float` is float32 and `int` int32, as TensorFlow has it. Raises TypeError for anything else.
    """
    if isinstance(x, DType):
        return x
    if isinstance(x, ir.DType):
        return _BY_IR[x]
    if isinstance(x, str) and x in _BY_NAME:
        return _BY_NAME[x]
    if isinstance(x, type) and x in _PYTHON:
        return _PYTHON[x]
    try:
        t = np.dtype(x)
    except TypeError:
        t = None
    found = _BY_NP.get(t) if t is not None else None
    if found is None and t is not None and t.kind in "SUO":
        return string
    if found is None:
        raise TypeError(f"Cannot convert value {x!r} to a TensorFlow DType.")
    return found
