"""Kernels of several parts: the chunks of all parts, phase by phase, in one parallel loop.

A chunk belongs to one part, found by halving; parts of little work share one, so that a launch of
many small parts is not a fork and join for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import For, If, Kernel, Let, LoopKernel, Phase, Stage, Stmt
from flowc.ir.kernel.patterns import estimate, iterations

from . import axes as ax


@dataclass(frozen=True)
class _Run:
    """Chunks of one part, or one chunk of several: their number, their body by the chunk."""

    chunks: Dim
    work: int  # evaluations of an innermost formula, of one chunk
    body: tuple[Stmt, ...]
    var: Expr | None = None  # the part's chunk


def side_by_side(kernel: Kernel, parts: Sequence[LoopKernel]) -> LoopKernel:
    """One kernel of the parts' schedules: phase n of it is phase n of all that have as many."""
    work = [_work(k) for k in kernel.split()]
    phases = []
    for n in range(max(len(p.phases) for p in parts)):
        runs = [
            _run(p.phases[n], w) for p, w in zip(parts, work, strict=True)
            if n < len(p.phases) and p.phases[n].body
        ]
        phases.append(Phase((_loop(_shared(runs)),) if runs else ()))
    scratch = tuple(b for p in parts for b in p.scratch)
    notes = ", ".join(dict.fromkeys(p.note for p in parts))
    note = f"{len(parts)} parts: {notes}"
    return LoopKernel(kernel.name, kernel.inputs, kernel.outputs, scratch, tuple(phases), note=note)


def _work(k: Kernel) -> int:
    return sum(estimate(iterations(s)) for s in k.stages if isinstance(s, Stage))


def _run(p: Phase, work: int) -> _Run:
    (loop,) = p.body
    assert isinstance(loop, For)
    chunks = loop.var.attr.extent
    return _Run(chunks, work // max(1, estimate(chunks)), loop.body, loop.var)


def _shared(runs: Sequence[_Run]) -> list[_Run]:
    """The runs, single chunks of little work put together."""
    out: list[_Run] = []
    for r in runs:
        last = out[-1] if out else None
        if r.chunks == 1:
            assert r.var is not None
            r = _Run(1, r.work, (Let(r.var, ex.index(0)), *r.body))
            if last and last.var is None and last.work + r.work <= ax.CHUNK:
                out[-1] = _Run(1, last.work + r.work, (*last.body, *r.body))
                continue
        out.append(r)
    return out


def _loop(runs: Sequence[_Run]) -> For:
    starts: list[Dim] = [0]
    for r in runs:
        starts.append(dims.add(starts[-1], r.chunks))
    chunk = ex.var("chunk", starts[-1])

    def choose(first: int, end: int) -> tuple[Stmt, ...]:
        if end - first > 1:
            middle = (first + end) // 2
            cond = chunk < ex.index(starts[middle])
            return (If(cond, choose(first, middle), choose(middle, end)),)
        r = runs[first]
        if r.var is None:
            return r.body
        return (Let(r.var, chunk - ex.index(starts[first])), *r.body)

    return For(chunk, ex.index(starts[-1]), "parallel", choose(0, len(runs)))
