"""Recognise attention: rows of a contract, worked on, are a factor of a second contract.

    scores[…, q, key] = Σ_d Q·K      then stages over the same domain (scale, mask, casts)
    weights           = stages that reduce over key and map rows (softmax, however it is written)
    out[…, q, e]      = Σ_key weights·V   then stages over its domain, perhaps a permutation

What matters is which axes each formula reads: the leading axes and q are *rows*, each stage between
the products stays within a row, and one row of weights is the whole left factor of a row of `out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import classify, is_identity

from .. import contract
from ..contract.match import Contract, variables
from .shared import shared

Stages = tuple[Stage, ...]
MIN_ROWS = 8  # queries below which packing the keys costs more than a pass over the scores


@dataclass(frozen=True, eq=False)
class Attention:
    """An attention kernel taken apart, all in terms of the same axes: `outer`, `row`, `key`.

    scores: a is the queries' factor, b the keys'; kernel.outputs are what later stages read.
    rows: the stages of a row, their leading axes being `lead`; weights: the one that `out` reads,
    scalars: those with one value a row that `out` reads.
    out: a loads the weights, b is the values' factor; its lane axis is `lane`; no epilogue stages.
    """

    kernel: Kernel
    scores: Contract
    outer: tuple[Expr, ...]
    row: Expr
    key: Expr
    lead: tuple[Expr, ...]
    rows: Stages
    weights: Buffer
    scalars: tuple[Buffer, ...]
    out: Contract
    lane: Expr


def match(kernel: Kernel) -> Attention | None:
    """The attention that the kernel computes, or None."""
    parts = _split(kernel)
    if parts is None or kernel.outputs != kernel.stages[-1].outs:
        return None
    head, rows, tail = parts
    if any(e.attr is s.out for s in head[:-1] for t in (*rows, *tail) for e in t.reads()):
        return None  # two versions of the scores
    if not _in_rows(head[0].out, rows, {s.out for s in (*head, *rows)}):
        return None
    head, rows = shared(head, rows)
    made = {s.out for s in (*head, *rows)}
    named = _queries_and_keys(head)
    if named is None:
        return None
    scores, row, key = named
    lead = scores.at[:-1]
    outer = tuple(v for v in scores.axes if v is not row and v is not key)
    found = _second(tail, lead, head[0].out, made)
    if found is None or not _may_alias(kernel, tail):
        return None
    out, lane, weights, scalars = found
    if weights not in {s.out for s in rows}:
        return None
    return Attention(kernel, scores, outer, row, key, lead, rows, weights, scalars, out, lane)


def _split(kernel: Kernel) -> tuple[Stages, Stages, Stages] | None:
    """The first contract and its epilogue, the stages of rows, the second contract and the rest."""
    stages = tuple(s for s in kernel.stages if isinstance(s, Stage))
    kinds = [classify(s) for s in stages]
    products = [n for n, k in enumerate(kinds) if k == "contract"]
    if len(stages) != len(kernel.stages) or len(products) != 2 or products[0] != 0:
        return None
    second = products[1]
    first_row = next((n for n in range(1, second) if kinds[n] != "map"), None)
    if first_row is None or any(k != "map" for k in kinds[second + 1 :]):
        return None
    return stages[:first_row], stages[first_row:second], stages[second:]


def _product(head: Stages) -> Contract | None:
    """The contract of the first stage: a sum of floats, nothing rounded up or cut short."""
    c = contract.match(Kernel("product", (), head[0].outs, head[:1]))
    if c is None or not c.acc.is_float or c.casts or c.limits or c.exists is not None:
        return None
    return c


def _queries_and_keys(head: Stages) -> tuple[Contract, Expr, Expr] | None:
    """The first contract, the keys' factor as b, the axis of its rows and that of its keys."""
    c = _product(head)
    if c is None or len(c.at) < 2 or not all(isinstance(v.attr.extent, int) for v in c.k):
        return None
    at = c.at
    row, key = at[-2:]
    if row.op != "var" or key.op != "var":
        return None
    if key not in variables(c.b):
        c = replace(c, a=c.b, b=c.a)
    if key in variables(c.a) or row in variables(c.b) or row not in variables(c.a):
        return None
    extent = row.attr.extent
    done = _through(c, head, {})
    if done is None or done.at != at or (isinstance(extent, int) and extent < MIN_ROWS):
        return None
    return done, row, key


def _in_rows(scores: Buffer, rows: Sequence[Stage], made: set[Buffer]) -> bool:
    """Whether each stage has one value a row or one a key, and reads this row alone."""
    rank = scores.rank - 1
    for s in rows:
        if s.out.shape not in (scores.shape, scores.shape[:rank]):
            return False
        for e in (e for e in s.reads() if e.attr in made):
            _, idx, pred = ex.load_parts(e)
            if pred is not None or idx[:rank] != s.axes[:rank]:
                return False
            if any(v in variables(i) for i in idx[rank:] for v in s.axes[:rank]):
                return False
    return True


