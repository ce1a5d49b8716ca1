"""The typed tensor SSA: values, instructions, functions, modules.

An `Op` is *what* is computed: a frozen record of attributes with a name (see `ops/`). An `Instr`
applies an op to operand values and defines result values. A `Function` is a tuple of instructions
in topological order; it is frozen when made, and compared by identity. Functions nest only through
the attributes of control-flow ops, and are isolated: all that they use is an explicit operand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from .dims import Dim
from .types import TensorType, Type


@dataclass(frozen=True)
class Loc:
    """A place in the user's program."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Value:
    """One SSA value; equality is identity. `name` is a hint for the text form."""

    __slots__ = ("name", "type")

    def __init__(self, type: Type, name: str = "") -> None:
        self.type = type
        self.name = name

    @property
    def ty(self) -> TensorType:
        """The type, which must be a tensor's."""
        if not isinstance(self.type, TensorType):
            raise TypeError(f"expected a tensor, found {self.type}")
        return self.type

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


class Op:
    """Base of all primitives: a frozen dataclass whose fields are the op's attributes.

    A subclass defines `name`, `infer`, `eval`, `grad`, `lower` in one place. Attributes are ints,
    bools, floats, strings, DTypes, dimensions, Functions, Consts, and tuples of these.
    """

    name: ClassVar[str] = ""
    effects: ClassVar[bool] = False  # ordered by a token: kept by DCE, never merged by CSE
    num_results: ClassVar[int] = 1

    def infer(self, *operands: Any) -> Type | tuple[Type, ...]:
        """Result types from operand types; raises TypeError or ValueError with the shapes."""
        raise NotImplementedError(f"{self.name}: infer")

    def eval(self, *operands: Any) -> Any:
        """The meaning, on NumPy arrays: one array, or a tuple of arrays."""
        raise NotImplementedError(f"{self.name}: eval")

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        """Gradients towards each operand, built through `b`; None where it is zero.

        gs: the gradients of the results, None where zero (at least one is not None).
        """
        raise NotImplementedError(f"{self.name} has no gradient")

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        """`grad`, told which operands' gradients anyone asks for: ops with costly ones override."""
        return self.grad(b, operands, results, gs)

    def defines(self) -> tuple[tuple[str, int], ...]:
        """Symbols for sizes that only the data tells: (symbol, the scalar result that says it)."""
        return ()

    def lower(self, k: Any, *operands: Any) -> Any:
        """The unscheduled kernel form, through the stage builder `k` (see `kernel/compute.py`)."""
        raise NotImplementedError(f"{self.name}: lower")

    def flops(self, operands: tuple[Type, ...], results: tuple[Type, ...]) -> Dim:
        """Floating point operations, for the cost model: one an element unless said otherwise."""
        return sum((t.count for t in results if isinstance(t, TensorType)), 0)

    def attrs(self) -> dict[str, Any]:
        """Attribute name → value, in the order of the text form."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def _values(self) -> tuple[Any, ...]:
        """The attributes' values, in order."""
        return tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Op) and type(other) is type(self) and (
            other._values() == self._values())

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.attrs().items())
        return f"{type(self).__name__}({inner})"

    def subfunctions(self) -> tuple[Function, ...]:
        """The functions among the attributes."""
        return tuple(v for v in self.attrs().values() if isinstance(v, Function))


class Instr:
    """The application of an op to operands; frozen by convention, compared by identity."""

    __slots__ = ("loc", "op", "operands", "results", "source")

    def __init__(
        self,
        op: Op,
        operands: tuple[Value, ...],
        results: tuple[Value, ...],
        loc: Loc | None = None,
        source: str = "",
    ) -> None:
        self.op = op
        self.operands = operands
        self.results = results
        self.loc = loc
        self.source = source  # the name of the API op that it comes from, for messages

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def __repr__(self) -> str:
        outs = ", ".join(map(repr, self.results))
        return f"{outs} = {self.op.name}({', '.join(map(repr, self.operands))})"


@dataclass(frozen=True)
class Guard:
    """What a specialization assumes of its dimensions: `left == right`, checked at entry."""

    left: Dim
    right: Dim
    message: str
    loc: Loc | None = None


@dataclass(frozen=True)
class Param:
    """What a parameter is to the caller.

    kind: ``input`` (fed) or ``state`` (a variable: its buffer is given at each call).
    updated_by: for state, the index of the function result that is its new value, or −1.
    """

    name: str = ""
    kind: str = "input"
    updated_by: int = -1
    loc: Loc | None = None


@dataclass(frozen=True, eq=False)
class Function:
    """One function: typed parameters, instructions in topological order, results.

    infos has one `Param` a parameter (sub-functions leave it empty: all are plain inputs).
    Results that are new values of state come last and are named by `Param.updated_by`.
    """

    name: str
    params: tuple[Value, ...]
    instrs: tuple[Instr, ...]
    results: tuple[Value, ...]
    infos: tuple[Param, ...] = ()
    guards: tuple[Guard, ...] = ()
    result_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.infos:
            infos = tuple(Param(p.name or f"arg{i}") for i, p in enumerate(self.params))
            object.__setattr__(self, "infos", infos)

    @property
    def param_types(self) -> tuple[Type, ...]:
        return tuple(p.type for p in self.params)

    @property
    def result_types(self) -> tuple[Type, ...]:
        return tuple(r.type for r in self.results)

    def producers(self) -> dict[Value, Instr]:
        """Which instruction defines each value (parameters are absent)."""
        return {r: i for i in self.instrs for r in i.results}

    def users(self) -> dict[Value, list[Instr]]:
        """The instructions that use each value."""
        out: dict[Value, list[Instr]] = {p: [] for p in self.params}
        for instr in self.instrs:
            for v in dict.fromkeys(instr.operands):
                out.setdefault(v, []).append(instr)
            for r in instr.results:
                out.setdefault(r, [])
        return out

    def replace(self, **changes: Any) -> Function:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def walk(self) -> Iterator[Instr]:
        """All instructions, those of sub-functions before the op that holds them."""
        stack: list[Iterator[Instr]] = [iter(self.instrs)]
        while stack:
            instr = next(stack[-1], None)
            if instr is None:
                stack.pop()
                continue
            for sub in instr.op.subfunctions():
                stack.append(iter(sub.instrs))
            yield instr


@dataclass(frozen=True, eq=False)
class Module:
    """Named functions, and later stages' products keyed by stage name."""

    functions: Mapping[str, Function] = field(default_factory=dict)

    @staticmethod
    def of(functions: Iterable[Function]) -> Module:
        return Module({f.name: f for f in functions})

    @property
    def main(self) -> Function:
        """The only function, or the one called main."""
        if len(self.functions) == 1:
            return next(iter(self.functions.values()))
        return self.functions["main"]

    def with_function(self, f: Function) -> Module:
        return Module({**self.functions, f.name: f})


class IRError(Exception):
    """A program that breaks the rules of the IR: names the op, its operand types and the line."""

    def __init__(self, message: str, op: str = "", loc: Loc | None = None) -> None:
        self.op, self.loc, self.message = op, loc, message
        where = f" (at {loc})" if loc else ""
        super().__init__(f"{op}: {message}{where}" if op else f"{message}{where}")
