"""The loop nest of attention: blocks of query rows, both products and the rows between them.

One chunk has one point of the outer axes (a batch's head), or one block of its rows where there are
few such points. Keys are copied into panels, transposed, values into panels of lanes, once for a
point. Each block of query rows is copied, too; the micro-kernel of contracts gives its scores, the
schedule of rows runs over them a tile of rows at a time, the micro-kernel sums the values. Scores
and weights live in the block's buffers. Rows beyond the last query repeat it and are not stored.
"""

from __future__ import annotations

from dataclasses import replace

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, Kernel, LoopKernel, Phase, Stage, Store
from flowc.ir.plan import Variant

from ..contract.access import is_bare, size, stride
from ..contract.cost import Machine, Tile, machine, work
from ..contract.match import Contract
from ..contract.micro import Block, Micro, Place
from ..contract.nest import chunks, cut, nest
from ..contract.pack import Packed, panels
from ..contract.pairs import pairs
from ..schedule.rows import schedule_rows
from ..target import CpuTarget
from . import redirect
from .cost import choose
from .match import Attention

IN_PLACE = 128  # queries and keys up to which a copy of queries and values saves nothing
HEADS = 8  # points of the outer axes from which each is a chunk of its own
PAD = 16  # elements between rows of scores: rows must not meet in the sets of the first cache


def schedule(kernel: Kernel, found: Attention, target: CpuTarget) -> list[Variant]:
    """The scheduled kernel of an attention."""
    assert found.kernel is kernel
    return [Variant(None, _Nest(found, target).kernel())]


