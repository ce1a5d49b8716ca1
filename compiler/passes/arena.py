"""The arena: where each temporary of a program lies in the workspace.

Buffers whose sizes are multiples of one unit (64 bytes, or so many bytes a row of a batch) share a
region of the arena. Within it each takes a time interval and a number of units, and offsets are
found as for dynamic storage allocation: best fit in the order of time, and for programs of usual
length also the largest first (Pisarchyk and Lee 2020), whichever ends lower.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel.form import Buffer
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
    walk_steps,
)

ALIGN = 64
_ROW = 1024  # bytes of a row from which rounding it up to ALIGN wastes little
_MANY = 1500  # buffers from which the quadratic way takes too long
_FEW, _TRIES = 200, 16  # up to so many buffers, other orders are tried so often
_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Interval:
    """When a buffer is alive, in positions of the walk over all steps, both ends included."""

    first: int
    last: int


def place(p: Program, reuse: bool = True) -> Program:
    """Offsets for all temporaries and the workspace's size; reuse: let them share memory."""
    given = {*p.inputs, *p.state, *p.outputs, *p.constants}
    grown = data_symbols(p)
    given |= {e for s in walk_steps(p.steps) if isinstance(s, Loop) for e, _ in s.xs}
    regions: dict[Dim, list[tuple[Buffer, Interval, int]]] = {}
    for b, r in intervals(p, given).items():
        if any(dims.symbols(d) & grown for d in b.shape):
            continue  # sized by the data: the host function asks for its memory
        unit, count = _units(dims.substitute(b.type.nbytes, p.bounds))
        regions.setdefault(unit, []).append((b, r, count))
    total: Dim = 0
    offsets: dict[Buffer, Dim] = {}
    for unit, entries in regions.items():
        at, end = pack([r for _, r, _ in entries], [n for _, _, n in entries], reuse)
        for (b, _, _), k in zip(entries, at, strict=True):
            offsets[b] = dims.add(total, dims.mul(unit, k))
        total = dims.add(total, dims.mul(unit, end))
    return p.replace(offsets=offsets, workspace=total)


def data_symbols(p: Program) -> frozenset[str]:
    """The symbols that loops define."""
    return frozenset(s.symbol for s in walk_steps(p.steps) if isinstance(s, Loop) and s.symbol)


