"""What a loop does alike in every round is done once, before it.

That is whole kernels, and phases at the front of kernels that pack a weight for the product behind
them: a kernel is cut in two there, the packed copy being an input of the second part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    If,
    Kernel,
    LoopKernel,
    Phase,
    Proc,
    Stmt,
    Store,
    While,
    map_stmts,
    rename_buffers,
    stmt_exprs,
    walk_stmts,
)
from flowc.ir.plan import (
    Cond,
    Define,
    Launch,
    Loop,
    Program,
    Step,
    Variant,
    launch_params,
    step_writes,
    walk_steps,
)

from .base import Context

Root = Callable[[Buffer], Buffer]


def changing(loop: Loop, root: Root) -> set[Buffer]:
    """The memory that may differ from round to round, and that the loop's elements are."""
    written = {root(b) for b in step_writes(loop)}
    own = {e for s in walk_steps((loop,)) if isinstance(s, Loop) for e, _ in s.xs}
    return written | {root(b) for b in own}


def hoist(p: Program, ctx: Context) -> Program:
    """The program with invariant kernels and packing moved out of its loops."""
    return p.replace(steps=_block(p.steps, p.root, ctx))


def _block(steps: Sequence[Step], root: Root, ctx: Context) -> tuple[Step, ...]:
    out: list[Step] = []
    for s in steps:
        if isinstance(s, Cond):
            s = replace(
                s, then=_block(s.then, root, ctx), otherwise=_block(s.otherwise, root, ctx)
            )
        elif isinstance(s, Loop):
            s = replace(s, test=_block(s.test, root, ctx), body=_block(s.body, root, ctx))
            before, s = _Loop(s, root, ctx).split()
            out += before
        out.append(s)
    return tuple(out)


class _Loop:
    """A loop, and what may differ from round to round in it: memory and sizes."""

    def __init__(self, loop: Loop, root: Root, ctx: Context) -> None:
        self.loop, self.root, self.ctx = loop, root, ctx
        self.changing = changing(loop, root)
        self.sizes = {s.symbol for s in walk_steps((loop,)) if isinstance(s, Loop | Define)}
        self.writers: dict[Buffer, int] = {}
        for s in walk_steps((*loop.test, *loop.body)):
            for b in () if isinstance(s, Loop | Cond) else step_writes(s):
                self.writers[root(b)] = self.writers.get(root(b), 0) + 1

    def split(self) -> tuple[list[Step], Loop]:
        """The steps to run before the loop, and the loop without them."""
        before: list[Step] = []
        body: list[Step] = []
        for s in self.loop.body:
            if isinstance(s, Launch) and self._is_fixed(s):
                before.append(s)
                self.changing -= {self.root(b) for b in s.kernel.outputs}
                continue
            if isinstance(s, Launch):
                packs, s = self._packs(s)
                before += packs
            body.append(s)
        return before, replace(self.loop, body=tuple(body))

    def _is_fixed(self, s: Launch) -> bool:
        """Whether a launch makes the same in each round, and nothing else makes that."""
        elements = {e for e, _ in self.loop.xs}
        return (
            not any(self.root(b) in self.changing for b in s.kernel.inputs)
            and all(self.writers[self.root(b)] == 1 and b not in elements
                    for b in s.kernel.outputs)
            and all(self._is_quiet(v.kernel.phases) for v in s.variants)
            and not any(self._sized_inside(b) for n in range(len(s.variants))
                        for b in launch_params(s, n))
            and self.ctx.allow("hoist-kernel")
        )

    def _is_quiet(self, phases: Sequence[Phase]) -> bool:
        """No errors: a loop of no rounds has none. No sizes that the loop defines."""
        used = list(ex.walk(*(e for p in phases for e in stmt_exprs(p.body))))
        return not any(e.op == "check" for e in used) and not any(
            dims.symbols(d) & self.sizes for e in used if e.op == "lin"
            for d in (*e.attr[0], e.attr[1])
        )

    def _sized_inside(self, b: Buffer) -> bool:
        return any(dims.symbols(d) & self.sizes for d in b.shape)

    def _packs(self, s: Launch) -> tuple[list[Step], Launch]:
        """The packing of a launch that is the same in each round, and the launch without it."""
        found = [self._fixed_phases(s, v) for v in s.variants]
        copies = [(n, b) for n, f in enumerate(found) for b in f.copies]
        if not copies or not self.ctx.allow("hoist-pack"):
            return [], s
        own = {(n, b): s.scratch[n][s.variants[n].kernel.scratch.index(b)] for n, b in copies}
        sources = [n for n in range(len(s.kernel.inputs))
                   if any(v.kernel.inputs[n] in f.reads
                          for v, f in zip(s.variants, found, strict=True))]
        packing = _packing(s, found, sources, own)
        variants: list[Variant] = []
        scratch: list[tuple[Buffer, ...]] = []
        for n, (v, f) in enumerate(zip(s.variants, found, strict=True)):
            given = tuple(b if m == n else o for (m, b), o in own.items())
            k = v.kernel
            left = [i for i, b in enumerate(k.scratch) if b not in f.copies]
            variants.append(Variant(v.when, k.replace(
                inputs=(*k.inputs, *given), scratch=tuple(k.scratch[i] for i in left),
                phases=tuple(p for i, p in enumerate(k.phases) if i not in f.phases),
            )))
            scratch.append(tuple(s.scratch[n][i] for i in left))
        kernel = replace(s.kernel, inputs=(*s.kernel.inputs, *own.values()))
        return [packing], replace(s, kernel=kernel, variants=tuple(variants),
                                  scratch=tuple(scratch))

    def _fixed_phases(self, s: Launch, v: Variant) -> _Fixed:
        """The phases that only copy unchanging inputs into scratch that no other phase writes."""
        k = v.kernel
        out = _Fixed(set(), {}, set())
        if k.target != "cpu":
            return out
        given = dict(zip(k.inputs, s.kernel.inputs, strict=True))
        fixed = {b for b, g in given.items() if self.root(g) not in self.changing}
        written = [_written(p) for p in k.phases]
        for n, phase in enumerate(k.phases):
            reads = {e.attr for e in ex.loads(*stmt_exprs(phase.body))} - written[n]
            others = {b for m, w in enumerate(written) if m != n for b in w}
            if (
                written[n] and reads <= fixed and written[n] <= set(k.scratch)
                and not written[n] & others and self._is_quiet((phase,))
                and not any(self._sized_inside(b) for b in written[n])
            ):
                out.phases.add(n)
                out.copies.update(dict.fromkeys(b for b in k.scratch if b in written[n]))
                out.reads.update(reads)
        return out


