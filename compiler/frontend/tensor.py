"""Operations and Tensors: the nodes of a Graph and their outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flowc.ir.core import Loc

from .dtypes import DType
from .registry import OPERATORS
from .shapes import TensorShape

if TYPE_CHECKING:
    from .graph import Graph


class Operation:
    """A node of a graph: an API op of some type applied to tensors.

    attrs: what its expander needs; id: its place in the order of creation; loc: the user's line.
    """

    __slots__ = (
        "__weakref__", "attrs", "control_inputs", "device", "graph", "id", "inputs", "loc", "name",
        "outputs", "type",
    )  # fmt: skip

    def __init__(
        self,
        graph: Graph,
        type: str,
        name: str,
        inputs: list[Tensor],
        control_inputs: list[Operation],
        attrs: dict[str, Any],
        loc: Loc | None,
    ) -> None:
        self.graph, self.type, self.name = graph, type, name
        self.inputs, self.control_inputs, self.attrs = inputs, control_inputs, attrs
        self.loc, self.device, self.id = loc, "", -1
        self.outputs: list[Tensor] = []

    @property
    def op(self) -> Operation:
        return self

    def values(self) -> tuple[Tensor, ...]:
        return tuple(self.outputs)

    def get_attr(self, name: str) -> Any:
        """An attribute; ValueError where the op has none of that name."""
        if name not in self.attrs:
            raise ValueError(f"Operation {self.name!r} has no attr named {name!r}.")
        return self.attrs[name]

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run it in the given or the default session."""
        OPERATORS["run"](self, feed_dict, session)

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"

    def __str__(self) -> str:
        inputs = "".join(f'input: "{t.name}"\n' for t in self.inputs)
        inputs += "".join(f'input: "^{o.name}"\n' for o in self.control_inputs)
        return f'name: "{self.name}"\nop: "{self.type}"\n{inputs}'


def _call(name: str, *operands: Any) -> Tensor:
    out: Tensor = OPERATORS[name](*operands)
    return out


class Operators:
    """The operators that Tensors and Variables share; `ops/` says what they mean."""

    __slots__ = ()
    __array_priority__ = 100

    def __add__(self, y: Any) -> Tensor:
        return _call("add", self, y)

    def __radd__(self, x: Any) -> Tensor:
        return _call("add", x, self)

    def __sub__(self, y: Any) -> Tensor:
        return _call("sub", self, y)

    def __rsub__(self, x: Any) -> Tensor:
        return _call("sub", x, self)

    def __mul__(self, y: Any) -> Tensor:
        return _call("mul", self, y)

    def __rmul__(self, x: Any) -> Tensor:
        return _call("mul", x, self)

    def __truediv__(self, y: Any) -> Tensor:
        return _call("truediv", self, y)

    def __rtruediv__(self, x: Any) -> Tensor:
        return _call("truediv", x, self)

    def __floordiv__(self, y: Any) -> Tensor:
        return _call("floordiv", self, y)

    def __rfloordiv__(self, x: Any) -> Tensor:
        return _call("floordiv", x, self)

    def __mod__(self, y: Any) -> Tensor:
        return _call("mod", self, y)

    def __rmod__(self, x: Any) -> Tensor:
        return _call("mod", x, self)

    def __pow__(self, y: Any) -> Tensor:
        return _call("pow", self, y)

    def __rpow__(self, x: Any) -> Tensor:
        return _call("pow", x, self)

    def __matmul__(self, y: Any) -> Tensor:
        return _call("matmul", self, y)

    def __rmatmul__(self, x: Any) -> Tensor:
        return _call("matmul", x, self)

    def __and__(self, y: Any) -> Tensor:
        return _call("and", self, y)

    def __rand__(self, x: Any) -> Tensor:
        return _call("and", x, self)

    def __or__(self, y: Any) -> Tensor:
        return _call("or", self, y)

    def __ror__(self, x: Any) -> Tensor:
        return _call("or", x, self)

    def __xor__(self, y: Any) -> Tensor:
        return _call("xor", self, y)

    def __rxor__(self, x: Any) -> Tensor:
        return _call("xor", x, self)

    def __lt__(self, y: Any) -> Tensor:
        return _call("lt", self, y)

    def __le__(self, y: Any) -> Tensor:
        return _call("le", self, y)

    def __gt__(self, y: Any) -> Tensor:
        return _call("gt", self, y)

    def __ge__(self, y: Any) -> Tensor:
        return _call("ge", self, y)

    def __neg__(self) -> Tensor:
        return _call("neg", self)

    def __invert__(self) -> Tensor:
        return _call("invert", self)

    def __abs__(self) -> Tensor:
        return _call("abs", self)

    def __getitem__(self, key: Any) -> Tensor:
        return _call("getitem", self, key)


