"""Attention: two contracts and the rows between them become one kernel.

A launch of a contract, one of rows that alone reads its result, and a contract that alone reads
theirs: where the target has a schedule for the three (`Backend.fuses`), the scores between them
never go to memory. Cheap elementwise launches before the products (queries scaled, casts) and one
after them (a permutation, a cast) join, where nothing else reads what is between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify, cost
from flowc.ir.plan import Launch, Step, step_reads, step_writes

from ..base import Context
from .inline import inline_load


def join_attention(
    steps: Sequence[Step], needed: set[Buffer], views: Mapping[Buffer, Buffer], cheap: int,
    ctx: Context,
) -> tuple[Step, ...]:
    """The steps of a block with each attention as one launch. cheap: see `Fuse`."""
    return _Joiner(steps, needed, views, cheap, ctx).run()


class _Joiner:
    def __init__(
        self, steps: Sequence[Step], needed: set[Buffer], views: Mapping[Buffer, Buffer],
        cheap: int, ctx: Context,
    ) -> None:
        self.steps: list[Step | None] = list(steps)
        self.cheap, self.ctx = cheap, ctx
        self.outside = {*needed, *views, *views.values()}  # read elsewhere, or by another name
        self.maker: dict[Buffer, int] = {}
        self.readers: dict[Buffer, set[int]] = {}
        for n, s in enumerate(steps):
            self.maker.update(dict.fromkeys(step_writes(s), n))
            for b in step_reads(s):
                self.readers.setdefault(b, set()).add(n)

    def run(self) -> tuple[Step, ...]:
        for n in range(len(self.steps)):
            for chain in self._chains(n):
                if self._join(chain):
                    break
        return tuple(s for s in self.steps if s is not None)

    def _chains(self, n: int) -> Iterator[tuple[int, int, int]]:
        """The launches (scores, rows, n) that may be one."""
        last = self._stages(n, "contract")
        for rows in self._makers(last[:1]) if last else ():
            middle = self._stages(rows, "rows")
            if middle and self._only(rows, n):
                for first in self._makers(middle):
                    if self._stages(first, "contract") and self._only(first, rows):
                        yield first, rows, n

    def _stages(self, n: int, kind: str) -> tuple[Stage, ...]:
        """The stages of a launch that begins with this kind, or holds rows; else none."""
        s = self.steps[n]
        if not isinstance(s, Launch) or len(s.kernel.parts) > 1:
            return ()
        stages = tuple(t for t in s.kernel.stages if isinstance(t, Stage))
        kinds = [classify(t) for t in stages]
        if kind == "rows":
            fits = "rows" in kinds and "contract" not in kinds
        else:
            fits = kinds[:1] == [kind]
        return stages if fits and len(stages) == len(s.kernel.stages) else ()

    def _makers(self, stages: Sequence[Stage]) -> list[int]:
        read = dict.fromkeys(e.attr for s in stages for e in s.reads())
        return list(dict.fromkeys(self.maker[b] for b in read if b in self.maker))

    def _only(self, n: int, reader: int) -> bool:
        """Whether nothing but one step reads what step n makes."""
        s = self.steps[n]
        assert s is not None
        return all(b not in self.outside and self.readers.get(b, set()) <= {reader}
                   for b in step_writes(s))

    def _join(self, chain: tuple[int, int, int]) -> bool:
        """Make one launch of a chain, with what can join it, if the target takes it."""
        after = self._after(chain[2])
        for end in (after, None) if after is not None else (None,):
            members = chain if end is None else (*chain, end)
            if not all(isinstance(self.steps[n], Launch | None)
                       for n in range(members[0], members[-1])):
                continue  # a step between them may write what they read
            kernel, before = self._kernel(members)
            if self.ctx.backend.fuses(kernel) and self.ctx.allow("attention"):
                for n in (*before, *members):
                    self.steps[n] = None
                self.steps[members[-1]] = Launch(kernel)
                self.maker.update(dict.fromkeys(kernel.outputs, members[-1]))
                for b in kernel.inputs:
                    self.readers.setdefault(b, set()).add(members[-1])
                return True
        return False

    def _after(self, n: int) -> int | None:
        """The elementwise launch of one stage that alone reads what step n makes."""
        s = self.steps[n]
        assert isinstance(s, Launch)
        users = {m for b in s.kernel.outputs for m in self.readers.get(b, ())}
        if len(users) != 1 or len(s.kernel.outputs) != 1:
            return None
        (m,) = users
        stages = self._stages(m, "map")
        return m if len(stages) == 1 and self._only(n, m) else None

    def _kernel(self, members: Sequence[int]) -> tuple[Kernel, list[int]]:
        """The kernel of these launches and the launches before it that are computed inside it."""
        before: list[int] = []
        stages: list[Stage] = []
        for n in members:
            own = (t for kind in ("contract", "rows", "map") for t in self._stages(n, kind))
            first, *rest = dict.fromkeys(own)
            if classify(first) == "contract":
                first = self._with_factors(first, n, before)
            stages += [first, *rest]
        made = {t.out for t in stages}
        reads = dict.fromkeys(e.attr for t in stages for e in t.reads())
        inputs = tuple(b for b in reads if b not in made)
        last = self.steps[members[-1]]
        assert isinstance(last, Launch)
        k = last.kernel
        return Kernel(k.name, inputs, k.outputs, tuple(stages)), before

    def _with_factors(self, s: Stage, launch: int, before: list[int]) -> Stage:
        """A contract that computes its factors where that is cheap and nothing else reads them."""
        formulas: dict[Buffer, Stage] = {}
        for n in self._makers((s,)):
            stages = self._stages(n, "map")
            if len(stages) == 1 and self._only(n, launch):
                if cost(stages[0].value) <= self.cheap:
                    formulas[stages[0].out] = stages[0]
                    before.append(n)
        memo: dict[Expr, Expr] = {}

        def step(e: Expr) -> Expr | None:
            if e.op != "load" or e.attr not in formulas:
                return None
            return inline_load(e, formulas[e.attr], lambda x: ex.rewrite(x, step, memo))

        return Stage(s.out, s.axes, ex.rewrite(s.value, step, memo))
