"""Reductions whose results lie side by side in memory, or of which there is only one.

Long reductions are cut into pieces of a fixed size (by the shape alone); pieces are combined in
rising order, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    Kernel,
    LoopKernel,
    Phase,
    Stage,
    Stmt,
    Store,
    map_stmts,
)
from flowc.ir.kernel.patterns import Reduction, reduction

from ..target import CpuTarget
from . import axes as ax
from .accumulate import acc_dtype, combine, fill, identity, reduce_axes
from .maps import stores

PIECE_ROWS = 512  # rows that one piece of a column reduction covers


def schedule_columns(kernel: Kernel, target: CpuTarget) -> LoopKernel:
    """The first stage reduces; the others are elementwise over its result."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    head = stages[0]
    r = reduction(head)
    assert r is not None
    if head.axes:
        return _Columns(kernel, stages, r, target).make()
    return _whole(kernel, stages, r, target)


def _epilogue(
    kernel: Kernel, stages: list[Stage], found: Reduction, axes: tuple[Expr, ...]
) -> Callable[[Expr], list[Stmt]]:
    """Statements that store all kept results at `axes`, given the reduced value."""
    kept = set(kernel.outputs)
    head = stages[0]
    node = next(e for e in ex.walk(head.value) if e.op == "reduce")

    def use(total: Expr) -> list[Stmt]:
        done: dict[Buffer, Expr] = {}
        out: list[tuple[Stage, Expr]] = []
        for s in stages:
            env: dict[Expr, Expr] = dict(zip(s.axes, axes, strict=True))
            if s is head:
                env[node] = ex.cast(total, node.dtype)
            value = ex.substitute(s.value, env)
            value = ex.rewrite(value, lambda e: done.get(e.attr) if e.op == "load" else None, {})
            done[s.out] = value
            if s.out in kept:
                out.append((s, value))
        return list(stores([s for s, _ in out], [v for _, v in out], axes))

    return use


def _whole(kernel: Kernel, stages: list[Stage], r: Reduction, target: CpuTarget) -> LoopKernel:
    """One result: pieces of `CHUNK` elements where the axes collapse to one."""
    lanes = ax.widest([stages[0]], target.lanes)
    groups = ax.collapse(r.axes, [r.body], [])
    fresh, env = ax.merged(groups, "rst")
    body = ex.substitute(r.body, env)
    use = _epilogue(kernel, stages, r, ())
    count = fresh[0].attr.extent if fresh else 1
    if not ax.is_large(dims.product(tuple(v.attr.extent for v in fresh)), ax.CHUNK):
        return _single(kernel, reduce_axes(r.op, fresh, body, lanes, use))
    inner = dims.product(tuple(v.attr.extent for v in fresh[1:]))
    size = ax.rows_per_chunk(inner)
    pieces = dims.ceildiv(count, size)
    dt = acc_dtype(r.op, r.body.dtype)
    part = Buffer(f"{stages[0].out.name}.part", dt, (pieces,))
    piece = ex.var("chunk", pieces)
    first = _piece(r, fresh, body, lanes, piece, size, part)
    last = ex.var("r", pieces)
    combined = reduce_axes(r.op, [last], part[last], lanes, use, r.body.dtype)
    note = "reduction in pieces"
    phases = (Phase((first,)), *_single(kernel, combined).phases)
    return LoopKernel(kernel.name, kernel.inputs, kernel.outputs, (part,), phases, note=note)


def _piece(
    r: Reduction, fresh: list[Expr], body: Expr, lanes: int, piece: Expr, size: Dim, part: Buffer
) -> For:
    """part[piece] = the reduction of `size` points of the outermost axis."""
    outer = fresh[0]
    left = ex.imin(ex.index(size), ex.index(outer.attr.extent) - piece * ex.index(size))
    n = ex.var("n", size)
    at = ex.substitute(body, {outer: piece * ex.index(size) + n})

    def use(total: Expr) -> list[Stmt]:
        return [Store(part, (piece,), total)]

    if len(fresh) == 1:  # a run of elements: whole vectors, then the rest
        stmts = _run(r, at, n, left, lanes, use)
    else:
        width = lanes
        acc = Buffer("acc", part.dtype, (width,), "register")
        stmts = _nested(r, [n, *fresh[1:]], at, left, acc, use)
    return For(piece, ex.index(part.shape[0]), "parallel", tuple(stmts))


