"""Reductions inside schedules: register accumulators, fixed trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.dtypes import DType, f32, i32, u32
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, Stmt, Store

SCALAR = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


def acc_dtype(op: str, dt: DType) -> DType:
    """Narrow floats accumulate in f32, 4-bit integers in 32 bits (they wrap when cast back)."""
    if dt.is_float and dt.bits < 32:
        return f32
    if dt.is_int and dt.bits < 8:
        return i32 if dt.kind == "i" else u32
    return dt


def identity(op: str, dt: DType, of: DType | None = None) -> Expr:
    """The value that a reduction of nothing has, in dt; `of`: the elements' type, if narrower."""
    value = {
        "sum": 0, "prod": 1, "max": None, "min": None, "and": True, "or": False,
    }[op]
    if op in ("max", "min"):
        of = of or dt
        value = of.min if op == "max" else of.max
    return ex.const(np.asarray(value), dt)


def combine(op: str, a: Expr, b: Expr) -> Expr:
    """One step of the reduction."""
    return ex.binary(SCALAR[op], a, b)


def fill(buf: Buffer, value: Expr, width: int) -> Stmt:
    """Set all of a one-vector register buffer."""
    lane = ex.var("l", width)
    return For(lane, ex.index(width), "vector", (Store(buf, (lane,), value),), width)


def lanes_loop(
    op: str, body: Callable[[Expr], Expr], extent: Dim, acc: Buffer, start: Expr | None = None
) -> list[Stmt]:
    """acc[lane] ⊕= body(i) for i ≡ lane (mod width) in rising order; `extent` elements in all.

    The tree: element i goes to lane i mod width; the lanes are combined by halving.
    """
    width = int(acc.shape[0])  # type: ignore[arg-type]
    whole = dims.floordiv(extent, width)
    out: list[Stmt] = []

    def step(at: Expr, lane: Expr) -> Stmt:
        return Store(acc, (lane,), combine(op, acc[lane], ex.cast(body(at), acc.dtype)))

    if whole != 0:
        block, lane = ex.var("b", whole), ex.var("l", width)
        inner = For(lane, ex.index(width), "vector", (step(block * width + lane, lane),), width)
        out.append(For(block, ex.index(whole), "serial", (inner,)))
    rest = dims.mod(extent, width)
    if rest != 0:
        lane = ex.var("l", rest)
        at = ex.index(dims.mul(whole, width)) + lane
        out.append(For(lane, ex.index(rest), "vector", (step(at, lane),), width))
    return out


def reduce_axes(
    op: str, axes: Sequence[Expr], body: Expr, lanes: int, use: Callable[[Expr], list[Stmt]],
    of: DType | None = None,
) -> list[Stmt]:
    """Reduce body over the axes, the last one in lanes; `use` gets the result (acc's dtype).

    of: the type whose limits an empty maximum or minimum has, if it is not body's.
    """
    dt = acc_dtype(op, body.dtype)
    last = axes[-1] if axes else ex.var("r", 1)
    extent = last.attr.extent
    wide = 4 if not isinstance(extent, int) or extent >= 4 * lanes else 1
    width = lanes * wide
    while isinstance(extent, int) and width > 2 and extent <= width // 2:
        width //= 2
    acc = Buffer("acc", dt, (width,), "register")
    loops: list[Stmt] = lanes_loop(op, lambda i: ex.substitute(body, {last: i}), extent, acc)
    for v in reversed(axes[:-1]):
        loops = [For(v, ex.index(v.attr.extent), "serial", tuple(loops))]
    start = fill(acc, identity(op, dt, of or body.dtype), width)
    return [Alloc(acc, (start, *loops, *use(ex.hreduce(op, acc))))]
