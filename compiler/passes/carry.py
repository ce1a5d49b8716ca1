"""Copies that need not be made: what a kernel makes lies where it would be copied to.

At the end of a round a loop copies the next values over the carried ones, and the values that it
keeps into the rows of stacks. A kernel can write there itself: into a carried value where the old
one is read at the same index or has been read before, into the row of a stack in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowc.ir.kernel.form import Buffer
from flowc.ir.plan import (
    Cond,
    Copy,
    Launch,
    Loop,
    Program,
    Push,
    Step,
    step_reads,
    step_writes,
)

from .base import Context
from .order import Order, pointwise


def carry_in_place(p: Program, ctx: Context) -> Program:
    """The program without the copies that kernels can make unnecessary."""
    given = {*p.inputs, *p.state, *p.outputs, *p.constants, *p.updates.values()}
    carrier = _Carrier(dict(p.views), given, ctx)
    steps = carrier.block(p.steps)
    return p.replace(steps=steps, views=carrier.views)


class _Carrier:
    """The buffers that are already another's memory, and those that have a fixed place."""

    def __init__(self, views: dict[Buffer, Buffer], given: set[Buffer], ctx: Context) -> None:
        self.views, self.given, self.ctx = views, given, ctx

    def root(self, b: Buffer) -> Buffer:
        while b in self.views:
            b = self.views[b]
        return b

    def block(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """A block and those inside its steps."""
        inner: list[Step] = []
        for s in steps:
            if isinstance(s, Cond):
                s = replace(s, then=self.block(s.then), otherwise=self.block(s.otherwise))
            elif isinstance(s, Loop):
                body, rows = self._rows(s.body)
                s = replace(
                    s, test=self.block(s.test), body=self.block(body), xs=(*s.xs, *rows)
                )
            inner.append(s)
        return self._without_copies(inner)

    def _rows(
        self, body: Sequence[Step]
    ) -> tuple[list[Step], list[tuple[Buffer, Buffer]]]:
        """The body without the pushes of what its kernels write straight into a stack's row."""
        made = {b for s in body if isinstance(s, Launch) for b in s.kernel.outputs}
        out: list[Step] = []
        rows: dict[Buffer, Buffer] = {}
        for s in body:
            value = self.root(s.value) if isinstance(s, Push) else None
            if (
                isinstance(s, Push) and value is not None and not s.grows
                and value in made and value not in self.given and self.ctx.allow("rows-in-place")
            ):
                rows[value] = s.stack
                self.given.add(value)
            else:
                out.append(s)
        return out, list(rows.items())

    def _without_copies(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The block without the copies that it can do without."""
        order = Order(steps, self.root)
        gone = {n for n, s in enumerate(steps) if isinstance(s, Copy) and self._made_there(
            s, n, steps, order)}
        return tuple(steps[n] for n in order.sorted() if n not in gone)

    def _made_there(self, s: Copy, n: int, steps: Sequence[Step], order: Order) -> bool:
        """Whether what step n copies can be made in its place; then it is."""
        dst, src = self.root(s.dst), self.root(s.src)
        at = order.maker.get(src)
        if dst is src or src in self.given or at is None or at > n:
            return False
        maker = steps[at]
        if not isinstance(maker, Launch) or src.type.nbytes != dst.type.nbytes:
            return False
        if any(self.root(b) is dst and not pointwise(maker.kernel, b, src)
               for b in maker.kernel.inputs) or self._changes(dst, src, n, steps):
            return False
        if not self.ctx.allow("carry-in-place") or not order.readers_first(dst, at, n):
            return False
        self.views[src] = dst
        return True

    def _changes(self, dst: Buffer, src: Buffer, n: int, steps: Sequence[Step]) -> bool:
        """Whether dst is written by another step, while src is read later than by the copy."""
        for m, s in enumerate(steps):
            if m != n and any(self.root(b) is dst for b in step_writes(s)):
                if m < n or any(self.root(b) is src for k, t in enumerate(steps) if k != n
                                for b in step_reads(t)):
                    return True
        return False
