"""What pass tests share: running passes on a function, and comparing what functions compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.compiler.options import Options
from flowc.compiler.passes.base import Context, Pass, Unit
from flowc.ir import interpreter, ops, parser, printer, verifier
from flowc.ir.core import Function

assert ops  # they register themselves when imported


def context(limit: int = -1) -> Context:
    """A context without a backend: these passes ask for none."""
    return Context(None, Options(), limit=limit)  # type: ignore[arg-type]


def apply(f: Function, *passes: Pass, ctx: Context | None = None) -> Function:
    """The function after the passes, each result verified."""
    ctx = ctx or context()
    unit = Unit({"f": f})
    for p in passes:
        unit = p.run(unit, ctx)
        out = unit.items["f"]
        assert isinstance(out, Function)
        verifier.verify(out)
    return out


def parse(text: str) -> Function:
    return parser.parse_function(text)


def names(f: Function) -> list[str]:
    """The op names, in order."""
    return [i.op.name for i in f.instrs]


def random_like(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """Values with NaN, infinities, both zeros; small integers with the extremes."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        pool = np.array([0, 1, 2, 3, 7, info.min, info.max], dtype)
        return rng.choice(pool, shape)
    special = [0.0, -0.0, 1.0, -1.5, 2.0, 1e-3, np.nan, np.inf, -np.inf, 3.7e4]
    return rng.choice(np.array(special), shape).astype(dtype)


def inputs(f: Function, seed: int = 0, **sizes: int) -> list[Any]:
    """Random arguments for a function's parameters."""
    rng = np.random.default_rng(seed)
    shapes = [p.ty.substitute(dict(sizes)).shape for p in f.params]
    return [random_like(rng, p.ty.dtype.np, s) for p, s in zip(f.params, shapes, strict=True)]  # type: ignore[arg-type]


def same_bits(a: Any, b: Any) -> bool:
    """Equal, zeros by their sign, NaN to NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "biu":
        return bool(np.array_equal(a, b))
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    a, b = a.astype(wide), b.astype(wide)
    nan = np.isnan(a) & np.isnan(b)
    return bool(np.all(nan | ((a == b) & (np.signbit(a.real) == np.signbit(b.real)))))


def check_equal(f: Function, g: Function, **sizes: int) -> None:
    """Both functions compute the same bits on random arguments, hard values among them."""
    for seed in range(3):
        args = inputs(f, seed, **sizes)
        want, got = interpreter.run(f, args), interpreter.run(g, args)
        for a, b in zip(want, got, strict=True):
            if not same_bits(a, b):
                shown = printer.print_function(g)
                raise AssertionError(f"seed {seed}: {a} became {b}\n{shown}")
