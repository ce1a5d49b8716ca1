"""Constant data: read-only arrays with a content hash, shared and never copied."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .dtypes import DType, dtype
from .types import TensorType

INLINE_BYTES = 1024  # larger ones print as handles: @blob:…


class Literal:
    """An immutable array; equality is that of type, shape and bytes."""

    __slots__ = ("_digest", "array")

    def __init__(self, array: Any) -> None:
        a = np.asarray(array)
        dtype(a.dtype)  # TypeError for what has no element type
        if a.flags.writeable or not a.flags.c_contiguous:
            a = np.array(a, order="C", copy=True)
            a.flags.writeable = False
        self.array: np.ndarray[Any, Any] = a
        self._digest: str | None = None

    @property
    def dtype(self) -> DType:
        return dtype(self.array.dtype)

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, tuple(int(d) for d in self.array.shape))

    @property
    def digest(self) -> str:
        """A SHA-256 over type, shape and bytes, in hex."""
        if self._digest is None:
            head = f"{self.dtype.name}{self.array.shape}".encode()
            h = hashlib.sha256(head)
            h.update(np.ascontiguousarray(self.array).view(np.uint8).reshape(-1).data
                     if self.array.ndim else self.array.tobytes())
            self._digest = h.hexdigest()
        return self._digest

    @property
    def is_inline(self) -> bool:
        """Whether the text form carries the values."""
        return self.array.nbytes <= INLINE_BYTES

    @property
    def splat(self) -> Any | None:
        """The one value that all elements have (bit for bit), as a NumPy scalar, or None."""
        if not self.array.size:
            return None
        flat = self.array.reshape(-1)
        first = flat[:1].tobytes()
        few = flat[:1024]
        if flat[-1:].tobytes() != first or few.tobytes() != first * few.size:
            return None
        if self.array.size > 1 and flat.tobytes() != first * self.array.size:
            return None
        return flat[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal) or self.type != other.type:
            return False
        return self.array is other.array or self.digest == other.digest

    def __hash__(self) -> int:
        return hash((self.type, self.digest))

    def __repr__(self) -> str:
        return f"Literal({self.type})"