def _run(
    r: Reduction, body: Expr, n: Expr, left: Expr, lanes: int, use: Callable[[Expr], list[Stmt]]
) -> list[Stmt]:
    """Reduce body over n < left, `4·lanes` at a time."""
    width = lanes * 4
    dt = acc_dtype(r.op, body.dtype)
    acc = Buffer("acc", dt, (width,), "register")
    whole = ex.floordiv(left, width)
    block, lane, tail = ex.var("b"), ex.var("l", width), ex.var("l", width)

    def step(at: Expr, lane: Expr) -> Stmt:
        value = ex.cast(ex.substitute(body, {n: at}), dt)
        return Store(acc, (lane,), combine(r.op, acc[lane], value))

    main = For(lane, ex.index(width), "vector", (step(block * width + lane, lane),), width)
    rest = left - whole * width
    return [Alloc(acc, (
        fill(acc, identity(r.op, dt, body.dtype), width),
        For(block, whole, "serial", (main,)),
        For(tail, rest, "vector", (step(whole * width + tail, tail),), width),
        *use(ex.hreduce(r.op, acc)),
    ))]


def _nested(
    r: Reduction, loops: list[Expr], body: Expr, left: Expr, acc: Buffer,
    use: Callable[[Expr], list[Stmt]],
) -> list[Stmt]:
    """Reduce over several loops, the first of `left` rounds, the last one in lanes."""
    width = int(acc.shape[0])  # type: ignore[arg-type]
    last = loops[-1]
    whole = dims.floordiv(last.attr.extent, width)
    rest = dims.mod(last.attr.extent, width)
    out: list[Stmt] = []

    def step(at: Expr, lane: Expr) -> Stmt:
        value = ex.cast(ex.substitute(body, {last: at}), acc.dtype)
        return Store(acc, (lane,), combine(r.op, acc[lane], value))

    if whole != 0:
        block, lane = ex.var("b", whole), ex.var("l", width)
        main = For(lane, ex.index(width), "vector", (step(block * width + lane, lane),), width)
        out.append(For(block, ex.index(whole), "serial", (main,)))
    if rest != 0:
        lane = ex.var("l", rest)
        at = ex.index(dims.mul(whole, width)) + lane
        out.append(For(lane, ex.index(rest), "vector", (step(at, lane),), width))
    for v in reversed(loops[1:-1]):
        out = [For(v, ex.index(v.attr.extent), "serial", tuple(out))]
    out = [For(loops[0], left, "serial", tuple(out))]
    return [Alloc(acc, (fill(acc, identity(r.op, acc.dtype, body.dtype), width), *out,
                        *use(ex.hreduce(r.op, acc))))]


def _single(kernel: Kernel, stmts: list[Stmt]) -> LoopKernel:
    once = For(ex.var("chunk", 1), ex.index(1), "parallel", tuple(stmts))
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (Phase((once,)),), note="reduction"
    )


