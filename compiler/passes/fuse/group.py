"""Grouping: stages of one kernel.

Elementwise stages over one domain, rows (several passes over a row that stays in cache), a contract
and its epilogue. A group holds a position in the order of steps. A stage may join the group at
position p only if nothing that it reads is made after p; so groups never depend on each other in a
circle.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from flowc.ir import dims
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import AnyStage, Buffer, Proc, Stage
from flowc.ir.kernel.patterns import (
    Kind,
    classify,
    folded,
    is_identity,
    is_product,
    iterations,
)
from flowc.ir.plan import Launch, Raw, Step, step_writes

from ..base import Context
from .kernels import make_kernel
from .limits import Limits
from .merge import Given, Group, in_row, merge, size
from .order import contracts_late, scalars_first


class Grouper:
    def __init__(
        self, steps: list[Step], needed: set[Buffer], views: dict[Buffer, Buffer],
        fixed: set[Buffer], updates: Mapping[Buffer, Buffer], serial: itertools.count[int],
        opts: Limits, ctx: Context,
    ) -> None:
        self.steps, self.needed, self.views = steps, needed, views
        self.fixed, self.updates = fixed, updates
        self.serial, self.opts, self.ctx = serial, opts, ctx
        self.groups: list[Group] = []
        self.made_by: dict[Buffer, int] = {}

    def run(self) -> tuple[Step, ...]:
        for s in contracts_late(scalars_first(self.steps, self.root), self.root):
            if isinstance(s, Raw):
                self._place(s.stage)
                continue
            self.groups.append(Group("proc", step=s))
            for b in step_writes(s):
                self.made_by[self.root(b)] = len(self.groups) - 1
        given = Given(self.needed, self.fixed, self.updates, self.views, self.root)
        return self._launches(merge(self.groups, given, self.opts, self.ctx))

    def _launches(self, groups: list[Group]) -> tuple[Step, ...]:
        read_by: dict[Buffer, set[int]] = {}
        for n, g in enumerate(groups):
            for b in g.reads():
                read_by.setdefault(self.root(b), set()).add(n)
        out: list[Step] = []
        for n, g in enumerate(groups):
            if g.step is not None:
                out.append(g.step)
                continue
            kept = [
                b for s in g.stages for b in s.outs
                if b in self.needed or b in self.views or read_by.get(b, set()) - {n}
                or isinstance(s, Proc)  # it writes all of its results, read or not
            ]
            name = f"k{next(self.serial)}"
            out.append(Launch(make_kernel(name, g.stages, g.parts, kept, self.opts)))
        return tuple(out)

    def _place(self, s: AnyStage) -> None:
        kind = self._kind(s)
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

    def _kind(self, s: AnyStage) -> Kind:
        """The stage's kind; a matrix that this block makes, times a vector, is a reduction like
        any other, which can be taken where the matrix is made."""
        kind = classify(s)
        if kind != "contract" or is_product(s) or not isinstance(s, Stage):
            return kind
        makers = [
            self.groups[self.made_by[self.root(e.attr)]].kind for e in s.reads()
            if self.root(e.attr) in self.made_by and iterations(s) == dims.product(e.attr.shape)
        ]
        made = any(k in ("map", "rows", "columns") for k in makers)
        return folded(s) if made else kind

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
        if not all(in_row(e, s, rank) for e in local):
            return False
        if not self.ctx.allow("rows"):
            return False
        g.rank, g.kind = rank, "rows"
        return True
