"""Specializations: which sizes a compiled program assumes, and what is done where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flowc.ir import dims
from flowc.ir.core import Guard, IRError
from flowc.ir.dims import Dim
from flowc.ir.types import shape_text

from .build import Program, Static, binding
from .errors import InvalidArgumentError, invalid_argument
from .scratch import symbol_name
from .tensor import Tensor

_SMALL = 8  # elements of an integer feed that may be sizes
_MOST = 32  # sizes fixed in one specialization

Shapes = Sequence[tuple[int, ...]]


class Attempt(NamedTuple):
    """How a program is to be built: sizes that are fixed, feeds whose values may be assumed."""

    static: Static
    values: Mapping[Tensor, Any]


def satisfied(program: Program, arrays: Sequence[Any]) -> bool:
    """Whether these inputs are what the program was built for."""
    if any(arrays[i].tobytes() != value for i, value in program.assumed):
        return False
    given = [arrays[i].shape for i in program.inputs]
    env = binding(program, given)
    return _declared(program, given, env) is None and _broken(program, env) is None


def specialize(
    build: Callable[[Attempt], Program], feeds: Sequence[Tensor], arrays: Sequence[Any]
) -> Program:
    """The program that serves these inputs, as general as can be.

    First all sizes are symbols, and those of 1 that must broadcast are fixed; where that does not
    build, small integers that are fed are taken as constants (they may be sizes), then every size.
    Raises InvalidArgumentError where two sizes must agree, differ, and neither is 1.
    """
    try:
        return _broadcasting(build, feeds, arrays, {})
    except IRError as e:
        error = e
    pairs = list(zip(feeds, arrays, strict=True))
    small = {t: a for t, a in pairs if a.dtype.kind in "iu" and a.size <= _SMALL}
    whole = _all_sizes(feeds, arrays)
    for static, values in (({}, small), (whole, {}), (whole, small)):
        if static or values:
            try:
                return _broadcasting(build, feeds, arrays, values, static)
            except IRError as e:
                error = e
    raise invalid_argument(error)


def _all_sizes(feeds: Sequence[Tensor], arrays: Sequence[Any]) -> dict[str, int]:
    return {
        symbol_name(t.graph, t.op, axis): size
        for t, a in zip(feeds, arrays, strict=True)
        for axis, size in enumerate(a.shape)
    }


def _broadcasting(
    build: Callable[[Attempt], Program],
    feeds: Sequence[Tensor],
    arrays: Sequence[Any],
    values: Mapping[Tensor, Any],
    fixed: Static | None = None,
) -> Program:
    static = dict(fixed or {})
    shapes = [a.shape for a in arrays]
    for _ in range(_MOST):
        program = build(Attempt(static, values))
        given = [shapes[i] for i in program.inputs]
        env = binding(program, given)
        wrong = _declared(program, given, env)
        if wrong is not None:
            raise InvalidArgumentError(_misfit(program, feeds, given, *wrong))
        guard = _broken(program, env)
        if guard is None:
            return program
        ones = _ones(guard, env) - set(static)
        if not ones:
            raise _disagree(guard, env, feeds, shapes)
        static |= dict.fromkeys(sorted(ones), 1)
    raise InvalidArgumentError("too many sizes broadcast in ways that only the run tells")


def _declared(program: Program, shapes: Shapes, env: dict[str, int]) -> tuple[int, int] | None:
    """The first input and axis whose size is not what was declared."""
    for i, (declared, given) in enumerate(zip(program.shapes, shapes, strict=True)):
        for axis, (d, size) in enumerate(zip(declared, given, strict=True)):
            if dims.substitute(d, env) != size:
                return i, axis
    return None


def _value(d: Dim, env: dict[str, int]) -> int | None:
    got = dims.substitute(d, env)
    return got if isinstance(got, int) else None


def _broken(program: Program, env: dict[str, int]) -> Guard | None:
    for g in program.guards:
        for a, b in ((g.left, g.right), (g.right, g.left)):
            _bind_factor(a, _value(b, env), env)
        if _value(g.left, env) != _value(g.right, env):
            return g
    return None


def _bind_factor(d: Dim, value: int | None, env: dict[str, int]) -> None:
    """A symbol that only a guard defines (N = 3·k) follows from the other side."""
    found = dims.linear(d)
    if found is not None and value is not None and found[0] not in env:
        env[found[0]] = (value - found[2]) // found[1]


def _ones(guard: Guard, env: dict[str, int]) -> set[str]:
    """The symbols on a side of the guard that is 1 for these sizes."""
    out: set[str] = set()
    for side in (guard.left, guard.right):
        if not isinstance(side, int) and _value(side, env) == 1:
            out |= {s for s in dims.symbols(side) if env.get(s) == 1}
    return out


def _disagree(
    guard: Guard, env: dict[str, int], feeds: Sequence[Tensor], shapes: Shapes
) -> InvalidArgumentError:
    given = "; ".join(
        f"{t.name} has shape {shape_text(s)}" for t, s in zip(feeds, shapes, strict=True)
    )
    left, right = _value(guard.left, env), _value(guard.right, env)
    return InvalidArgumentError(
        f"{guard.message}: {guard.left} is {left} and {guard.right} is {right}; {given}",
        loc=str(guard.loc) if guard.loc else None,
        shapes=list(shapes),
    )


def _misfit(
    program: Program, feeds: Sequence[Tensor], shapes: Shapes, i: int, axis: int
) -> str:
    tensor = feeds[program.inputs[i]]
    return (
        f"{tensor.name} is given shape {shape_text(shapes[i])} where its axis {axis} must be "
        f"{program.shapes[i][axis]}"
    )
