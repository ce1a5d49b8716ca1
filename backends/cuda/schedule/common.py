"""What GPU schedules share: flat launches, reductions inside a thread and inside a block.

A phase is one loop over blocks. Its body is a sequence of thread loops; lowering puts a barrier
between two of them where the second touches shared or global memory that the first has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, If, Kernel, Phase, Stage, Stmt, Store

from ...cpu.schedule.accumulate import acc_dtype, combine, identity
from ...cpu.schedule.maps import stores

THREADS = 256  # of a block: occupancy on all generations with up to 255 registers a thread


def threads_for(count: Dim) -> int:
    """Threads of a block for `count` points in all: whole warps."""
    if not isinstance(count, int) or count >= THREADS:
        return THREADS
    return max(32, 1 << (max(count, 1) - 1).bit_length())


def flat_phase(
    count: Dim, point: Callable[[Expr], Iterable[Stmt]], per: int = 1, threads: int = 0
) -> Phase:
    """`point(i)` for each i < count, one thread each; with `per`, a thread has `per` points that
    lie a block's width apart (neighbouring threads touch neighbouring elements)."""
    threads = threads or threads_for(count)
    span = threads * per
    blocks = dims.ceildiv(count, span)
    block, t, u = ex.var("block", blocks), ex.var("t", threads), ex.var("u", per)
    i = block * span + t if per == 1 else block * span + u * threads + t
    body = guarded(i, count, tuple(point(i)))
    if per > 1:
        body = (For(u, ex.index(per), "unroll", body),)
    loop = For(t, ex.index(threads), "thread", body)
    return Phase((For(block, ex.index(blocks), "block", (loop,)),), threads)


