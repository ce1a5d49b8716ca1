"""The oracle: functions evaluated op by op on NumPy arrays, in the order of their text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import dims
from .core import Function, Guard, Instr, IRError, Loc, Module, Value
from .dims import Dim
from .ops.base import EvalError, substituted
from .types import TensorType, Type, shape_text
from .verifier import plain_symbol

Array = np.ndarray[Any, Any]
Env = dict[str, int]
State = dict[str, Array]


class RunError(IRError):
    """A program that fails while it runs; `code` is the FLOWC_E_ number of native code."""

    def __init__(self, code: int, message: str, op: str = "", loc: Loc | None = None) -> None:
        self.code = code
        super().__init__(message, op, loc)


def run(
    f: Function,
    args: Sequence[Any],
    env: Env | None = None,
    state: State | None = None,
) -> list[Any]:
    """The results of f on `args`, as arrays (a token is None).

    Symbols are bound from the arguments' shapes; `env` gives values to symbols beforehand. `state`
    holds variables by name for ``var_read`` and ``var_write``, which changes it.
    Raises IRError where arguments do not fit the parameters or each other, where a guard does not
    hold, and where an op gives what its type
    does not say; RunError, which has a code, where the program fails.
    """
    symbols: dict[str, int] = dict(env or {})
    args = [a if a is None else np.asarray(a) for a in args]
    bind(f, args, symbols)
    with np.errstate(all="ignore"):
        return _Run(f, symbols, {} if state is None else state).run(args)


def run_module(
    m: Module, args: Sequence[Any], state: State | None = None, env: Env | None = None
) -> list[Any]:
    """Run the main function. State parameters are taken from `state` and their updates put there.

    `args` are the inputs only. The results are those that are no updates of state.
    """
    f, store = m.main, {} if state is None else state
    rest = iter(args)
    full: list[Any] = []
    for info in f.infos:
        if info.kind == "state":
            if info.name not in store:
                raise IRError(f"the variable {info.name!r} has no value")
            full.append(store[info.name])
        else:
            full.append(next(rest, None))
    results = run(f, full, env, store)
    updates = {i.updated_by: i.name for i in f.infos if i.updated_by >= 0}
    for n, name in updates.items():
        store[name] = results[n]
    return [r for n, r in enumerate(results) if n not in updates]


def bind(f: Function, args: Sequence[Any], env: Env) -> None:
    """Put the values of f's symbols into `env`, from the arguments' shapes; IRError on conflict."""
    if len(args) != len(f.params):
        raise IRError(f"@{f.name} takes {len(f.params)} arguments, got {len(args)}")
    for p, info, a in zip(f.params, f.infos, args, strict=True):
        if isinstance(p.type, TensorType):
            _bind_one(f, info.name, p.type, a, env)
    for p, info, a in zip(f.params, f.infos, args, strict=True):
        if isinstance(p.type, TensorType):
            shape = dims.shape_substitute(p.type.shape, env)
            if shape != a.shape:
                raise IRError(f"argument {info.name!r} is {p.type}, here {shape_text(shape)}; "
                              f"got the shape {shape_text(a.shape)}{_because(f, p.type, env)}")
    for g in f.guards:
        _check_guard(g, env)


def _bind_one(f: Function, name: str, t: TensorType, a: Any, env: Env) -> None:
    if a is None:
        raise IRError(f"argument {name!r} of @{f.name} is missing")
    if a.dtype != t.dtype.np or a.ndim != t.rank:
        raise IRError(f"argument {name!r} of @{f.name} is {t}, got {a.dtype}{list(a.shape)}")
    for d, n in zip(t.shape, a.shape, strict=True):
        found = dims.linear(d)
        if found is not None:
            s, factor, rest = found
            env.setdefault(s, (n - rest) // factor)


def _because(f: Function, t: TensorType, env: Env) -> str:
    """The guards' messages about the symbols of a type that does not fit."""
    names: frozenset[str] = frozenset().union(*(dims.symbols(d) for d in t.shape))
    said = [g.message for g in f.guards if names & (dims.symbols(g.left) | dims.symbols(g.right))]
    return "".join(f": {m}" for m in said[:1])


