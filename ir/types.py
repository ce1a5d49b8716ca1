"""Types of values: tensors (`f32[B,784]`) and the token that orders effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import dims
from .dims import Dim, Shape
from .dtypes import DType, dtype


@dataclass(frozen=True)
class TensorType:
    """A tensor's element type and shape; a dimension is an int or a symbolic expression."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def count(self) -> Dim:
        """The number of elements."""
        return dims.product(self.shape)

    @property
    def nbytes(self) -> Dim:
        """Bytes of a dense row-major buffer."""
        return dims.mul(self.count, self.dtype.size)

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    def with_dtype(self, to: DType) -> TensorType:
        return TensorType(to, self.shape)

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def substitute(self, env: Mapping[str, Dim]) -> TensorType:
        """The type with its symbols replaced."""
        return TensorType(self.dtype, dims.shape_substitute(self.shape, env))

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class TokenType:
    """The order of effects; has no data."""

    def __str__(self) -> str:
        return "token"


Type = TensorType | TokenType
TOKEN = TokenType()


def tensor(dt: object, *shape: Dim) -> TensorType:
    """``tensor("f32", "B"…)``: a TensorType from a dtype's name and its dimensions."""
    return TensorType(dtype(dt), tuple(shape))


def shape_text(shape: Shape) -> str:
    """``[B,784]``."""
    return f"[{','.join(map(str, shape))}]"
