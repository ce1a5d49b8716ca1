"""Control flow: operations that hold functions.

Sub-functions are isolated: all values that they use are operands. Dimension symbols are inherited
from the functions around. Token operands carry the order of effects through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import dims
from ..core import Function, Instr, Op, Value
from ..dims import Dim
from ..dtypes import bool_, i64
from ..types import TensorType, Type
from .base import primitive
from .counting import counter
from .elements import scan_body
from .loop_grad import cond_gradient, loop_gradient

Run = Callable[[Function, Sequence[Any]], list[Any]]
PREDICATE = TensorType(bool_, ())


class Control(Op):
    """Base of the ops that hold functions; effects are those of the functions."""

    @property
    def effects(self) -> bool:  # type: ignore[override]
        return any(i.op.effects for f in self.subfunctions() for i in f.instrs)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True,) * len(operands))

    def eval_control(self, run: Run, *operands: Any) -> tuple[Any, ...]:
        """The meaning, given the interpreter: run(f, arguments) → results."""
        raise NotImplementedError(f"{self.name}: eval_control")


def signature(what: str, f: Function, operands: Sequence[Type]) -> tuple[Type, ...]:
    """The result types of f on operands of these types.

    A symbol that is alone a dimension of one of f's parameters stands for the operand's dimension
    there. Raises TypeError where the operands do not fit.
    """
    if len(f.params) != len(operands):
        raise TypeError(f"{what} takes {len(f.params)} operands, got {len(operands)}")
    env: dict[str, Dim] = {}
    for p, t in zip(f.param_types, operands, strict=True):
        if isinstance(p, TensorType) and isinstance(t, TensorType) and p.rank == t.rank:
            for d, n in zip(p.shape, t.shape, strict=True):
                if d != n and isinstance(d, dims.Expr) and str(d) in dims.symbols(d):
                    env.setdefault(str(d), n)
    for i, (p, t) in enumerate(zip(f.param_types, operands, strict=True)):
        if _substitute(p, env) != t:
            raise TypeError(f"operand {i} of {what} is {t}, its parameter is {p}")
    return tuple(_substitute(r, env) for r in f.result_types)


def _substitute(t: Type, env: dict[str, Dim]) -> Type:
    return t.substitute(env) if env and isinstance(t, TensorType) else t


def _expect(what: str, got: Sequence[Type], want: Sequence[Type]) -> None:
    if tuple(got) != tuple(want):
        raise TypeError(f"{what} gives ({_types(got)}), expected ({_types(want)})")


def _types(ts: Sequence[Type]) -> str:
    return ", ".join(map(str, ts))


def _stacked(t: Type, trip: Dim) -> TensorType:
    if not isinstance(t, TensorType):
        raise TypeError("a token cannot be stacked")
    return t.with_shape((trip, *t.shape))


def _stack(run: Run, rows: list[Any], y: Value, f: Function, args: Sequence[Any]) -> Any:
    """One array of the rows; of no rows, the shape follows from the arguments' shapes."""
    if rows:
        return np.stack(rows)
    env: dict[str, Dim] = dict(getattr(run, "env", {}))
    for p, a in zip(f.params, args, strict=True):
        if isinstance(p.type, TensorType):
            env.update({str(d): int(n) for d, n in zip(p.type.shape, a.shape, strict=True)})
    shape = dims.shape_substitute(y.ty.shape, env)
    return np.zeros((0, *(int(d) for d in shape)), y.ty.dtype.np)  # type: ignore[arg-type]


@primitive
class Cond(Control):
    """then(*operands) if pred else otherwise(*operands): only the taken one is evaluated.

    pred: a scalar bool. Both functions take all operands and give the same types.
    """

    name = "cond"
    then: Function
    otherwise: Function

    def infer(self, pred: Type, *operands: Type) -> tuple[Type, ...]:
        if pred != PREDICATE:
            raise TypeError(f"the predicate must be bool[], not {pred}")
        out = signature("the true branch", self.then, operands)
        _expect("the false branch", signature("the false branch", self.otherwise, operands), out)
        return out

    def eval_control(self, run: Run, pred: Any, *operands: Any) -> tuple[Any, ...]:
        return tuple(run(self.then if bool(pred) else self.otherwise, operands))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        return cond_gradient(b, self, operands, gs, needed)


