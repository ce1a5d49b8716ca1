"""Gradients of control flow.

A loop (`while`, `scan`) with body (c, x, i) → (c', y): its gradient is a `scan` in the other order
whose body is the body's vector-Jacobian product, (gc', gy) → (gc, gx, Δgi). What that needs of the
forward values is kept by the forward loop, which is extended in place (`Builder.extend`) to give
them as further y: the results of expensive ops. Cheap ones are computed again from those.
Since the extended loop and the reverse scan are loops, gradients of gradients need nothing more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import dims
from ..autodiff import differentiable, gradients, inline, live, symbols_of, varied, vector_jacobian
from ..core import Function, Instr, Op, Value
from ..types import TensorType
from .base import substituted_function
from .loop_keep import cheapest
from .loop_sums import Late, depending, late_terms

# Ops whose results are kept rather than computed again: more than a few operations an element, or
# (reductions) a result much smaller than what it comes from.
EXPENSIVE = frozenset((
    "dot", "conv", "reduce", "reduce_window", "select_and_scatter", "cumulative", "gather",
    "scatter", "sort", "dynamic_slice", "random_bits", "nonzero", "cond", "while", "scan",
))


def cond_gradient(
    b: Any, op: Any, operands: Sequence[Value], gs: Sequence[Value | None],
    needed: Sequence[bool],
) -> tuple[Value | None, ...]:
    """A `cond` on both branches' vector-Jacobian products, which compute their values again."""
    pred, *rest = operands
    wrt = [i for i, n in enumerate(needed[1:]) if n and differentiable(rest[i].type)]
    towards = [i for i, g in enumerate(gs) if g is not None]
    then, some = vector_jacobian(b, op.then, wrt, towards)
    otherwise, others = vector_jacobian(b, op.otherwise, wrt, towards)
    kept = [n for n in range(len(wrt)) if some[n] or others[n]]
    branches = [_with_fresh_symbols(b, _only(f, kept)) for f in (then, otherwise)]
    out: list[Value | None] = [None] * len(operands)
    if not kept:
        return tuple(out)
    used = [n for n in range(len(then.params)) if any(_uses(f, f.params[n]) for f in branches)]
    branches = [f.replace(params=tuple(f.params[n] for n in used), infos=()) for f in branches]
    given = [*rest, *(g for g in gs if g is not None)]
    found = b.cond(pred, *(given[n] for n in used), then=branches[0], otherwise=branches[1])
    for n, g in zip(kept, found, strict=True):
        out[1 + wrt[n]] = g
    return tuple(out)


def _only(f: Function, kept: Sequence[int]) -> Function:
    results = tuple(f.results[n] for n in kept)
    return f.replace(results=results, instrs=tuple(live(f.instrs, results)))


def _uses(f: Function, v: Value) -> bool:
    return v in f.results or any(v in i.operands for i in f.instrs)


# ---- loops

def loop_gradient(
    b: Any, op: Any, operands: Sequence[Value], results: Sequence[Value],
    gs: Sequence[Value | None], needed: Sequence[bool],
) -> tuple[Value | None, ...]:
    """The gradients towards the operands of a `while` or `scan`; see the module's text."""
    ys = gs[op.first_y :]
    plan = _Active.of(op, needed, gs[: op.carried], ys)
    back = _Backward(b, op, plan)
    out: list[Value | None] = [None] * len(operands)
    if not back.results:
        return tuple(out)
    instr = b.producer[results[0]]
    stacks = _keep(b, instr, back)
    found = _emit_reverse(b, instr.op, back, operands, gs, stacks)
    places = (*plan.carried, *back.accumulated, *back.elements)
    for i, g in zip(places, found, strict=False):
        out[i] = g
    rows = dict(zip(back.kept, stacks, strict=True))  # of what a round computes, its stack
    rows |= zip(back.stacked, found[len(places) :], strict=True)
    rows |= {back.params[i]: operands[i] for i in range(op.carried, op.carried + op.xs)}
    rows |= zip(back.y_cots, (g for g in ys if g is not None), strict=True)
    for i, terms in back.late.items():
        for term in terms:
            g = term.emit(b, rows.__getitem__)
            out[i] = g if out[i] is None else b.add(out[i], g)
    return tuple(out)