def guarded(i: Expr, count: Dim, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The body where i < count."""
    return body if ex.within(i, count) else (If(i < ex.index(count), body),)


def serial_reduce(value: Expr, use: Callable[[Expr], list[Stmt]]) -> list[Stmt]:
    """Statements of one thread that compute the reductions in `value`, in rising order."""
    inner = {x for e in ex.walk(value) if e.op == "reduce"
             for x in ex.walk(e.args[0]) if x.op == "reduce"}
    found = next((e for e in ex.walk(value) if e.op == "reduce" and e not in inner), None)
    if found is None:
        return use(value)
    op, body = found.attr, found.args[0]
    acc = Buffer("acc", acc_dtype(op, body.dtype), (1,), "register")
    zero = (ex.index(0),)

    def step(v: Expr) -> list[Stmt]:
        return [Store(acc, zero, combine(op, acc[zero], ex.cast(v, acc.dtype)))]

    fresh = {v: ex.var(v.attr.name, v.attr.extent) for v in found.args[1:]}
    loops = serial_reduce(ex.substitute(body, fresh), step)
    for v in reversed(tuple(fresh.values())):
        loops = [For(v, ex.index(v.attr.extent), "serial", tuple(loops))]
    rest = ex.substitute(value, {found: ex.cast(acc[zero], found.dtype)})
    first = Store(acc, zero, identity(op, acc.dtype, body.dtype))
    return [Alloc(acc, (first, *loops, *serial_reduce(rest, use)))]


def strided(
    count: Dim, lane: Expr, width: int, body: Callable[[Expr], Sequence[Stmt]]
) -> tuple[Stmt, ...]:
    """``for i = lane; i < count; i += width``."""
    n = ex.var("n", dims.ceildiv(count, width))
    if width == 1:
        return (For(n, ex.index(count), "serial", tuple(body(n))),)
    if isinstance(count, int) and count <= width:
        return guarded(lane, count, tuple(body(lane)))
    trips = ex.floordiv(ex.index(count) + (width - 1) - lane, width)
    return (For(n, trips, "serial", tuple(body(n * width + lane))),)


def epilogue(kernel: Kernel, stages: Sequence[Stage], axes: tuple[Expr, ...], at: tuple[Expr, ...],
             first: Expr) -> list[Stmt]:
    """Stores of all kept results at one point, given the value of the first stage there.

    The other stages are elementwise over the first one's domain. `axes`: stand for each stage's
    own; `at`: where they store.
    """
    kept, done = set(kernel.outputs), {stages[0].out: first}
    out = [(stages[0], first)] if stages[0].out in kept else []
    for s in stages[1:]:
        value = ex.substitute(s.value, dict(zip(s.axes, axes, strict=True)))
        value = ex.rewrite(value, lambda e: done.get(e.attr) if e.op == "load" else None, {})
        done[s.out] = value
        if s.out in kept:
            out.append((s, value))
    return list(stores([s for s, _ in out], [v for _, v in out], at))


def allocated(buffers: Iterable[Buffer], body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The statements inside allocations."""
    out = tuple(body)
    for b in buffers:
        out = (Alloc(b, out),)
    return out


class Rows:
    """The thread loops of a block that owns `rows` rows, `lanes` threads each.

    `step` adds a thread loop; `reduce` a reduction of each row through shared memory by the tree:
    element i goes to lane i mod lanes, lanes combine by halving.
    """

    def __init__(self, count: Dim, lanes: int, rows: int) -> None:
        self.count, self.lanes, self.rows = count, lanes, rows
        self.threads = lanes * rows
        blocks = dims.ceildiv(count, rows)
        self.block = ex.var("block", blocks)
        self.blocks = blocks
        self.shared: list[Buffer] = []
        self.body: list[Stmt] = []
        self._parts: dict[str, Buffer] = {}

    def step(self, make: Callable[[Expr, Expr, Expr], Sequence[Stmt]]) -> None:
        """A thread loop over ``make(row, row in the block, lane)``."""
        t = ex.var("t", self.threads)
        r, lane = ex.floordiv(t, self.lanes), ex.mod(t, self.lanes)
        row = self.block * self.rows + r
        body = guarded(row, self.count, tuple(make(row, r, lane)))
        self.body.append(For(t, ex.index(self.threads), "thread", body))

    def new(self, name: str, like: Expr | Buffer, shape: tuple[Dim, ...] = ()) -> Buffer:
        """A shared buffer with one entry a row."""
        b = Buffer(name, like.dtype, (self.rows, *shape), "shared")
        self.shared.append(b)
        return b

    def reduce(
        self, op: str, count: Dim, body: Callable[[Expr, Expr, Expr], Expr],
        limit: Callable[[Expr], Dim | Expr] | None = None,
    ) -> Callable[[Expr], Expr]:
        """``body(row, row in the block, i)`` for i < count, reduced; gives the value by r.

        limit: a bound by row, below count. The value has the accumulator's type.
        """
        probe = body(ex.var("row"), ex.var("r"), ex.var("i"))
        dt = acc_dtype(op, probe.dtype)
        start = identity(op, dt, probe.dtype)
        part = self._part(dt.name, start)
        zero = (ex.index(0),)

        def sweep(row: Expr, r: Expr, lane: Expr) -> list[Stmt]:
            acc = Buffer("acc", dt, (1,), "register")

            def one(i: Expr) -> list[Stmt]:
                def add(v: Expr) -> list[Stmt]:
                    return [Store(acc, zero, combine(op, acc[zero], ex.cast(v, dt)))]
                stmts = serial_reduce(body(row, r, i), add)
                return stmts if limit is None else [If(i < ex.index(limit(row)), tuple(stmts))]

            loop = strided(count, lane, self.lanes, one)
            keep = Store(part, (r, lane), acc[zero])
            return [Alloc(acc, (Store(acc, zero, start), *loop, keep))]

        self.step(sweep)
        half = self.lanes // 2
        while half:
            self._halve(op, part, half)
            half //= 2
        return lambda r: part[r, 0]

    def _part(self, name: str, like: Expr) -> Buffer:
        if name not in self._parts:
            self._parts[name] = self.new(f"part_{name}", like, (self.lanes,))
        return self._parts[name]

    def _halve(self, op: str, part: Buffer, half: int) -> None:
        def fold(_: Expr, r: Expr, lane: Expr) -> list[Stmt]:
            both = combine(op, part[r, lane], part[r, lane + half])
            return [If(lane < ex.index(half), (Store(part, (r, lane), both),))]
        self.step(fold)

    def phase(self) -> Phase:
        """All of it."""
        body = allocated(self.shared, self.body)
        return Phase((For(self.block, ex.index(self.blocks), "block", body),), self.threads)
