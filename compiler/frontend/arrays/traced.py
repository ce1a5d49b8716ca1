"""What a traced function computes with: arrays that stand for values, with the array API's ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.dims import Shape

from .. import dtypes as dt
from ..dtypes import DType, as_dtype
from ..graph import Graph, get_default_graph
from ..ops.binary import binary
from ..ops.binary import equal as _equal
from ..ops.binary import not_equal as _not_equal
from ..ops.convert import convert
from ..ops.selecting import gather, where
from ..ops.shape import matrix_transpose, reshape, transpose
from ..ops.shape import shape as shape_of
from ..ops.unary import cast
from ..registry import OPERATORS
from ..scratch import Scratch
from ..shapes import TensorShape
from ..tensor import Operation, Tensor
from .promotion import here

_WEAK_OPS = frozenset({
    "Add", "Sub", "Mul", "RealDiv", "FloorDiv", "FloorMod", "Pow", "Neg", "Abs", "Maximum",
    "Minimum",
})  # fmt: skip


class TraceGraph(Graph):
    """The graph that a function is traced into."""

    array_api = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function_name = name
        self.scratch = TraceScratch(self)

    def make_tensor(self, op: Operation, index: int, dtype: DType) -> Tensor:
        out = TracedTensor(op, index, dtype)
        if op.type in _WEAK_OPS:
            out.weak = all(getattr(t, "weak", False) for t in op.inputs)
        return out

    def capture(self, tensor: Tensor) -> Tensor:
        if tensor.graph is not self:
            raise ValueError(
                f"{tensor!r} belongs to another graph than {self.function_name}'s: pass arrays "
                f"as arguments or return them, they cannot outlive a trace{here()}"
            )
        return tensor


class TraceScratch(Scratch):
    """Arguments have the sizes that their specs name."""

    def symbols_for(self, node: Operation, sizes: tuple[int | None, ...]) -> Shape:
        named = node.attrs.get("dims")
        plain = super().symbols_for(node, sizes)
        return plain if named is None else filled(named, plain)


def filled(named: Shape, plain: Shape) -> Shape:
    """The sizes of a spec, and symbols where it has None."""
    return tuple(p if n is None else n for n, p in zip(named, plain, strict=True))


class TracedTensor(Tensor):
    """An array inside of a traced function.

    Operators promote types as the array API standard says; `==` is elementwise; indices may be
    integer arrays. `shape` holds ints, and scalars for the sizes that only a call tells.
    weak: it takes the type of the array that it meets, as a Python number does.
    """

    __slots__ = ("weak",)

    def __init__(self, op: Operation, value_index: int, dtype: DType) -> None:
        super().__init__(op, value_index, dtype)
        self.weak = False

    @property
    def shape(self) -> TensorShape:
        return TracedShape(self)

    @property
    def size(self) -> Any:
        """The number of elements."""
        total: Any = 1
        for n in self.shape:
            total = total * n
        return total

    @property
    def T(self) -> Tensor:
        return transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return matrix_transpose(self)

    def astype(self, dtype: Any, copy: bool = True) -> Tensor:
        """The elements as another type (float to int truncates)."""
        t = as_dtype(dtype)
        return cast(self, t) if t is not self.dtype or self.weak else self

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; −1 follows from the rest."""
        if len(shape) == 1 and isinstance(shape[0], (list, tuple, TensorShape)):
            shape = tuple(shape[0])
        return reshape(self, list(shape))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return OPERATORS["namespace"](api_version)

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, list):
            key = np.asarray(key)
        if isinstance(key, np.ndarray) and key.ndim and key.dtype.kind in "iu":
            return gather(self, self._wrapped(key) if (key < 0).any() else key)
        if isinstance(key, Tensor) and key.dtype.is_integer and key.ndim:
            return gather(self, key if key.dtype.is_unsigned else self._wrapped(key))
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            f"a traced array cannot be changed in place{here()}: make a new one, as by flowc.where "
            "or flowc.concat"
        )

    def _wrapped(self, index: Any) -> Tensor:
        """Indices of axis 0 with negative ones counted from its end."""
        i = convert(index)
        n = cast(self.shape[0], i.dtype)
        return where(i < 0, i + n, i)

    def __eq__(self, other: object) -> Any:
        if get_default_graph().root is not self.graph.root:
            return self is other  # bookkeeping, after the trace
        return NotImplemented if other is None else _equal(self, other)

    def __ne__(self, other: object) -> Any:
        if get_default_graph().root is not self.graph.root:
            return self is not other
        return NotImplemented if other is None else _not_equal(self, other)

    __hash__ = object.__hash__

    def __lshift__(self, y: Any) -> Tensor:
        return binary("LeftShift", "lshift", "iu", self, y, None)

    def __rlshift__(self, x: Any) -> Tensor:
        return binary("LeftShift", "lshift", "iu", x, self, None)

    def __rshift__(self, y: Any) -> Tensor:
        return binary("RightShift", "rshift", "iu", self, y, None)

    def __rrshift__(self, x: Any) -> Tensor:
        return binary("RightShift", "rshift", "iu", x, self, None)

    def __pos__(self) -> Tensor:
        return self

    def __bool__(self) -> bool:
        raise TypeError(
            f"a traced array has no value that Python could branch on{here()}: use flowc.cond or "
            "flowc.where, flowc.while_loop for a loop; a Python value that decides belongs in "
            "static_argnums, a size in shapes="
        )

    def __iter__(self) -> Iterator[Tensor]:
        n = self._length()
        return (self[i] for i in range(n))

    def __len__(self) -> int:
        return self._length()

    def _length(self) -> int:
        sizes = self._shape.sizes
        if not sizes:
            raise TypeError(f"a traced scalar has no length{here()}")
        if sizes[0] is None:
            raise TypeError(
                f"the size of axis 0 is only known when the function is called, so Python cannot "
                f"iterate over it{here()}: use flowc.while_loop or whole-array operations, or "
                "promise a static size by shapes="
            )
        return sizes[0]

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"a traced array has no value yet, NumPy cannot compute with it{here()}: use flowc's "
            "functions or those of x.__array_namespace__()"
        )

    __array_ufunc__ = None

    def __float__(self) -> float:
        raise self._no_number("float")

    def __int__(self) -> int:
        raise self._no_number("int")

    def __complex__(self) -> complex:
        raise self._no_number("complex")

    def __index__(self) -> int:
        raise self._no_number("index")

    def _no_number(self, what: str) -> TypeError:
        return TypeError(
            f"a traced array has no value that Python could take as {what}{here()}: keep it an "
            "array, make the argument static by static_argnums, or its size by shapes="
        )

    def __repr__(self) -> str:
        sizes = ", ".join("?" if d is None else str(d) for d in self._shape.sizes or ())
        return f"<traced {self.dtype.name}[{sizes}] {self.name}>"


class TracedShape(TensorShape):
    """The sizes of a traced array: ints where they are known, else weak scalar arrays."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self._sizes = tensor._shape.sizes
        self.tensor = tensor

    def _at(self, axis: int) -> Any:
        size = (self._sizes or ())[axis]
        if size is not None:
            return size
        out = shape_of(self.tensor, out_type=dt.int64)[axis]
        out.weak = True  # type: ignore[attr-defined]
        return out

    def __iter__(self) -> Iterator[Any]:
        return (self._at(i) for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return tuple(self._at(i) for i in range(len(self))[key])
        return self._at(range(len(self))[key])

    def __add__(self, other: Any) -> Any:
        return (*self, *other)

    def __radd__(self, other: Any) -> Any:
        return (*other, *self)

    def __repr__(self) -> str:
        return str(self)


def declared_dims(named: Shape | None, plain: Shape, static: Any) -> Shape:
    """The sizes of a parameter with those that a specialization fixes."""
    shape = plain if named is None else filled(named, plain)
    return dims.shape_substitute(shape, dict(static))