@dataclass
class _Active:
    """Which carried values, elements, invariants (positions of the body's parameters) and ys
    (positions of its results) the gradient flows through."""

    carried: list[int]
    elements: list[int]
    invariants: list[int]
    ys: list[int]

    @staticmethod
    def of(
        op: Any, needed: Sequence[bool], finals: Sequence[Value | None],
        ys: Sequence[Value | None],
    ) -> _Active:
        f, n = op.body, op.carried
        moving = _fixpoint(
            {i for i, wanted in enumerate(needed) if wanted},
            lambda now: _reached(f, n, now),
        )
        useful = _fixpoint(
            {i for i, g in enumerate(finals) if g is not None}
            | {n + j for j, g in enumerate(ys) if g is not None},
            lambda now: _reaching(f, n, now),
        )
        sources = _sources(f.instrs, [f.results[i] for i in useful])
        flows = [i for i, p in enumerate(f.params)
                 if i in moving and p in sources and differentiable(p.type)]
        return _Active(
            [i for i in flows if i < n],
            [i for i in flows if n <= i < n + op.xs],
            [i for i in flows if i >= n + op.xs],
            [n + j for j, g in enumerate(ys) if g is not None],
        )


def _fixpoint(start: set[int], more: Callable[[set[int]], set[int]]) -> set[int]:
    while not (found := more(start)) <= start:
        start = start | found
    return start


def _reached(f: Function, carried: int, params: set[int]) -> set[int]:
    """Carried positions that depend on these parameters after one round."""
    moving = varied(f.instrs, [f.params[i] for i in params])
    return {i for i in range(carried) if f.results[i] in moving}


def _reaching(f: Function, carried: int, results: set[int]) -> set[int]:
    """Carried positions on which these results depend."""
    sources = _sources(f.instrs, [f.results[i] for i in results])
    return {i for i in range(carried) if f.params[i] in sources}


def _sources(instrs: Sequence[Instr], roots: Iterable[Value]) -> set[Value]:
    """All values on which the roots depend by differentiable ones."""
    out = {r for r in roots if differentiable(r.type)}
    for instr in reversed(instrs):
        if not out.isdisjoint(instr.results):
            out.update(v for v in instr.operands if differentiable(v.type))
    return out


