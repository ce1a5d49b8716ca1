"""What a random program's values are, and how far from them a correct compiler may be.

Every value is computed four times: by the interpreter in its own types (`a`), by the interpreter
with all floats widened to f64 (`b`), and twice more so with a random error of the size of the
rounding added to each result (`noisy`: Monte Carlo arithmetic, Parker 1997). Where the last two
differ, the program amplifies rounding, and results are compared no closer than that. Values that
follow from exact inputs by operations whose result IEEE 754 or our documents fix to the bit are
*exact*: they are compared bit by bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from flowc.ir import interpreter
from flowc.ir.core import Function, Instr, Op, Value
from flowc.ir.dtypes import DType, dtype, f64
from flowc.ir.literal import Literal
from flowc.ir.types import TensorType

Array = Any
NOISES = 2

MOVES = frozenset((
    "broadcast", "reshape", "transpose", "reverse", "slice", "pad", "concat", "dynamic_slice",
    "dynamic_update_slice", "gather", "select", "cut", "stop_gradient", "neg", "abs", "max", "min",
    "sort",
))
FIXED = MOVES | {
    "add", "sub", "mul", "div", "sqrt", "rem", "sign", "floor", "ceil", "round", "compare", "cast",
    "bitcast", "constant", "iota", "dim_size", "scatter", "and", "or", "xor", "not", "nonzero",
}
SELECTING = ("max", "min", "and", "or")  # reductions that round nothing
DECIDING = frozenset((
    "sign", "floor", "ceil", "round", "compare", "bitcast", "nonzero", "rem",
))


@dataclass
class Val:
    """A value of a program for certain inputs; see the module."""

    a: Array
    b: Array
    noisy: tuple[Array, ...]
    exact: bool

    @property
    def error(self) -> Array:
        """How far results may be apart, element by element."""
        if not dtype(np.asarray(self.a).dtype).is_float:
            return np.any([n != self.b for n in self.noisy], axis=0) * 1.0
        with np.errstate(all="ignore"):
            gaps = [np.abs(n - self.b) for n in self.noisy]
            gaps.append(np.abs(widened(self.a) - self.b))
            return np.nan_to_num(np.max(gaps, axis=0), nan=np.inf)


def widened(a: Array) -> Array:
    """Floats as f64, all else as it is."""
    return np.asarray(a).astype(np.float64) if dtype(np.asarray(a).dtype).is_float else a


def given(a: Array) -> Val:
    """An argument."""
    b = widened(a)
    return Val(a, b, (b,) * NOISES, True)


def wide_op(op: Op) -> Op:
    """The op in f64."""
    changed: dict[str, Any] = {}
    for name, v in op.attrs().items():
        if isinstance(v, DType) and v.is_float:
            changed[name] = f64
        elif isinstance(v, Literal) and v.dtype.is_float:
            changed[name] = Literal(v.array.astype(np.float64))
        elif isinstance(v, Function):
            changed[name] = wide_function(v)
    return dataclasses.replace(op, **changed) if changed else op  # type: ignore[type-var]


def wide_function(f: Function) -> Function:
    """The function with all floats in f64."""
    env: dict[Value, Value] = {}

    def new(v: Value) -> Value:
        t = v.type
        if isinstance(t, TensorType) and t.dtype.is_float:
            t = t.with_dtype(f64)
        env[v] = Value(t, v.name)
        return env[v]

    params = tuple(new(p) for p in f.params)
    instrs = tuple(
        Instr(wide_op(i.op), tuple(env[v] for v in i.operands), tuple(new(r) for r in i.results))
        for i in f.instrs
    )
    return Function(f.name, params, instrs, tuple(env[r] for r in f.results))


def is_fixed(op: Op) -> bool:
    """Whether the op's result for exact operands is fixed to the bit."""
    if op.subfunctions():
        return all(is_fixed(i.op) for f in op.subfunctions() for i in f.instrs)
    if op.name in ("reduce", "cumulative", "reduce_window"):
        return getattr(op, "op", "") in SELECTING
    return op.name in FIXED


def evaluate(
    instr: Instr, operands: Sequence[Val], env: dict[str, int], rng: np.random.Generator
) -> list[Val]:
    """The results of one instruction; symbols that it defines enter `env`."""
    unique = dict(zip(instr.operands, operands, strict=True))
    one = Function("one", tuple(unique), (instr,), instr.results)
    vals = list(unique.values())
    results = interpreter.run(one, [v.a for v in vals], env)
    env.update({name: int(results[n]) for name, n in instr.op.defines()})
    whole = [not (isinstance(r.type, TensorType) and r.type.dtype.is_float) for r in instr.results]
    exact = all(v.exact for v in operands) and (
        is_fixed(instr.op) or (all(whole) and not _has_floats(instr)))
    if exact or (all(v.exact for v in operands) and all(whole)):
        return [given(a) for a in results]
    twin = wide_function(one)
    exactly = interpreter.run(twin, [v.b for v in vals], env)
    scales = [_noise(instr, n, b, twin, vals, env) for n, b in enumerate(exactly)]
    out = []
    noisy = [interpreter.run(twin, [v.noisy[k] for v in vals], env) for k in range(NOISES)]
    for n, (a, b) in enumerate(zip(results, exactly, strict=True)):
        with np.errstate(all="ignore"):
            rough = tuple(
                run[n] if scales[n] is None else run[n] + scales[n] * rng.uniform(-1, 1, b.shape)
                for run in noisy
            )
        out.append(Val(a, b, rough, False))
    return out


