"""Graphs inside of operations: the branches of a cond, the body of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowc.ir.types import TensorType

from .build import needed
from .expand import VARIABLE_TYPES
from .graph import Graph
from .registry import RULES
from .tensor import Operation, Tensor

_SMALL = 64  # elements: constants up to this are copied instead of captured


class FuncGraph(Graph):
    """The graph that a branch or a loop's body is built in.

    Tensors of the graphs around are captured: each gets a stand-in here. Variables live in the
    outermost graph and are used as they are.
    """

    def __init__(self, outer: Graph, name: str) -> None:
        super().__init__()
        self.outer = outer
        self.array_api = outer.array_api
        self.names_in_use = outer.names_in_use
        self.name_stack = f"{outer.name_stack}/{name}" if outer.name_stack else name
        self.collections = outer.collections
        self.devices = list(outer.devices)
        self.captured: dict[Tensor, Tensor] = {}
        self.loop_vars: list[Tensor] = []  # the stand-ins of a loop's variables

    @property
    def root(self) -> Graph:
        return self.outer.root

    def make_tensor(self, op: Operation, index: int, dtype: Any) -> Tensor:
        return self.outer.make_tensor(op, index, dtype)

    def capture(self, tensor: Tensor) -> Tensor:
        if tensor.graph is self or is_variable(tensor):
            return tensor
        found = self.captured.get(tensor)
        if found is None:
            found = self.captured[tensor] = self._stand_in(self.outer.capture(tensor))
        return found

    def _stand_in(self, tensor: Tensor) -> Tensor:
        made = tensor.op
        if made.type == "Const" and made.attrs["value"].size <= _SMALL:
            value = made.attrs["value"]
            return self._node("Const", tensor, value=value)
        return self._node("Captured", tensor, source=tensor)

    def _node(self, type: str, like: Tensor, **attrs: Any) -> Tensor:
        controls, self.controls = self.controls, []
        try:
            op = self.create_op(type, [], [like.dtype], like.op.name.split("/")[-1], **attrs)
        finally:
            self.controls = controls
        return op.outputs[0]

    def parameter(self, like: Tensor, type: TensorType | None) -> Tensor:
        """A stand-in for a loop's variable, of a type that the loop keeps."""
        return self._node("LoopVar", like, kept=type)

    def sources(self) -> list[Tensor]:
        """The outer tensors that stand-ins are for, of the graph right around."""
        return [
            t.op.attrs["source"] for t in self.captured.values() if t.op.type == "Captured"
        ]

    def stand_ins(self) -> list[Tensor]:
        return [t for t in self.captured.values() if t.op.type == "Captured"]


def is_variable(tensor: Tensor) -> bool:
    """Whether a tensor is a variable or its reading, which belong to all graphs."""
    return tensor.op.type in VARIABLE_TYPES or "snapshot_of" in tensor.op.attrs


def parts(node: Operation) -> Iterator[tuple[FuncGraph, list[Operation]]]:
    """The graphs inside a node, and what they must run."""
    yield from node.attrs.get("graphs", ())


def state_used(graph: FuncGraph, roots: list[Operation]) -> dict[Operation, bool]:
    """The state that a part uses: variables, and random ops' steps → whether it is written."""
    out: dict[Operation, bool] = {}
    for node in needed(roots):
        refs = RULES[node.type].refs
        for i, t in enumerate(node.inputs):
            if is_variable(t):
                key = t.op.attrs.get("snapshot_of", t.op)
                out[key] = out.get(key, False) or i in refs
        if is_variable_op(node):
            key = node.attrs.get("snapshot_of", node)
            out.setdefault(key, False)
        if "key0" in node.attrs:
            out[node] = True
        for inner, ops in parts(node):
            for key, written in state_used(inner, ops).items():
                out[key] = out.get(key, False) or written
    return out


def is_variable_op(node: Operation) -> bool:
    return node.type in VARIABLE_TYPES or "snapshot_of" in node.attrs
