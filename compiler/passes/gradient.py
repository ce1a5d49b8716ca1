"""Reverse-mode differentiation: of values in a builder, and of functions.

The mechanism is in `flowc.ir.autodiff` (control flow needs it for its sub-functions); this module
is what the frontend and the pipeline call.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowc.ir.autodiff import differentiable, gradients, inline, live
from flowc.ir.builder import Builder
from flowc.ir.core import Function

__all__ = ["function_gradient", "gradients"]


def function_gradient(f: Function, wrt: Sequence[int]) -> Function:
    """The vector-Jacobian product of f.

    Parameters: those of f, then a cotangent for each differentiable result (integers and bools
    have none). Results: the gradient for each parameter position in `wrt`, zeros where nothing
    depends on it. Raises ValueError for a position outside the parameters and for one that has
    no gradient (integers, tokens).
    """
    for i in wrt:
        if not 0 <= i < len(f.params):
            raise ValueError(f"{f.name} has no parameter {i}")
        if not differentiable(f.params[i].type):
            raise ValueError(f"parameter {i} of {f.name}, {f.params[i].type}, has no gradient")
    b = Builder(f"{f.name}_grad")
    params = [b.param(p.type, p.name) for p in f.params]
    env = inline(b, f, params)
    ys = [env[r] for r in f.results if differentiable(r.type)]
    cots = [b.param(y.type, f"g{n}") for n, y in enumerate(ys)]
    found = gradients(b, ys, [params[i] for i in wrt], cots)
    pairs = zip(wrt, found, strict=True)
    results = tuple(b.const(0, params[i]) if g is None else g for i, g in pairs)
    instrs = tuple(live(b.instrs, results))
    return Function(b.name, tuple(b.params), instrs, results)
