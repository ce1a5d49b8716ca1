"""Packing: factors copied into scratch buffers that the micro-kernel reads without masks.

Each is a phase of its own at the front of the kernel; one that reads only a weight can be hoisted.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, LoopKernel, Phase, Store, stmt_exprs, walk_stmts

from .access import masked, stride
from .cost import Tile, work
from .match import variables
from .micro import Block
from .nest import chunks, cut


@dataclass(frozen=True, eq=False)
class Packed:
    """A factor after packing: how to read it, where it is, what fills it."""

    factor: Expr
    buffer: Buffer
    phase: Phase


BLOCK, LINE = 64, 16  # steps of k copied at once when packing transposes, of which unrolled


def panels(
    e: Expr, name: str, lane: Expr, outer: tuple[Expr, ...], k: tuple[Expr, ...], t: Tile
) -> Packed:
    """e in panels of t.nr lanes: [outer…, panel, k…, nr], lanes beyond the axis being 0."""
    used = variables(e)
    outer = tuple(v for v in outer if v in used)
    k = tuple(v for v in k if v in used)
    lanes = lane.attr.extent
    count = dims.ceildiv(lanes, t.nr)
    lead = tuple(v.attr.extent for v in outer)
    steps = tuple(v.attr.extent for v in k)
    buf = Buffer(name, e.dtype, (*lead, count, *steps, t.nr))
    p = ex.var("p", count)
    body = _transposing(e, buf, lane, p, outer, k, t) if k and stride(e, lane) != 1 and stride(
        e, k[-1]) == 1 else _straight(e, buf, lane, p, outer, k, t)
    axes = [(v, v.attr.extent) for v in outer] + [(p, count)]
    at = (*outer, ex.floordiv(lane, t.nr), *k, ex.mod(lane, t.nr))
    return Packed(buf[at], buf, Phase(chunks(axes, body)))


def _partial(lanes: Dim, nr: int) -> bool:
    return not isinstance(lanes, int) or lanes % nr != 0


def _read(e: Expr, lane: Expr, at: Expr, nr: int) -> Expr:
    """e at a lane, 0 beyond the axis."""
    extent = lane.attr.extent
    if _partial(extent, nr):
        e = masked(e, lane, lane < ex.index(extent))
    return ex.substitute(e, {lane: at})


def _straight(
    e: Expr, buf: Buffer, lane: Expr, p: Expr, outer: tuple[Expr, ...], k: tuple[Expr, ...], t: Tile
) -> Block:
    j, v = ex.var("j", t.w), ex.var("v", t.nv)
    col = v * t.w + j if t.nv > 1 else j
    value = _read(e, lane, p * t.nr + col, t.nr)
    body: Block = (Store(buf, (*outer, p, *k, col), value),)
    body = (For(j, ex.index(t.w), "vector", body, t.w),)
    if t.nv > 1:
        body = (For(v, ex.index(t.nv), "unroll", body),)
    for axis in reversed(k):
        body = (For(axis, ex.index(axis.attr.extent), "serial", body),)
    return body


def _transposing(
    e: Expr, buf: Buffer, lane: Expr, p: Expr, outer: tuple[Expr, ...], k: tuple[Expr, ...], t: Tile
) -> Block:
    """Blocks of k × lanes: reads run along k, writes stay within a few lines."""
    *lead, last = k
    c = cut(last.attr.extent, BLOCK)

    def copy(at: Expr, col: Expr) -> Block:
        value = ex.substitute(_read(e, lane, p * t.nr + col, t.nr), {last: at})
        return (Store(buf, (*outer, p, *lead, at, col), value),)

    def block(kb: Expr) -> Block:
        lane_, q, kk = ex.var("l", t.nr), ex.var("q", BLOCK // LINE), ex.var("kk", LINE)
        body: Block = (For(kk, ex.index(LINE), "unroll", copy(kb * BLOCK + q * LINE + kk, lane_)),)
        body = (For(q, ex.index(BLOCK // LINE), "serial", body),)
        return (For(lane_, ex.index(t.nr), "serial", body),)

    def rest(kb: Expr) -> Block:
        lane_, kk = ex.var("l", t.nr), ex.var("kk", BLOCK)
        body: Block = (For(kk, ex.index(c.rest), "serial", copy(kb * BLOCK + kk, lane_)),)
        return (For(lane_, ex.index(t.nr), "serial", body),)

    body = c.loop("kb", None, block, rest)
    for axis in reversed(lead):
        body = (For(axis, ex.index(axis.attr.extent), "serial", body),)
    return body


def copied(e: Expr, name: str, axes: tuple[Expr, ...], w: int) -> Packed:
    """e as an array over the axes that it depends on, innermost last; vectors run along it."""
    used = variables(e)
    axes = tuple(v for v in axes if v in used)
    buf = Buffer(name, e.dtype, tuple(v.attr.extent for v in axes))
    return Packed(buf[axes], buf, fill_phase(buf, axes, e, w))


def fill_phase(buf: Buffer, axes: tuple[Expr, ...], e: Expr, w: int) -> Phase:
    """A phase that does ``buf[axes] = e``."""
    return Phase(fill(buf, axes, e, w))


def fill(buf: Buffer, axes: tuple[Expr, ...], e: Expr, w: int) -> Block:
    """``buf[axes] = e``, in chunks of the outer axes."""
    body: Block = (Store(buf, axes, e),)
    if not axes:
        return (For(ex.var("chunk", 1), ex.index(1), "parallel", body),)
    *outer, inner = axes
    body = (For(inner, ex.index(inner.attr.extent), "vector", body, w),)
    ops = work(inner.attr.extent) * 4
    while len(outer) > 1 and ops < 1 << 17:
        v = outer.pop()
        body = (For(v, ex.index(v.attr.extent), "serial", body),)
        ops *= work(v.attr.extent)
    if not outer:
        one = ex.var("chunk", 1)
        return (For(one, ex.index(1), "parallel", body),)
    return chunks([(v, v.attr.extent) for v in outer], body)


def hoistable(kernel: LoopKernel) -> dict[int, tuple[Buffer, ...]]:
    """The front phases that only copy inputs into scratch: {phase: the inputs that it reads}."""
    out: dict[int, tuple[Buffer, ...]] = {}
    scratch = set(kernel.scratch)
    for n, phase in enumerate(kernel.phases):
        written = {s.buffer for s in walk_stmts(phase.body) if isinstance(s, Store)}
        reads = dict.fromkeys(
            e.attr for x in stmt_exprs(phase.body) for e in ex.loads(x) if e.attr not in written
        )
        if not written <= scratch or not all(b in kernel.inputs for b in reads):
            break
        out[n] = tuple(reads)
    return out
