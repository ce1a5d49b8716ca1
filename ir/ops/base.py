"""What op files share: registration, and the checks that `infer` methods are made of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .. import dims
from ..core import Function, Instr, Op, Value
from ..dims import Dim, Shape
from ..types import TensorType, shape_text

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:
    def dataclass_transform(**_: Any) -> Any:
        """For type checkers; `typing` has it from Python 3.11 on."""
        return lambda cls: cls

REGISTRY: dict[str, type[Op]] = {}
T = TypeVar("T", bound=type[Op])


class EvalError(ArithmeticError):
    """A program that fails at run time; `code` is the FLOWC_E_ number that native code reports."""

    def __init__(self, code: int, message: str = "") -> None:
        self.code = code
        super().__init__(message or _FAILURES.get(code, f"error {code}"))


_FAILURES = {
    1: "integer division by zero", 2: "index out of range", 4: "assertion failed",
    5: "size overflow", 7: "host call failed", 8: "check failed",
}


@dataclass_transform(frozen_default=True)
def primitive(cls: T) -> T:
    """Make a class an op: a frozen dataclass, registered under its name."""
    # Op brings equality, hash and text: what dataclasses would compile anew for each of 80 classes
    # is a quarter of the time that importing flowc takes.
    make = dataclasses.dataclass(frozen=True, eq=False, repr=False, match_args=False)
    made = cast(T, make(cls))
    if made.name in REGISTRY:
        raise ValueError(f"two ops are named {made.name!r}")
    REGISTRY[made.name] = made
    return made


def same_dtype(*types: TensorType) -> None:
    """TypeError unless all element types agree."""
    first = types[0].dtype
    if any(t.dtype is not first and t.dtype != first for t in types):
        raise TypeError(f"element types differ: {', '.join(map(str, types))}")


def same_shape(*types: TensorType) -> None:
    """ValueError unless all shapes are equal, symbol for symbol."""
    first = types[0].shape
    if any(t.shape != first for t in types):
        raise ValueError(f"shapes differ: {', '.join(map(str, types))}")


def need(t: TensorType, kinds: str, what: str = "operand") -> None:
    """TypeError unless the element type's kind is among `kinds` (``f i u b c``)."""
    if t.dtype.kind not in kinds:
        names = {"f": "float", "i": "signed", "u": "unsigned", "b": "bool", "c": "complex"}
        raise TypeError(f"{what} {t} must be {' or '.join(names[k] for k in kinds)}")


def axis_in(axis: int, rank: int) -> None:
    """ValueError unless 0 ≤ axis < rank; ops hold normalized axes."""
    if not 0 <= axis < rank:
        raise ValueError(f"axis {axis} is outside a rank-{rank} shape")


def axes_in(axes: tuple[int, ...], rank: int) -> None:
    """ValueError unless the axes are sorted, unique and within the rank."""
    for a in axes:
        axis_in(a, rank)
    if list(axes) != sorted(set(axes)):
        raise ValueError(f"axes {list(axes)} are not sorted and unique")


def drop(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape without the axes."""
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def concrete(shape: Shape) -> tuple[int, ...]:
    """The shape as ints; ValueError where a symbol is left (`eval` runs on substituted ops)."""
    out = []
    for d in shape:
        if not isinstance(d, int):
            raise ValueError(f"the shape {shape_text(shape)} has no value for {dims.symbols(d)}")
        out.append(d)
    return tuple(out)


def substituted(op: Op, env: dict[str, Dim]) -> Op:
    """The op with the symbols in its attributes replaced, sub-functions left as they are."""
    def sub(v: Any) -> Any:
        if isinstance(v, dims.Expr):
            return dims.substitute(v, env)
        if isinstance(v, tuple):
            return tuple(sub(x) for x in v)
        return v
    changed = {k: s for k, v in op.attrs().items() if (s := sub(v)) is not v}
    return dataclasses.replace(op, **changed) if changed else op  # type: ignore[type-var]


def substituted_deep(op: Op, env: dict[str, Dim]) -> Op:
    """Like `substituted`, in the sub-functions too, and in the names that the op defines."""
    defined = {name for name, _ in op.defines()}
    op = substituted(op, env)
    changed: dict[str, Any] = {}
    for k, v in op.attrs().items():
        if isinstance(v, Function):
            changed[k] = substituted_function(v, env)
        elif isinstance(v, str) and v in defined and v in env:
            changed[k] = str(env[v])
    return dataclasses.replace(op, **changed) if changed else op  # type: ignore[type-var]


def substituted_function(f: Function, env: dict[str, Dim]) -> Function:
    """A copy of f, of fresh values, with symbols replaced in types and attributes."""
    values: dict[Value, Value] = {}

    def new(v: Value) -> Value:
        t = v.type
        values[v] = Value(t.substitute(env) if isinstance(t, TensorType) else t, v.name)
        return values[v]

    params = tuple(new(p) for p in f.params)
    instrs = tuple(
        Instr(substituted_deep(i.op, env), tuple(values[v] for v in i.operands),
              tuple(new(r) for r in i.results), i.loc, i.source)
        for i in f.instrs
    )
    return f.replace(params=params, instrs=instrs, results=tuple(values[r] for r in f.results))
