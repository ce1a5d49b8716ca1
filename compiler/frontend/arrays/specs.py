"""What a function is specialized to: types, ranks, and what is known of sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.dims import Dim

from ..dtypes import DType, as_dtype
from ..errors import InvalidArgumentError

Array = np.ndarray[Any, np.dtype[Any]]


class _Static:
    """Stands in `shapes=` for sizes that are compile-time constants."""

    def __repr__(self) -> str:
        return "flowc.static"


static = _Static()


class TensorSpec:
    """The type of an argument, for `lower`: ``TensorSpec(("B", 784), flowc.float32)``.

    shape: ints are promised, checked at each call; None is any size, and a name is any size that
    is the same wherever the name stands (``"2*B"`` too). dtype: what `flowc.as_dtype` takes.
    """

    def __init__(self, shape: Any, dtype: Any = "float32", name: str | None = None) -> None:
        self.shape = tuple(shape)
        self.dtype = as_dtype(dtype)
        self.name = name
        self.dims = tuple(map(_dim, self.shape))

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype.name})"


def _dim(d: Any) -> Dim | None:
    if d is None or d is static:
        return None
    return dims.parse(d) if isinstance(d, str) else int(d)


@dataclass(frozen=True)
class LeafSpec:
    """One array argument: element type, sizes (None: any), whether it was a Python number."""

    dtype: DType
    dims: tuple[Dim | None, ...]
    weak: bool = False

    def __str__(self) -> str:
        sizes = ",".join("?" if d is None else str(d) for d in self.dims)
        return f"{self.dtype.name}[{sizes}]"


def array_of(value: Any, what: str) -> Array:
    """An argument as an array, without a copy where its memory can be used.

    NumPy's arrays as they are; what has `__dlpack__` or `__array__`, Python numbers. TypeError for
    all else.
    """
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, (bool, int, float, complex, np.generic)):
        array = np.asarray(value)
    elif hasattr(value, "__dlpack__") or hasattr(value, "__array__"):
        array = _foreign(value, what)
    else:
        raise TypeError(
            f"{what} is a {type(value).__name__}: neither an array nor a number, nor a list, tuple "
            "or dict of these; what is no array belongs in static_argnums"
        )
    if array.dtype.kind in "OSUmM":
        raise TypeError(f"{what} has dtype {array.dtype}, which cannot be computed with")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def _foreign(value: Any, what: str) -> Array:
    """Another library's array: its memory by DLPack, else what it converts itself to."""
    reasons: list[Exception] = []
    for protocol, convert in (("__dlpack__", np.from_dlpack), ("__array__", np.asarray)):
        if hasattr(value, protocol):
            try:
                return convert(value)
            except (BufferError, RuntimeError, TypeError, ValueError) as error:
                reasons.append(error)
    text = "; ".join(map(str, reasons))
    raise InvalidArgumentError(f"{what} gives no array: {text}") from reasons[0]


def pattern_dims(pattern: Any, shape: Sequence[int], what: str) -> tuple[Dim | None, ...]:
    """The sizes that are promised for an argument of this shape.

    Raises InvalidArgumentError where the shape is not what was promised.
    """
    if pattern is None:
        return (None,) * len(shape)
    if pattern is static:
        return tuple(shape)
    if len(pattern) != len(shape):
        raise InvalidArgumentError(
            f"{what} was promised to have {len(pattern)} axes, it has shape {list(shape)}"
        )
    out: list[Dim | None] = []
    for wanted, size in zip(pattern, shape, strict=True):
        if isinstance(wanted, int) and wanted != size:
            raise InvalidArgumentError(
                f"{what} was promised to have shape {_text(pattern)}, it has {list(shape)}"
            )
        out.append(size if wanted is static else _dim(wanted))
    return tuple(out)


def _text(pattern: Any) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in pattern)}]"


def patterns(shapes: Any, names: Sequence[str]) -> dict[str, Any]:
    """`shapes=` by parameter: one pattern for all, a mapping (names, indices), or a sequence.

    Raises ValueError for a parameter that there is not.
    """
    if shapes is None:
        return {}
    if shapes is static:
        return dict.fromkeys(names, static)
    pairs = shapes.items() if isinstance(shapes, Mapping) else enumerate(shapes)
    out = {}
    for key, pattern in pairs:
        known = key in names if isinstance(key, str) else -len(names) <= key < len(names)
        if not known:
            raise ValueError(f"shapes= speaks of parameter {key!r}; there is {', '.join(names)}")
        out[key if isinstance(key, str) else names[key]] = pattern
    return out
