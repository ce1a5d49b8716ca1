"""The formula that all stages of rows share: computed once, where scores are stored.

Scaling and masking are inlined into each reader of the scores (the maximum, the exponential), which
is right while the scores come from memory; here the first product's write-back has them in
registers.
"""

from __future__ import annotations

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Stage
from flowc.ir.kernel.patterns import weight

from ..contract.match import variables

HEAVY = 8  # cycles from which an operation stays with the rows

Split = tuple[tuple[Stage, ...], tuple[Stage, ...]]


def shared(head: tuple[Stage, ...], rows: tuple[Stage, ...]) -> Split:
    """head and rows, what all rows make of the scores first being a stage of head."""
    last = head[-1]
    made = {s.out for s in rows}
    common = [_Common(s, last) for s in rows]
    if not all(c.plain for c in common):
        return head, rows
    parents: dict[Expr, set[Expr]] = {}
    for c in common:
        for e in ex.walk(c.root):
            for a in e.args:
                parents.setdefault(a, set()).add(e)
    here, top = set(last.axes), last.out[last.axes]
    while len(users := parents.get(top, set())) == 1:
        (user,) = users
        reads = {e.attr for e in ex.loads(user)}
        if user.op not in ex.SCALAR_OPS or weight(user) >= HEAVY or user.op == "check":
            break
        if reads & made or not variables(user) <= here:
            break
        top = user
    if top.op == "load":
        return head, rows
    out = Buffer(last.out.name, top.dtype, last.out.shape)
    return (*head, Stage(out, last.axes, top)), tuple(c.reading(out, top) for c in common)


class _Common:
    """A stage of rows in the variables of the scores. plain: it reads each score by a variable."""

    def __init__(self, s: Stage, scores: Stage) -> None:
        self.stage = s
        *lead, key = scores.axes
        rank = len(lead)
        self.env = dict(zip(s.axes[:rank], lead, strict=True))
        self.plain = True
        for e in s.reads():
            if e.attr is scores.out:
                x = ex.load_parts(e)[1][-1]
                self.plain &= x.op == "var" and self.env.get(x, key) is key
                self.env[x] = key
        self.memo: dict[Expr, Expr] = {}
        self.root = ex.substitute(s.value, self.env, self.memo)
        self.lead, self.key = s.axes[:rank], key

    def reading(self, out: Buffer, top: Expr) -> Stage:
        """The stage with the formula `top` replaced by a load of `out`."""
        s = self.stage

        def step(e: Expr) -> Expr | None:
            if self.memo.get(e) is not top:
                return None
            (x,) = (v for v in variables(e) if self.env.get(v) is self.key)
            return out.at((*self.lead, x))

        return Stage(s.out, s.axes, ex.rewrite(s.value, step, {}))
