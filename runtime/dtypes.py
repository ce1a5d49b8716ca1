"""Element types: name, NumPy dtype, size in a buffer, buffer-protocol format.

The one table of `flowc.runtime`. In a buffer every element takes whole bytes: `i4` and `u4` take
one byte each (sign- or zero-extended), as in `ml_dtypes`; `bool` is one byte, 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from .errors import InvalidArgumentError


@dataclass(frozen=True)
class DType:
    """`name`: as in manifests; `numpy`: native byte order; `itemsize`: bytes in a buffer;
    `format`: PEP 3118 character, None where the buffer protocol has no code for it."""

    name: str
    numpy: np.dtype[Any]
    itemsize: int
    format: str | None


def _entry(name: str, scalar: Any, format: str | None) -> DType:
    dtype = np.dtype(scalar)
    return DType(name, dtype, dtype.itemsize, format)


DTYPES: dict[str, DType] = {
    t.name: t
    for t in (
        _entry("f16", np.float16, "e"),
        _entry("bf16", ml_dtypes.bfloat16, None),
        _entry("f32", np.float32, "f"),
        _entry("f64", np.float64, "d"),
        _entry("f8e4m3fn", ml_dtypes.float8_e4m3fn, None),
        _entry("f8e5m2", ml_dtypes.float8_e5m2, None),
        _entry("i4", ml_dtypes.int4, None),
        _entry("i8", np.int8, "b"),
        _entry("i16", np.int16, "h"),
        _entry("i32", np.int32, "i"),
        _entry("i64", np.int64, "q"),
        _entry("u4", ml_dtypes.uint4, None),
        _entry("u8", np.uint8, "B"),
        _entry("u16", np.uint16, "H"),
        _entry("u32", np.uint32, "I"),
        _entry("u64", np.uint64, "Q"),
        _entry("bool", np.bool_, "?"),
        _entry("c64", np.complex64, "Zf"),
        _entry("c128", np.complex128, "Zd"),
    )
}

_BY_NUMPY = {t.numpy: t for t in DTYPES.values()}


def dtype(name: str) -> DType:
    """The type called `name`. Raises InvalidArgumentError for an unknown one."""
    try:
        return DTYPES[name]
    except KeyError:
        raise InvalidArgumentError(f"unknown dtype {name!r}") from None


def from_numpy(value: Any) -> DType:
    """The type of a NumPy dtype. Raises InvalidArgumentError where flowc has none for it."""
    found = _BY_NUMPY.get(np.dtype(value))
    if found is None:
        raise InvalidArgumentError(f"no flowc dtype for NumPy's {np.dtype(value)}")
    return found
