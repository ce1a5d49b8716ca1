"""Elementwise kernels that read an array across its rows: tile by tile, through a cached copy.

The result's last axis runs in vectors. A load for which that axis walks from row to row, and
another axis of the result walks along the row, would touch a cache line for each element. Instead,
a tile of the loaded array is copied row by row into local memory, and read from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, Stmt, Store

from . import axes as ax

_LOCAL = 16384  # bytes of all tiles: half of a first-level cache
_LINE = 64  # bytes
_FEWEST = 8  # elements along either axis


@dataclass(frozen=True)
class Crossing:
    """`along` is the axis that walks along the rows of `loads`, which the vectors cross."""

    along: Expr
    loads: tuple[Expr, ...]


def crossing(values: Sequence[Expr], loops: Sequence[Expr]) -> Crossing | None:
    """The loads that cross rows, where there are such and both axes are long enough."""
    if len(loops) < 2 or not _long(loops[-1]):
        return None
    by_axis: dict[Expr, list[Expr]] = {}
    for e in ex.walk(*values):
        along = _along(e, loops) if e.op == "load" else None
        if along is not None:
            by_axis.setdefault(along, []).append(e)
    if not by_axis:
        return None
    along = max(by_axis, key=lambda v: (len(by_axis[v]), loops.index(v)))
    return Crossing(along, tuple(by_axis[along]))


def _along(e: Expr, loops: Sequence[Expr]) -> Expr | None:
    """The axis along the row of a load whose rows the last axis crosses, if it is that."""
    buf, idx, pred = ex.load_parts(e)
    if pred is not None or buf.scope != "global":
        return None
    terms, _ = ex.linear(buf.offset(idx))
    if any(t.op != "var" for t in terms):
        return None
    step = terms.get(loops[-1], 0)
    if isinstance(step, int) and step * buf.dtype.bits < 8 * _LINE:
        return None
    found = [v for v in loops[:-1] if terms.get(v, 0) == 1 and _long(v)]
    return found[0] if found else None


def _long(v: Expr) -> bool:
    return ax.is_large(v.attr.extent, _FEWEST - 1)


def _side(loads: Sequence[Expr]) -> int:
    """Elements of a tile's side."""
    bits = sum(e.dtype.bits for e in loads)
    return next((n for n in (64, 32) if n * n * bits <= 8 * _LOCAL), 16)


def nest(
    c: Crossing, loops: Sequence[Expr], width: int,
    body: Callable[[dict[Expr, Expr]], tuple[Stmt, ...]],
) -> For:
    """The loops, parallel over tiles of `along`; `body`: the statements, with expressions replaced.
    """
    u, v = c.along, loops[-1]
    outer = [w for w in loops[:-1] if w is not u]
    counts: list[Dim] = [w.attr.extent for w in outer]
    size = _side(c.loads)
    counts.append(dims.ceildiv(u.attr.extent, size))
    tiles = [Buffer(f"tile{n}", e.dtype, (size, size), "local") for n, e in enumerate(c.loads)]

    def strip(r: Expr) -> list[Stmt]:
        at = ax.unravel(r, counts)
        where = dict(zip(outer, at, strict=False))
        v_tile = ex.var("vt", dims.ceildiv(v.attr.extent, size))
        start = {u: at[-1] * size, v: v_tile * size}
        left = {w: ex.imin(ex.index(size), ex.index(w.attr.extent) - start[w]) for w in (u, v)}
        du, dv = ex.var("u", size), ex.var("v", size)
        here = {**where, u: start[u] + du, v: start[v] + dv}
        memo: dict[Expr, Expr] = {}
        fill = tuple(Store(t, (dv, du), ex.substitute(e, here, memo))
                     for t, e in zip(tiles, c.loads, strict=True))
        copied = {e: t[dv, du] for e, t in zip(c.loads, tiles, strict=True)}
        inner: tuple[Stmt, ...] = (
            For(dv, left[v], "serial", (For(du, left[u], "vector", fill, width),)),
            For(du, left[u], "serial", (
                For(dv, left[v], "vector", body({**here, **copied}), width),)),
        )  # fmt: skip
        for t in reversed(tiles):
            inner = (Alloc(t, inner),)
        return [For(v_tile, ex.index(v_tile.attr.extent), "serial", inner)]

    weight = dims.mul(v.attr.extent, size)
    return ax.chunked(dims.product(tuple(counts)), ax.rows_per_chunk(weight), strip)
