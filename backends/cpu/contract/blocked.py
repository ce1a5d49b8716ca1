"""The blocked schedule: choose lanes, rows and tiles; pack what needs it; put loops around."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, LoopKernel, Phase

from .access import FAR, by_stride, is_bare, is_guarded, is_plain, is_windowed, size, stride
from .cost import Machine, Tile, choose_tile, direct_rows, tile_cycles, work
from .halo import without_guards
from .match import Contract, variables
from .micro import Block, Micro, Turn
from .nest import Nest, Traffic, by_panels, nest
from .pack import Packed, copied, panels

SHARED_ROWS = 128  # rows of a chunk that read the same panels (2048³: 157 ms, with 48 rows 164)


@dataclass(frozen=True, eq=False)
class Axes:
    """The axes of lanes and of rows of the register tile; the other axes, and k in order."""

    lane: Expr
    row: Expr | None
    outer: tuple[Expr, ...]
    k: tuple[Expr, ...]
    tile: Tile
    price: float = 0.0  # cycles for each multiply-add


def choose_axes(c: Contract, mach: Machine) -> Axes:
    """The cheapest pair of lane and row axes."""
    best: tuple[float, Axes] | None = None
    rounded = set() if c.exists is None else variables(c.exists)
    free = [v for v in reversed(c.axes) if v not in c.pinned]
    deep = is_product(c) and work(*(v.attr.extent for v in c.k)) * 48 * c.acc.size > mach.l1
    for lane in (v for v in free if v not in rounded):
        choices: list[Expr | None] = [v for v in free if v is not lane]
        for row in choices or [None]:
            rows: Dim = 1 if row is None else row.attr.extent
            t = choose_tile(
                rows, lane.attr.extent, mach.lanes(c.acc), mach, collide(c, lane, row), deep)
            price = _price(c, lane, row, t) + _streams(c, lane, row, t, mach)
            if best is None or price < best[0] * 0.98:
                outer = tuple(v for v in c.axes if v is not lane and v is not row)
                best = price, Axes(lane, row, outer, (), t, price)
    assert best is not None
    a = best[1]
    factor = c.b if a.lane in variables(c.a) else c.a
    return replace(a, k=by_stride(c.k, factor))


def is_product(c: Contract) -> bool:
    """Whether it is a plain product of matrices: no factor is a window that moves."""
    return not (is_windowed(c.a) or is_windowed(c.b))


def collide(c: Contract, lane: Expr, row: Expr | None) -> bool:
    """Whether rows of the tile fall into the same sets of the first cache."""
    for e in (c.a, c.b):
        used = variables(e)
        if row is not None and row in used and lane not in used:
            step = stride(e, row) * e.dtype.size
            if step % 1024 == 0 and step > 0:
                return True
    return False


def _price(c: Contract, lane: Expr, row: Expr | None, t: Tile) -> float:
    """Cycles for each multiply-add, were the tile as good as its shape."""
    lanes = max(1, size(lane.attr.extent))
    fixed = isinstance(lane.attr.extent, int)  # else the last panel is computed whole
    whole = -(-lanes // t.w) * t.w if fixed else lanes + t.nr
    mr = t.mr if row is not None else 1
    cycles = tile_cycles(mr, t.nv) / (mr * t.nr) * whole / lanes
    if row is not None and isinstance(row.attr.extent, int):
        tiles = -(-row.attr.extent // mr)
        cycles *= 1 + 0.3 * (tiles * mr / max(1, row.attr.extent) - 1)
    elif row is not None:
        cycles *= 1.08  # rows may be few
    depth = max(1.0, work(*(v.attr.extent for v in c.k)))
    out = max(stride(c.stage.out[c.at], lane), 1)
    cycles += (0.1 if out == 1 else 2.0) / depth
    for e in (c.a, c.b):
        used = variables(e)
        if lane in used and stride(e, lane) > 1 and not c.is_fixed(e):
            reuse = 1.0 if row is not None and row in used else work(
                *(v.attr.extent for v in c.axes if v not in used))
            if is_guarded(e) and is_windowed(e):
                reuse *= _uses(c, e)  # copied, with the lanes innermost
            cycles += 1.0 / reuse if row is None or row not in used else 2.0 / reuse
        if lane in used and row is not None and row in used:
            cycles += 0.5 / t.w  # no reuse of the vector between rows
        elif lane in used and is_guarded(e) and not c.is_fixed(e):  # it has to be packed
            cycles += 1.2 / work(*(v.attr.extent for v in c.axes if v not in used))
        if row is not None and row in used and lane not in used and stride(e, row) >= 1024:
            cycles *= 1.03
    return cycles


LINE = 0.5  # cycles for a cache line that comes from beyond the first cache


def _streams(c: Contract, lane: Expr, row: Expr | None, t: Tile, mach: Machine) -> float:
    """Cycles for each multiply-add by which a long sum waits for lines of its row factor."""
    depth = work(*(v.attr.extent for v in c.k))
    if row is None or not c.k or depth * 4 * mach.vector <= mach.l2 // 4:
        return 0.0
    lines = 0.0
    for e in (c.a, c.b):
        used = variables(e)
        if row not in used or lane in used:
            continue
        step = min((s for v in c.k if (s := stride(e, v) * e.dtype.size) > 0), default=0)
        apart = stride(e, row) * e.dtype.size
        if step < 64:
            lines += t.mr * step / 64
        else:
            lines += 1.0 if apart == step else min(t.mr, max(1.0, t.mr * apart / 64))
    return LINE * lines / (t.mr * t.nr)


@dataclass(eq=False)
class Draft:
    """A schedule in the making."""

    c: Contract
    ax: Axes
    mach: Machine
    phases: list[Phase]
    scratch: list[Buffer]
    notes: list[str]
    lane_masks: bool = False
    may_pack: bool = True
    few: bool = True

    def take(self, side: str, p: Packed, what: str) -> None:
        """Use a packed factor in place of a or b."""
        a, b = (p.factor, self.c.b) if side == "a" else (self.c.a, p.factor)
        self.c = self.c.with_factors(a, b)
        self.phases.append(p.phase)
        self.scratch.append(p.buffer)
        self.notes.append(f"{what} {p.buffer.name}")


def blocked(
    c: Contract, ax: Axes, mach: Machine, pack: bool = True, few: bool = True, split: bool = True
) -> LoopKernel:
    """A register-tiled schedule; always applies.

    pack: whether the lane factor may be copied; few: whether symbolic rows may be few; split:
    whether a long axis of k goes around the tiles (partial sums keep their order: equal bits).
    """
    d = Draft(c, ax, mach, [], [], [], may_pack=pack, few=few)
    for side in ("a", "b"):
        remove_guards(d, side)
    for side in ("a", "b"):
        prepare(d, side)
    ax = d.ax = replace(d.ax, k=_order_k(d))
    rows: Dim = 1 if ax.row is None else ax.row.attr.extent
    deep = dims.product(tuple(v.attr.extent for v in ax.k))
    if split:
        _split_long(d)
    share = SHARED_ROWS if is_product(c) else 48
    n = nest(ax.outer, rows, ax.lane.attr.extent, deep, ax.tile, share, _traffic(d))
    d.phases.append(Phase(_main(d, n)))
    t = ax.tile
    note = f"contract {t.mr}x{t.nr}" + "".join(f", {x}" for x in d.notes)
    k = c.kernel
    return LoopKernel(k.name, k.inputs, k.outputs, tuple(d.scratch), tuple(d.phases), "cpu", note)


def _traffic(d: Draft) -> Traffic:
    """How much memory the factors of the finished draft are."""
    lane, row = (d.c.a, d.c.b) if d.ax.lane in variables(d.c.a) else (d.c.b, d.c.a)
    places = work(*(v.attr.extent for v in d.ax.outer if v in variables(row)))
    shared = not any(v in variables(lane) for v in d.ax.outer)
    blocks = work(*(v.attr.extent for v in d.ax.k[: _blocked_axes(d)]))
    return Traffic(_bytes(lane) if shared else 0.0, _bytes(row) / places / blocks, float(d.mach.l2))


def _bytes(e: Expr) -> float:
    """How much memory the loads of an expression touch."""
    found: dict[Buffer, float] = {}
    for x in ex.loads(e):
        buf = ex.load_parts(x)[0]
        most = min(work(*buf.shape), work(*(v.attr.extent for v in variables(x))))
        found[buf] = max(found.get(buf, 0.0), most * buf.dtype.size)
    return sum(found.values())


def _uses(c: Contract, e: Expr) -> float:
    """How often an element that a factor reads is used, on average, all windows together."""
    used = variables(e)
    return work(*(v.attr.extent for v in (*c.axes, *c.k) if v in used)) * e.dtype.size / _bytes(e)


def _factor(d: Draft, side: str) -> Expr:
    return d.c.a if side == "a" else d.c.b


def remove_guards(d: Draft, side: str) -> None:
    """Copies a factor with padding into an array that holds the padding."""
    e = _factor(d, side)
    used = variables(e)
    if d.ax.lane in used and d.ax.row not in used and d.may_pack:
        return  # the lane factor loses its guards when it is packed
    if not is_guarded(e) and (is_bare(e) or not is_windowed(e)):
        return
    if d.ax.lane in used and d.ax.row in used and _tests_rows(d.c, e, d.ax.lane):
        return
    p = without_guards(e, side + "pad", (*d.c.axes, *d.c.k), d.ax.lane, d.mach.lanes(e.dtype))
    if p is not None:
        d.take(side, p, "padded")


def _tests_rows(c: Contract, e: Expr, lane: Expr) -> bool:
    """Whether a factor is one load, contiguous along the lanes, whose tests are the same for all
    lanes: choosing between it and zeros costs less than a copy of what is read up to 4 times."""
    if e.op != "load" or stride(e, lane) != 1 or c.limits or _uses(c, e) > 4.0:
        return False
    pred = ex.load_parts(e)[2]
    return pred is not None and lane not in variables(pred)


def prepare(d: Draft, side: str) -> None:
    """Packs a factor where reading it in place would cost more."""
    e, ax = _factor(d, side), d.ax
    used = variables(e)
    in_rows = ax.row is not None and ax.row in used
    if ax.lane not in used:
        if not is_bare(e) and not is_guarded(e) and not is_windowed(e):
            order = by_stride(tuple(v for v in (*d.c.axes, *d.c.k) if v in used), e)
            d.take(side, copied(e, side + "row", order, d.mach.lanes(e.dtype)), "copied")
        return
    if in_rows:
        d.lane_masks = True
        return
    others = work(*(v.attr.extent for v in d.c.axes if v not in used))
    if d.may_pack and others >= 4 and d.c.is_fixed(e):
        pass  # packed once, read many times
    elif not d.may_pack or others < 4 or (
            in_place(d.c, ax, e) and others <= _few_rows(d, e) and d.few):
        d.lane_masks = True
        return
    d.take(side, panels(e, side + "pack", ax.lane, ax.outer, ax.k, ax.tile), "packed")


MANY_ROWS = 1024  # from which packing a factor costs next to nothing


def _few_rows(d: Draft, e: Expr) -> int:
    """Up to how many rows a lane factor is read in place: more where panels are fetched once, and
    always where blocks of k are that the second cache holds."""
    most = place_rows(d.ax, e)
    around = [v for v in d.ax.k[: _blocked_axes(d)] if v in variables(e)]
    if around and _bytes(e) / work(*(v.attr.extent for v in around)) <= d.mach.l2 // 4:
        return max(most, MANY_ROWS)
    return max(most, MANY_ROWS) if by_panels(d.ax.outer, _traffic(d)) else most


def in_place(c: Contract, ax: Axes, e: Expr) -> bool:
    """Whether the lane factor can be read where it is at all well."""
    return (stride(e, ax.lane) == 1 and is_plain(e) and c.ready(e)
            and isinstance(ax.lane.attr.extent, int))


def place_rows(ax: Axes, e: Expr) -> int:
    """Up to how many rows the lane factor is best read where it is."""
    used = variables(e)
    k = [v for v in ax.k if v in used]
    step = stride(e, k[-1]) * e.dtype.size if k else 0
    extents = [v.attr.extent for v in (*k, ax.lane)]
    return direct_rows(work(*extents) * e.dtype.size, step)


def _order_k(d: Draft) -> tuple[Expr, ...]:
    """k as the row factor runs through memory; what is only in one factor goes outside."""
    factor = d.c.b if d.ax.lane in variables(d.c.a) else d.c.a
    return by_stride(d.ax.k, factor) if stride(factor, d.ax.lane) < FAR else d.ax.k


K_BLOCK = 1024  # steps of a long axis of k between two visits of the partial sums


def long_symbol(c: Contract) -> Dim | None:
    """The extent of the only axis of k where that is a symbol: it may be long or short."""
    if len(c.k) != 1 or c.k[0] in c.limits or isinstance(c.k[0].attr.extent, int):
        return None
    extent: Dim = c.k[0].attr.extent
    return extent


def _split_long(d: Draft) -> None:
    """One long axis of k in two, the outer one going around the tiles."""
    ax, c = d.ax, d.c
    if len(ax.k) != 1 or ax.k[0] in c.limits:
        return
    (k,) = ax.k
    extent = k.attr.extent
    if isinstance(extent, int) and extent < 4 * K_BLOCK:
        return
    count = dims.ceildiv(extent, K_BLOCK)
    kb, kk = ex.var(k.attr.name + "b", count), ex.var(k.attr.name, K_BLOCK)
    env = {k: kb * K_BLOCK + kk}
    left = ex.imin(K_BLOCK, ex.index(extent) - kb * K_BLOCK)
    d.c = replace(c, a=ex.substitute(c.a, env), b=ex.substitute(c.b, env), k=(kb, kk),
                  limits={**c.limits, kk: left})
    d.ax = replace(ax, k=(kb, kk))


def _blocked_axes(d: Draft) -> int:
    """How many axes of k, from the outermost, go around the tiles, sums waiting in memory."""
    ax = d.ax
    if len(ax.k) < 2 or ax.k[0] in d.c.limits:
        return 0
    if ax.k[1] in d.c.limits:  # made by `_split_long`
        return int(len(ax.k) == 2 and ax.k[1].attr.extent == K_BLOCK)
    row = (ax.tile.mr + ax.tile.nr) * d.c.acc.size
    for n, v in enumerate(ax.k):
        inner = work(*(v.attr.extent for v in ax.k[n:]))
        if inner * row <= d.mach.l2 // 4:
            return n if inner >= 32 else max(0, n - 1)
        if v in d.c.limits or (n > 0 and not isinstance(v.attr.extent, int)):
            return n
    return len(ax.k) - 1


def _main(d: Draft, n: Nest) -> Block:
    ax, c = d.ax, d.c
    split = _blocked_axes(d)
    if not split:
        m = Micro(c, ax.row, ax.lane, ax.k, d.lane_masks, turn=_turn(d, n))
        return n.phase(lambda s, lg, rg: s.tiles(m.tile, lg, rg))
    (k, *more), (inner, *_) = ax.k[:split], ax.k[split:]
    blocks = dims.maximum(1, k.attr.extent)  # even an empty sum is written once
    if blocks != k.attr.extent:
        none = ex.index(dims.mul(k.attr.extent, inner.attr.extent))
        block = ex.var(k.attr.name, blocks)
        a, b = (ex.substitute(e, {k: block}) for e in (c.a, c.b))
        count = ex.substitute(ex.imin(c.count(inner), none), {k: block})
        c = replace(c, a=a, b=b, limits={**c.limits, inner: count})
        k = block
    around, number, total = (k, *more), k, blocks
    for v in more:
        number, total = number * v.attr.extent + v, dims.mul(total, v.attr.extent)
    d.notes.append("k by " + " ".join(v.attr.name for v in around))
    m = Micro(c, ax.row, ax.lane, ax.k[split:], d.lane_masks, sums_buffer(d), number,
              ex.index(total), turn=_turn(d, n), around=around)

    def loops(body: Block) -> Block:
        for v in reversed(around):
            body = (For(v, ex.index(v.attr.extent), "serial", body),)
        return body

    return n.phase(lambda s, lg, rg: s.tiles(m.tile, lg, rg, loops))


def _turn(d: Draft, n: Nest) -> Turn | None:
    """Where a panel is used by many tiles, these fetch the next one ahead of time."""
    lane = d.c.a if d.ax.lane in variables(d.c.a) else d.c.b
    if not n.panels or not is_bare(lane) or not n.within:
        return None
    axis = n.within[-1]
    tiles = size(axis.attr.extent) + size(n.rows.count) - 1
    return Turn(axis, n.tile, max(1, -(-n.tile.nv // max(1, tiles))))


def sums_buffer(d: Draft) -> Buffer:
    """Where partial sums wait: the result itself where it is nothing but the sum."""
    c = d.c
    if c.value is c.total and c.stage.out in c.kernel.outputs and not c.epilogue:
        return c.stage.out
    buf = Buffer("sums", c.acc, c.stage.out.shape)
    d.scratch.append(buf)
    return buf