class _Backward:
    """The reverse round in a builder of its own: the body's copy, then its gradient.

    copied: the instructions of the copy, one for one with the body's. elements: the positions that
    have a gradient. results: the next cotangents of the active carried values, the accumulated
    sums of invariants, the elements' gradients, stacks for late sums; empty: nothing to do.
    """

    def __init__(self, b: Any, op: Any, plan: _Active) -> None:
        f: Function = op.body
        self.op, self.plan = op, plan
        inner = b.child(f"{f.name}_grad")
        self.params = [inner.param(p.type, p.name) for p in f.params]
        self.env = inline(inner, f, self.params)
        self.copied: list[Instr] = list(inner.instrs)
        self.final_cots = [inner.param(self.params[i].type, f"g{i}") for i in plan.carried]
        self.y_cots = [inner.param(f.results[i].type, f"gy{i - op.carried}") for i in plan.ys]
        wrt = (*plan.carried, *plan.elements, *plan.invariants)
        found: dict[int, Any] = dict(zip(wrt, gradients(
            inner, [self.env[f.results[i]] for i in (*plan.carried, *plan.ys)],
            [self.params[i] for i in wrt], [*self.final_cots, *self.y_cots],
        ), strict=True))
        self.elements = [i for i in plan.elements if found[i] is not None]
        next_cots = [inner.const(0, self.params[i]) if found[i] is None else found[i]
                     for i in plan.carried]
        sums = self.sum_invariants(
            inner, {i: found[i] for i in plan.invariants if found[i] is not None}
        )
        self.results: list[Value] = [*next_cots, *sums, *(found[i] for i in self.elements)]
        self.choose(inner.instrs)

    def sum_invariants(self, inner: Any, found: dict[int, Value]) -> list[Value]:
        """Set late (terms summed after the loop), accumulated (positions of the invariants summed
        inside), sums (parameters: those sums so far); returns the next sums."""
        end = self.op.carried + self.op.xs
        self.own = {name for i in self.copied for name, _ in i.op.defines()}
        varying = depending(
            inner.instrs, [*self.params[:end], *self.final_cots, *self.y_cots]
        )
        varying = {v for v in varying if _stackable(v, self.own)}
        reverse = inner.instrs[len(self.copied) :]
        producer = {r: i for i in reverse for r in i.results}
        late, rest = late_terms(list(found.values()), producer, varying)
        self.late: dict[int, list[Late]] = dict(zip(found, late, strict=True))
        self.accumulated = [i for i, terms in zip(found, rest, strict=True) if terms]
        self.sums = [inner.param(self.params[i].type, f"sum{i}") for i in self.accumulated]
        out = []
        for total, terms in zip(self.sums, (t for t in rest if t), strict=True):
            for term in terms:
                total = inner.add(total, term)
            out.append(total)
        return out

    def choose(self, instrs: list[Instr]) -> None:
        """What the gradient's instructions use of the copy: to be kept, or computed again.

        Sets kept (values that the forward loop gives), instrs (of a reverse round), used (what
        those use), stacked (what the reverse loop gives for the late sums).
        """
        wanted = dict.fromkeys(
            v for terms in self.late.values() for t in terms for v in t.factors
        )
        copied = set(self.copied)
        producer = {r: i for i in self.copied for r in i.results}
        reverse = [i for i in live(instrs, [*self.results, *wanted]) if i not in copied]
        again: set[Instr] = set()
        keeps = self._keeps(reverse, [*self.results, *wanted], producer)
        self.kept: dict[Value, None] = {}
        seen: set[Value] = set()
        stack: list[Value] = [*self.results, *wanted]

        def visit(i: Instr) -> None:
            """What i uses is needed, and so are the loops that define the sizes it speaks of."""
            stack.extend(i.operands)
            if self.own:
                sizes = symbols_of(i)
                stack.extend(r for c in self.copied for s, n in c.op.defines()
                             if s in sizes for r in c.results[n : n + 1])

        for i in reverse:
            visit(i)
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            instr = producer.get(v)
            if instr is None:
                if v in self.params[: self.op.carried]:
                    self.kept[v] = None
            elif keeps(instr, v):
                self.kept[v] = None
            elif instr not in again:
                again.add(instr)
                visit(instr)
        order = {v: n for n, v in enumerate((*self.params, *producer))}
        self.kept = dict.fromkeys(sorted(self.kept, key=lambda v: order[v]))
        elements = self.params[self.op.carried : self.op.carried + self.op.xs]
        given = {*self.kept, *elements, *self.y_cots}
        self.stacked = [v for v in wanted if v not in given]
        self.results += self.stacked
        self.instrs = [i for i in self.copied if i in again] + reverse
        self.used = {v for i in self.instrs for v in i.operands} | set(self.results)


    def _keeps(
        self, reverse: Sequence[Instr], results: Sequence[Value], producer: dict[Value, Instr]
    ) -> Callable[[Instr, Value], bool]:
        """Whether a result of an instruction is kept rather than computed again."""
        def only(i: Instr, v: Value) -> bool:
            return _worth_keeping(i, v, self.own)

        if self.own:  # sizes that the round defines: values of such sizes cannot be kept
            return only
        n, end = self.op.carried, self.op.carried + self.op.xs
        needed = [v for i in reverse for v in i.operands] + list(results)
        forward = {*self.params, *producer}
        found = cheapest([v for v in needed if v in forward], producer, self.params[:n],
                         self.params[n:end], only)
        return only if found is None else lambda _, v: v in found


def _worth_keeping(instr: Instr, v: Value, own: set[str]) -> bool:
    """Whether v is rather stacked than computed again. What says a size is computed where it is."""
    op = instr.op
    says = any(v is instr.results[n] for _, n in op.defines())
    return (op.name in EXPENSIVE or op.effects) and _stackable(v, own) and not says


def _stackable(v: Value, own: set[str]) -> bool:
    """Not where the size is one that the body itself defines: it differs from round to round."""
    return isinstance(v.type, TensorType) and not any(dims.symbols(d) & own for d in v.type.shape)


def _keep(b: Any, instr: Instr, back: _Backward) -> list[Value]:
    """Extend the forward loop so that it gives the kept values; returns their stacks."""
    op: Any = instr.op
    names = [back.env[r] for r in op.body.results]
    new = [v for v in back.kept if v not in names[op.carried :]]
    if new or (op.name == "while" and not op.trips):
        body = Function(
            op.body.name, tuple(back.params[: len(op.body.params)]),
            tuple(_forward(op.body, back.copied, set(new))), (*names, *new),
        )
        changes: dict[str, Any] = {"body": body}
        if op.name == "while" and not op.trips:
            changes["trips"] = str(b.fresh_symbol())
        b.extend(instr, dataclasses.replace(op, **changes))
    ys = [*names[op.carried :], *new]
    first = instr.op.first_y  # type: ignore[attr-defined]
    return [instr.results[first + ys.index(v)] for v in back.kept]


