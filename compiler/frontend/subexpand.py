"""Expansion of a graph inside of an operation into a function of its own."""

from __future__ import annotations

from collections.abc import Sequence

from flowc.ir.core import Function, Value
from flowc.ir.dims import Dim

from .build import needed
from .expand import Expansion
from .funcgraph import is_variable_op
from .tensor import Operation, Tensor


class SubExpansion(Expansion):
    """Expands a part into a builder inside the parent's; all state is among its parameters."""

    def __init__(self, parent: Expansion, name: str) -> None:
        super().__init__(parent.b.child(name))
        self.parent = parent
        self.memo_fed = parent.memo_fed
        self.b.loc, self.b.source = parent.b.loc, parent.b.source

    def bind(self, tensors: Sequence[Tensor], values: Sequence[Value]) -> list[Value]:
        """Parameters of the types of outer values, as the values of stand-ins."""
        out = []
        for t, v in zip(tensors, values, strict=True):
            p = self.b.param(v.type, t.op.name.split("/")[-1])
            found = self.parent.known.get(v)
            if found is not None:
                self.known.set(p, found)
            self.memo[t] = p
            self.owned.add(p)
            out.append(p)
        return out

    def bind_state(self, keys: Sequence[Operation], values: Sequence[Value]) -> None:
        """Parameters for the state that the part uses."""
        for key, v in zip(keys, values, strict=True):
            self.state[key] = self.b.param(v.type, key.name.split("/")[-1])

    def run(self, roots: Sequence[Operation]) -> None:
        """Expand what the part must run."""
        for node in needed(roots):
            if is_variable_op(node) or node.type in ("Captured", "LoopVar"):
                continue
            self.run_node(node)

    def function(self, results: Sequence[Value]) -> Function:
        b = self.b
        return Function(b.name, tuple(b.params), tuple(b.instrs), tuple(results))

    def initial(self, variable: Operation) -> Value:
        raise self.fail(f"variable {variable.name} is not among the state of {self.b.name}")

    def variable(self, node: Operation) -> Value:
        return self.read(node)

    def step(self, node: Operation) -> Value:
        value = self.state[node]
        self.state[node] = self.b.add(value, self.b.const(1, "u64"))
        self.written[node] = None
        return value

    def agree(self, a: Dim, c: Dim, message: str) -> Dim:
        self.parent.agree(a, c, message)
        return self.b.agree(a, c, message)

    def leaf_state(self, node: Operation, dtype: str) -> Value:
        raise self.fail(f"{node.type} inside of control flow")

    def placeholder(self, node: Operation) -> Value:
        raise self.fail("a placeholder must be made outside of control flow")


def current(x: Expansion, keys: Sequence[Operation]) -> list[Value]:
    """The values of state where the node stands."""
    return [x.current_state(k) for k in keys]
