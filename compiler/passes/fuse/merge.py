"""Merging: groups that do not depend on each other become one kernel.

Elementwise groups over one domain that share what they read, or of which one reads the other,
become one nest. Others become *parts* of one kernel, side by side: all updates of an optimizer,
small groups whose launches cost more than their work, column sums of one array. A group only moves
to a later place, past nothing that reads it, and only where the temporaries that it keeps alive
longer do not raise the peak of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowc.ir import dims
from flowc.ir.kernel.expr import Expr, load_parts, walk
from flowc.ir.kernel.form import AnyStage, Buffer, Stage
from flowc.ir.kernel.patterns import Kind, estimate, iterations, same_index
from flowc.ir.plan import Step, step_reads, step_writes

from ..base import Context
from .inline import metrics
from .limits import Limits

SMALL = 32768  # evaluations of an innermost formula: some 20 µs; a launch with threads is 1 µs
SLACK = 65536  # bytes that the peak of memory may grow by, if that is a small part of it
ROWS = 32  # from which rows give threads enough to do
STAGES = 16  # of a nest
PARTS = 256  # of a kernel
CANDIDATES = 32  # groups that a later one is compared with


@dataclass
class Group:
    """Stages of one kernel to be. rank: how many leading axes are rows, None while undecided.

    parts: how many stages each part has; empty while there is one. step: a step that is no stage.
    """

    kind: Kind
    stages: list[AnyStage] = field(default_factory=list)
    rank: int | None = None
    step: Step | None = None
    nodes: int = 0
    parts: list[int] = field(default_factory=list)

    @property
    def first(self) -> Stage:
        s = self.stages[0]
        assert isinstance(s, Stage)
        return s

    def reads(self) -> set[Buffer]:
        """The buffers read, its own results too."""
        if self.step is not None:
            return set(step_reads(self.step))
        return {e.attr for s in self.stages for e in s.reads()}

    def writes(self) -> list[Buffer]:
        """The buffers written."""
        if self.step is not None:
            return step_writes(self.step)
        return [b for s in self.stages for b in s.outs]


def in_row(e: Expr, s: AnyStage, rank: int) -> bool:
    """Whether a load stays in the row of s: at its first `rank` axes, which it reads nowhere else;
    if those are all axes of what is loaded, at its point."""
    _, idx, pred = load_parts(e)
    if pred is not None or not all(map(same_index, idx[:rank], s.axes[:rank])):
        return False
    return not any(v in walk(i) for i in idx[rank:] for v in s.axes[:rank])


def _work(g: Group) -> int:
    """Evaluations of an innermost formula, with typical sizes for symbols."""
    return sum(estimate(iterations(s)) for s in g.stages if isinstance(s, Stage))


def size(s: AnyStage) -> int:
    """Nodes of a stage's formula."""
    return metrics(s.value)[0] if isinstance(s, Stage) else 0


@dataclass
class Given:
    """What merging has to know of the program. updates: a new value → the state that it replaces;
    alive: temporaries only, not what the caller gives."""

    needed: set[Buffer]
    fixed: set[Buffer]
    updates: Mapping[Buffer, Buffer]
    views: Mapping[Buffer, Buffer]
    root: Callable[[Buffer], Buffer]


def merge(groups: Sequence[Group], given: Given, opts: Limits, ctx: Context) -> list[Group]:
    """The groups, some of them merged, in an order in which each is made before its readers."""
    for how in ("nest", "parts") if opts.parts else ("nest",):
        groups = _Merger(groups, how, given, opts, ctx).run()
    return list(groups)


