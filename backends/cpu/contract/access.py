"""How a factor reads memory along an axis."""

from __future__ import annotations

from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.patterns import estimate

from .match import variables

FAR = 1 << 40  # a stride for what is not affine


def stride(e: Expr, axis: Expr) -> int:
    """Elements between neighbours along the axis, the worst of e's loads; FAR if not affine."""
    return max((_load_stride(x, axis) for x in ex.loads(e)), default=0)


def _load_stride(x: Expr, axis: Expr) -> int:
    buf, idx, _ = ex.load_parts(x)
    terms, _ = ex.linear(buf.offset(idx))
    if any(a is not axis and axis in variables(a) for a in terms):
        return FAR
    return abs(size(terms.get(axis, 0)))


def size(d: Dim) -> int:
    """A dimension's typical value, for cost models."""
    return estimate(d)


def is_plain(e: Expr) -> bool:
    """One load without a predicate, perhaps converted."""
    while e.op == "cast":
        e = e.args[0]
    return e.op == "load" and ex.load_parts(e)[2] is None


def is_bare(e: Expr) -> bool:
    """One load without a predicate or a conversion."""
    return e.op == "load" and is_plain(e)


def is_guarded(e: Expr) -> bool:
    """Whether some load has a predicate."""
    return any(ex.load_parts(x)[2] is not None for x in ex.loads(e))


def is_windowed(e: Expr) -> bool:
    """Whether two variables step through the same memory, so that a copy would be larger."""
    for x in ex.loads(e):
        for i in ex.load_parts(x)[1]:
            if len(variables(i)) > 1 and any(k == 1 for k in ex.linear(i)[0].values()):
                return True
    return False


def masked(e: Expr, axis: Expr, ok: Expr) -> Expr:
    """e with its loads that depend on the axis reading 0 where `ok` is false."""
    def step(x: Expr) -> Expr | None:
        if x.op != "load" or axis not in variables(x):
            return None
        buf, idx, pred = ex.load_parts(x)
        return ex.load(buf, idx, ok if pred is None else pred & ok)
    return ex.rewrite(e, step, {})


def by_stride(axes: tuple[Expr, ...], *factors: Expr) -> tuple[Expr, ...]:
    """Axes by decreasing stride in the factors, ties as they are."""
    return tuple(sorted(axes, key=lambda v: -max(stride(f, v) for f in factors)))