class _Nest:
    def __init__(self, a: Attention, target: CpuTarget) -> None:
        mach, acc = machine(target), a.scores.acc
        self.a = a = replace(a, scores=_by_two(a.scores, mach), out=_by_two(a.out, mach))
        self.target = target
        self.w = mach.lanes(acc)
        self.queries: Dim = a.row.attr.extent
        self.keys: Dim = a.key.attr.extent
        self.depth = tuple(v.attr.extent for v in a.scores.k)
        lanes, depth = a.lane.attr.extent, int(work(*self.depth))
        self.tiling = choose(self.queries, self.keys, depth, lanes, self.w, acc.size, mach)
        self.mr = self.tiling.scores.mr
        whole = isinstance(self.queries, int) and self.queries % self.mr == 0
        self.ragged = not whole
        self.flops = depth + lanes
        self.weight = a.weights.dtype if a.out.pairs else acc
        self.values, self.key_panels = a.out.b, a.scores.b
        few = all(isinstance(n, int) and n <= IN_PLACE for n in (self.queries, self.keys))
        self.copy_queries = not few or not _is_row(a.scores.a, a.scores.k[-1:], acc)
        self.copy_values = not few or not _is_row(a.out.b, (a.lane,), acc)

    # ---- chunks

    def kernel(self) -> LoopKernel:
        """The scheduled kernel: one phase, before which keys and values are packed if shared."""
        a, t = self.a, self.tiling
        blocks = dims.ceildiv(self.queries, t.rows)
        n = ex.var("qb", blocks)
        heads = work(*(v.attr.extent for v in a.outer))
        apart = heads < HEADS and size(self.queries) > t.rows
        packs = self._pack(apart)
        scratch: tuple[Buffer, ...] = ()
        phases: tuple[Phase, ...] = ()
        if apart:
            phases, scratch = tuple(p.phase for p in packs), tuple(p.buffer for p in packs)
            axes: list[tuple[Expr, Dim]] = [(v, v.attr.extent) for v in a.outer]
            main = chunks([*axes, (n, blocks)], self._block(n))
        else:
            main = self._heads(_filled(packs, (
                For(n, ex.index(blocks), "serial", self._block(n)),)))
        k = a.kernel
        note = f"attention {t.scores.mr}x{t.scores.nr} {t.out.mr}x{t.out.nr}, {t.rows} rows"
        phases = (*phases, Phase(main))
        return LoopKernel(k.name, k.inputs, k.outputs, scratch, phases, "cpu", note)

    def _heads(self, body: Block) -> Block:
        """Chunks of points of the outer axes."""
        if not self.a.outer:
            return (For(ex.var("chunk", 1), ex.index(1), "parallel", body),)
        n = nest(self.a.outer, self.queries, self.keys, self.flops, self.tiling.out)
        n = replace(n, lanes=cut(1, 1), rows=cut(1, 1))  # a point is not divided
        return n.phase(lambda *_: body)

    def _pack(self, apart: bool) -> list[Packed]:
        """Keys and values in panels: each in a phase of its own, or for one point in its chunk."""
        a, t = self.a, self.tiling
        outer = a.outer if apart else ()
        packs = [panels(a.scores.b, "keys", a.key, outer, a.scores.k, t.scores)]
        if self.copy_values:
            packs.append(panels(a.out.b, "values", a.lane, outer, a.out.k, t.out))
        packs = packs if apart else [_local(p) for p in packs]
        self.key_panels = packs[0].factor
        if self.copy_values:
            self.values = packs[1].factor
        return packs

    # ---- a block of query rows

    def _block(self, n: Expr) -> Block:
        """Everything for block n of the rows."""
        a, t = self.a, self.tiling
        rows, acc = t.rows, a.scores.acc
        first = n * rows
        exact = isinstance(self.queries, int) and self.queries % rows == 0
        live = ex.index(rows) if exact else ex.imin(rows, ex.index(self.queries) - first)
        tiles = ex.index(t.tiles) if exact else ex.floordiv(live + (self.mr - 1), self.mr)
        queried = a.scores.a.dtype if a.scores.pairs else acc
        queries = Buffer("queries", queried, (rows, *self.depth), "local")
        scores = Buffer("scores", a.scores.stage.out.dtype, (rows, self.keys), "local", PAD)
        weights = Buffer("weights", self.weight, (rows, self.keys), "local", PAD)
        scalars = {b: Buffer(b.name, b.dtype, (rows,), "local") for b in a.scalars}
        i = ex.var("i", rows)
        factor = ex.substitute(a.scores.a, {a.row: self._row(first, i)})
        fill: Block = ()
        if self.copy_queries:
            fill = self._copy_queries(queries, i, factor, tiles)
            factor = queries.at((i, *a.scores.k))
        body = (
            *fill,
            *self._scores(factor, i, scores, first, tiles),
            *self._rows(scores, weights, scalars, first, tiles),
        )
        words = Buffer("words", a.out.a.dtype, (rows, *(v.attr.extent for v in a.out.k)), "local",
                       PAD)
        if a.out.pairs:
            body = (*body, *self._words(weights, words, tiles))
        body = (*body, *self._out(words if a.out.pairs else weights, scalars, first, tiles))
        used = [scores, weights, *scalars.values()]
        used += [queries] * self.copy_queries + [words] * a.out.pairs
        for b in used:
            body = (Alloc(b, body),)
        return body

    def _row(self, first: Expr, i: Expr) -> Expr:
        """The query of row i of a block; the last one again for those beyond it."""
        q = first + i
        return ex.imin(q, ex.index(self.queries) - 1) if self.ragged else q

    def _copy_queries(self, to: Buffer, i: Expr, factor: Expr, tiles: Expr) -> Block:
        return self._fill(to, (i, *self.a.scores.k), ex.cast(factor, to.dtype), tiles)

    def _words(self, weights: Buffer, to: Buffer, tiles: Expr) -> Block:
        """The weights, two neighbours in a word."""
        i = ex.var("i", self.tiling.rows)

        def local(e: Expr) -> Expr | None:
            if e.op != "load" or e.attr is not self.a.weights:
                return None
            return weights[(i, ex.load_parts(e)[1][-1])]

        value = ex.rewrite(self.a.out.a, local, {})
        return self._fill(to, (i, *self.a.out.k), value, tiles)

    def _fill(self, to: Buffer, at: tuple[Expr, ...], value: Expr, tiles: Expr) -> Block:
        """to[at] = value for all rows of a block's tiles."""
        i, *inner = at
        body: Block = (Store(to, at, value),)
        *outer, last = inner or (ex.var("one", 1),)
        body = (For(last, ex.index(last.attr.extent), "vector", body, self.w),)
        for v in reversed(outer):
            body = (For(v, ex.index(v.attr.extent), "serial", body),)
        return (For(i, tiles * self.mr, "serial", body),)

    def _scores(self, factor: Expr, i: Expr, to: Buffer, first: Expr, tiles: Expr) -> Block:
        a = self.a
        value = ex.substitute(a.scores.value, {a.row: self._row(first, i)})
        c = replace(
            a.scores, kernel=Kernel("scores", (), (to,), ()), a=factor,
            b=self.key_panels, stage=Stage(to, (i, a.key), value), at=(i, a.key), value=value,
            batch=(), m=(i,), n=(a.key,), epilogue=(),
        )
        m = Micro(c, i, a.key, a.scores.k)
        return self._tiles(m, self.tiling.scores, self.keys, tiles)

    def _out(
        self, weights: Buffer, scalars: dict[Buffer, Buffer], first: Expr, tiles: Expr
    ) -> Block:
        a = self.a
        i = ex.var("i", self.tiling.rows)
        row = {a.row: self._row(first, i)}
        value = ex.rewrite(a.out.value, lambda e: scalars[e.attr][(i,)]
                           if e.op == "load" and e.attr in scalars else None, {})
        c = replace(
            a.out, a=weights.at((i, *a.out.k)), b=self.values, batch=(), m=(i,), n=(a.lane,),
            at=tuple(ex.substitute(e, row) for e in a.out.at), value=ex.substitute(value, row),
            exists=first + i < ex.index(self.queries) if self.ragged else None,
        )
        m = Micro(c, i, a.lane, a.out.k, lane_masks=not self.copy_values)
        return self._tiles(m, self.tiling.out, a.lane.attr.extent, tiles)

    def _tiles(self, m: Micro, t: Tile, lanes: Dim, tiles: Expr) -> Block:
        """The tiles of a block: panels of lanes outside, rows inside."""
        c = cut(lanes, t.nr)

        def panel(lane0: Expr, nv: int, left: Expr | None) -> Block:
            it = ex.var("it", self.tiling.tiles)
            stop = None if left is None else ex.index(lanes)
            body = m.tile(Place(it * t.mr, t.mr, None, lane0, nv, t.w, left, stop))
            return (For(it, tiles, "serial", body),)

        nv = -(-c.rest // t.w) if isinstance(c.rest, int) else t.nv
        return c.loop("jt", None, lambda n: panel(n * t.nr, t.nv, None),
                      lambda n: panel(n * t.nr, nv, ex.index(c.rest)))

    # ---- rows

    def _rows(
        self, scores: Buffer, weights: Buffer, scalars: dict[Buffer, Buffer], first: Expr,
        tiles: Expr,
    ) -> Block:
        """The schedule of rows, a tile at a time: as a kernel over `mr` rows."""
        it = ex.var("it", self.tiling.tiles)
        start = it * self.mr
        kernel, known = self._row_kernel(first + start)
        out = schedule_rows(kernel, self.target)
        assert not out.scratch
        a = self.a
        places = {known[a.scores.stage.out]: (scores, start), known[a.weights]: (weights, start)}
        places |= {known[b]: (to, start) for b, to in scalars.items()}
        body = tuple(s for p in out.phases for s in redirect.block(redirect.serial(p.body), places))
        return (For(it, tiles, "serial", body),)

    def _row_kernel(self, first: Expr) -> tuple[Kernel, dict[Buffer, Buffer]]:
        """The stages of rows over `mr` rows from `first`, and what stands for each buffer."""
        a = self.a
        known: dict[Buffer, Buffer] = {}
        i = ex.var("i", self.mr)
        lead = tuple(ex.substitute(e, {a.row: self._row(first, i)}) for e in a.lead)
        rank = len(lead)

        def stand_in(b: Buffer, dtype: DType) -> Buffer:
            known[b] = Buffer(b.name, dtype, (self.mr, *b.shape[rank:]))
            return known[b]

        def by_row(e: Expr) -> Expr | None:
            if e.op != "load" or e.attr not in known:
                return None
            here = known[e.attr].at((i, *ex.load_parts(e)[1][rank:]))
            return ex.cast(here, e.dtype)

        scores = stand_in(a.scores.stage.out, a.scores.stage.out.dtype)
        stages: list[Stage] = []
        for s in a.rows:
            value = ex.rewrite(s.value, by_row, {})
            value = ex.substitute(value, dict(zip(s.axes[:rank], lead, strict=True)))
            wide = self.weight if s.out is a.weights else s.out.dtype
            stages.append(Stage(stand_in(s.out, wide), (i, *s.axes[rank:]), ex.cast(value, wide)))
        outputs = tuple(known[b] for b in (a.weights, *a.scalars))
        return Kernel("rows", (scores,), outputs, tuple(stages)), known


def _by_two(c: Contract, mach: Machine) -> Contract:
    """The contract of pairs of bf16, where that takes no copies besides those made here."""
    found = pairs(c, mach)
    return c if found is None or found.copies else found.contract


def _is_row(e: Expr, axis: tuple[Expr, ...], dt: DType) -> bool:
    """Whether the factor is an array as it is, contiguous along the axis."""
    return is_bare(e) and e.dtype == dt and all(stride(e, v) == 1 for v in axis)


def _local(p: Packed) -> Packed:
    """What one chunk packs for itself."""
    to = Buffer(p.buffer.name, p.buffer.dtype, p.buffer.shape, "local")
    places = {p.buffer: (to, ex.index(0))}
    body = redirect.block(redirect.serial(p.phase.body), places)
    return Packed(redirect.load(p.factor, places, {}), to, Phase(body))


def _filled(packs: list[Packed], body: Block) -> Block:
    """The body in the scope of local copies."""
    body = (*(s for p in packs for s in p.phase.body), *body)
    for p in packs:
        body = (Alloc(p.buffer, body),)
    return body