def _second(
    tail: Stages, lead: tuple[Expr, ...], scores: Buffer, made: set[Buffer]
) -> tuple[Contract, Expr, Buffer, tuple[Buffer, ...]] | None:
    """The second product in terms of the first one's axes: it, its lanes, weights, row scalars."""
    c = _product(tail)
    if c is None:
        return None
    if not any(e.attr in made for e in ex.loads(c.a)):
        c = replace(c, a=c.b, b=c.a)
    load = c.a
    while load.op == "cast":
        load = load.args[0]
    if load.op != "load" or load.attr not in made or load.attr.shape != scores.shape:
        return None
    weights, idx, pred = ex.load_parts(load)
    if pred is not None or c.k != idx[-1:] or any(e.attr in made for e in ex.loads(c.b)):
        return None
    env = _unify(idx[:-1], lead)
    left = None if env is None else [v for v in c.axes if v not in env]
    if env is None or left is None or len(left) != 1 or left[0] not in variables(c.b):
        return None
    if not isinstance(left[0].attr.extent, int) or left[0] in variables(c.a):
        return None
    done = _through(c, tail, env)
    if done is None:
        return None
    scalars = dict.fromkeys(e.attr for e in ex.loads(done.value) if e.attr in made)
    if any(b.shape != scores.shape[:-1] for b in scalars):
        return None
    if any(ex.load_parts(e)[1] != lead for e in ex.loads(done.value) if e.attr in scalars):
        return None
    return done, left[0], weights, tuple(scalars)


def _unify(idx: Sequence[Expr], at: Sequence[Expr]) -> dict[Expr, Expr] | None:
    """What the variables of `idx` are for idx = at; None where that is not plain to see."""
    env: dict[Expr, Expr] = {}
    for i, e in zip(idx, at, strict=True):
        terms, const = ex.linear(i)
        if const != 0 or any(v.op != "var" or v in env for v in terms):
            return None
        order = sorted(terms, key=lambda v: 1 if terms[v] == 1 else 0)
        if len(order) == 1 and terms[order[0]] == 1:
            env[order[0]] = e
        elif len(order) == 2 and terms[order[1]] == 1 and order[1].attr.extent == terms[order[0]]:
            env[order[0]] = ex.floordiv(e, ex.index(terms[order[0]]))
            env[order[1]] = ex.mod(e, ex.index(terms[order[0]]))
        elif order:
            return None
    return env


def _through(c: Contract, tail: Stages, env: dict[Expr, Expr]) -> Contract | None:
    """The contract with all stages that follow in its value, and where the last one is stored."""
    at = tuple(ex.substitute(e, env) for e in c.at)
    made = {c.stage.out: ex.substitute(c.value, env)}
    for s in tail[1:]:
        loads = [e for e in s.reads() if e.attr in made]
        if s.out.shape != tail[0].out.shape or not all(is_identity(e, s.axes) for e in loads):
            if s is not tail[-1] or len({ex.load_parts(e) for e in loads}) != 1:
                return None
            moved = _inverse(s, loads[0], at)
            if moved is None:
                return None
            at = moved
        value = ex.substitute(s.value, dict(zip(s.axes, at, strict=True)))
        made[s.out] = ex.rewrite(value, lambda e: made.get(e.attr) if e.op == "load" else None, {})
    last = tail[-1]
    return replace(
        c, kernel=Kernel("out", (), (last.out,), (last,)), stage=last, at=at, value=made[last.out],
        a=ex.substitute(c.a, env), b=ex.substitute(c.b, env),
    )


def _inverse(s: Stage, load: Expr, at: tuple[Expr, ...]) -> tuple[Expr, ...] | None:
    """Where s stores the element that it loads from index `at`; None if s is no permutation."""
    src, idx, pred = ex.load_parts(load)
    if pred is not None or dims.product(src.shape) != dims.product(s.out.shape):
        return None
    axes: tuple[Expr, ...] = s.axes
    for _ in range(8):
        found = next((e for e in ex.walk(*idx) if e.op in ("floordiv", "mod")
                      and e.args[0].op == "var"), None)
        if found is None:
            break
        v, d = found.args[0], ex.is_const_index(found.args[1])
        high = None if d is None else dims.exact_div(v.attr.extent, d)
        if d is None or high is None:
            return None
        by = {v: ex.var(v.attr.name + "h", high) * d + ex.var(v.attr.name, d)}
        idx = tuple(ex.substitute(i, by) for i in idx)
        axes = tuple(ex.substitute(e, by) for e in axes)
    env = _unify(idx, at)
    if env is None:
        return None
    env |= {v: ex.index(0) for e in axes for v in variables(e) if v.attr.extent == 1}
    if any(v not in env for e in axes for v in variables(e)):
        return None
    return tuple(ex.substitute(e, env) for e in axes)


def _may_alias(kernel: Kernel, tail: Stages) -> bool:
    """Whether the result could lie in the memory of no input that rows read at other places.

    An update in place is chosen where an input is read at a stage's own index: right while the
    result is indexed as the rows are, but not if it is stored through a permutation.
    """
    out = tail[-1].out
    if out.shape == tail[0].out.shape and _stays(tail):
        return True
    return all(b.shape != out.shape or b.dtype != out.dtype for b in kernel.inputs)


def _stays(tail: Stages) -> bool:
    """Whether each stage reads those before at its own index."""
    made = {s.out for s in tail}
    return all(is_identity(e, s.axes) for s in tail for e in s.reads() if e.attr in made)
