"""Type promotion of the Python array API standard (2023.12), for traced arrays.

Arrays promote within a kind (signed and unsigned integers to one that holds both; float32 with
float64; real with complex floats). What the standard leaves undefined, mixed kinds, is an error
here: a silent choice would differ from one array library to the next. Python numbers are weak:
they take the array's type. So are sizes (`x.shape[0]`) and Python numbers passed as arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes as dt
from ..dtypes import DType
from ..location import user_location
from ..ops.convert import apply, convert
from ..registry import operator
from ..tensor import Tensor

_SIGNED = ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
_REAL = ("float16", "float32", "float64")
_DEFAULTS = {bool: dt.bool_, int: dt.int64, float: dt.float64, complex: dt.complex128}
_KINDS = {"b": bool, "i": int, "u": int, "f": float, "c": complex}
_ORDER = [bool, int, float, complex]
_BY_NAME = {t.name: t for t in dt.ALL}


def here() -> str:
    """The user's line for a message, or nothing."""
    loc = user_location()
    return f" (at {loc})" if loc else ""


def result_type(a: DType, b: DType, op: str = "") -> DType:
    """The type that arrays of two types promote to. TypeError where the standard has none."""
    if a is b:
        return a
    found = _joined(a.name, b.name)
    if found is None:
        what = f"{op} of " if op else ""
        raise TypeError(
            f"{what}{a.name} and {b.name}: the array API defines no promotion between them; "
            f"convert one, as in x.astype(flowc.{_suggestion(a, b)}){here()}"
        )
    return _BY_NAME[found]


def _joined(a: str, b: str) -> str | None:
    if b in _SIGNED and a in _UNSIGNED:
        a, b = b, a
    if a in _SIGNED and b in _UNSIGNED:
        rank = max(_SIGNED.index(a), _UNSIGNED.index(b) + 1)
        return _SIGNED[rank] if rank < len(_SIGNED) else None
    for family in (_SIGNED, _UNSIGNED, _REAL):
        if a in family and b in family:
            return family[max(family.index(a), family.index(b))]
    if "complex" in a or "complex" in b:
        wide = "complex128" in (a, b) or "float64" in (a, b)
        rest = {a, b} - {"complex64", "complex128", "float32", "float64"}
        return None if rest else "complex128" if wide else "complex64"
    if "bfloat16" in (a, b):
        other = b if a == "bfloat16" else a
        return {"float16": "float32", "float32": "float32", "float64": "float64"}.get(other)
    return None


def _suggestion(a: DType, b: DType) -> str:
    both = sorted((a, b), key=lambda t: ("biufc".index(t.element.kind), t.size))
    return both[1].name


def weak_kind(x: Any) -> Any:
    """The Python number type that a weak operand stands for, or None for others."""
    if isinstance(x, np.generic):
        return None
    if isinstance(x, (bool, int, float, complex)):
        return next(k for k in _ORDER if isinstance(x, k))
    if getattr(x, "weak", False):
        return _KINDS[x.dtype.element.kind]
    return None


def weak_type(kind: Any, t: DType, op: str) -> DType:
    """The type of a weak operand beside an array of type t. TypeError where t cannot hold it."""
    own = _KINDS[t.element.kind]
    if kind is own or (kind is not bool and own is not bool and kind is int):
        return t
    if kind is float and own is complex:
        return t
    if kind is complex and own is float:
        return dt.complex128 if t is dt.float64 else dt.complex64
    raise TypeError(
        f"{op} of {t.name} and a Python {kind.__name__}: the array API defines no promotion "
        f"between them; convert the array, as in x.astype(flowc.{_wider(kind)}){here()}"
    )


def _wider(kind: Any) -> str:
    return {bool: "bool", int: "int32", float: "float32", complex: "complex64"}[kind]


@operator("promote")
def promote(x: Any, y: Any, op: str) -> tuple[Tensor, Tensor]:
    """Two operands as tensors of one type."""
    kx, ky = weak_kind(x), weak_kind(y)
    if kx is not None and ky is not None:
        kind = max(kx, ky, key=_ORDER.index)
        t = _DEFAULTS[kind]
        return _weak(x, t), _weak(y, t)
    if kx is not None:
        y = strong(y)
        t = weak_type(kx, y.dtype, op)
        return as_type(x, t), as_type(y, t)
    x = strong(x)
    if ky is not None:
        t = weak_type(ky, x.dtype, op)
        return as_type(x, t), as_type(y, t)
    if isinstance(y, (list, tuple)):
        y = convert(y, x.dtype, "y")
    y = strong(y)
    t = result_type(x.dtype, y.dtype, op)
    return as_type(x, t), as_type(y, t)


def strong(x: Any) -> Tensor:
    """An operand as a tensor: arrays keep their types."""
    return x if isinstance(x, Tensor) else convert(x)


def as_type(x: Any, t: DType) -> Tensor:
    """A tensor or Python number as a tensor of type t."""
    if not isinstance(x, Tensor):
        return convert(x, t)
    return x if x.dtype is t else apply("Cast", [x], t, "Cast")


def _weak(x: Any, t: DType) -> Tensor:
    out = as_type(x, t)
    out.weak = True  # type: ignore[attr-defined]
    return out