def _units(nbytes: Dim) -> tuple[Dim, int]:
    """A size as a number of units, each a multiple of the alignment."""
    if isinstance(nbytes, int):
        return ALIGN, -(-nbytes // ALIGN)
    if len(nbytes.terms) == 1:
        ((row, count),) = nbytes.terms
        if count >= _ROW:
            return dims.mul(dims.Expr({row: 1}), ALIGN), -(-count // ALIGN)
    return dims.mul(dims.ceildiv(nbytes, ALIGN), ALIGN), 1


# ---- packing

def pack(
    when: Sequence[Interval], sizes: Sequence[int], reuse: bool = True
) -> tuple[list[int], int]:
    """Offsets such that no two that are alive at once overlap, and the end of the highest."""
    if not reuse:
        ends = np.cumsum(sizes, dtype=object)
        return [int(e - n) for e, n in zip(ends, sizes, strict=True)], int(ends[-1])
    ways = [_by_time(when, sizes)]
    if len(sizes) <= _MANY:
        ways.append(_by_size(when, sizes))
    return min(ways, key=lambda way: way[1])


def most_alive(when: Sequence[Interval], sizes: Sequence[int]) -> int:
    """The most units that are alive at one time: no packing ends lower."""
    change: dict[int, int] = {}
    for r, n in zip(when, sizes, strict=True):
        change[r.first] = change.get(r.first, 0) + n
        change[r.last + 1] = change.get(r.last + 1, 0) - n
    return max(accumulate(change[t] for t in sorted(change)), default=0)


def _by_time(when: Sequence[Interval], sizes: Sequence[int]) -> tuple[list[int], int]:
    """Best fit, as of an allocator that runs along with the program."""
    space = _Space()
    offsets = [0] * len(sizes)
    ends = sorted(range(len(sizes)), key=lambda i: when[i].last)
    done = 0
    for i in sorted(range(len(sizes)), key=lambda i: (when[i].first, -sizes[i])):
        while when[ends[done]].last < when[i].first:
            space.give(offsets[ends[done]], sizes[ends[done]])
            done += 1
        offsets[i] = space.take(sizes[i])
    return offsets, space.most


class _Space:
    """Free gaps, by size and by place; the space above `end` is free."""

    def __init__(self) -> None:
        self.end = self.most = 0
        self.by_size: list[tuple[int, int]] = []  # (size, start)
        self.starts: dict[int, int] = {}  # start → size
        self.stops: dict[int, int] = {}  # end → start

    def take(self, size: int) -> int:
        """The start of so many units in the smallest gap that holds them, else at the end."""
        if size == 0:
            return 0
        k = bisect_left(self.by_size, (size, -1))
        if k < len(self.by_size):
            have, start = self.by_size[k]
            self._remove(start, have)
            if have > size:
                self._insert(start + size, have - size)
            return start
        start = self.stops.get(self.end, self.end)  # a gap below the end grows
        if start != self.end:
            self._remove(start, self.end - start)
        self.end = start + size
        self.most = max(self.most, self.end)
        return start

    def give(self, start: int, size: int) -> None:
        """Free them; neighbours become one gap."""
        if size == 0:
            return
        before, after = self.stops.get(start), self.starts.get(start + size)
        if before is not None:
            self._remove(before, start - before)
            size += start - before
            start = before
        if after is not None:
            self._remove(start + size, after)
            size += after
        self._insert(start, size)

    def _insert(self, start: int, size: int) -> None:
        insort(self.by_size, (size, start))
        self.starts[start], self.stops[start + size] = size, start

    def _remove(self, start: int, size: int) -> None:
        del self.by_size[bisect_left(self.by_size, (size, start))]
        del self.starts[start], self.stops[start + size]


def _by_size(when: Sequence[Interval], sizes: Sequence[int]) -> tuple[list[int], int]:
    """Each, from the largest on, in the lowest gap between those that live at its time.

    While that is above what lives at most, what ended highest is placed first, and all again.
    """
    first, last = np.array([r.first for r in when]), np.array([r.last for r in when])
    size = np.array(sizes, np.int64)
    order = np.lexsort((first, -size))
    least = most_alive(when, sizes)
    best, end = _in_order(order, first, last, size)
    at = best
    for _ in range(_TRIES if len(sizes) <= _FEW else 0):
        if end == least:
            break
        highest = int(np.argmax(at + size))
        order = np.concatenate(([highest], order[order != highest]))
        at, got = _in_order(order, first, last, size)
        if got < end:
            best, end = at, got
    return best.tolist(), end


def _in_order(order: _Ints, first: _Ints, last: _Ints, size: _Ints) -> tuple[_Ints, int]:
    """Offsets by first fit in this order, and the end."""
    first, last, size = first[order], last[order], size[order]
    at = np.zeros(len(order), np.int64)
    for i in range(len(order)):
        meets = np.flatnonzero((first[:i] <= last[i]) & (last[:i] >= first[i]))
        meets = meets[np.argsort(at[meets], kind="stable")]
        starts = at[meets]
        floors = np.concatenate(([0], np.maximum.accumulate(starts + size[meets])))
        fits = np.flatnonzero(floors[:-1] + size[i] <= starts)
        at[i] = floors[fits[0]] if len(fits) else floors[-1]
    offsets = np.empty(len(order), np.int64)
    offsets[order] = at
    return offsets, int((at + size).max(initial=0))


# ---- lifetimes

def intervals(p: Program, given: set[Buffer]) -> dict[Buffer, Interval]:
    """The lifetimes of the program's own buffers: all but `given`; views live by their roots."""
    touched: dict[Buffer, list[int]] = {}
    loops: list[tuple[int, int]] = []
    counter = iter(range(1 << 60))

    def note(s: Step, at: int) -> None:
        for b in _touches(s):
            root = p.root(b)
            if root not in given:
                touched.setdefault(root, []).append(at)

    def visit(steps: tuple[Step, ...]) -> None:
        for s in steps:
            start = next(counter)
            note(s, start)
            for block in blocks(s):
                visit(block)
            if isinstance(s, Loop):
                end = next(counter)
                loops.append((start, end))
                note(s, end)

    visit(p.steps)
    out = {b: Interval(min(at), max(at)) for b, at in touched.items()}
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