class _Merger:
    def __init__(
        self, groups: Sequence[Group], how: str, given: Given, opts: Limits, ctx: Context
    ) -> None:
        self.how = how
        self.groups: list[Group | None] = list(groups)
        self.given, self.opts, self.ctx = given, opts, ctx
        self.reads = [self._roots(g.reads()) for g in groups]
        self.writes = [self._roots(g.writes()) for g in groups]
        self.work = [_work(g) for g in groups]
        self.open: list[int] = []
        self.memory = _Memory(self.reads, self.writes, given)

    def _roots(self, buffers: Iterable[Buffer]) -> set[Buffer]:
        return {self.given.root(b) for b in buffers}

    def run(self) -> list[Group]:
        for n, g in enumerate(self.groups):
            assert g is not None
            if g.step is not None:
                self.open.clear()  # it may write what a group before it reads
                continue
            if g.kind in ("map", "rows", "columns"):
                self._absorb(n, g)
            self.open = [i for i in self.open if not self.writes[i] & self.reads[n]]
            if g.kind in ("map", "rows", "columns"):
                self.open = [*self.open[1 - CANDIDATES :], n]
        return [g for g in self.groups if g is not None]

    def _absorb(self, n: int, g: Group) -> None:
        """Merge open groups into group n, those first that it reads."""
        order = sorted(self.open, key=lambda i: (not self.writes[i] & self.reads[n], -i))
        for i in order:
            a = self.groups[i]
            assert a is not None
            can = self._one_nest if self.how == "nest" else self._parts
            if not can(i, a, n, g) or not self.memory.fits(i, n) or not self.ctx.allow("merge"):
                continue
            self.open.remove(i)
            if self.how == "parts":
                g.parts = [*(a.parts or [len(a.stages)]), *(g.parts or [len(g.stages)])]
            g.stages = [*a.stages, *g.stages]
            g.nodes += a.nodes
            if self.how == "nest" and a.kind == "rows":
                g.kind, g.rank = a.kind, a.rank
            self.work[n] += self.work[i]
            self.memory.move(i, n)
            self.reads[n] |= self.reads[i]
            self.writes[n] |= self.writes[i]
            self.groups[i] = None

    # ---- what may be merged, and is worth it

    def _one_nest(self, i: int, a: Group, n: int, b: Group) -> bool:
        """Whether both are elementwise over one domain, or work on the same rows, and have data in
        common."""
        if len(a.stages) + len(b.stages) > STAGES or a.nodes + b.nodes > 2 * self.opts.nodes:
            return False
        rows = "rows" in (a.kind, b.kind)
        rank = a.first.out.rank if not rows else b.rank if a.rank is None else a.rank
        shape = a.first.out.shape
        small = self.work[i] <= SMALL and self.work[n] <= SMALL
        if rows and not self._same_rows(a, b, rank or 0, small):
            return False
        if not rows and (not a.kind == b.kind == "map" or shape != b.first.out.shape):
            return False
        own = self.writes[i]
        if not all(self._within(e, s, rank or 0) for s in b.stages for e in s.reads()
                   if self.given.root(e.attr) in own):
            return False
        single = dims.product(shape) == 1
        return single or bool(own & self.reads[n]) or self._shared(i, n)

    def _same_rows(self, a: Group, b: Group, rank: int, small: bool) -> bool:
        """Whether the groups are rows, or stages over such rows and their elements."""
        if not self.opts.rows or rank == 0:
            return False
        rows = dims.product(a.first.out.shape[:rank])
        if a.kind != b.kind and estimate(rows) < ROWS and not small:
            return False  # the elementwise one would have fewer chunks
        shapes = {s.outs[0].shape[:rank] for g in (a, b) for s in g.stages}
        ranks = {g.rank for g in (a, b) if g.kind == "rows"}
        return {a.kind, b.kind} <= {"map", "rows"} and len(shapes) == 1 and ranks == {rank}

    def _within(self, e: Expr, s: AnyStage, rank: int) -> bool:
        """Whether a load of what the other group makes stays at the point, or the row, of s."""
        return e.attr not in self.given.views and in_row(e, s, rank)

    def _parts(self, i: int, a: Group, n: int, b: Group) -> bool:
        """Whether they are independent, and one launch is better than two."""
        own = self.writes[i] & self.reads[n]
        if len(a.parts) + len(b.parts) >= PARTS or not self._passes(own, b):
            return False
        if self._overwrites(i, n) or self._overwrites(n, i):
            return False
        if self.work[i] <= SMALL and self.work[n] <= SMALL:
            return True
        if a.kind == b.kind == "columns":
            return self._shared(i, n) or a.first.out.shape == b.first.out.shape
        return self._ends(i, a) and self._ends(n, b)

    def _passes(self, own: set[Buffer], b: Group) -> bool:
        """Whether all that b reads of the other part is single elements, where they are made."""
        reads = {e.attr for s in b.stages for e in s.reads()}
        return own <= reads and all(dims.product(x.shape) == 1 for x in own)

    def _shared(self, i: int, n: int) -> bool:
        """Whether both read an array."""
        return any(dims.product(b.shape) != 1 for b in self.reads[i] & self.reads[n])

    def _overwrites(self, i: int, n: int) -> bool:
        """Whether one replaces state in place that the other one, beside it, still reads."""
        olds = {self.given.updates[b] for b in self.writes[i] if b in self.given.updates}
        return bool(olds & self.reads[n])

    def _ends(self, n: int, g: Group) -> bool:
        """Whether it is elementwise and nothing that it makes is read by other groups, but single
        elements (an optimizer's step size)."""
        return g.kind == "map" and all(
            self.memory.last.get(b, n) == n or dims.product(b.shape) == 1 for b in self.writes[n]
        )


class _Memory:
    """The bytes of temporaries alive at each group, with typical sizes for symbols."""

    def __init__(
        self, reads: Sequence[set[Buffer]], writes: Sequence[set[Buffer]], given: Given
    ) -> None:
        self.reads, self.writes = reads, writes
        self.first: dict[Buffer, int] = {}
        self.last: dict[Buffer, int] = {}
        self.bytes: dict[Buffer, int] = {}
        outside = {*given.needed, *given.fixed}
        for n, (read, made) in enumerate(zip(reads, writes, strict=True)):
            for b in made | read:
                if b not in outside:
                    self.first.setdefault(b, n)
                    self.last[b] = n
        steps = np.zeros(len(reads) + 1, np.int64)
        for b, n in self.first.items():
            self.bytes[b] = estimate(b.type.nbytes)
            steps[n] += self.bytes[b]
            steps[self.last[b] + 1] -= self.bytes[b]
        self.alive = np.cumsum(steps[:-1])
        self.peak = int(self.alive.max(initial=0))

    def _changes(self, i: int, n: int) -> list[tuple[int, int, int]]:
        """(from, to, bytes) of what lives longer, or less, if group i moves to n."""
        out: list[tuple[int, int, int]] = []
        for b in self.reads[i] | self.writes[i]:
            if b not in self.first:
                continue
            if b in self.writes[i]:
                out.append((i, n, -self.bytes[b]))
            elif self.last[b] < n:
                out.append((self.last[b] + 1, n + 1, self.bytes[b]))
        return out

    def fits(self, i: int, n: int) -> bool:
        """Whether the peak stays what it is, give or take a small array."""
        new = self.alive[i : n + 1].copy()
        for start, end, size in self._changes(i, n):
            new[start - i : end - i] += size
        return int(new.max()) <= self.peak + min(self.peak >> 8, SLACK)

    def move(self, i: int, n: int) -> None:
        """Note that group i now runs at n."""
        for start, end, size in self._changes(i, n):
            self.alive[start:end] += size
        for b in self.reads[i] | self.writes[i]:
            if b in self.first:
                self.last[b] = max(self.last[b], n)
                if b in self.writes[i]:
                    self.first[b] = n