@primitive
class While(Control):
    """Repeat `body` while `cond` holds, tested before each round.

    operands: `carried` loop-carried values, then invariants. cond and body take all of them; cond
    gives a scalar bool, body the next carried values and after them values *y* to keep. `max_trips`
    ends the loop after so many rounds in any case.

    Results: the carried values at the end; and where `trips` names a symbol, the number of rounds
    (i64 scalar, which is that symbol's value) and each y of all rounds, stacked on a new leading
    axis of that size. The frontend makes loops without `trips`; the gradient adds it
    (`Builder.extend`), with what the reverse loop reads. The gradient is a reverse `scan` over the
    stacks.
    """

    name = "while"
    cond: Function
    body: Function
    carried: int
    max_trips: int | None = None
    trips: str = ""

    xs = 0
    reverse = False

    @property
    def trip(self) -> Dim:
        """The number of rounds as a dimension."""
        return dims.sym(self.trips)

    @property
    def first_y(self) -> int:
        """The position of the first stack among the results."""
        return self.carried + 1

    def defines(self) -> tuple[tuple[str, int], ...]:
        return ((self.trips, self.carried),) if self.trips else ()

    def infer(self, *operands: Type) -> tuple[Type, ...]:
        n = self.carried
        if not 0 <= n <= len(operands):
            raise ValueError(f"{n} carried values among {len(operands)} operands")
        _expect("cond", signature("cond", self.cond, operands), (PREDICATE,))
        out = signature("body", self.body, operands)
        _expect("body", out[:n], operands[:n])
        if self.trips:
            stacks = tuple(_stacked(y, self.trip) for y in out[n:])
            return (*out[:n], TensorType(i64, ()), *stacks)
        _expect("body, which keeps nothing,", out, out[:n])
        return out

    def eval_control(self, run: Run, *operands: Any) -> tuple[Any, ...]:
        n, count = self.carried, 0
        now, fixed = list(operands[:n]), list(operands[n:])
        kept: list[list[Any]] = [[] for _ in self.body.results[n:]]
        while self.max_trips is None or count < self.max_trips:
            if not bool(run(self.cond, now + fixed)[0]):
                break
            out = run(self.body, now + fixed)
            now, count = list(out[:n]), count + 1
            for rows, y in zip(kept, out[n:], strict=True):
                rows.append(y)
        if not self.trips:
            return tuple(now)
        stacks = (_stack(run, rows, y, self.body, operands)
                  for rows, y in zip(kept, self.body.results[n:], strict=True))
        return (*now, np.asarray(count, np.int64), *stacks)

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        found = self.as_scan(operands, b.producer)
        if found is None:
            return loop_gradient(b, self, operands, results, gs, needed)
        op, places = found  # stacks of a known size
        given = tuple(operands[i] for i in places)
        b.extend(b.producer[results[0]], op, given)
        out: list[Value | None] = [None] * len(operands)
        parts = loop_gradient(b, op, given, results, gs, tuple(needed[i] for i in places))
        for i, g in zip(places, parts, strict=True):
            if g is not None:
                before = out[i]
                out[i] = g if before is None else b.add(before, g)
        return tuple(out)

    def as_scan(
        self, operands: Sequence[Value], producer: Mapping[Value, Instr]
    ) -> tuple[Scan, tuple[int, ...]] | None:
        """The same loop as a `scan`, where the number of rounds is known before it starts; and
        which of the operands its operands are. Its results are the same, in the same order.

        The loop must keep nothing (`trips` empty) and have no effects. producer: what defines
        values around the loop.
        """
        silent = not any(i.op.effects for f in (self.cond, self.body) for i in f.walk())
        count = counter(self, operands, producer) if silent and not self.trips else None
        if count is None:
            return None
        body, carried, xs, places = scan_body(self, count)
        return Scan(body, carried, xs, count.count), places


@primitive
class Scan(Control):
    """Repeat `body` for each index of a leading axis: `trip` rounds.

    operands: `carried` loop-carried values; `xs` arrays [trip, …], of which each round sees one
    element; invariants. body takes (carried…, elements…, invariants…) and gives the next carried
    values, then values y. Results: the carried values at the end, and each y stacked [trip, …].
    With `reverse` the rounds go from the last index to the first; y of index t stays at t.
    """

    name = "scan"
    body: Function
    carried: int
    xs: int
    trip: Dim
    reverse: bool = False

    @property
    def first_y(self) -> int:
        """The position of the first stack among the results."""
        return self.carried

    def infer(self, *operands: Type) -> tuple[Type, ...]:
        n, end = self.carried, self.carried + self.xs
        if n < 0 or self.xs < 0 or end > len(operands):
            raise ValueError(f"{n} carried values and {self.xs} xs of {len(operands)} operands")
        elements: list[Type] = []
        for t in operands[n:end]:
            if not isinstance(t, TensorType) or not t.rank or t.shape[0] != self.trip:
                raise TypeError(f"{t} has no leading axis of {self.trip}")
            elements.append(t.with_shape(t.shape[1:]))
        out = signature("body", self.body, (*operands[:n], *elements, *operands[end:]))
        _expect("body", out[:n], operands[:n])
        return (*out[:n], *(_stacked(y, self.trip) for y in out[n:]))

    def eval_control(self, run: Run, *operands: Any) -> tuple[Any, ...]:
        n, end = self.carried, self.carried + self.xs
        now, xs, fixed = list(operands[:n]), operands[n:end], list(operands[end:])
        if not isinstance(self.trip, int):
            raise ValueError(f"the number of rounds, {self.trip}, has no value")
        kept: list[list[Any]] = [[] for _ in self.body.results[n:]]
        order = range(self.trip)
        for t in reversed(order) if self.reverse else order:
            out = run(self.body, [*now, *(x[t] for x in xs), *fixed])
            now = list(out[:n])
            for rows, y in zip(kept, out[n:], strict=True):
                rows.append(y)
        args = [*now, *(np.zeros(x.shape[1:], x.dtype) for x in xs), *fixed]
        stacks = (_stack(run, rows[::-1] if self.reverse else rows, y, self.body, args)
                  for rows, y in zip(kept, self.body.results[n:], strict=True))
        return (*now, *stacks)

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        return loop_gradient(b, self, operands, results, gs, needed)

    def flops(self, operands: Any, results: Any) -> Dim:
        once: Dim = 0
        for i in self.body.instrs:
            types = tuple(v.type for v in i.operands), tuple(r.type for r in i.results)
            once = dims.add(once, i.op.flops(*types))
        return dims.mul(once, self.trip)
