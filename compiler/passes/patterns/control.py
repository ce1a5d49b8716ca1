"""Rules of control flow: constants move in, what is not used or does not change moves out."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowc.ir.builder import Builder
from flowc.ir.core import Function, Instr, Value
from flowc.ir.types import TensorType

from ..regions import layout_of, map_functions, select_params, select_results, without
from ..rewrite import Replacement, Rewriter, rule

CONTROL = ("cond", "while", "scan")


def inherits(op: Any, operands: tuple[Value, ...], i: int) -> bool:
    """Whether the parameters that operand i feeds bind no symbol of the sub-function's own."""
    lay = layout_of(op)
    assert lay is not None
    if lay.lead + lay.carried <= i < lay.first_invariant:
        outer = operands[i].ty.with_shape(operands[i].ty.shape[1:])
        return all(f.params[i - lay.lead].type == outer for f in op.subfunctions())
    return all(f.params[i - lay.lead].type == operands[i].type for f in op.subfunctions())


def used(f: Function) -> set[Value]:
    return {v for i in f.instrs for v in i.operands} | set(f.results)


def _positions(params: tuple[Value, ...], among: set[Value]) -> list[int]:
    return [n for n, p in enumerate(params) if p in among]


@rule("known-branch", "cond")
def known_branch(b: Rewriter, op: Any, pred: Value, *operands: Value) -> Replacement:
    c = b.splat(pred)
    if c is None:
        return None
    f: Function = op.then if bool(c) else op.otherwise
    if f.param_types != tuple(v.type for v in operands):
        return None
    return lambda: b.call_region(f, operands)


