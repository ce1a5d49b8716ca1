"""Guards removed from a factor: a copy in which what lies outside is 0.

A convolution reads ``x[n, y·s + ky·d − p, …]`` under a predicate. Here y and ky meet in one linear
form; the copy is indexed by that form, so each element is tested (and its prologue computed) once,
and the micro-kernel reads with no tests at all.
"""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, Phase

from .access import by_stride
from .match import variables
from .pack import Packed, fill


def without_guards(
    e: Expr, name: str, axes: tuple[Expr, ...], lane: Expr, w: int
) -> Packed | None:
    """The factor through a padded copy, or None where no affine form covers its tests."""
    forms: dict[Expr, Expr] = {}  # window variable → linear form in the original variables
    body = e
    for _ in range(6):
        found = _pair(body, axes)
        if found is None:
            break
        v, form = found
        lo_hi = ex.bounds(form)
        if lo_hi is None:
            return None
        extent = dims.add(dims.add(lo_hi[1], 1), dims.mul(lo_hi[0], -1))
        u = ex.var("u", extent)
        # v = form's rest solved for v, so that the form becomes u + lo everywhere
        terms, _ = ex.linear(form)
        sign = 1 if terms[v] == 1 else -1
        solved = (u + lo_hi[0] - (form - v * sign)) * sign
        after = ex.substitute(body, {v: solved})
        if variables(after) & (variables(form) - {u}):
            return None
        forms[u] = form - lo_hi[0]
        body = after
    used = variables(body)
    order = by_stride(tuple(v for v in (*axes, *forms) if v in used), body)
    if lane in used:
        order = (*(v for v in order if v is not lane), lane)
    buf = Buffer(name, e.dtype, tuple(v.attr.extent for v in order))
    factor = buf[tuple(forms.get(v, v) for v in order)]
    return Packed(factor, buf, Phase(fill(buf, order, body, w)))


def _pair(e: Expr, axes: tuple[Expr, ...]) -> tuple[Expr, Expr] | None:
    """A linear form of two or more axes, and one of them whose coefficient is ±1."""
    known = set(axes)
    for x in ex.walk(e):
        if x.op != "lin":
            continue
        terms, _ = ex.linear(x)
        mine = [v for v in terms if v in known]
        if len(mine) < 2:
            continue
        unit = [v for v in mine if terms[v] in (1, -1)]
        if unit:
            return unit[-1], x
    return None