def _has_floats(instr: Instr) -> bool:
    return any(isinstance(v.type, TensorType) and v.type.dtype.is_float for v in instr.operands)


def epsilon(t: DType) -> float:
    """The rounding error of a type; of f64, that of our functions."""
    return max(float(ml_dtypes.finfo(t.np).eps), 1e-13)


def _noise(
    instr: Instr, n: int, b: Array, twin: Function, vals: list[Val], env: dict[str, int]
) -> Array | None:
    """The size of the error that one instruction may add to its n-th result."""
    op, t = instr.op, instr.results[n].ty.dtype
    if op.name in MOVES or not t.is_float or getattr(op, "op", "") in SELECTING:
        return None
    eps, acc = epsilon(t), epsilon(t) if t.bits > 32 else epsilon(dtype("f32"))
    with np.errstate(all="ignore"):
        size = np.abs(b)
        if op.subfunctions():
            return 256 * eps * (np.max(size, initial=0.0) + 1e-3) * np.ones_like(b)
        count = max(1.0, max((v.b.size for v in vals), default=1) / max(b.size, 1))
        if getattr(op, "op", "") == "prod":
            return (eps + acc * count) * size
        if op.name in ("reduce", "cumulative", "dot", "conv", "reduce_window",
                       "select_and_scatter"):
            keep = op.name == "select_and_scatter"
            args = [v.b if keep and k == 0 else np.abs(v.b) for k, v in enumerate(vals)]
            total = interpreter.run(twin, args, env)[n]
            return (eps + acc * np.sqrt(count)) * size + 2 * acc * np.abs(total)
        return 4 * eps * size + (0 if op.name in FIXED else 2 * eps)


def assess(
    f: Function, args: Sequence[Array], env: dict[str, int], seed: int = 0
) -> dict[Value, Val]:
    """All values of a function; `seed` is that of the random errors."""
    rng = np.random.default_rng(seed)
    symbols = dict(env)
    interpreter.bind(f, args, symbols)
    vals = {p: given(a) for p, a in zip(f.params, args, strict=True)}
    with np.errstate(all="ignore"):
        for i in f.instrs:
            outs = evaluate(i, [vals[v] for v in i.operands], symbols, rng)
            vals.update(zip(i.results, outs, strict=True))
    return vals


def difference(got: Array, val: Val) -> str:
    """What is wrong with a result; empty where nothing is."""
    want = val.a
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
    if not dtype(want.dtype).is_float:
        unsure = False if val.exact else val.error > 0
        return _first(np.asarray(got != want) & ~np.asarray(unsure), got, want)
    x, a = widened(got), widened(want)
    with np.errstate(all="ignore"):
        same = (x == a) | (np.isnan(x) & np.isnan(a))
        if val.exact:
            return _first(~(same & (np.isnan(x) | (np.signbit(x) == np.signbit(a)))), got, want)
        error = val.error
        room = 8 * error + np.max(error, initial=0.0) + 2 * epsilon(dtype(want.dtype)) * np.abs(a)
        near = np.abs(x - val.b) <= room
        return _first(~(same | near), got, want, room)


def _first(bad: Array, got: Array, want: Array, room: Array | None = None) -> str:
    at = np.argwhere(bad)
    if not len(at):
        return ""
    n = tuple(int(i) for i in at[0])
    more = "" if room is None else f" ± {room[n]:.3g}"
    return f"at {list(n)}: {got[n]!r} instead of {want[n]!r}{more}; {len(at)} of {bad.size} differ"


def is_bounded(v: Val, special: bool) -> bool:
    """Whether the value is fit to go on with: finite, not large, well-conditioned."""
    if not np.size(v.a):
        return True
    if not dtype(np.asarray(v.a).dtype).is_float:
        return v.exact or not np.any(v.error)
    if v.exact and special:
        return True
    with np.errstate(all="ignore"):
        large = np.max(np.abs(widened(v.a)), initial=0.0)
        if not np.isfinite(large) or large > 2000 or not np.all(np.isfinite(v.b)):
            return False
        if v.exact:
            return True
        worst = float(np.max(v.error, initial=0.0))
        eps = epsilon(dtype(v.a.dtype))
        return worst <= min(0.3, 3000 * eps + 1e-9) * (large + 1e-2)