@rule("counted-loop", "while")
def counted_loop(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """A loop whose number of rounds is known when it starts is a scan: no test in each round, and
    rows that a round reads of an array are where they are."""
    found = op.as_scan(operands, b.producer)
    if found is None:
        return None
    scan, places = found
    return lambda: b.emit(scan, *(operands[i] for i in places))


@rule("sink-constant", *CONTROL)
def sink_constant(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """Operands that cost nothing to make (splats, counts, sizes) are made inside."""
    lay = layout_of(op)
    assert lay is not None
    sunk = {}
    for i in range(lay.lead + lay.carried, len(operands)):
        recipe = _recipe(b, operands[i], lay.lead + lay.carried <= i < lay.first_invariant)
        if recipe and inherits(op, operands, i):
            sunk[i] = recipe
    if not sunk:
        return None

    def inside(name: str, f: Function) -> Function:
        made: list[Instr] = []
        for i, recipe in sunk.items():
            made += _instrs(recipe, f.params[i - lay.lead])
        return f.replace(instrs=(*made, *f.instrs))

    rest = [v for i, v in enumerate(operands) if i not in sunk]
    return lambda: b.emit(without(map_functions(op, inside), sunk), *rest)


def _recipe(b: Rewriter, v: Value, element: bool) -> list[Instr]:
    """The instructions that make v (or, of a splat, an element of it) from nothing."""
    i = b.producer.get(v)
    if i is None or not isinstance(v.type, TensorType):
        return []
    if b.splat(v) is not None:
        source = b.made(i.operands[0], "constant") if i.operands else i
        assert source is not None
        return [source, i] if source is not i else [i]
    return [i] if i.op.name in ("iota", "dim_size") and not element else []


def _instrs(recipe: list[Instr], param: Value) -> list[Instr]:
    """The recipe again, with the parameter as its result."""
    last = recipe[-1]
    op: Any = last.op
    if op.name in ("iota", "dim_size"):
        return [Instr(op, (), (param,), last.loc, last.source)]
    b = Builder("part")
    scalar: Any = recipe[0].op
    out = b.const(scalar.value.splat, param.ty)
    (*before, final) = b.instrs
    assert final.result is out
    return [*before, Instr(final.op, final.operands, (param,), last.loc, last.source)]


@rule("unused-operand", *CONTROL)
def unused_operand(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """Operands that no sub-function reads; carried values are looked at by `dead-carried`."""
    lay = layout_of(op)
    assert lay is not None
    if not operands[lay.lead + lay.carried :]:
        return None
    read = {
        n + lay.lead for f in op.subfunctions() for n in _positions(f.params, used(f))
    }
    drop = {
        i for i in range(lay.lead + lay.carried, len(operands))
        if i not in read and inherits(op, operands, i)
    }
    rest = [v for i, v in enumerate(operands) if i not in drop]
    return (lambda: b.emit(without(op, drop), *rest)) if drop else None


@rule("same-operand", *CONTROL)
def same_operand(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """An invariant that is given twice."""
    lay = layout_of(op)
    assert lay is not None
    first: dict[Value, int] = {}
    again: dict[int, int] = {}
    for i in range(lay.first_invariant, len(operands)):
        j = first.setdefault(operands[i], i)
        if j != i and inherits(op, operands, i):
            again[i] = j
    if not again:
        return None

    def merged(name: str, f: Function) -> Function:
        env = {f.params[i - lay.lead]: f.params[j - lay.lead] for i, j in again.items()}
        return renamed(f, env)

    rest = [v for i, v in enumerate(operands) if i not in again]
    return lambda: b.emit(without(map_functions(op, merged), again), *rest)


def renamed(f: Function, env: dict[Value, Value]) -> Function:
    """f with values replaced where they are used."""
    instrs = tuple(
        Instr(i.op, tuple(env.get(v, v) for v in i.operands), i.results, i.loc, i.source)
        if any(v in env for v in i.operands) else i
        for i in f.instrs
    )
    return f.replace(instrs=instrs, results=tuple(env.get(r, r) for r in f.results))


@rule("unchanged-carried", "while", "scan")
def unchanged_carried(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """A carried value that the body hands on as it is becomes an invariant."""
    lay, n = layout_of(op), op.carried
    assert lay is not None
    body: Function = op.body
    still = [i for i in range(n) if body.results[i] is body.params[i]]
    if not still:
        return None
    order = [i for i in range(len(operands)) if i not in still] + still

    def moved(name: str, f: Function) -> Function:
        if name == lay.body:
            f = select_results(f, [i for i in range(len(f.results)) if i not in still])
        return select_params(f, order)

    def build() -> tuple[Value, ...]:
        new: Any = dataclasses.replace(map_functions(op, moved), carried=n - len(still))  # type: ignore[type-var]
        out = list(b.emit(new, *(operands[i] for i in order)))
        for i in still:
            out.insert(i, operands[i])
        return tuple(out)

    return build


@rule("dead-carried", "while", "scan")
def dead_carried(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """A carried value that serves only its own next value, and whose result is not used."""
    outer = b.current
    if outer is None:
        return None
    n = op.carried
    body: Function = op.body
    live = {i for i in range(n) if b.uses.get(outer.results[i], 0)}
    for f in op.subfunctions():
        if f is not body:
            live |= {i for i in range(n) if f.params[i] in used(f)}
    while len(live) < n:
        left = select_results(body, [i for i in range(len(body.results)) if i >= n or i in live])
        needs = used(left)
        more = {i for i in range(n) if body.params[i] in needs} - live
        if not more:
            break
        live |= more
    dead = [i for i in range(n) if i not in live and inherits(op, operands, i)]
    if not dead:
        return None
    rest = [v for i, v in enumerate(operands) if i not in dead]

    def build() -> tuple[Value, ...]:
        out = list(b.emit(without(op, dead), *rest))
        for i in dead:
            out.insert(i, operands[i])
        return tuple(out)

    return build


@rule("dead-stack", "while", "scan")
def dead_stack(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """Values of each round that nothing reads are not kept."""
    outer = b.current
    if outer is None:
        return None
    n, first = op.carried, op.first_y
    dead = [i for i in range(first, len(outer.results)) if not b.uses.get(outer.results[i], 0)]
    if not dead:
        return None
    gone = {i - first + n for i in dead}
    keep = [i for i in range(len(op.body.results)) if i not in gone]

    def build() -> tuple[Value | None, ...]:
        new: Any = dataclasses.replace(op, body=select_results(op.body, keep))
        out: list[Value | None] = list(b.emit(new, *operands))
        for i in dead:
            out.insert(i, None)
        return tuple(out)

    return build


@rule("same-stack", "while", "scan")
def same_stack(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """A value of each round that is kept twice, or that the rounds were given as elements."""
    outer = b.current
    if outer is None:
        return None
    n, end = op.carried, op.carried + op.xs
    known: dict[Value, Value] = dict(zip(op.body.params[n:end], operands[n:end], strict=True))
    first: dict[Value, int] = {}
    again: dict[int, Value | int] = {}  # position among the body's results → the same
    for i, v in enumerate(op.body.results[n:], n):
        if v in known:
            again[i] = known[v]
        elif first.setdefault(v, i) != i:
            again[i] = first[v]
    if not again:
        return None
    keep = [i for i in range(len(op.body.results)) if i not in again]
    shift = op.first_y - n

    def build() -> tuple[Value, ...]:
        new: Any = dataclasses.replace(op, body=select_results(op.body, keep))
        found = list(b.emit(new, *operands))
        place = {i: found[j + (shift if i >= n else 0)] for j, i in enumerate(keep)}
        out: list[Value] = list(found[: op.first_y])
        for i in range(n, len(op.body.results)):
            same = again.get(i, i)
            out.append(place[same] if isinstance(same, int) else same)
        return tuple(out)

    return build


@rule("dead-branch-result", "cond")
def dead_branch_result(b: Rewriter, op: Any, *operands: Value) -> Replacement:
    """Results of a branch that nothing reads, or that are the same operand in both."""
    outer = b.current
    if outer is None:
        return None
    known: dict[int, Value | None] = {}
    for i, (u, v) in enumerate(zip(op.then.results, op.otherwise.results, strict=True)):
        if not b.uses.get(outer.results[i], 0):
            known[i] = None
        elif u in op.then.params and v in op.otherwise.params:
            at = op.then.params.index(u)
            if at == op.otherwise.params.index(v) and inherits(op, operands, at + 1):
                known[i] = operands[at + 1]
    if not known:
        return None
    keep = [i for i in range(len(op.then.results)) if i not in known]

    def build() -> tuple[Value | None, ...]:
        new = map_functions(op, lambda _, f: select_results(f, keep))
        out: list[Value | None] = list(b.emit(new, *operands))
        for i, v in sorted(known.items()):
            out.insert(i, v)
        return tuple(out)

    return build
