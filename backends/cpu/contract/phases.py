"""Transposed convolutions by phases: taps that would meet only inserted zeros are never visited.

The gradient of a convolution of stride d reads its input where ``(y + t − p) mod d = 0``. With
y = d·yh + yp, the taps that pass are t = d·th + t0(yp): a batch axis yp of d phases, each with its
own 1/d of the taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr

from .access import masked
from .match import Contract, variables

MOST_PHASES = 4  # places of an axis that are tested one by one


def by_phases(c: Contract) -> Contract:
    """The contract with each divisibility test of a factor solved, where that is possible."""
    for _ in range(4):
        found = next(_tests(c), None)
        if found is None:
            break
        c = _solve(c, *found)
    return _skipped(c)


def _skipped(c: Contract) -> Contract:
    """The contract with tests of few places of the result alone as bounds of its outermost sum:
    where nothing but inserted zeros is read, as by a 1x1 filter, nothing is computed."""
    for side in (c.a, c.b):
        pred = ex.load_parts(side)[2] if side.op == "load" else None
        for test in () if pred is None or not c.k else conjuncts(pred):
            used = variables(test)
            places = [v.attr.extent for v in used]
            if test.op != "eq" or not used or not used <= {*c.axes} or _lanes(c) <= used or not all(
                    isinstance(n, int) and n <= MOST_PHASES for n in places):
                continue
            k = c.k[0]
            limit = ex.select(test, c.count(k), ex.index(0))
            a, b = (_without(e, test) if e is side else e for e in (c.a, c.b))
            return _skipped(replace(c, a=a, b=b, limits={**c.limits, k: limit}))
    return c


def _lanes(c: Contract) -> set[Expr]:
    """The axes that the result has left for lanes."""
    rounded = set() if c.exists is None else variables(c.exists)
    return {v for v in c.axes if v not in c.pinned and v not in rounded}


def _tests(c: Contract) -> Iterator[tuple[Expr, Expr, Expr, int]]:
    """(test, result axis, k axis, d) of each test ``±t + f(v) mod d = 0`` that can be solved."""
    for x in ex.loads(c.a, c.b):
        pred = ex.load_parts(x)[2]
        for test in () if pred is None else conjuncts(pred):
            if test.op != "eq" or test.args[0].op != "mod" or ex.is_const_index(test.args[1]) != 0:
                continue
            terms, _ = ex.linear(test.args[0].args[0])
            d = ex.is_const_index(test.args[0].args[1])
            out = [v for v in terms if v in c.axes]
            k = [v for v in terms if v in c.k and terms[v] in (1, -1)]
            if len(terms) != 2 or len(out) != 1 or len(k) != 1 or not isinstance(d, int):
                continue
            if dims.exact_div(out[0].attr.extent, d) is not None or _others(c, out[0]):
                yield test, out[0], k[0], d


def _others(c: Contract, v: Expr) -> bool:
    """Whether an axis is left for the lanes when v is rounded up."""
    rounded = {v} if c.exists is None else {v, *variables(c.exists)}
    return any(u not in rounded for u in c.axes)


def conjuncts(pred: Expr) -> list[Expr]:
    """The tests that a predicate is the conjunction of."""
    if pred.op != "and":
        return [pred]
    return [x for a in pred.args for x in conjuncts(a)]


def _solve(c: Contract, test: Expr, v: Expr, t: Expr, d: int) -> Contract:
    terms, const = ex.linear(test.args[0].args[0])
    sign = 1 if terms[t] == 1 else -1
    extent = v.attr.extent
    even = dims.exact_div(extent, d) is not None
    high = ex.var(v.attr.name, dims.ceildiv(extent, d))
    phase = ex.var(v.attr.name + "p", d)
    first = ex.mod((phase * terms[v] + const) * -sign, d)
    taps = t.attr.extent
    th = ex.var(t.attr.name, dims.ceildiv(taps, d))
    env = {v: high * d + phase, t: th * d + first}
    inside = None if taps % d == 0 else env[t] < ex.index(taps)

    def factor(e: Expr) -> Expr:
        if not even:
            e = _bounded(e, v)
        out = ex.substitute(_without(e, test), env)
        return out if inside is None or _has(e, test) else masked(out, th, inside)

    count = ex.floordiv(ex.index(dims.add(taps, d - 1)) - first, d)
    swap = {v: (high, phase), t: (th,)}

    def axes(old: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return tuple(w for u in old for w in swap.get(u, (u,)))

    exists = c.exists if c.exists is None else ex.substitute(c.exists, env)
    if not even:
        here = env[v] < ex.index(extent)
        exists = here if exists is None else exists & here
    a, b = factor(c.a), factor(c.b)
    both = variables(a), variables(b)
    result = axes((*c.batch, *c.m, *c.n))
    return replace(
        c, a=a, b=b, k=axes(c.k),
        batch=tuple(u for u in result if (u in both[0]) == (u in both[1])),
        m=tuple(u for u in result if u in both[0] and u not in both[1]),
        n=tuple(u for u in result if u in both[1] and u not in both[0]),
        at=tuple(ex.substitute(e, env) for e in c.at), value=ex.substitute(c.value, env),
        limits={**c.limits, th: count}, exists=exists,
    )


def _bounded(e: Expr, v: Expr) -> Expr:
    """e with bounds tested in all that v indexes: v is about to go beyond its extent."""
    def step(x: Expr) -> Expr | None:
        if x.op != "load" or v not in variables(x):
            return None
        buf, idx, pred = ex.load_parts(x)
        for i, n in zip(idx, buf.shape, strict=True):
            if v in variables(i):
                inside = (i >= ex.index(0)) & (i < ex.index(n))
                pred = inside if pred is None else pred & inside
        return ex.load(buf, idx, pred)
    return ex.rewrite(e, step, {})


def _has(e: Expr, test: Expr) -> bool:
    """Whether the factor is the one that is tested."""
    return any(x is test for x in ex.walk(e))


def _without(e: Expr, test: Expr) -> Expr:
    """e with the test taken out of its loads' predicates."""
    def step(x: Expr) -> Expr | None:
        if x.op != "load":
            return None
        buf, idx, pred = ex.load_parts(x)
        if pred is None or test not in (tests := conjuncts(pred)):
            return None
        left = [y for y in tests if y is not test]
        out = left[0] if left else None
        for y in left[1:]:
            assert out is not None
            out = out & y
        return ex.load(buf, idx, out)
    return ex.rewrite(e, step, {})
