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
from flowc.ir.kernel.patterns import Reduction, cost, reduction

from ..target import CpuTarget
from . import axes as ax
from .accumulate import Fold, accumulators, fill, fold, lanes_loop, reduce_axes
from .maps import stores

PIECE_ROWS = 512  # rows that one piece of a column reduction covers
PANEL_BYTES = 16384  # accumulators of a sweep: half of a first-level cache
SWEEP_ROWS = 8  # rows a sweep reads side by side: accumulators cost an eighth of the traffic
SHORT = 32  # rows up to which columns are better reduced in registers, a block at a time


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
    how = fold(r.op, r.body.dtype, target)
    count = fresh[0].attr.extent if fresh else 1
    if not ax.is_large(dims.product(tuple(v.attr.extent for v in fresh)), ax.CHUNK):
        return _single(kernel, reduce_axes(how, fresh, body, lanes, use))
    inner = dims.product(tuple(v.attr.extent for v in fresh[1:]))
    size = ax.rows_per_chunk(inner)
    pieces = dims.ceildiv(count, size)
    part = Buffer(f"{stages[0].out.name}.part", how.value, (pieces,))
    piece = ex.var("chunk", pieces)
    first = _piece(how, fresh, body, lanes, piece, size, part)
    last = ex.var("r", pieces)
    combined = reduce_axes(how, [last], part[last], lanes, use)
    note = "reduction in pieces"
    phases = (Phase((first,)), *_single(kernel, combined).phases)
    return LoopKernel(kernel.name, kernel.inputs, kernel.outputs, (part,), phases, note=note)


def _piece(
    how: Fold, fresh: list[Expr], body: Expr, lanes: int, piece: Expr, size: Dim, part: Buffer
) -> For:
    """part[piece] = the reduction of `size` points of the outermost axis."""
    outer = fresh[0]
    left = ex.imin(ex.index(size), ex.index(outer.attr.extent) - piece * ex.index(size))
    n = ex.var("n", size)
    at = ex.substitute(body, {outer: piece * ex.index(size) + n})

    def use(total: Expr) -> list[Stmt]:
        return [Store(part, (piece,), total)]

    if len(fresh) == 1:  # a run of elements: whole vectors, then the rest
        stmts = _run(how, at, n, left, lanes, use)
    else:
        width = lanes
        acc = Buffer("acc", how.dt, (width,), "register")
        stmts = _nested(how, [n, *fresh[1:]], at, left, acc, use)
    return For(piece, ex.index(part.shape[0]), "parallel", tuple(stmts))


def _run(
    how: Fold, body: Expr, n: Expr, left: Expr, lanes: int, use: Callable[[Expr], list[Stmt]]
) -> list[Stmt]:
    """Reduce body over n < left, some vectors at a time."""
    width = accumulators(n.attr.extent, lanes, cost(body))
    acc = Buffer("acc", how.dt, (width,), "register")
    whole = ex.floordiv(left, width)
    block, lane, tail = ex.var("b"), ex.var("l", width), ex.var("l", width)

    def step(at: Expr, lane: Expr) -> Stmt:
        return Store(acc, (lane,), how.step(acc[lane], ex.substitute(body, {n: at})))

    main = For(lane, ex.index(width), "vector", (step(block * width + lane, lane),), width)
    rest = left - whole * width
    return [Alloc(acc, (
        fill(acc, how.start, width),
        For(block, whole, "serial", (main,)),
        For(tail, rest, "vector", (step(whole * width + tail, tail),), width),
        *use(how.total(acc)),
    ))]


def _nested(
    how: Fold, loops: list[Expr], body: Expr, left: Expr, acc: Buffer,
    use: Callable[[Expr], list[Stmt]],
) -> list[Stmt]:
    """Reduce over several loops, the first of `left` rounds, the last one in lanes."""
    last = loops[-1]
    width = int(acc.shape[0])  # type: ignore[arg-type]
    out = lanes_loop(how, lambda i: ex.substitute(body, {last: i}), last.attr.extent, acc)
    for v in reversed(loops[1:-1]):
        out = [For(v, ex.index(v.attr.extent), "serial", tuple(out))]
    out = [For(loops[0], left, "serial", tuple(out))]
    return [Alloc(acc, (fill(acc, how.start, width), *out, *use(how.total(acc))))]


def _single(kernel: Kernel, stmts: list[Stmt]) -> LoopKernel:
    once = For(ex.var("chunk", 1), ex.index(1), "parallel", tuple(stmts))
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (Phase((once,)),), note="reduction"
    )


