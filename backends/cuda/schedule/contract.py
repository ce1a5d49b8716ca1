"""Contracts through shared memory: matrix products and convolutions (implicit GEMM).

A block computes a tile of (16·RM) x (16·RN) results with 16 x 16 threads, RM x RN results each in
registers. The sum runs over tiles of K: the threads fill the two tiles of the factors, whatever
expressions they are (a convolution's window with its border, a fused prologue), then multiply them
from shared memory. Thread (y, x) owns results y + 16·i, x + 16·j: stores are coalesced and reads of
shared memory conflict-free. Sums run in rising order of k, whatever the tile.

Where results are too few to fill a GPU and K is long (gradients of weights), K is cut into pieces
of a size that the shape alone tells; a second phase adds the pieces in rising order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, If, Kernel, LoopKernel, Phase, Stmt, Store
from flowc.ir.kernel.patterns import estimate

from ...cpu.contract.match import Contract, match
from ...cpu.schedule import axes as ax
from .columns import schedule_points
from .common import allocated, epilogue, flat_phase, serial_reduce

SIDE = 16  # threads along each side of a block
TK = 16  # of K a tile
FEW = 64  # blocks below which K is cut
PIECE = 512  # of K a piece, at least
SMALL = 32  # multiply-adds of a batch entry per result axis below which tiles do not pay


def schedule_contract(kernel: Kernel) -> LoopKernel:
    """A tiled contract, or a thread for each result where that is not what the kernel computes."""
    c = match(kernel)
    if c is None:
        return schedule_points(kernel, "contract, a thread each")
    m, n = (dims.product(tuple(v.attr.extent for v in g)) for g in (c.m, c.n))
    if estimate(m) * estimate(n) < SMALL:
        return schedule_points(kernel, "contract, a thread each")
    return _Tiled(c, m, n).make()


def _per_thread(extent: Dim) -> int:
    """Results of a thread along an axis."""
    if isinstance(extent, int) and extent <= 2 * SIDE:
        return 1 if extent <= SIDE else 2
    return 4


@dataclass(frozen=True)
class _Operand:
    """One factor: its expression, the axes of its side, the tile [TK, width]."""

    value: Expr
    axes: tuple[Expr, ...]
    count: Dim
    tile: Buffer
    width: int


class _Tiled:
    def __init__(self, c: Contract, m: Dim, n: Dim) -> None:
        self.c, self.m, self.n = c, m, n
        self.k = dims.product(tuple(v.attr.extent for v in c.k))
        self.rm, self.rn = _per_thread(m), _per_thread(n)
        self.a = self._operand("a", c.a, c.m, m, self.rm)
        self.b = self._operand("b", c.b, c.n, n, self.rn)

    def _operand(self, name: str, e: Expr, axes: tuple[Expr, ...], n: Dim, per: int) -> _Operand:
        width = SIDE * per
        tile = Buffer(f"tile_{name}", e.dtype, (TK, width), "shared", pad=1)
        return _Operand(e, axes, n, tile, width)

    def make(self) -> LoopKernel:
        """The kernel: one phase, or two where K is cut."""
        c, k = self.c, self.c.kernel
        tiles = (dims.ceildiv(self.m, SIDE * self.rm), dims.ceildiv(self.n, SIDE * self.rn))
        batch = tuple(v.attr.extent for v in c.batch)
        self.piece = _piece(dims.product((*batch, *tiles)), self.k)
        pieces = 1 if self.piece is None else dims.ceildiv(self.k, self.piece)
        self.part = Buffer(f"{c.stage.out.name}.part", c.acc, (pieces, *batch, self.m, self.n))
        grid = (pieces, *batch, *tiles)
        blocks = dims.product(grid)
        block = ex.var("block", blocks)
        self.at_piece, *at, bm, bn = ax.unravel(block, grid)
        self.batch = dict(zip(c.batch, at, strict=True))
        self.m0, self.n0 = bm * (SIDE * self.rm), bn * (SIDE * self.rn)
        self.acc = Buffer("acc", c.acc, (self.rm, self.rn), "register")
        body = (*self._clear(), self._loop(), self._write())
        body = allocated((self.acc, self.a.tile, self.b.tile), body)
        phases = [Phase((For(block, ex.index(blocks), "block", body),), SIDE * SIDE)]
        note = f"contract, tiles of {SIDE * self.rm}x{SIDE * self.rn}x{TK}"
        if self.piece is None:
            return LoopKernel(k.name, k.inputs, k.outputs, (), tuple(phases), "cuda", note)
        phases.append(self._combine())
        note += f", K in pieces of {self.piece}"
        return LoopKernel(k.name, k.inputs, k.outputs, (self.part,), tuple(phases), "cuda", note)

    def _threads(self, body: Callable[[Expr], Sequence[Stmt]]) -> Stmt:
        t = ex.var("t", SIDE * SIDE)
        return For(t, ex.index(SIDE * SIDE), "thread", tuple(body(t)))

    def _results(self, body: Callable[[Expr, Expr], Sequence[Stmt]]) -> tuple[Stmt, ...]:
        i, j = ex.var("i", self.rm), ex.var("j", self.rn)
        inner = For(j, ex.index(self.rn), "unroll", tuple(body(i, j)))
        return (For(i, ex.index(self.rm), "unroll", (inner,)),)

    def _clear(self) -> tuple[Stmt, ...]:
        zero = ex.const(0, self.acc.dtype)
        return (self._threads(lambda _: self._results(lambda i, j: [
            Store(self.acc, (i, j), zero)
        ])),)

    def _loop(self) -> Stmt:
        if self.piece is None:
            steps = dims.ceildiv(self.k, TK)
            step, start, trips = ex.var("step", steps), ex.index(0), ex.index(steps)
        else:
            start = self.at_piece * self.piece
            step = ex.var("step", self.piece // TK)
            left = ex.floordiv(ex.index(self.k) - start + (TK - 1), TK)
            trips = ex.imin(ex.index(self.piece // TK), left)
        k0 = start + step * TK
        fill = self._threads(lambda t: [
            *self._fill(self.a, self.m0, k0, t), *self._fill(self.b, self.n0, k0, t)
        ])
        return For(step, trips, "serial", (fill, self._threads(self._multiply)))

    # ---- tiles

    def _fill(self, o: _Operand, start: Expr, k0: Expr, t: Expr) -> tuple[Stmt, ...]:
        """o.tile[kk, p] = the factor at (start + p, k0 + kk), 0 outside.

        Neighbouring threads take neighbouring elements along the axis that steps through memory.
        """
        per = TK * o.width // (SIDE * SIDE)
        u = ex.var("u", per)
        flat = u * (SIDE * SIDE) + t
        if self._along_k(o):
            p, kk = ex.floordiv(flat, TK), ex.mod(flat, TK)
        else:
            kk, p = ex.floordiv(flat, o.width), ex.mod(flat, o.width)
        side, k = start + p, k0 + kk
        env = {**self.batch, **self._unflatten(o.axes, side), **self._unflatten(self.c.k, k)}
        value = ex.substitute(o.value, env)
        inside = self._inside((side, o.count), (k, self.k))
        load: tuple[Stmt, ...] = (Store(o.tile, (kk, p), value),)
        if inside is not None:
            zero = Store(o.tile, (kk, p), ex.const(0, o.tile.dtype))
            load = (If(inside, load, (zero,)),)
        return (For(u, ex.index(per), "unroll", load),)

    def _unflatten(self, axes: tuple[Expr, ...], flat: Expr) -> dict[Expr, Expr]:
        shape = tuple(v.attr.extent for v in axes)
        return dict(zip(axes, ax.unravel(flat, shape), strict=True))

    def _inside(self, *bounds: tuple[Expr, Dim]) -> Expr | None:
        """Whether all are below their bounds; None where that is certain."""
        out: Expr | None = None
        for e, n in bounds:
            if not ex.within(e, n):
                one = e < ex.index(n)
                out = one if out is None else out & one
        return out

    def _along_k(self, o: _Operand) -> bool:
        """Whether memory is contiguous along k rather than along the factor's own axis."""
        own = o.axes[-1] if o.axes else None
        last = self.c.k[-1] if self.c.k else None
        steps: list[Expr] = []
        for e in ex.loads(o.value):
            buffer, idx, _ = ex.load_parts(e)
            terms, _ = ex.linear(buffer.offset(idx))
            steps += [v for v, step in terms.items() if step == 1]
        return last in steps and own not in steps

    def _multiply(self, t: Expr) -> list[Stmt]:
        y, x = ex.floordiv(t, SIDE), ex.mod(t, SIDE)
        kk = ex.var("kk", TK)
        a, b = (Buffer(f"r{o.tile.name[-1]}", o.tile.dtype, (w,), "register")
                for o, w in ((self.a, self.rm), (self.b, self.rn)))
        i, j = ex.var("i", self.rm), ex.var("j", self.rn)
        loads = (
            For(i, ex.index(self.rm), "unroll",
                (Store(a, (i,), self.a.tile[kk, y + i * SIDE]),)),
            For(j, ex.index(self.rn), "unroll",
                (Store(b, (j,), self.b.tile[kk, x + j * SIDE]),)),
        )
        acc = self.acc
        work = self._results(lambda i, j: [
            Store(acc, (i, j), self.c.step(acc[i, j], a[i], b[j]))
        ])
        inner = allocated((a, b), (*loads, *work))
        return [For(kk, ex.index(TK), "unroll", inner)]

    # ---- results

    def _write(self) -> Stmt:
        def body(t: Expr) -> tuple[Stmt, ...]:
            y, x = ex.floordiv(t, SIDE), ex.mod(t, SIDE)
            return self._results(lambda i, j: self._one(y + i * SIDE, x + j * SIDE, i, j))
        return self._threads(body)

    def _one(self, p: Expr, q: Expr, i: Expr, j: Expr) -> list[Stmt]:
        m, n = self.m0 + p, self.n0 + q
        if self.piece is None:
            stmts = self._finish(self.batch, m, n, self.acc[i, j])
        else:
            at = (self.at_piece, *self.batch.values(), m, n)
            stmts = (Store(self.part, at, self.acc[i, j]),)
        inside = self._inside((m, self.m), (n, self.n))
        return [If(inside, stmts)] if inside is not None else list(stmts)

    def _finish(
        self, batch: dict[Expr, Expr], m: Expr, n: Expr, total: Expr
    ) -> tuple[Stmt, ...]:
        """The stores of one result, given its sum."""
        c = self.c
        env = {**batch, **self._unflatten(c.m, m), **self._unflatten(c.n, n)}
        at = tuple(ex.substitute(e, env) for e in c.at)
        value = ex.substitute(c.value, {**env, c.total: total})
        return tuple(epilogue(c.kernel, [c.stage, *c.epilogue], at, at, value))

    def _combine(self) -> Phase:
        """A thread a result: the sum of its pieces."""
        shape = self.part.shape[1:]

        def point(i: Expr) -> list[Stmt]:
            *batch, m, n = ax.unravel(i, shape)
            r = ex.var("r", self.part.shape[0])
            source = (r, *batch, m, n)
            total = ex.reduce("sum", (r,), self.part[source])
            at = dict(zip(self.c.batch, batch, strict=True))
            return serial_reduce(total, lambda v: list(self._finish(at, m, n, v)))

        return flat_phase(dims.product(shape), point)


def _piece(blocks: Dim, k: Dim) -> int | None:
    """How much of K one block sums; None for all."""
    if not isinstance(blocks, int) or not 0 < blocks < FEW:
        return None
    if not isinstance(k, int):
        return 2 * PIECE
    if k < 2 * PIECE:
        return None
    share = -(-k * blocks // FEW)
    return max(PIECE, -(-share // TK) * TK)
