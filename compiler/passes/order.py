"""The order of steps, and when a kernel may write where it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify, same_index
from flowc.ir.plan import Copy, Launch, Push, Step, step_reads, step_writes


def pointwise(k: Kernel, old: Buffer, new: Buffer) -> bool:
    """Whether k reads `old` only where it then writes `new`, not after, and not in a reduction.

    Stages over one domain store when all of their values are computed (see `_stores_last`). Parts
    run at the same time: only the one that writes `new` may read `old`.
    """
    if k.parts:
        return all(
            pointwise(part, old, new) if new in part.outputs else old not in part.inputs
            for part in k.split()
        )
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


class Order:
    """The dependencies of a block's steps, to which write-after-read edges can be added.

    root: the buffer whose memory a buffer is.
    """

    def __init__(self, steps: Sequence[Step], root: Callable[[Buffer], Buffer]) -> None:
        self.root = root
        self.maker: dict[Buffer, int] = {}
        self.readers: dict[Buffer, list[int]] = {}
        self.after: list[set[int]] = [set() for _ in steps]  # edges: i runs before after[i]
        last = -1
        moves: list[int] = []  # copies since the last step that keeps its place
        for n, s in enumerate(steps):
            for b in step_reads(s):
                at = root(b)
                if at in self.maker:
                    self.after[self.maker[at]].add(n)
                self.readers.setdefault(at, []).append(n)
            if not isinstance(s, Launch):
                self._overwrites(n, s)
                if last >= 0:
                    self.after[last].add(n)
            if isinstance(s, Copy | Push):
                moves.append(n)
            elif not isinstance(s, Launch):  # these keep their order among themselves
                for m in moves:
                    self.after[m].add(n)
                last, moves = n, []
            for b in step_writes(s):
                self.maker[root(b)] = n

    def _overwrites(self, n: int, s: Step) -> None:
        """Step n comes after what reads or made what it writes; a launch's results are new."""
        for b in step_writes(s):
            at = self.root(b)
            for r in self.readers.get(at, []):
                if r != n:
                    self.after[r].add(n)
            if at in self.maker:
                self.after[self.maker[at]].add(n)

    def readers_first(self, b: Buffer, writer: int, until: int | None = None) -> bool:
        """Make all other readers of b run before `writer`; False (no change) where they cannot.

        until: only those before this step, which are the readers of the old value.
        """
        others = {r for r in self.readers.get(b, [])
                  if r != writer and (until is None or r < until)}
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
