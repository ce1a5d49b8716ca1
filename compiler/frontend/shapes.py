"""`tf.TensorShape` and `tf.Dimension`: what is known of a shape while the graph is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsIndex

from flowc.ir.dims import Shape


class Dimension:
    """A size that may be unknown (`value` is None)."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: int | None = _size(value)

    def is_compatible_with(self, other: Any) -> bool:
        o = Dimension(other).value
        return self.value is None or o is None or self.value == o

    def merge_with(self, other: Any) -> Dimension:
        """What both say; ValueError where they differ."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {Dimension(other)} are not compatible")
        return self if self.value is not None else Dimension(other)

    def __int__(self) -> int:
        return self.value  # type: ignore[return-value]

    def __index__(self) -> int:
        if self.value is None:
            raise TypeError("an unknown dimension is no index")
        return self.value

    def __eq__(self, other: object) -> Any:
        try:
            o = Dimension(other).value
        except (TypeError, ValueError):
            return NotImplemented
        return None if self.value is None or o is None else self.value == o

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is None or equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return hash(self.value)

    def _with(self, other: Any, f: Any) -> Dimension:
        o = Dimension(other).value
        return Dimension(None if self.value is None or o is None else f(self.value, o))

    def __add__(self, o: Any) -> Dimension:
        return self._with(o, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, o: Any) -> Dimension:
        return self._with(o, lambda a, b: a - b)

    def __rsub__(self, o: Any) -> Dimension:
        return self._with(o, lambda a, b: b - a)

    def __mul__(self, o: Any) -> Dimension:
        return self._with(o, lambda a, b: a * b)

    __rmul__ = __mul__

    def __floordiv__(self, o: Any) -> Dimension:
        return self._with(o, lambda a, b: a // b)

    __div__ = __floordiv__

    def __mod__(self, o: Any) -> Dimension:
        return self._with(o, lambda a, b: a % b)

    def _compare(self, o: Any, f: Any) -> Any:
        other = Dimension(o).value
        return None if self.value is None or other is None else f(self.value, other)

    def __lt__(self, o: Any) -> Any:
        return self._compare(o, lambda a, b: a < b)

    def __le__(self, o: Any) -> Any:
        return self._compare(o, lambda a, b: a <= b)

    def __gt__(self, o: Any) -> Any:
        return self._compare(o, lambda a, b: a > b)

    def __ge__(self, o: Any) -> Any:
        return self._compare(o, lambda a, b: a >= b)

    def __str__(self) -> str:
        return "?" if self.value is None else str(self.value)

    def __repr__(self) -> str:
        return f"Dimension({self.value})"


def _size(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        out: int | None = value
    elif isinstance(value, Dimension):
        out = value.value
    elif isinstance(value, SupportsIndex):
        out = value.__index__()
    else:
        raise TypeError(f"Dimension value must be an integer or None, got {value!r}")
    if out is not None and out < 0:
        raise ValueError(f"Dimension {out} must be >= 0")
    return out


class TensorShape:
    """A shape of unknown rank (`dims` is None), or of known rank with unknown sizes."""

    __slots__ = ("_sizes",)

    def __init__(self, dims: Any = None) -> None:
        self._sizes: tuple[int | None, ...] | None
        if dims is None:
            self._sizes = None
        elif isinstance(dims, TensorShape):
            self._sizes = dims._sizes
        elif isinstance(dims, (int, Dimension)) or not hasattr(dims, "__iter__"):
            self._sizes = (_size(dims),)
        else:
            self._sizes = tuple(None if d == -1 else _size(d) for d in dims)

    @staticmethod
    def of(shape: Shape) -> TensorShape:
        """The shape of a value of the IR: symbols are unknown sizes."""
        out = TensorShape()
        out._sizes = tuple(d if isinstance(d, int) else None for d in shape)
        return out

    @property
    def dims(self) -> list[Dimension] | None:
        return None if self._sizes is None else [Dimension(d) for d in self._sizes]

    @property
    def sizes(self) -> tuple[int | None, ...] | None:
        """The sizes as ints and None; None for an unknown rank."""
        return self._sizes

    @property
    def ndims(self) -> int | None:
        return None if self._sizes is None else len(self._sizes)

    rank = ndims

    def as_list(self) -> list[int | None]:
        if self._sizes is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._sizes)

    def is_fully_defined(self) -> bool:
        return self._sizes is not None and None not in self._sizes

    def assert_is_fully_defined(self) -> None:
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def num_elements(self) -> int | None:
        if not self.is_fully_defined():
            return None
        out = 1
        for d in self._sizes or ():
            out *= d or 0
        return out

    def is_compatible_with(self, other: Any) -> bool:
        a, b = self._sizes, TensorShape(other)._sizes
        if a is None or b is None:
            return True
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(x is None or y is None or x == y for x, y in pairs)

    def merge_with(self, other: Any) -> TensorShape:
        """What both say; ValueError where they differ."""
        o = TensorShape(other)
        if not self.is_compatible_with(o):
            raise ValueError(f"Shapes {self} and {o} are not compatible")
        if self._sizes is None or o._sizes is None:
            return o if self._sizes is None else self
        both = zip(self._sizes, o._sizes, strict=True)
        return TensorShape([y if x is None else x for x, y in both])

    def concatenate(self, other: Any) -> TensorShape:
        o = TensorShape(other)
        if self._sizes is None or o._sizes is None:
            return TensorShape(None)
        return TensorShape(self._sizes + o._sizes)

    def with_rank(self, rank: int) -> TensorShape:
        try:
            return self.merge_with(TensorShape([None] * rank))
        except ValueError:
            raise ValueError(f"Shape {self} must have rank {rank}") from None

    def assert_has_rank(self, rank: int) -> None:
        if self.ndims not in (None, rank):
            raise ValueError(f"Shape {self} must have rank {rank}")

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {other} are incompatible")

    def __len__(self) -> int:
        if self._sizes is None:
            raise ValueError("Cannot take the length of Shape with unknown rank.")
        return len(self._sizes)

    def __bool__(self) -> bool:
        return self._sizes is not None

    def __iter__(self) -> Iterator[Dimension]:
        if self._sizes is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return iter([Dimension(d) for d in self._sizes])

    def __getitem__(self, key: Any) -> Any:
        if self._sizes is None:
            return TensorShape(None) if isinstance(key, slice) else Dimension(None)
        got = self._sizes[key]
        return TensorShape(got) if isinstance(got, tuple) else Dimension(got)

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __eq__(self, other: object) -> bool:
        try:
            return self._sizes == TensorShape(other)._sizes
        except (TypeError, ValueError):
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self._sizes)

    def __str__(self) -> str:
        if self._sizes is None:
            return "<unknown>"
        text = ", ".join("?" if d is None else str(d) for d in self._sizes)
        return f"({text},)" if len(self._sizes) == 1 else f"({text})"

    def __repr__(self) -> str:
        if self._sizes is None:
            return "TensorShape(None)"
        return f"TensorShape([{', '.join(f'Dimension({d})' for d in self._sizes)}])"


def as_shape(shape: Any) -> TensorShape:
    """A TensorShape of itself, a list, an int, or None for an unknown rank."""
    return shape if isinstance(shape, TensorShape) else TensorShape(shape)


def scalar() -> TensorShape:
    return TensorShape([])


def unknown_shape(ndims: int | None = None) -> TensorShape:
    return TensorShape(None if ndims is None else [None] * ndims)