class Tensor(Operators):
    """An output of an Operation; compared by identity, as TensorFlow's graph tensors are."""

    __slots__ = ("__weakref__", "_shape", "asserted", "dtype", "graph", "name", "op", "value_index")

    def __init__(self, op: Operation, value_index: int, dtype: DType) -> None:
        self.op, self.value_index, self.dtype = op, value_index, dtype
        self.graph = op.graph
        self.name = f"{op.name}:{value_index}"
        self._shape = TensorShape(None)
        self.asserted: TensorShape | None = None  # by `set_shape`

    @property
    def shape(self) -> TensorShape:
        return self._shape

    def get_shape(self) -> TensorShape:
        return self._shape

    def set_shape(self, shape: Any) -> None:
        """Assert a shape: it is checked when a run knows the real one."""
        merged = self._shape.merge_with(shape)
        if merged != self._shape:
            self.asserted = self._shape = merged
            self.graph.assert_shape(self)

    @property
    def device(self) -> str:
        return self.op.device

    @property
    def ndim(self) -> int:
        """The rank; ValueError where it is unknown."""
        return len(self._shape)

    def consumers(self) -> list[Operation]:
        return [o for o in self.graph.nodes if any(t is self for t in o.inputs)]

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Its value in the given or the default session."""
        return OPERATORS["eval"](self, feed_dict, session)

    def __bool__(self) -> bool:
        raise TypeError(
            "Using a `tf.Tensor` as a Python `bool` is not allowed. Use `if t is not None:` instead"
            " of `if t:` to test if a tensor is defined, and use TensorFlow ops such as tf.cond to"
            " execute subgraphs conditioned on the value of a tensor."
        )

    def __iter__(self) -> Iterator[Tensor]:
        if not self.graph.array_api:
            raise TypeError("Tensor objects are only iterable when eager execution is enabled. "
                            "To iterate over this tensor use tf.map_fn.")
        return (self[i] for i in range(self._length()))

    def __len__(self) -> int:
        if not self.graph.array_api:
            raise TypeError(f"object of type 'Tensor' has no len(): use tf.shape({self.name})[0]")
        return self._length()

    def _length(self) -> int:
        n: int | None = self._shape[0].value if self._shape.ndims else None
        if n is None:
            raise TypeError(f"the length of {self!r} is not known while the graph is built")
        return n

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"Cannot convert a symbolic Tensor ({self.name}) to a numpy array: run it in a session."
        )

    def __float__(self) -> float:
        raise TypeError(f"float() argument must be a number, not the symbolic {self!r}")

    def __int__(self) -> int:
        raise TypeError(f"int() argument must be a number, not the symbolic {self!r}")

    def __index__(self) -> int:
        raise TypeError(f"the symbolic {self!r} is not an index: use tf.gather or tf.slice")

    @property
    def T(self) -> Tensor:
        return _call("transpose", self)

    def __repr__(self) -> str:
        return f"<tf.Tensor {self.name!r} shape={self._shape} dtype={self.dtype.name}>"

    def __str__(self) -> str:
        shape = "" if self._shape.ndims is None else f", shape={self._shape}"
        return f'Tensor("{self.name}"{shape}, dtype={self.dtype.name})'