@dataclass(frozen=True)
class _Fixed:
    """Phases of a variant that can run before the loop: what they write and read."""

    phases: set[int]
    copies: dict[Buffer, None]
    reads: set[Buffer]


def _written(p: Phase) -> set[Buffer]:
    """The buffers of the workspace that a phase writes."""
    return {s.buffer for s in walk_stmts(p.body)
            if isinstance(s, Store) and s.buffer.scope == "global"}


def _packing(
    s: Launch, found: Sequence[_Fixed], sources: Sequence[int],
    own: dict[tuple[int, Buffer], Buffer],
) -> Launch:
    """A launch of the phases alone, that reads the inputs number `sources`."""
    outs = tuple(own.values())
    inputs = tuple(s.kernel.inputs[n] for n in sources)
    variants = []
    for n, (v, f) in enumerate(zip(s.variants, found, strict=True)):
        made = tuple(b if m == n else o for (m, b), o in own.items())
        variants.append(Variant(v.when, LoopKernel(
            f"{v.kernel.name}_pack", tuple(v.kernel.inputs[i] for i in sources), made, (),
            tuple(v.kernel.phases[i] for i in sorted(f.phases)), note="packs ahead of a loop",
        )))
    body: list[Stmt] = []
    for n, (v, f) in enumerate(zip(s.variants, found, strict=True)):
        env = dict(zip(v.kernel.inputs, s.kernel.inputs, strict=True))
        env |= {b: o for (m, b), o in own.items() if m == n}
        for i in sorted(f.phases):
            body += _meaning(v.kernel.phases[i], env)
    kernel = Kernel(f"{s.kernel.name}_pack", inputs, outs, (Proc(outs, (), tuple(body)),))
    return Launch(kernel, tuple(variants), tuple(() for _ in variants), s.device)


def _meaning(p: Phase, env: dict[Buffer, Buffer]) -> tuple[Stmt, ...]:
    """What a phase does, one thing after the other, to other buffers."""
    memo: dict[Expr, Expr] = {}
    body = map_stmts(p.body, lambda e: rename_buffers(e, env, memo), lambda b: env.get(b, b))
    return _serial(body)


def _serial(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for x in body:
        if isinstance(x, For):
            x = For(x.var, x.extent, "serial", _serial(x.body))
        elif isinstance(x, If):
            x = If(x.cond, _serial(x.then), _serial(x.otherwise))
        elif isinstance(x, While | Alloc):
            x = replace(x, body=_serial(x.body))
        out.append(x)
    return tuple(out)
