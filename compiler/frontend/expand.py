"""Expansion: nodes of a graph become primitives in a builder, in the order of their creation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import IRError, Value
from flowc.ir.dims import Dim, Shape
from flowc.ir.literal import Literal
from flowc.ir.ops.base import REGISTRY
from flowc.ir.types import TensorType, shape_text

from .known import Known
from .registry import RULES, Rule

if TYPE_CHECKING:
    from .tensor import Operation, Tensor

VARIABLE_TYPES = frozenset({"VariableV2"})


class Expansion:
    """What expanders work with: the builder `b`, the values of tensors, the state so far.

    memo: the value of each tensor that has been expanded. state: the current value of each
    variable (keyed by its operation). reads: all values that a variable was read as: gradients
    towards a variable sum over them. ghost: the current node runs only for a gradient's sake
    (a feed replaces it), so its effects do not happen.
    """

    scratch = False

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.memo: dict[Tensor, Value] = {}
        self.owned: set[Value] = set()
        self.state: dict[Operation, Value] = {}
        self.reads: dict[Operation, list[Value]] = {}
        self.written: dict[Operation, None] = {}
        self.checked: set[Operation] = set()
        self.ghost = False
        self.known = Known(b)

    # Nodes.

    def rule(self, node: Operation) -> Rule:
        found = RULES.get(node.type)
        if found is None:
            raise IRError(f"no expander for op type {node.type!r}", node.name, node.loc)
        return found

    def run_node(self, node: Operation) -> None:
        """Expand one node whose inputs have been expanded."""
        rule, b = self.rule(node), self.b
        before = b.loc, b.source
        b.loc, b.source = node.loc or b.loc, node.name
        try:
            if rule.lazy:
                out = rule.expand(self, node)
            else:
                refs = rule.refs
                values = [
                    None if i in refs else self.value(t) for i, t in enumerate(node.inputs)
                ]
                out = rule.expand(self, node, *values)
            if out is NotImplemented:  # of unknown rank, or a string
                return
            outs = out if isinstance(out, tuple) else () if out is None else (out,)
            for t, v in zip(node.outputs, outs, strict=True):
                self.define(t, v)
        finally:
            b.loc, b.source = before

    def define(self, tensor: Tensor, value: Value) -> None:
        """Give a tensor its value: one of its own, so that gradients towards it are its own."""
        if value.ty.dtype is not tensor.dtype.ir:
            name = tensor.op.name
            raise IRError(f"{name} is {tensor.dtype.name} but expands to {value.type}", name)
        made = self.b.producer.get(value)
        shared = value in self.owned or (made is not None and made.op.name == "constant")
        if shared and tensor.op.type != "Const":
            value = self.alias(value)
        if tensor.asserted is not None and tensor.asserted.sizes is not None:
            value = self.asserted(tensor, value)
        self.owned.add(value)
        self.memo[tensor] = value

    def alias(self, value: Value) -> Value:
        """An identity: a value of its own. The finished function has none of them."""
        out: Value = self.b.cut(value)
        self.known.same(out, value)
        return out

    def asserted(self, tensor: Tensor, value: Value) -> Value:
        sizes = tensor.asserted.sizes if tensor.asserted else None
        if sizes is None or len(sizes) != value.ty.rank:
            return value
        for d, size in zip(value.ty.shape, sizes, strict=True):
            if size is not None:
                self.agree(d, size, f"{tensor.name} was asserted to have shape {tensor.asserted}")
        shape = tuple(d if s is None else s for d, s in zip(value.ty.shape, sizes, strict=True))
        return self.conform(value, shape)

    def value(self, tensor: Tensor) -> Value:
        """A tensor's value at this point of the program: variables are read where they are used."""
        source = tensor.op.attrs.get("snapshot_of", tensor.op)
        if source.type in VARIABLE_TYPES and tensor not in self.memo_fed:
            return self.read(source)
        return self.memo[tensor]

    memo_fed: dict[Tensor, Value] = {}  # tensors that a feed replaces

    # State.

    def read(self, variable: Operation, check: bool = True) -> Value:
        """The variable's current value; with `check` it must have been initialized."""
        found = self.state.get(variable)
        if found is None:
            found = self.state[variable] = self.initial(variable)
        if check:
            self.checked.add(variable)
        reads = self.reads.setdefault(variable, [])
        if found not in reads:
            reads.append(found)
        return found

    def initial(self, variable: Operation) -> Value:
        """The variable's value when the function is entered."""
        raise NotImplementedError

    def write(self, variable: Operation, value: Value) -> Value:
        """Make `value` the variable's; returns what later reads get. Gradients stop there."""
        if self.ghost:
            return value
        new: Value = self.b.stop_gradient(value)
        self.state[variable] = new
        self.written[variable] = None
        return new

    def current_state(self, key: Operation) -> Value:
        """The value of a variable, or of a random op's step, at this point."""
        if key.type in VARIABLE_TYPES:
            return self.read(key)
        found = self.state.get(key)
        if found is None:
            found = self.state[key] = self.initial_step(key)
        return found

    def initial_step(self, node: Operation) -> Value:
        """A random op's step when the function is entered."""
        raise NotImplementedError

    def set_state(self, key: Operation, value: Value) -> None:
        """The value of a variable or step after control flow that may have changed it."""
        if key.type in VARIABLE_TYPES:
            self.write(key, value)
        elif not self.ghost:
            self.state[key] = value
            self.written[key] = None

    def step(self, node: Operation) -> Value:
        """The random op's step (u64 scalar), which each run advances."""
        raise NotImplementedError

    def placeholder(self, node: Operation) -> Value:
        raise NotImplementedError

    # Shapes.

    def agree(self, a: Dim, c: Dim, message: str) -> Dim:
        """Assume that two sizes are equal; IRError where they are known to differ."""
        return self.b.agree(a, c, message)

    def divide(self, total: Dim, by: Dim, message: str) -> Dim:
        """total / by, assuming that it is exact: [N] as rows of 3 says that N is 3·k."""
        found = dims.exact_div(total, by)
        if found is not None:
            return found
        if isinstance(total, int) and isinstance(by, int):
            raise self.fail(message)
        if self.scratch:
            return dims.floordiv(total, by)
        for name in sorted(dims.symbols(total)):
            factor = dims.exact_div(total, dims.sym(name))
            if isinstance(factor, int) and isinstance(by, int) and min(factor, by) > 0:
                common = math.gcd(factor, by)
                k = self.b.fresh_symbol("k")
                self.agree(dims.sym(name), dims.mul(k, by // common), message)
                return dims.mul(k, factor // common)
        found = dims.floordiv(total, by)
        self.agree(dims.mul(found, by), total, message)
        return found

    def at_least(self, size: Dim, n: Dim, message: str) -> None:
        """Assume that a size is not less than n."""
        self.agree(dims.minimum(size, n), n, message)

    def conform(self, value: Value, shape: Shape) -> Value:
        """The value as one of `shape`, with whose sizes its own have been made to agree."""
        want = dims.shape_substitute(shape, self.b.merged)
        if value.ty.shape == want:
            return value
        return self.b.reshape(value, shape=want)  # type: ignore[no-any-return]

    def joined(self, shapes: Sequence[Shape]) -> Shape:
        """The shape that NumPy's broadcasting gives."""
        rank = max(map(len, shapes))
        out: list[Dim] = []
        for axis in range(-rank, 0):
            size: Dim = 1
            for s in shapes:
                if len(s) >= -axis:
                    size = self._join(size, s[axis], shapes)
            out.append(size)
        return dims.shape_substitute(tuple(out), self.b.merged)

    def _join(self, a: Dim, c: Dim, shapes: Sequence[Shape]) -> Dim:
        if a == c or c == 1:
            return a
        if a == 1:
            return c
        text = " vs. ".join(shape_text(s) for s in shapes)
        self.agree(a, c, f"Incompatible shapes: {text}")
        return a if isinstance(a, int) else c

    def broadcast(self, *values: Value) -> list[Value]:
        """All values broadcast to their common shape."""
        first = values[0].ty.shape
        if all(v.ty.shape == first for v in values):
            return list(values)
        shape = self.joined([v.ty.shape for v in values])
        return [self.broadcast_to(v, shape) for v in values]

    def broadcast_to(self, value: Value, shape: Shape) -> Value:
        """The value broadcast to a shape that it has been joined with."""
        own = value.ty.shape
        tail = shape[len(shape) - len(own) :]
        want = tuple(d if d == 1 else s for d, s in zip(own, tail, strict=True))
        return self.b.broadcast_to(self.conform(value, want), shape)

    def match(self, values: Sequence[Value], what: str) -> list[Value]:
        """Values of the same rank made to agree in every size (no broadcasting)."""
        shapes = [v.ty.shape for v in values]
        ranks = {len(s) for s in shapes}
        if len(ranks) > 1:
            text = " vs. ".join(map(shape_text, shapes))
            raise IRError(f"{what}: shapes of different rank: {text}", self.b.source, self.b.loc)
        out = list(shapes[0])
        for s in shapes[1:]:
            for i, d in enumerate(s):
                self.agree(out[i], d, f"{what}: {shape_text(shapes[0])} vs. {shape_text(s)}")
                out[i] = out[i] if isinstance(out[i], int) else d
        return [self.conform(v, tuple(out)) for v in values]

    # Values that are known while building.

    def sizes(self, value: Value) -> Shape:
        """An integer vector (or scalar) as sizes; IRError where they are not known."""
        found = self.known.get(value)
        if found is None:
            raise IRError(
                "a shape must follow from constants and from the shapes of tensors",
                self.b.source,
                self.b.loc,
            )
        return tuple(found.reshape(-1).tolist())

    def ints(self, value: Value, what: str = "this argument") -> tuple[int, ...]:
        """An integer tensor's elements, which must be constants."""
        found = self.sizes(value)
        if not all(isinstance(d, int) for d in found):
            raise IRError(f"{what} must be a constant", self.b.source, self.b.loc)
        return found  # type: ignore[return-value]

    def constant(self, array: Any) -> Value:
        """A constant of its own (`b.const` shares small ones)."""
        return self.b.emit(REGISTRY["constant"](value=Literal(array)))  # type: ignore[call-arg,no-any-return]

    def fail(self, message: str) -> IRError:
        """An error at the current node."""
        return IRError(message, self.b.source, self.b.loc)

    def zeros(self, like: Value | TensorType) -> Value:
        return self.b.const(0, like)

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis. IRError where it is outside the rank."""
        if not -rank <= axis < max(rank, 1):
            raise self.fail(f"axis {axis} is out of range for a tensor of rank {rank}")
        return axis % rank if rank else 0

    def axes(self, axes: Any, rank: int) -> tuple[int, ...]:
        """Sorted, unique, non-negative axes; None is all of them."""
        if axes is None:
            return tuple(range(rank))
        return tuple(sorted({self.axis(int(a), rank) for a in np.asarray(axes).reshape(-1)}))

    def leaf_state(self, node: Operation, dtype: str) -> Value:
        """A scalar that the session provides, such as "is this variable initialized"."""
        raise NotImplementedError