def _forward(body: Function, copied: list[Instr], kept: set[Value]) -> list[Instr]:
    """The copy's instructions; inner loops are extended only where their stacks are kept."""
    out = []
    for old, now in zip(body.instrs, copied, strict=True):
        n = len(old.results)
        if len(now.results) > n and kept.isdisjoint(now.results[n:]):
            now = Instr(old.op, now.operands, now.results[:n], now.loc, now.source)
        out.append(now)
    return out


def _emit_reverse(
    b: Any, op: Any, back: _Backward, operands: Sequence[Value], gs: Sequence[Value | None],
    stacks: list[Value],
) -> tuple[Value, ...]:
    """The reverse scan; its results are in the order of `back.results`."""
    plan, n, end = back.plan, op.carried, op.carried + op.xs
    start: list[Any] = [b.const(0, operands[i]) if gs[i] is None else gs[i] for i in plan.carried]
    start += [b.const(0, operands[i]) for i in back.accumulated]
    kept = [(v, s) for v, s in zip(back.kept, stacks, strict=True) if v in back.used]
    xs = [i for i in range(n, end) if back.params[i] in back.used]
    fixed = [i for i in range(end, len(operands)) if back.params[i] in back.used]
    body = _Parts()
    body.take(back.final_cots, start)
    body.take(back.sums, [])
    body.take([v for v, _ in kept], [s for _, s in kept])
    body.take([back.params[i] for i in xs], [operands[i] for i in xs])
    y_gs = [gs[op.first_y + i - n] for i in plan.ys]
    body.take(back.y_cots, y_gs)
    body.take([back.params[i] for i in fixed], [operands[i] for i in fixed])
    f = _copy(f"{op.body.name}_grad", body.params, back.instrs, back.results)
    f = _with_fresh_symbols(b, f)
    return b.scan(  # type: ignore[no-any-return]
        *body.operands, body=f, carried=len(start), xs=len(kept) + len(xs) + len(plan.ys),
        trip=op.trip, reverse=not op.reverse,
    )


@dataclass
class _Parts:
    """Parameters of the reverse body and the operands of the reverse scan, in step."""

    params: list[Value] = field(default_factory=list)
    operands: list[Any] = field(default_factory=list)

    def take(self, params: Sequence[Value], operands: Sequence[Any]) -> None:
        self.params += params
        self.operands += operands


def _copy(
    name: str, params: Sequence[Value], instrs: Sequence[Instr], results: Sequence[Value]
) -> Function:
    """A function of fresh values: the originals go on living in the forward body."""
    env: dict[Value, Value] = {}

    def fresh(v: Value) -> Value:
        env[v] = Value(v.type, v.name)
        return env[v]

    ins = tuple(fresh(p) for p in params)
    body = tuple(
        Instr(_quiet(i.op), tuple(env[v] for v in i.operands), tuple(fresh(r) for r in i.results),
              i.loc, i.source)
        for i in instrs
    )
    return Function(name, ins, body, tuple(env[r] for r in results))


def _with_fresh_symbols(b: Any, f: Function) -> Function:
    """f, defining symbols that nothing else defines: its loops were copied from elsewhere."""
    names = sorted({name for i in f.walk() for name, _ in i.op.defines()})
    if not names:
        return f
    return substituted_function(f, {n: b.fresh_symbol(n.rstrip("0123456789")) for n in names})


def _quiet(op: Op) -> Op:
    """The op without prints and assertions in its sub-functions: the forward loop made them."""
    subs = {k: v for k, v in op.attrs().items() if isinstance(v, Function)}
    if not subs or not op.effects:
        return op
    return dataclasses.replace(op, **{k: _silent(f) for k, f in subs.items()})  # type: ignore[type-var]


def _silent(f: Function) -> Function:
    instrs = tuple(
        Instr(_quiet(i.op), i.operands, i.results, i.loc, i.source)
        for i in f.instrs
        if i.results or not i.op.effects
    )
    return f.replace(instrs=instrs)
