"""Elementwise kernels: one pass over the domain, axes collapsed, the last one in vectors."""

from __future__ import annotations

from collections.abc import Sequence

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import For, Kernel, Let, LoopKernel, Phase, Stage, Stmt, Store
from flowc.ir.kernel.patterns import split_point

from ..target import CpuTarget
from . import axes as ax
from . import tiles


def schedule_map(kernel: Kernel, target: CpuTarget) -> LoopKernel:
    """All stages have one domain and read each other nowhere."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    common = stages[0].axes
    values = [ex.substitute(s.value, dict(zip(s.axes, common, strict=True))) for s in stages]
    common, index, values = _split(common, values)
    groups = ax.collapse(common, values, [(s.out, index) for s in stages])
    loops, env = ax.merged(groups, "ijkl")
    memo: dict[Expr, Expr] = {}
    values = [ex.substitute(v, env, memo) for v in values]
    index = tuple(ex.substitute(i, env, memo) for i in index)
    lanes = ax.widest(stages, target.lanes)
    crossing = tiles.crossing(values, loops)
    body = _nest(stages, values, index, loops, lanes, crossing)
    note = "elementwise across rows" if crossing else "elementwise"
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (Phase((body,)),), note=note
    )


def _split(
    axes: Sequence[Expr], values: list[Expr]
) -> tuple[tuple[Expr, ...], tuple[Expr, ...], list[Expr]]:
    """The axes, what the old ones are of them, and the values; without v // d and v % d.

    So what repeats an array, or interleaves several, is read in whole vectors.
    """
    index = tuple(axes)
    for _ in range(len(index)):
        found = split_point(axes, *values)
        if found is None:
            break
        v, d, q = found
        hi, lo = ex.var(f"{v.attr.name}h", q), ex.var(v.attr.name, d)
        env = {v: hi * d + lo}
        memo: dict[Expr, Expr] = {}
        values = [ex.substitute(x, env, memo) for x in values]
        index = tuple(ex.substitute(i, env, memo) for i in index)
        axes = [w for u in axes for w in ((hi, lo) if u is v else (u,))]
    return tuple(axes), index, values


def _nest(
    stages: Sequence[Stage], values: Sequence[Expr], index: tuple[Expr, ...], loops: list[Expr],
    lanes: int, crossing: tiles.Crossing | None,
) -> For:
    if not loops:
        once = ex.var("one", 1)
        stmts = stores(stages, values, index)
        return For(ex.var("chunk", 1), ex.index(1), "parallel",
                   (For(once, ex.index(1), "serial", stmts),))
    last = loops[-1]
    extent = last.attr.extent
    width = ax.vector_axis(extent, lanes)
    if len(loops) == 1:
        return _flat(stages, values, index, last, width)

    def body(env: dict[Expr, Expr]) -> tuple[Stmt, ...]:
        memo: dict[Expr, Expr] = {}
        return stores(
            stages, [ex.substitute(v, env, memo) for v in values],
            tuple(ex.substitute(i, env, memo) for i in index),
        )

    if crossing is not None:
        return tiles.nest(crossing, loops, width, body)
    rows = tuple(v.attr.extent for v in loops[:-1])

    def row(r: Expr) -> list[Stmt]:
        env = dict(zip(loops[:-1], ax.unravel(r, rows), strict=True))
        return [For(last, ex.index(extent), "vector", body(env), width)]

    return ax.chunked(dims.product(rows), ax.rows_per_chunk(extent), row)


def _flat(
    stages: Sequence[Stage], values: Sequence[Expr], index: tuple[Expr, ...], v: Expr, width: int
) -> For:
    """One collapsed axis: a chunk is a run of elements."""
    count = v.attr.extent
    size = ax.CHUNK
    if isinstance(count, int) and count <= size:
        loop = For(v, ex.index(count), "vector", stores(stages, values, index), width)
        return For(ex.var("chunk", 1), ex.index(1), "parallel", (loop,))
    chunks = dims.ceildiv(count, size)
    chunk, inner = ex.var("chunk", chunks), ex.var(v.attr.name, size)
    env = {v: chunk * size + inner}
    memo: dict[Expr, Expr] = {}
    stmts = stores(
        stages, [ex.substitute(x, env, memo) for x in values],
        tuple(ex.substitute(i, env, memo) for i in index),
    )
    left = ex.imin(ex.index(size), ex.index(count) - chunk * size)
    return For(chunk, ex.index(chunks), "parallel", (For(inner, left, "vector", stmts, width),))


def stores(
    stages: Sequence[Stage], values: Sequence[Expr], index: tuple[Expr, ...]
) -> tuple[Stmt, ...]:
    """All values are computed before any is stored: an output may share memory with an input."""
    if len(stages) == 1:
        return (Store(stages[0].out, index, values[0]),)
    names = [ex.let_var(s.out.name, s.out.dtype) for s in stages]
    lets: list[Stmt] = [Let(n, v) for n, v in zip(names, values, strict=True)]
    return (*lets, *(Store(s.out, index, n) for s, n in zip(stages, names, strict=True)))