class _Columns:
    """Results side by side: vectors over results, a serial loop over what is reduced.

    Few rows are reduced a block of columns at a time, in registers. Many rows are swept: some whole
    rows at a time are added to a panel of accumulators in cache, so that memory is read in order.
    """

    def __init__(
        self, kernel: Kernel, stages: list[Stage], r: Reduction, target: CpuTarget
    ) -> None:
        self.kernel, self.stages, self.r = kernel, stages, r
        self.lanes = ax.widest([stages[0]], target.lanes)
        head = stages[0]
        self.groups = ax.collapse(r.axes, [r.body], [])
        self.loops, env = ax.merged(self.groups, "rst")
        self.body = ex.substitute(r.body, env)
        self.axes = head.axes
        self.last = head.axes[-1]
        extent = self.last.attr.extent
        self.width = ax.vector_axis(extent, self.lanes * 4)
        self.how = fold(r.op, r.body.dtype, target)
        self.panel = _panel(extent, self.how.dt.size)

    def make(self) -> LoopKernel:
        k = self.kernel
        outer = self.loops[0].attr.extent
        inner = dims.product(tuple(v.attr.extent for v in self.loops[1:]))
        rows = max(1, PIECE_ROWS // inner) if isinstance(inner, int) and inner > 0 else 1
        use = _epilogue(k, self.stages, self.r, self.axes)
        if not ax.is_large(outer, rows) or not isinstance(inner, int):
            body = self._over(self.loops, self.body, ex.index(outer), use)
            return LoopKernel(
                k.name, k.inputs, k.outputs, (), (Phase((body,)),), note="columns"
            )
        pieces = dims.ceildiv(outer, rows)
        part = Buffer(f"{self.stages[0].out.name}.part", self.how.value,
                      (pieces, *self.stages[0].out.shape))
        first = self._pieces(part, pieces, rows)
        n = ex.var("r", pieces)
        at = (n, *self.axes)
        final = self._over([n], part[at], ex.index(pieces), use)
        phases = (Phase((first,)), Phase((final,)))
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

        extent = self.last.attr.extent
        loops = [n, *self.loops[1:]]
        p = ex.var("p", dims.ceildiv(extent, self.panel))
        stmts = self._panel(p, loops, at, left, keep)
        if p.attr.extent != 1:
            stmts = [For(p, ex.index(p.attr.extent), "serial", tuple(stmts))]
        for v in reversed(self.axes[:-1]):
            stmts = [For(v, ex.index(v.attr.extent), "serial", tuple(stmts))]
        return For(piece, ex.index(pieces), "parallel", tuple(stmts))

    def _over(
        self, loops: list[Expr], body: Expr, left: Expr, use: Callable[[Expr], list[Stmt]]
    ) -> For:
        """Parallel over the outer result axes and panels of the last one."""
        extent = self.last.attr.extent
        shape = (*(v.attr.extent for v in self.axes[:-1]), dims.ceildiv(extent, self.panel))

        def one(flat: Expr) -> tuple[Stmt, ...]:
            *outer, p = ax.unravel(flat, shape)
            env = dict(zip(self.axes[:-1], outer, strict=True))
            return substitute_stmts(self._panel(p, loops, body, left, use), env)

        work = dims.product(tuple(v.attr.extent for v in loops))
        columns = dims.minimum(extent, self.panel)
        return ax.chunked(dims.product(shape), ax.rows_per_chunk(dims.mul(work, columns)), one)

    def _panel(
        self, p: Expr, loops: list[Expr], body: Expr, left: Expr,
        use: Callable[[Expr], list[Stmt]],
    ) -> list[Stmt]:
        """The results of panel p of the last axis."""
        extent, panel = self.last.attr.extent, self.panel
        if dims.ceildiv(extent, panel) == 1:
            start, count = ex.index(0), ex.index(extent)
        else:
            start = p * panel
            count = ex.imin(ex.index(panel), ex.index(extent) - start)
        rows = dims.product(tuple(v.attr.extent for v in loops))
        if ax.is_large(rows, SHORT) and ax.is_large(extent, self.width):
            return self._sweep(loops, body, left, use, start, count)
        return self._block(loops, body, left, use, start, count)

    # ---- many rows: accumulators in cache

    def _sweep(
        self, loops: list[Expr], body: Expr, left: Expr, use: Callable[[Expr], list[Stmt]],
        start: Expr, count: Expr,
    ) -> list[Stmt]:
        """Columns start … start + count, some rows at a time; rows add up in their order."""
        wide = dims.minimum(self.panel, self.last.attr.extent)
        acc = Buffer("acc", self.how.dt, (wide,), "local")
        fresh = {v: ex.var(v.attr.name, v.attr.extent) for v in loops}
        body = ex.substitute(body, fresh)
        row = fresh[loops[-1]]
        bound = left if len(loops) == 1 else ex.index(row.attr.extent)
        many = _rows_a_pass(body)

        def over(stmt: Callable[[Expr], Stmt]) -> Stmt:
            c = ex.var("c", acc.shape[0])
            return For(c, count, "vector", (stmt(c),), self.lanes)

        def add(rows: list[Expr]) -> Stmt:
            def step(c: Expr) -> Stmt:
                total = acc[c]
                for r in rows:
                    here = ex.substitute(body, {row: r, self.last: start + c})
                    total = self.how.step(total, here)
                return Store(acc, (c,), total)
            return over(step)

        group = ex.var("g", dims.floordiv(row.attr.extent, many))
        rest = ex.var("h", many)
        whole = ex.floordiv(bound, many)
        stmts: list[Stmt] = [For(group, whole, "serial",
                                 (add([group * many + i for i in range(many)]),))]
        if ex.is_const_index(bound - whole * many) != 0:
            stmts.append(For(rest, bound - whole * many, "serial", (add([whole * many + rest]),)))
        for v in reversed(loops[:-1]):
            stop = left if v is loops[0] else ex.index(v.attr.extent)
            stmts = [For(fresh[v], stop, "serial", tuple(stmts))]
        c = ex.var("c", acc.shape[0])
        kept = substitute_stmts(use(self.how.decode(acc[c])), {self.last: start + c})
        return [Alloc(acc, (
            over(lambda c: Store(acc, (c,), self.how.start)), *stmts,
            For(c, count, "vector", kept, self.lanes),
        ))]

    # ---- few rows: accumulators in registers

    def _block(
        self, loops: list[Expr], body: Expr, left: Expr, use: Callable[[Expr], list[Stmt]],
        start: Expr, count: Expr,
    ) -> list[Stmt]:
        """Columns start … start + count: vectors of results, each reduced over the loops."""
        width = self.width
        whole = ex.floordiv(count, width)
        rest = count - whole * width
        out: list[Stmt] = []
        if ex.is_const_index(whole) != 0:
            b = ex.var("b", dims.floordiv(dims.minimum(self.panel, self.last.attr.extent), width))
            at = start + b * width
            inner = self._lanes(loops, body, left, use, at, ex.index(width))
            out.append(For(b, whole, "serial", tuple(inner)))
        if ex.is_const_index(rest) != 0:
            out.extend(self._lanes(loops, body, left, use, start + whole * width, rest))
        return out

    def _lanes(
        self, loops: list[Expr], body: Expr, left: Expr, use: Callable[[Expr], list[Stmt]],
        start: Expr, count: Expr,
    ) -> list[Stmt]:
        width = self.width
        acc = Buffer("acc", self.how.dt, (width,), "register")
        lane, out_lane = ex.var("l", width), ex.var("l", width)
        value = ex.substitute(body, {self.last: start + lane})
        step = Store(acc, (lane,), self.how.step(acc[lane], value))
        stmts: list[Stmt] = [For(lane, count, "vector", (step,), width)]
        fresh = {v: ex.var(v.attr.name, v.attr.extent) for v in loops}
        for v in reversed(loops):
            bound = left if v is loops[0] else ex.index(v.attr.extent)
            stmts = [For(fresh[v], bound, "serial", tuple(stmts))]
        stmts = list(substitute_stmts(stmts, fresh))
        last = {self.last: start + out_lane}
        kept = substitute_stmts(use(self.how.decode(acc[out_lane])), last)
        return [Alloc(acc, (
            fill(acc, self.how.start, width), *stmts,
            For(out_lane, count, "vector", kept, width),
        ))]


def _panel(extent: Dim, size: int) -> int:
    """Results that are accumulated at once."""
    most = PANEL_BYTES // size
    return min(extent, most) if isinstance(extent, int) and extent > 0 else most


def _rows_a_pass(body: Expr) -> int:
    """As many as make a loop of a reasonable length."""
    nodes = len(ex.walk(body))
    return SWEEP_ROWS if nodes <= 12 else 4 if nodes <= 30 else 2 if nodes <= 90 else 1


def substitute_stmts(stmts: list[Stmt], env: dict[Expr, Expr]) -> tuple[Stmt, ...]:
    """Statements with variables replaced in all expressions (loop variables stay)."""
    from_env: dict[Expr, Expr] = {}
    return map_stmts(tuple(stmts), lambda e: ex.substitute(e, env, from_env))
