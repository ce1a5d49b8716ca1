"""Grouping: stages of one kernel.

Elementwise stages over one domain, rows (several passes over a row that stays in cache), a contract
and its epilogue. A group holds a position in the order of steps. A stage may join the group at
position p only if nothing that it reads is made after p; so groups never depend on each other in a
circle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import AnyStage, Buffer, Proc, Stage
from flowc.ir.kernel.patterns import Kind, classify, is_identity, same_index
from flowc.ir.plan import Launch, Raw, Step, step_reads, step_writes

from ..base import Context
from .inline import metrics
from .kernels import make_kernel
from .limits import Limits


@dataclass
class Group:
    """Stages of one kernel to be. rank: how many leading axes are rows, None while undecided."""

    kind: Kind
    stages: list[AnyStage] = field(default_factory=list)
    rank: int | None = None
    step: Step | None = None
    nodes: int = 0

    @property
    def first(self) -> Stage:
        s = self.stages[0]
        assert isinstance(s, Stage)
        return s


class Grouper:
    def __init__(
        self, steps: list[Step], needed: set[Buffer], views: dict[Buffer, Buffer],
        serial: itertools.count[int], opts: Limits, ctx: Context,
    ) -> None:
        self.steps, self.needed, self.views = steps, needed, views
        self.serial, self.opts, self.ctx = serial, opts, ctx
        self.groups: list[Group] = []
        self.made_by: dict[Buffer, int] = {}

    def run(self) -> tuple[Step, ...]:
        for s in self._contracts_late():
            if isinstance(s, Raw):
                self._place(s.stage)
                continue
            self.groups.append(Group("proc", step=s))
            for b in step_writes(s):
                self.made_by[self.root(b)] = len(self.groups) - 1
        read_by: dict[Buffer, set[int]] = {}
        for n, g in enumerate(self.groups):
            for b in group_reads(g):
                read_by.setdefault(self.root(b), set()).add(n)
        out: list[Step] = []
        for n, g in enumerate(self.groups):
            if g.step is not None:
                out.append(g.step)
                continue
            kept = [
                b for s in g.stages for b in s.outs
                if b in self.needed or b in self.views or read_by.get(b, set()) - {n}
                or isinstance(s, Proc)  # it writes all of its results, read or not
            ]
            out.append(Launch(make_kernel(f"k{next(self.serial)}", g.stages, kept, self.opts)))
        return tuple(out)

    def _contracts_late(self) -> list[Step]:
        """The steps, each contract just before what reads it first.

        So what else its epilogue reads is made by then (a batch norm's scale), and it can join.
        """
        out: list[Step] = []
        waiting: dict[Buffer, Raw] = {}

        def flush(buffers: Iterable[Buffer]) -> None:
            for b in buffers:
                held = waiting.pop(self.root(b), None)
                if held is not None:
                    out.append(held)

        for s in self.steps:
            if not isinstance(s, Raw):
                flush(tuple(waiting))
            else:
                flush(dict.fromkeys(e.attr for e in s.stage.reads()))
                if isinstance(s.stage, Stage) and classify(s.stage) == "contract":
                    waiting[self.root(s.stage.out)] = s
                    continue
            out.append(s)
        flush(tuple(waiting))
        return out

    def _place(self, s: AnyStage) -> None:
        kind = classify(s)
        at = max((self.made_by.get(self.root(e.attr), -1) for e in s.reads()), default=-1)
        group = self.groups[at] if at >= 0 else None
        if group is not None and group.step is None and self._joins(s, kind, group, at):
            group.stages.append(s)
            group.nodes += size(s)
        else:
            folds = kind in ("rows", "columns") and isinstance(s, Stage)
            rank = len(s.outs[0].shape) if folds else None
            if rank == 0:
                kind = "columns"  # one result: the reduction is split, what follows is its epilogue
            self.groups.append(Group(kind, [s], rank, nodes=size(s)))
            at = len(self.groups) - 1
        for b in s.outs:
            self.made_by[self.root(b)] = at

    def root(self, b: Buffer) -> Buffer:
        """The buffer whose memory b is."""
        while b in self.views:
            b = self.views[b]
        return b

    def _joins(self, s: AnyStage, kind: Kind, g: Group, at: int) -> bool:
        if isinstance(s, Proc) or g.kind == "proc" or kind == "contract":
            return False
        if len(g.stages) >= 16 or g.nodes + size(s) > 2 * self.opts.nodes:
            return False
        local = [e for e in s.reads() if self.made_by.get(self.root(e.attr)) == at]
        if any(e.attr in self.views for e in local):
            return False  # the same memory under another shape is complete only after the kernel
        if g.kind in ("contract", "columns"):
            same = s.out.shape == g.first.out.shape and all(is_identity(e, s.axes) for e in local)
            return self.opts.epilogues and kind == "map" and same and self.ctx.allow("epilogue")
        if kind == "map" and g.kind == "map":
            same = s.out.shape == g.first.out.shape and all(is_identity(e, s.axes) for e in local)
            return same and self.ctx.allow("group")
        return self.opts.rows and self._joins_rows(s, kind, g, local)

    def _joins_rows(self, s: Stage, kind: Kind, g: Group, local: list[Expr]) -> bool:
        """Rows: all stages share the leading `rank` axes and read each other within the row."""
        rank = g.rank if g.rank is not None else len(s.out.shape)
        if kind == "columns" or rank == 0 or len(s.out.shape) < rank:
            return False
        shape = g.first.out.shape[:rank]
        if s.out.shape[:rank] != shape or any(
            isinstance(m, Stage) and m.out.shape[:rank] != shape for m in g.stages
        ):
            return False
        for e in local:
            _, idx, pred = ex.load_parts(e)
            if pred is not None or not all(map(same_index, idx[:rank], s.axes[:rank])):
                return False
            if any(v in ex.walk(i) for i in idx[rank:] for v in s.axes[:rank]):
                return False
        if not self.ctx.allow("rows"):
            return False
        g.rank, g.kind = rank, "rows"
        return True


def size(s: AnyStage) -> int:
    return metrics(s.value)[0] if isinstance(s, Stage) else 0


def group_reads(g: Group) -> Iterable[Buffer]:
    if g.step is not None:
        return step_reads(g.step)
    return (e.attr for s in g.stages for e in s.reads())