class _Columns:
    """Results side by side: vectors over results, a serial loop over what is reduced."""

    def __init__(
        self, kernel: Kernel, stages: list[Stage], r: Reduction, target: CpuTarget
    ) -> None:
        self.kernel, self.stages, self.r = kernel, stages, r
        lanes = ax.widest([stages[0]], target.lanes)
        head = stages[0]
        self.groups = ax.collapse(r.axes, [r.body], [])
        self.loops, env = ax.merged(self.groups, "rst")
        self.body = ex.substitute(r.body, env)
        self.axes = head.axes
        self.last = head.axes[-1]
        extent = self.last.attr.extent
        self.width = ax.vector_axis(extent, lanes * 4)
        self.dt = acc_dtype(r.op, r.body.dtype)

    def make(self) -> LoopKernel:
        k = self.kernel
        outer = self.loops[0].attr.extent
        inner = dims.product(tuple(v.attr.extent for v in self.loops[1:]))
        rows = max(1, PIECE_ROWS // inner) if isinstance(inner, int) and inner > 0 else 1
        use = _epilogue(k, self.stages, self.r, self.axes)
        if not ax.is_large(outer, rows) or not isinstance(inner, int):
            body = self._block(self.loops, self.body, ex.index(outer), use)
            return LoopKernel(
                k.name, k.inputs, k.outputs, (), (Phase((self._over(body),)),), note="columns"
            )
        pieces = dims.ceildiv(outer, rows)
        part = Buffer(f"{self.stages[0].out.name}.part", self.dt,
                      (pieces, *self.stages[0].out.shape))
        first = self._pieces(part, pieces, rows)
        n = ex.var("r", pieces)
        at = (n, *self.axes)
        final = self._block([n], part[at], ex.index(pieces), use)
        phases = (Phase((first,)), Phase((self._over(final),)))
        return LoopKernel(
            k.name, k.inputs, k.outputs, (part,), phases, note="columns in pieces"
        )

    def _pieces(self, part: Buffer, pieces: Dim, rows: int) -> For:
        piece = ex.var("chunk", pieces)
        outer = self.loops[0]
        n = ex.var("n", rows)
        at = ex.substitute(self.body, {outer: piece * rows + n})
        left = ex.imin(ex.index(rows), ex.index(outer.attr.extent) - piece * rows)

        def keep(total: Expr) -> list[Stmt]:
            return [Store(part, (piece, *self.axes), total)]

        stmts = self._block([n, *self.loops[1:]], at, left, keep)
        for v in reversed(self.axes[:-1]):
            stmts = [For(v, ex.index(v.attr.extent), "serial", tuple(stmts))]
        return For(piece, ex.index(pieces), "parallel", tuple(stmts))

    def _over(self, stmts: list[Stmt]) -> For:
        """Parallel over the outer result axes."""
        rows = tuple(v.attr.extent for v in self.axes[:-1])
        if not rows:
            return For(ex.var("chunk", 1), ex.index(1), "parallel", tuple(stmts))
        flat = ex.var("chunk", dims.product(rows))
        env = dict(zip(self.axes[:-1], ax.unravel(flat, rows), strict=True))
        return For(flat, ex.index(dims.product(rows)), "parallel", substitute_stmts(stmts, env))

    def _block(
        self, loops: list[Expr], body: Expr, left: Expr, use: Callable[[Expr], list[Stmt]]
    ) -> list[Stmt]:
        """All of the last axis: vectors of results, each reduced over the loops."""
        width, last = self.width, self.last
        extent = last.attr.extent
        whole, rest = dims.floordiv(extent, width), dims.mod(extent, width)
        out: list[Stmt] = []
        if whole != 0:
            b = ex.var("b", whole)
            inner = self._lanes(loops, body, left, use, b * width, ex.index(width))
            out.append(For(b, ex.index(whole), "serial", tuple(inner)))
        if rest != 0:
            start = ex.index(dims.mul(whole, width))
            out.extend(self._lanes(loops, body, left, use, start, ex.index(rest)))
        return out

    def _lanes(
        self, loops: list[Expr], body: Expr, left: Expr, use: Callable[[Expr], list[Stmt]],
        start: Expr, count: Expr,
    ) -> list[Stmt]:
        width = self.width
        acc = Buffer("acc", self.dt, (width,), "register")
        lane, out_lane = ex.var("l", width), ex.var("l", width)
        value = ex.cast(ex.substitute(body, {self.last: start + lane}), self.dt)
        step = Store(acc, (lane,), combine(self.r.op, acc[lane], value))
        stmts: list[Stmt] = [For(lane, count, "vector", (step,), width)]
        fresh = {v: ex.var(v.attr.name, v.attr.extent) for v in loops}
        for v in reversed(loops):
            bound = left if v is loops[0] else ex.index(v.attr.extent)
            stmts = [For(fresh[v], bound, "serial", tuple(stmts))]
        stmts = list(substitute_stmts(stmts, fresh))
        last = {self.last: start + out_lane}
        kept = substitute_stmts(use(acc[out_lane]), last)
        return [Alloc(acc, (
            fill(acc, identity(self.r.op, self.dt, self.r.body.dtype), width), *stmts,
            For(out_lane, count, "vector", kept, width),
        ))]


def substitute_stmts(stmts: list[Stmt], env: dict[Expr, Expr]) -> tuple[Stmt, ...]:
    """Statements with variables replaced in all expressions (loop variables stay)."""
    from_env: dict[Expr, Expr] = {}
    return map_stmts(tuple(stmts), lambda e: ex.substitute(e, env, from_env))
