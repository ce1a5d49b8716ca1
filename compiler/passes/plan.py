"""The plan: the order of steps, updates in place, and where each buffer lies in the workspace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify, same_index
from flowc.ir.plan import (
    Cond,
    Copy,
    Define,
    HostCall,
    Launch,
    Loop,
    Program,
    Push,
    Step,
    blocks,
    launches,
    step_reads,
    step_writes,
    walk_steps,
)

from .base import Context, Pass, Unit, register

ALIGN = 64


@register
@dataclass(frozen=True)
class Plan(Pass):
    """Order the steps, update state in place where that is safe, place temporaries.

    inplace: allow updates in place; reuse: let buffers share memory.
    """

    inplace: bool = True
    reuse: bool = True

    name = "plan"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: place(update_state(p, self, ctx), self))


def update_state(p: Program, opts: Plan, ctx: Context) -> Program:
    """Each updated variable either shares memory with its new value or is copied at the end.

    In place: the kernel that makes the new value reads the old one, if at all, only at the index
    that it writes, and all other readers can run before it.
    """
    order = _Order(p)
    views = dict(p.views)
    tail: list[Step] = []
    for old, new in p.updates.items():
        maker = order.maker.get(new)
        step = p.steps[maker] if maker is not None else None
        if (
            opts.inplace
            and isinstance(step, Launch)
            and _pointwise(step.kernel, old, new)
            and new not in p.views
            and ctx.allow("inplace")
            and order.readers_first(p.root(old), maker)
        ):
            views[new] = old
        else:
            tail.append(Copy(old, new))
    return p.replace(steps=(*(p.steps[i] for i in order.sorted()), *tail), views=views)


def _pointwise(k: Kernel, old: Buffer, new: Buffer) -> bool:
    """Whether k reads `old` only where it then writes `new`, not after, and not in a reduction.

    Stages over one domain store when all of their values are computed (see `_stores_last`).
    """
    if old.shape != new.shape or old.dtype != new.dtype:
        return False
    done, last = False, _stores_last(k)
    for s in k.stages:
        if not isinstance(s, Stage):
            if old in k.inputs:
                return False
            done = done or new in s.outs
            continue
        inside = {e for x in ex.walk(s.value) if x.op == "reduce" for e in ex.walk(x.args[0])}
        for e in s.reads():
            if e.attr is old and (done or e in inside or not _here(e, s)):
                return False
        done = done or (s.out is new and not last)
    return True


def _here(e: Expr, s: Stage) -> bool:
    """Whether a load has the indices at which the stage writes."""
    return all(map(same_index, ex.load_parts(e)[1], s.axes))


def _stores_last(k: Kernel) -> bool:
    """Whether every schedule of k computes all results of a point before it stores any of them:
    elementwise stages over one domain, after a contract or a reduction of columns or not."""
    kinds = [classify(s) for s in k.stages]
    shapes = {s.outs[0].shape for s in k.stages}
    return kinds[0] in ("map", "contract", "columns") and len(shapes) == 1 and (
        all(kind == "map" for kind in kinds[1:])
    )


class _Order:
    """The dependencies of top-level steps, to which write-after-read edges can be added."""

    def __init__(self, p: Program) -> None:
        self.p = p
        self.maker: dict[Buffer, int] = {}
        self.readers: dict[Buffer, list[int]] = {}
        self.after: list[set[int]] = [set() for _ in p.steps]  # edges: i runs before after[i]
        last_fixed = -1
        for n, s in enumerate(p.steps):
            for b in step_reads(s):
                root = p.root(b)
                if root in self.maker:
                    self.after[self.maker[root]].add(n)
                self.readers.setdefault(root, []).append(n)
            if not isinstance(s, Launch):
                last_fixed = self._fixed(n, s, last_fixed)
            for b in step_writes(s):
                self.maker[p.root(b)] = n

    def _fixed(self, n: int, s: Step, last: int) -> int:
        """Steps other than launches keep their order among themselves, and readers theirs."""
        if last >= 0:
            self.after[last].add(n)
        for b in step_writes(s):
            root = self.p.root(b)
            for r in self.readers.get(root, []):
                if r != n:
                    self.after[r].add(n)
            if root in self.maker:
                self.after[self.maker[root]].add(n)
        return n

    def readers_first(self, b: Buffer, writer: int | None) -> bool:
        """Make all other readers of b run before `writer`; False (no change) where they cannot."""
        assert writer is not None
        others = {r for r in self.readers.get(b, []) if r != writer}
        reached: set[int] = set()
        stack = [writer]
        while stack:
            for m in self.after[stack.pop()]:
                if m not in reached:
                    reached.add(m)
                    stack.append(m)
        if reached & others:
            return False
        for r in others:
            self.after[r].add(writer)
        return True

    def sorted(self) -> list[int]:
        """A topological order, as near to the original as the edges allow."""
        before: list[list[int]] = [[] for _ in self.after]
        for n, edges in enumerate(self.after):
            for m in edges:
                before[m].append(n)
        out: list[int] = []
        done = [False] * len(self.after)
        for root in range(len(self.after)):
            stack = [root]
            while stack:
                n = stack[-1]
                missing = [m for m in before[n] if not done[m]]
                if done[n] or not missing:
                    stack.pop()
                    if not done[n]:
                        done[n] = True
                        out.append(n)
                    continue
                stack.extend(sorted(missing, reverse=True))
        return out


# ---- memory

@dataclass
class _Range:
    """When a buffer is alive, in positions of the walk over all steps."""

    first: int
    last: int


@dataclass
class _Slot:
    size: Dim
    free_at: int
    offset: Dim = 0
    users: list[Buffer] = field(default_factory=list)


def place(p: Program, opts: Plan) -> Program:
    """Offsets for all temporaries: interval packing; slots are shared where sizes are ordered."""
    given = {*p.inputs, *p.state, *p.outputs, *p.constants}
    grown = data_symbols(p)
    given |= {e for s in walk_steps(p.steps) if isinstance(s, Loop) for e, _ in s.xs}
    ranges = _ranges(p, given)
    slots = _Slots()
    of: dict[Buffer, _Slot] = {}
    for b, r in sorted(ranges.items(), key=lambda t: (t[1].first, -_rough(t[0]))):
        if any(dims.symbols(d) & grown for d in b.shape):
            continue  # sized by the data: the host function asks for its memory
        size = padded(dims.substitute(b.type.nbytes, p.bounds))
        slot = slots.take(size, r, opts.reuse)
        slot.users.append(b)
        of[b] = slot
    total: Dim = 0
    for slot in slots.every:
        slot.offset = total
        total = dims.add(total, slot.size)
    offsets = {b: s.offset for b, s in of.items()}
    return p.replace(offsets=offsets, workspace=total)


def data_symbols(p: Program) -> frozenset[str]:
    """The symbols that loops define."""
    return frozenset(s.symbol for s in walk_steps(p.steps) if isinstance(s, Loop) and s.symbol)


def padded(nbytes: Dim) -> Dim:
    """Rounded up to the alignment."""
    return dims.mul(dims.ceildiv(nbytes, ALIGN), ALIGN)


def _rough(b: Buffer) -> int:
    size = dims.substitute(b.type.nbytes, {n: 64 for d in b.shape for n in dims.symbols(d)})
    return size if isinstance(size, int) else 0


class _Slots:
    """Slots by size: those in use by the time at which they become free, the others by age."""

    def __init__(self) -> None:
        self.every: list[_Slot] = []
        self.busy: dict[Dim, list[tuple[int, int]]] = {}
        self.free: dict[Dim, list[int]] = {}
        self.holds: dict[tuple[Dim, Dim], bool] = {}

    def take(self, size: Dim, r: _Range, reuse: bool) -> _Slot:
        """The oldest free slot of the size, else one provably larger, else a new one.

        Calls come in the order of `r.first`.
        """
        n = self._find(size, r.first) if reuse else None
        if n is None:
            n = len(self.every)
            self.every.append(_Slot(size, r.last))
            self.free.setdefault(size, [])
        slot = self.every[n]
        slot.free_at = r.last
        heappush(self.busy.setdefault(slot.size, []), (r.last, n))
        return slot

    def _find(self, size: Dim, now: int) -> int | None:
        kinds = [size] if self._oldest(size, now) is not None else [
            s for s in self.free if self._larger(s, size) and self._oldest(s, now) is not None
        ]
        if not kinds:
            return None
        return heappop(self.free[min(kinds, key=lambda s: self.free[s][0])])

    def _oldest(self, size: Dim, now: int) -> int | None:
        busy, free = self.busy.get(size, []), self.free.get(size, [])
        while busy and busy[0][0] < now:
            heappush(free, heappop(busy)[1])
        return free[0] if free else None

    def _larger(self, have: Dim, size: Dim) -> bool:
        key = have, size
        if key not in self.holds:
            self.holds[key] = dims.nonnegative(dims.add(have, dims.mul(size, -1)))
        return self.holds[key]


def _ranges(p: Program, given: set[Buffer]) -> dict[Buffer, _Range]:
    touched: dict[Buffer, list[int]] = {}
    loops: list[tuple[int, int]] = []
    counter = iter(range(1 << 60))

    def visit(steps: tuple[Step, ...]) -> None:
        for s in steps:
            start = next(counter)
            for b in _touches(s):
                root = p.root(b)
                if root not in given:
                    touched.setdefault(root, []).append(start)
            for block in blocks(s):
                visit(block)
            if isinstance(s, Loop):
                end = next(counter)
                loops.append((start, end))
                for b in _touches(s):
                    if p.root(b) not in given:
                        touched.setdefault(p.root(b), []).append(end)

    visit(p.steps)
    out = {b: _Range(min(at), max(at)) for b, at in touched.items()}
    for start, end in loops:  # what crosses a loop's border lives through all its rounds
        for r in out.values():
            inside = start <= r.first <= end, start <= r.last <= end
            if inside[0] != inside[1]:
                r.first, r.last = min(r.first, start), max(r.last, end)
    return out


def _touches(s: Step) -> Iterator[Buffer]:
    if isinstance(s, Launch):
        yield from (*s.kernel.inputs, *s.kernel.outputs)
        for own in s.scratch:
            yield from own
    elif isinstance(s, Copy):
        yield from (s.dst, s.src)
    elif isinstance(s, HostCall):
        yield from (*s.inputs, *s.outputs)
    elif isinstance(s, Push):
        yield from (s.stack, s.value)
    elif isinstance(s, Define):
        yield s.value
    elif isinstance(s, Loop):
        yield from (array for _, array in s.xs)
        yield from (b for b in (s.pred, s.trips) if b is not None)
    elif isinstance(s, Cond):
        yield s.pred


def count_kernels(p: Program) -> int:
    """The number of launches, each counted once."""
    return sum(1 for _ in launches(p.steps))