def _check_guard(g: Guard, env: Env) -> None:
    """Guards may name symbols that were merged into others: these the shapes have checked."""
    whole: dict[str, Dim] = dict(env)
    left, right = dims.substitute(g.left, whole), dims.substitute(g.right, whole)
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise IRError(f"{g.message}: {g.left} is {left}, {g.right} is {right}", loc=g.loc)


class _Run:
    """One activation of a function."""

    def __init__(self, f: Function, env: Env, state: State) -> None:
        self.f, self.env, self.state = f, env, state

    def run(self, args: Sequence[Any]) -> list[Any]:
        values: dict[Value, Any] = dict(zip(self.f.params, args, strict=True))
        last = {v: n for n, i in enumerate(self.f.instrs) for v in (*i.operands, *i.results)}
        for r in self.f.results:
            last[r] = len(self.f.instrs)
        for n, instr in enumerate(self.f.instrs):
            out = self.instr(instr, [values[v] for v in instr.operands])
            values.update(zip(instr.results, out, strict=True))
            for v in dict.fromkeys((*instr.operands, *instr.results)):
                if last[v] == n:
                    del values[v]
        return [values[r] for r in self.f.results]

    def instr(self, instr: Instr, operands: list[Any]) -> tuple[Any, ...]:
        op = substituted(instr.op, dict(self.env))
        try:
            if op.name in ("var_read", "var_write"):
                out = self.variable(op, operands)
            elif op.subfunctions():
                out = op.eval_control(_Sub(self), *operands)  # type: ignore[attr-defined]
            else:
                out = op.eval(*operands)
        except EvalError as e:
            raise RunError(e.code, str(e), _label(instr), instr.loc) from None
        except IRError as e:
            if e.op or e.loc:
                raise
            raise IRError(e.message, _label(instr), instr.loc) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as e:
            kinds = ", ".join(str(v.type) for v in instr.operands)
            raise IRError(f"{e} [operands: {kinds}]", _label(instr), instr.loc) from e
        outs = out if isinstance(out, tuple | list) else (out,) if instr.results else ()
        self.env.update({name: int(outs[n]) for name, n in op.defines()})
        return self.checked(instr, tuple(outs))

    def checked(self, instr: Instr, outs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The results, which must be what their types say."""
        if len(outs) != len(instr.results):
            raise IRError(f"eval gives {len(outs)} results", _label(instr), instr.loc)
        return tuple(self.fit(instr, r.type, a) for r, a in zip(instr.results, outs, strict=True))

    def fit(self, instr: Instr, t: Type, a: Any) -> Any:
        if not isinstance(t, TensorType):
            return None
        a = np.asarray(a)
        shape = dims.shape_substitute(t.shape, dict(self.env))
        if a.dtype != t.dtype.np or a.shape != shape:
            raise IRError(f"eval gives {a.dtype}{list(a.shape)}, the type is {t}, "
                          f"here {shape_text(shape)}", _label(instr), instr.loc)
        return a

    def variable(self, op: Any, operands: list[Any]) -> Any:
        name = op.var
        if op.name == "var_write":
            self.state[name] = operands[0]
            return None
        if name not in self.state:
            raise IRError(f"the variable {name!r} has no value")
        return self.state[name]


class _Sub:
    """Evaluates sub-functions, in the symbols of the function around and with its state.

    A symbol that is alone a dimension of a parameter of theirs, or that they define, is their own.
    """

    def __init__(self, outer: _Run) -> None:
        self.env, self.state = outer.env, outer.state

    def __call__(self, f: Function, args: Sequence[Any]) -> list[Any]:
        own = {s for t in f.param_types if isinstance(t, TensorType)
               for d in t.shape for s in plain_symbol(d)}
        env = {name: n for name, n in self.env.items() if name not in own}
        args = [a if a is None else np.asarray(a) for a in args]
        bind(f, args, env)
        return _Run(f, env, self.state).run(args)


def _label(instr: Instr) -> str:
    return f"{instr.source} ({instr.op.name})" if instr.source else instr.op.name
