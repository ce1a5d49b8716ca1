"""Random programs from seeds: each takes its share of all pairs of op and element type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from flowc.ir import ops, verifier
from flowc.ir.autodiff import differentiable, gradients
from flowc.ir.core import IRError, Param, Value
from flowc.ir.dtypes import BY_NAME
from fuzz.emitters import TABLE
from fuzz.motifs import KINDS, MOTIFS
from fuzz.program import Growing, Program, Reject
from fuzz.values import assess, is_bounded

assert ops  # they register themselves
FOCUS = 34  # pairs of op and type that a program tries
SIZES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64)
LONG = (511, 512, 513)


@cache
def pairs() -> tuple[tuple[str, str], ...]:
    """All pairs of op and element type, shuffled once."""
    found = [(name, kind) for name, (kinds, _) in TABLE.items() for kind in kinds]
    order = np.random.default_rng(7).permutation(len(found))
    return tuple(found[n] for n in order)


def focus(seed: int) -> list[tuple[str, str]]:
    """The share of a seed: all pairs come up equally often."""
    every = pairs()
    return [every[(seed * FOCUS + n) % len(every)] for n in range(FOCUS)]


def sizes(rng: np.random.Generator) -> list[tuple[str, int, bool]]:
    """Rows, columns, and a small number; each known or a symbol."""
    rows = rng.choice(LONG) if rng.random() < 0.08 else rng.choice(SIZES)
    columns = rng.choice(SIZES)
    small = rng.choice((1, 2, 3, 4))
    numbers = [int(n) if rng.random() > 0.04 else 0 for n in (rows, columns, small)]
    return [(name, n, bool(rng.random() < 0.35))
            for name, n in zip(("R", "C", "S"), numbers, strict=True)]


def program(seed: int, pick: Sequence[tuple[str, str] | str] | None = None) -> Program:
    """The program of a seed: always the same one."""
    rng = np.random.default_rng(seed)
    g = Growing(rng, sizes(rng))
    g.special = bool(rng.random() < 0.1)
    for d in g.dims:
        if not isinstance(d, int):  # an argument says what the symbol is
            g.param(g.choose(KINDS), (d,))
    _state(g)
    todo: list[Any] = list(focus(seed) if pick is None else pick)
    todo += [rng.choice(sorted(MOTIFS)) for _ in range(3)] if pick is None else []
    for n in rng.permutation(len(todo)):
        item = todo[int(n)]
        for _ in range(4):
            try:
                if isinstance(item, tuple):
                    TABLE[item[0]][1](g, BY_NAME[item[1]])
                else:
                    MOTIFS[str(item)](g, g.choose(KINDS))
                break
            except Reject:
                continue
    if pick is None and rng.random() < 0.4:
        _differentiate(g)
    return finish(g)


def _state(g: Growing) -> None:
    """Variables, which the program updates."""
    for _ in range(int(g.rng.integers(0, 3))):
        g.param(g.choose([*KINDS, BY_NAME["i32"], BY_NAME["u8"]]), g.shape(), state=True)


def _differentiate(g: Growing) -> None:
    """The gradient of one of the values by some arguments, where it is well-conditioned."""
    users = {v for i in g.b.instrs for v in i.operands}
    ys = [v for v in g.vals if v not in users and differentiable(v.type) and v.ty.dtype.bits >= 16]
    xs = [p for p in g.b.params if differentiable(p.type) and p.ty.dtype.bits >= 16]
    if not ys or not xs or g.special:
        return
    y = g.choose(ys)
    start, before = len(g.b.instrs), [(i, i.op, i.results) for i in g.b.instrs]
    consts = dict(g.b._consts)
    try:
        found = gradients(g.b, [y], xs)
        draft = g.b.finish([v for v in found if v is not None])
        vals = assess(draft, g.args, {k: n for k, n in g.env.items() if not k.startswith("N")})
    except (IRError, NotImplementedError, ArithmeticError):
        found = []
    if not found or not all(v is None or is_bounded(vals[v], False) for v in found):
        del g.b.instrs[start:]
        g.b._consts = consts
        for i, op, results in before:
            i.op, i.results = op, results
        return
    g.vals = vals


def finish(g: Growing) -> Program:
    """All that nothing reads is a result, and some of what is read; variables get new values."""
    users = {v for i in g.b.instrs for v in i.operands}
    made = [r for i in g.b.instrs for r in i.results]
    new = [_update(g, s) for s in g.states]
    outs = [v for v in made if v not in users or g.chance(0.05)][:60]
    outs = outs or [made[-1] if made else g.param(BY_NAME["f32"], ())]
    for n, s in enumerate(g.states):
        at = g.b.params.index(s)
        g.b.infos[at] = Param(g.b.infos[at].name, "state", len(outs) + n)
    f = g.b.finish([*outs, *new])
    verifier.verify(f)
    env = {k: n for k, n in g.env.items() if k in ("R", "C", "S")}
    return Program(f, env, g.args, g.samplers, g.special)


def _update(g: Growing, s: Value) -> Value:
    """What a variable becomes: a value that is there, or a step from the old one."""
    same = [v for v, x in g.vals.items() if v.type == s.type and v not in g.b.params]
    if same and g.chance(0.4):
        return g.choose(same)  # type: ignore[no-any-return]
    other = g.choose([v for v in g.vals if v.type == s.type])
    try:
        if s.ty.rank and g.chance(0.2):  # which is not computed in place
            other = g.emit("reverse", s, axes=tuple(range(s.ty.rank)))
        return g.emit("add", s, other) if g.chance(0.8) else g.emit("sub", other, s)  # type: ignore[no-any-return]
    except Reject:
        return s
