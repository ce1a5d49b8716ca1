"""The micro-kernel: a register tile of accumulators, loops over k around it, the write-back.

Every element of the result is one chain of fused multiply-adds over k in a fixed order, begun at 0,
whichever tile it falls in: its bits do not depend on its place or on the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, If, Kind, Let, Prefetch, Stmt, Store
from flowc.ir.kernel.patterns import cost

from .access import masked
from .cost import Tile
from .match import Contract, variables

Block = tuple[Stmt, ...]
UNROLLED_WORK = 600  # instructions of a write-back up to which it is unrolled over the tile
LARGE = 1 << 17  # elements of an operand of the write-back that is asked for ahead
Body = Callable[[Expr, Expr], Block]


def lane_kind(w: int) -> Kind:
    """The loop over the lanes of one register; one lane leaves its index a constant."""
    return "vector" if w > 1 else "unroll"


@dataclass(frozen=True, eq=False)
class Place:
    """Where a tile lies, and how much of it exists.

    row0, rows: its rows; clamp: the extent of the row axis where rows may lie beyond it, else None;
    lane0: its first lane; nv, w: vectors of a row and their lanes; lanes: how many lanes exist, and
    stop: the extent of the lane axis, both None where all lanes do.
    """

    row0: Expr
    rows: int
    clamp: Expr | None
    lane0: Expr
    nv: int
    w: int
    lanes: Expr | None = None
    stop: Expr | None = None

    @property
    def width(self) -> int:
        return self.nv * self.w


@dataclass(frozen=True, eq=False)
class Turn:
    """How tiles share the work of fetching the next panel: each step of k asks for `lines` vectors
    of it, which ones follows from the tile's place along `axis` and the rows."""

    axis: Expr
    tile: Tile
    lines: int


