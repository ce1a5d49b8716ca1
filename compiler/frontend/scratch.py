"""The scratch expansion of a graph: what tells static shapes while the graph is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import IRError, Value
from flowc.ir.dims import Dim, Shape
from flowc.ir.types import TensorType, tensor

from .dtypes import DType
from .expand import VARIABLE_TYPES, Expansion
from .registry import Rule
from .shapes import TensorShape

if TYPE_CHECKING:
    from .tensor import Operation, Tensor


class Scratch(Expansion):
    """Expands each node once, when it is made; tensors of unknown rank have no value here.

    Sizes that must agree are not merged, since only a run knows them: a value that is taken as
    one of another shape is a fresh one (`leaf`).
    """

    scratch = True

    def __init__(self, graph: Any) -> None:
        super().__init__(Builder("scratch"))
        self.graph = graph
        self.known.unknowns = self.unknown_sizes
        self._count = 0

    def unknown_sizes(self, value: Value) -> Any:
        """A symbol for each element of an integer tensor that only a run knows."""
        sizes: Any = value.ty.shape
        out: Any = np.empty(sizes, dtype=object)
        for i in np.ndindex(out.shape):
            self._count += 1
            out[i] = dims.sym(f"unknown{self._count}")
        return out

    def sizes(self, value: Value) -> Shape:
        if self.known.get(value) is None and value.ty.is_static:
            self.known.set(value, self.unknown_sizes(value))
        return super().sizes(value)

    def add(self, node: Operation) -> None:
        """Expand a new node and note the shapes of its outputs; IRError where they do not fit."""
        rule = self.rule(node)
        unknown = [t for t in node.inputs if not self.has(t)]
        if unknown and not (rule.lazy or any(node.inputs[i] in unknown for i in rule.refs)):
            self._partial(rule, node)
        else:
            self.run_node(node)
        for t in node.outputs:
            value = self.memo.get(t)
            if value is not None:
                t._shape = TensorShape.of(value.ty.shape)

    def has(self, tensor: Tensor) -> bool:
        return tensor in tensor.graph.scratch.memo

    def _partial(self, rule: Rule, node: Operation) -> None:
        if rule.partial is None:
            return
        values = [self.memo.get(t) for t in node.inputs]
        with self.b.at(node.loc, node.name):
            shapes = rule.partial(self, node, *values)
        for t, shape in zip(node.outputs, shapes or (), strict=False):
            if shape is not None and t.dtype.ir is not None:
                self.memo[t] = self.leaf(TensorType(t.dtype.ir, shape), t.name)

    def assert_shape(self, tensor: Tensor) -> None:
        """Make the tensor's value one of its asserted shape."""
        sizes = tensor.shape.sizes
        if sizes is None or tensor.dtype.ir is None:
            return
        old = self.memo.get(tensor)
        own = old.ty.shape if old is not None else self.symbols_for(tensor.op, sizes)
        shape = tuple(o if s is None else s for o, s in zip(own, sizes, strict=True))
        self.memo[tensor] = self.leaf(TensorType(tensor.dtype.ir, shape), tensor.name)

    def leaf(self, type: TensorType, name: str = "") -> Value:
        """A value of which only the type is known."""
        return Value(type, name)

    def define(self, tensor: Tensor, value: Value) -> None:
        if value.ty.dtype is not tensor.dtype.ir:
            name = tensor.op.name
            raise IRError(f"{name} is {tensor.dtype.name} but expands to {value.type}", name)
        self.memo[tensor] = value

    def value(self, tensor: Tensor) -> Value:
        return tensor.graph.scratch.memo[tensor]

    def agree(self, a: Dim, c: Dim, message: str) -> Dim:
        if isinstance(a, int) and isinstance(c, int) and a != c:
            raise IRError(message, self.b.source, self.b.loc)
        return a if isinstance(a, int) else c

    def conform(self, value: Value, shape: Shape) -> Value:
        if value.ty.shape == shape:
            return value
        out = self.leaf(value.ty.with_shape(shape))
        self.known.same(out, value)
        return out

    def initial(self, variable: Operation) -> Value:
        return self.value(variable.outputs[0])

    def read(self, variable: Operation, check: bool = True) -> Value:
        return self.initial(variable)

    def write(self, variable: Operation, value: Value) -> Value:
        return value

    def step(self, node: Operation) -> Value:
        return self.b.const(0, "u64")

    def leaf_state(self, node: Operation, dtype: str) -> Value:
        return self.leaf(tensor(dtype))

    def placeholder(self, node: Operation) -> Value:
        """A leaf of the declared shape; its unknown sizes are symbols of the node."""
        sizes = node.attrs["shape"].sizes
        return self.leaf(TensorType(_element(node), self.symbols_for(node, sizes)), node.name)

    def variable(self, node: Operation) -> Value:
        shape = node.attrs["shape"].sizes
        return self.leaf(TensorType(_element(node), shape), node.name)

    def symbols_for(self, node: Operation, sizes: tuple[int | None, ...]) -> Shape:
        """The sizes with a symbol for each unknown one."""
        return tuple(
            dims.sym(symbol_name(self.graph, node, i)) if s is None else s
            for i, s in enumerate(sizes)
        )


def _element(node: Operation) -> Any:
    dtype: DType = node.outputs[0].dtype
    return dtype.element


def symbol_name(graph: Any, node: Operation, axis: int) -> str:
    """The symbol for an axis of a node's output: `x_0`; each stands for one axis of one node."""
    table = graph.root.symbols
    base = "".join(c if c.isalnum() else "_" for c in node.name)
    base = base if base[:1].isalpha() else f"s{base}"
    name = f"{base}_{axis}"
    while table.setdefault(name, (node, axis)) != (node, axis):
        name += "_"
    return name


__all__ = ["VARIABLE_TYPES", "Scratch", "symbol_name"]
