"""Kernels of several parts: the chunks of all parts, phase by phase, in one parallel loop.

A chunk belongs to one part, found by halving; parts of little work share one, so that a launch of
many small parts is not a fork and join for each. Parts that cut the same array into equal chunks go
through it together: the second finds in cache what the first has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, If, Kernel, Let, LoopKernel, Phase, Stage, Stmt
from flowc.ir.kernel.patterns import estimate, iterations

from . import axes as ax


@dataclass(frozen=True)
class _Run:
    """Chunks of one part, or one chunk of several: their number, their body by the chunk."""

    chunks: Dim
    work: int  # evaluations of an innermost formula, of one chunk
    body: tuple[Stmt, ...]
    var: Expr | None = None  # the part's chunk
    reads: frozenset[Buffer] = frozenset()  # arrays, where a chunk reads a part of them


def side_by_side(kernel: Kernel, parts: Sequence[LoopKernel]) -> LoopKernel:
    """One kernel of the parts' schedules. Their phases run at the same time, those of a part that
    reads what another one makes after that one's."""
    runs: list[list[_Run]] = []
    done: dict[Buffer, int] = {}  # phases until a part's result is there
    for p, k in zip(parts, kernel.split(), strict=True):
        start = max((done.get(b, 0) for b in p.inputs), default=0)
        done.update((b, start + len(p.phases)) for b in p.outputs)
        runs += [[] for _ in range(start + len(p.phases) - len(runs))]
        for n, phase in enumerate(p.phases):
            if phase.body:
                runs[start + n].append(_run(p, n, _work(k)))
    phases = [Phase((_loop(_shared(_together(r))),) if r else ()) for r in runs]
    scratch = kept_between(kernel, parts)
    notes = ", ".join(dict.fromkeys(p.note for p in parts))
    note = f"{len(parts)} parts: {notes}"
    return LoopKernel(kernel.name, kernel.inputs, kernel.outputs, scratch, tuple(phases), note=note)


def kept_between(kernel: Kernel, parts: Sequence[LoopKernel]) -> tuple[Buffer, ...]:
    """The scratch memory of the parts, and what one of them makes for another."""
    known = {*kernel.inputs, *kernel.outputs}
    passed = [b for p in parts for b in p.outputs if b not in known]
    return (*passed, *(b for p in parts for b in p.scratch))


def _work(k: Kernel) -> int:
    return sum(estimate(iterations(s)) for s in k.stages if isinstance(s, Stage))


def _run(k: LoopKernel, n: int, work: int) -> _Run:
    """Phase n of a part."""
    (loop,) = k.phases[n].body
    assert isinstance(loop, For)
    chunks = loop.var.attr.extent
    reads = frozenset(b for b in k.inputs if estimate(dims.product(b.shape)) > ax.CHUNK)
    each = work // max(1, estimate(chunks))
    return _Run(chunks, each, loop.body, loop.var, reads if n == 0 else frozenset())


def _together(runs: Sequence[_Run]) -> list[_Run]:
    """The runs, those with one number of chunks that read one array joined, chunk by chunk."""
    out: list[_Run] = []
    for r in runs:
        at = next((n for n, o in enumerate(out) if o.chunks == r.chunks != 1 and o.reads & r.reads),
                  None)
        if at is None:
            out.append(r)
            continue
        o = out[at]
        assert r.var is not None
        assert o.var is not None
        body = (*o.body, Let(r.var, o.var), *r.body)
        out[at] = _Run(o.chunks, o.work + r.work, body, o.var, o.reads | r.reads)
    return out


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