@dataclass(frozen=True, eq=False)
class Micro:
    """What all tiles of a schedule share. `row` may be None (one row), `lane` is an axis."""

    c: Contract
    row: Expr | None
    lane: Expr
    k: tuple[Expr, ...]
    lane_masks: bool = False  # loads along the lane axis need masks in partial tiles
    into: Buffer | None = None  # where sums wait between blocks of k; the block's index and count:
    block: Expr = field(default_factory=lambda: ex.index(0))
    blocks: Expr = field(default_factory=lambda: ex.index(1))
    turn: Turn | None = None
    around: tuple[Expr, ...] = ()  # the axes of k that the blocks are places of
    ahead: Callable[[Place], Block] | None = None  # what else each step of k asks for

    # ---- iteration over a tile

    def each_row(self, p: Place, fn: Body, guard: bool = False) -> Block:
        """fn(index of the row axis, number of the row) for each row of the tile.

        Rows beyond the axis read its last row; with `guard` they do nothing.
        """
        if p.rows == 1:
            return fn(p.row0, ex.index(0))
        i = ex.var("i", p.rows)
        row = p.row0 + i
        if p.clamp is None:
            body = fn(row, i)
        else:
            body = fn(ex.imin(row, p.clamp - 1), i)
            if guard:
                body = (If(row < p.clamp, body),)
        return (For(i, ex.index(p.rows), "unroll", body),)

    def each_lane(self, p: Place, fn: Body) -> Block:
        """fn(index of the lane axis, register column) for whole vectors, dead lanes too."""
        j = ex.var("j", p.w)
        if p.nv == 1:
            return (For(j, ex.index(p.w), lane_kind(p.w), fn(p.lane0 + j, j), p.w),)
        v = ex.var("v", p.nv)
        col = v * p.w + j
        inner = For(v, ex.index(p.nv), "unroll", fn(p.lane0 + col, col))
        return (For(j, ex.index(p.w), lane_kind(p.w), (inner,), p.w),)

    def live_lanes(self, p: Place, fn: Body) -> Block:
        """The same, only for lanes that exist: what stores to memory uses."""
        if p.lanes is None:
            return self.each_lane(p, fn)
        n = ex.is_const_index(p.lanes)
        assert isinstance(n, int)
        out: list[Stmt] = []
        for v in range(-(-n // p.w)):
            count = min(p.w, n - v * p.w)
            j = ex.var("j", count)
            body = fn(p.lane0 + j + v * p.w, j + v * p.w)
            out.append(For(j, ex.index(count), lane_kind(p.w), body, p.w))
        return tuple(out)

    # ---- the kernel

    def at(self, e: Expr, row: Expr | None, lane: Expr | None) -> Expr:
        """e at a row and lane."""
        env: dict[Expr, Expr] = {}
        if row is not None and self.row is not None:
            env[self.row] = row
        if lane is not None:
            env[self.lane] = lane
        return ex.substitute(e, env)

    def tile(self, p: Place) -> Block:
        """All statements of one tile."""
        acc = Buffer("acc", self.c.acc, (p.rows, p.width), "register")
        more = () if self.ahead is None else self.ahead(p)
        step = (*more, *self._ahead(p), *self._operands(p), *self._step(p, acc))
        body = (*self._begin(p, acc), *self._loops(step), *self._end(p, acc))
        return (Alloc(acc, body),)

    def _begin(self, p: Place, acc: Buffer) -> Block:
        def first(row: Expr, lane: Expr) -> Expr:
            if self.into is None:
                return ex.const(0, acc.dtype)
            ok = ex.compare("gt", self.block, ex.index(0))
            if self.c.exists is not None:
                ok = ok & self.at(self.c.exists, row, lane)
            at = self.where(row, lane)
            return self.into.at(at, ok if p.stop is None else ok & (lane < p.stop))

        return self.each_row(p, lambda row, i: self.each_lane(
            p, lambda lane, col: (Store(acc, (i, col), first(row, lane)),)))

    def _ahead(self, p: Place) -> Block:
        """Asks for vectors of the panel, or of the block of k, that comes next."""
        turn = self.turn
        if turn is None or p.nv != turn.tile.nv or p.lanes is not None:
            return ()
        t = turn.tile
        lane = self.c.a if self.lane in variables(self.c.a) else self.c.b
        buf, idx, _ = ex.load_parts(lane)
        number = turn.axis + ex.floordiv(p.row0, t.mr)
        after = self.block + 1
        env = {self.lane: p.lane0 + ex.floordiv(after, self.blocks) * t.nr}
        for v in reversed(self.around):
            env[v] = ex.mod(after, v.attr.extent)
            after = ex.floordiv(after, v.attr.extent)
        out: list[Stmt] = []
        for n in range(turn.lines):
            col = ex.mod(number * turn.lines + n, t.nv)
            place = env | {self.lane: env[self.lane] + col * t.w}
            out.append(Prefetch(buf, tuple(ex.substitute(i, place) for i in idx)))
        return tuple(out)

    def _operands(self, p: Place) -> Block:
        """Asks for what the write-back reads besides, from arrays too large for the caches: a few
        lines in each step of k, as many at once would keep out the factors' own."""
        steps = self.k[-1].attr.extent if self.k else 0
        if self.row is None or p.lanes is not None or not isinstance(steps, int) or steps < 1:
            return ()
        own = {self.c.stage.out, *(s.out for s in self.c.epilogue)}
        loads = dict.fromkeys(
            x for s in self.c.epilogue for x in ex.loads(ex.substitute(
                s.value, dict(zip(s.axes, self.c.at, strict=True)))))
        out: list[Stmt] = []
        for x in (*loads, *ex.loads(self.c.value)):
            buf, idx, pred = ex.load_parts(x)
            if pred is not None or buf in own or not {self.row, self.lane} <= variables(x):
                continue
            large = dims.nonnegative(dims.add(dims.product(buf.shape), -LARGE))
            if not large and buf not in self.c.around.cold:
                continue
            each = -(-p.rows * p.nv // steps)
            for n in range(each):
                line = self.k[-1] * each + n
                row = p.row0 + ex.mod(ex.floordiv(line, p.nv), p.rows)
                lane = p.lane0 + ex.mod(line, p.nv) * p.w
                out.append(Prefetch(buf, tuple(self.at(i, row, lane) for i in idx)))
        return tuple(out)

    def where(self, row: Expr, lane: Expr) -> tuple[Expr, ...]:
        """The index of out for a row and lane."""
        return tuple(self.at(e, row, lane) for e in self.c.at)

    def _loops(self, body: Block) -> Block:
        for v in reversed(self.k):
            body = (For(v, self.c.count(v), "serial", body),)
        return body

    def _lane_factor(self, e: Expr, p: Place, row: Expr | None, lane: Expr) -> Expr:
        out = self.at(e, row, lane)
        if self.lane_masks and p.stop is not None:
            ok = lane < p.stop
            out = masked(self.at(e, row, None), self.lane, ok) if self.lane in variables(e) else e
            out = self.at(out, row, lane)
        return out

    def _step(self, p: Place, acc: Buffer) -> Block:
        """One step of k: the row of the lane factor into registers, then each row's broadcast."""
        a, b = self.c.a, self.c.b
        in_rows = [self.row is not None and self.row in variables(e) for e in (a, b)]
        in_lanes = [self.lane in variables(e) for e in (a, b)]
        before: list[Stmt] = []
        keep: dict[int, Buffer] = {}
        j = ex.var("j", p.w)
        v = ex.var("v", p.nv)
        col = (v * p.w + j) if p.nv > 1 else j
        for n, e in enumerate((a, b)):
            if in_lanes[n] and not in_rows[n]:
                keep[n] = Buffer("ab"[n] + "v", e.dtype, (p.width,), "register")
                value = self._lane_factor(e, p, None, p.lane0 + col)
                before.append(Store(keep[n], (col,), value))

        def factor(n: int, row: Expr, lets: dict[int, Expr]) -> Expr:
            if n in keep:
                return keep[n][(col,)]
            if n in lets:
                return lets[n]
            return self._lane_factor((a, b)[n], p, row, p.lane0 + col)

        def one_row(row: Expr, i: Expr) -> Block:
            out: list[Stmt] = []
            lets: dict[int, Expr] = {}
            for n, e in enumerate((a, b)):
                if not in_lanes[n]:
                    lets[n] = ex.let_var("ab"[n], e.dtype)
                    out.append(Let(lets[n], self.at(e, row, None)))
            value = self.c.step(acc[(i, col)], factor(0, row, lets), factor(1, row, lets))
            return (*out, *self._vectors(v, p, (Store(acc, (i, col), value),)))

        head = self._vectors(v, p, tuple(before)) if before else ()
        body = (*head, *self.each_row(p, one_row))
        allocated: Block = (For(j, ex.index(p.w), lane_kind(p.w), body, p.w),)
        for buf in keep.values():
            allocated = (Alloc(buf, allocated),)
        return allocated

    @staticmethod
    def _vectors(v: Expr, p: Place, body: Block) -> Block:
        return (For(v, ex.index(p.nv), "unroll", body),) if p.nv > 1 else body

    def _end(self, p: Place, acc: Buffer) -> Block:
        done = self._store(p, acc, self.write_back)
        into = self.into
        if into is None:
            return done
        wait = self._store(p, acc, lambda row, lane, total: (
            Store(into, self.where(row, lane), total),))
        if into is self.c.stage.out:
            return wait
        return (If(ex.compare("eq", self.block, self.blocks - 1), done, wait),)

    def _store(self, p: Place, acc: Buffer, fn: Callable[[Expr, Expr, Expr], Block]) -> Block:
        """fn(row, lane, sum) for the rows and lanes that exist."""
        fixed = p.lanes is None or isinstance(ex.is_const_index(p.lanes), int)
        if fixed and (fn != self.write_back or self._weight() * p.rows * p.nv <= UNROLLED_WORK):
            return self.each_row(p, lambda row, i: self._existing(row, self.live_lanes(
                p, lambda lane, col: fn(row, lane, acc[(i, col)]))), guard=True)
        # through memory: where lanes exist is known at run time only, or unrolling costs too much
        mem = Buffer("part", acc.dtype, acc.shape, "local")
        spill = self._by_number(p, lambda i: self.each_lane(
            p, lambda _, col: (Store(mem, (i, col), acc[(i, col)]),)))
        i, j = ex.var("i", p.rows), ex.var("j", p.width)
        lanes = ex.index(p.width) if p.lanes is None else p.lanes
        rows = ex.index(p.rows) if p.clamp is None else ex.imin(p.rows, p.clamp - p.row0)
        body: Block = (For(j, lanes, "vector", fn(p.row0 + i, p.lane0 + j, mem[(i, j)]), p.w),)
        body = self._existing(p.row0 + i, body)
        return (Alloc(mem, (*spill, For(i, rows, "serial", body))),)

    def _existing(self, row: Expr, body: Block) -> Block:
        ok = self.c.exists
        return body if ok is None else (If(self.at(ok, row, None), body),)

    def _by_number(self, p: Place, fn: Callable[[Expr], Block]) -> Block:
        i = ex.var("i", p.rows)
        return (For(i, ex.index(p.rows), "unroll", fn(i)),)

    def _weight(self) -> int:
        """Rough instructions of the write-back of one vector."""
        return sum(cost(s.value) for s in self.c.epilogue) + cost(self.c.value)

    # ---- write-back

    def write_back(self, row: Expr, lane: Expr, total: Expr) -> Block:
        """The stage's value of the sum, then the epilogue; results that are outputs are stored."""
        outputs = set(self.c.kernel.outputs)
        where = self.where(row, lane)
        sum_ = ex.let_var("sum", self.c.acc)
        out: list[Stmt] = [Let(sum_, total)]
        made: dict[Buffer, Expr] = {}
        value = self.at(ex.substitute(self.c.value, {self.c.total: sum_}), row, lane)
        stages = [(self.c.stage.out, value)]
        for s in self.c.epilogue:
            stages.append((s.out, ex.substitute(s.value, dict(zip(s.axes, where, strict=True)))))
        for buf, raw in stages:
            val = ex.rewrite(raw, lambda e: made.get(e.attr) if e.op == "load" else None, {})
            made[buf] = ex.let_var(buf.name, buf.dtype)
            out.append(Let(made[buf], val))
        # stores come last: an output may lie in the memory of an operand read at this index
        return (*out, *(Store(b, where, v) for b, v in made.items() if b in outputs))
