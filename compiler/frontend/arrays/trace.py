"""Running a Python function once on traced arrays, and building the IR of what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import IRError
from flowc.ir.types import TensorType

from .. import dtypes as dt
from ..build import Build, Program, needed
from ..errors import InvalidArgumentError, invalid_argument
from ..ops.convert import constant
from ..shapes import TensorShape
from ..special import Attempt, specialize
from ..tensor import Operation, Tensor
from . import pytree
from .specs import Array, LeafSpec
from .traced import TraceGraph, declared_dims


@dataclass(frozen=True)
class Fixed:
    """A static argument: its value, and its type since 1 == True."""

    value: Any
    kind: type


@dataclass(frozen=True)
class Signature:
    """What a trace is made for: the structure of the arguments, their types, the static values.

    arguments: (parameter, structure) of each that is traced; static: (parameter, value).
    """

    arguments: tuple[tuple[str, Any], ...]
    leaves: tuple[LeafSpec, ...]
    static: tuple[tuple[str, Fixed], ...] = ()

    def form(self) -> Any:
        """All but the types: which arguments, how nested, with which static values."""
        return [(n, pytree.plain(s)) for n, s in self.arguments], self.static

    def names(self) -> list[str]:
        """A name for each leaf."""
        found = [n for name, s in self.arguments for n in pytree.paths(s, name)]
        return [pytree.rename(n) for n in found]


class Trace:
    """A function's graph for one signature: `feeds` → `fetches`, results nested as `structure`."""

    def __init__(self, name: str, signature: Signature, call: Callable[[dict[str, Any]], Any]):
        self.title, self.name = name, pytree.rename(name.strip("<>"))
        self.signature = signature
        self.graph = TraceGraph(name)
        with self.graph.as_default():
            self.feeds = [
                self._argument(n, s)
                for n, s in zip(signature.names(), signature.leaves, strict=True)
            ]
            leaves = iter(self.feeds)
            values = {n: pytree.build(s, leaves) for n, s in signature.arguments}
            values |= {n: s.value for n, s in signature.static}
            results, self.structure = pytree.flatten(call(values))
            self.fetches = [self._result(r) for r in results]
        self.output_names = self._output_names()

    def _argument(self, name: str, spec: LeafSpec) -> Tensor:
        sizes = TensorShape.of(tuple(-1 if d is None else d for d in spec.dims))
        sizes._sizes = tuple(d if isinstance(d, int) else None for d in spec.dims)
        op = self.graph.create_op(
            "Placeholder", [], [spec.dtype], name, shape=sizes, dims=spec.dims
        )
        tensor = op.outputs[0]
        tensor.weak = spec.weak  # type: ignore[attr-defined]
        return tensor

    def _result(self, value: Any) -> Tensor:
        """A result of the user's function as a tensor of the graph."""
        if isinstance(value, Operation):
            raise TypeError(f"{self.title} returned an operation: a function returns arrays")
        if isinstance(value, (str, bytes)) or callable(value):
            raise TypeError(
                f"{self.title} returned a {type(value).__name__}: a function returns arrays, "
                "numbers, and lists, tuples and dicts of these"
            )
        if not isinstance(value, Tensor):
            value = constant(np.asarray(value))
        tensor: Tensor = self.graph.capture(value)
        if tensor.dtype is dt.string:
            raise TypeError(f"{self.title} returned strings, which have no compiled form")
        return tensor

    def _output_names(self) -> list[str]:
        return [pytree.rename(n) for n in pytree.paths(self.structure, "result")]

    def program(self, attempt: Attempt) -> Program:
        """The function of the IR. IRError where it cannot be built so."""
        ranks = [len(s.dims) for s in self.signature.leaves]
        build = TraceBuild(
            self.graph, self.fetches, self.feeds, ranks, attempt.static, self.name, attempt.values
        )
        made = build.program()
        if made.reads:
            raise InvalidArgumentError(
                f"{self.title} uses the variable {made.reads[0].name}: variables belong to graphs "
                "and sessions; pass what changes as arguments and return its new value",
                loc=str(made.reads[0].loc),
            )
        f = made.function
        infos = [replace(i, name=i.name.removesuffix(":0")) for i in f.infos]
        names = (*self.output_names, *f.result_names[made.outputs :])
        return replace(made, function=f.replace(infos=tuple(infos), result_names=names))

    def general(self) -> Program:
        """The function for all sizes. Raises InvalidArgumentError where it cannot be built."""
        try:
            return self.program(Attempt({}, {}))
        except IRError as e:
            raise invalid_argument(e) from None

    def for_arrays(self, arrays: Sequence[Array]) -> Program:
        """The function for arrays of these shapes, as general as can be."""
        return specialize(self.program, self.feeds, arrays)

    def rebuild(self, outputs: Sequence[Any]) -> Any:
        """The results, nested as the function returned them."""
        return pytree.build(self.structure, iter(outputs))


class TraceBuild(Build):
    """Every argument is a parameter, used or not: the function's signature is the user's."""

    def program(self) -> Program:
        fed = dict.fromkeys(self.feeds)
        roots = [f.op for f in self.fetches if f not in fed]
        live = needed(roots, fed)
        self.check_fed(live)
        for t in self.feeds:
            self.feed(t, self.declared(t))
        given = {t.op for t in self.feeds}
        for op in live:
            if op not in given:
                self.visit(op, fed)
        return self.finished()

    def declared(self, tensor: Tensor) -> TensorType:
        plain = super().declared(tensor)
        named = tensor.op.attrs.get("dims")
        return plain.with_shape(declared_dims(named, plain.shape, self.static))


def environment(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes by symbol, checked against the symbols that there are.

    Raises InvalidArgumentError for one that there is not.
    """
    known = {s for shape in program.shapes for d in shape for s in dims.symbols(d)}
    wrong = sorted(set(sizes) - known)
    if wrong:
        raise InvalidArgumentError(f"no size is called {wrong[0]}; there is {sorted(known)}")
    return dict(sizes)
