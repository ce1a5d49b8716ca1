"""Recognise a contract: a sum of products, by the shape of its computation.

The axes of the result and of the sum are classified by which factor depends on them: *batch*
(both), *m* (only a), *n* (only b), *k* (summed). Axes of extent 1 are dropped; an axis that the
factors read as ``v // d`` and ``v % d`` (groups, merged heads) is split in two, so that what
remains is affine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flowc.ir.dtypes import DType, f32
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import AnyStage, Buffer, Kernel, Stage
from flowc.ir.kernel.patterns import split_point
from flowc.ir.plan import ALONE, Around


@dataclass(frozen=True, eq=False)
class Contract:
    """A contract stage taken apart; `a` and `b` are the factors, as written.

    at: the indices of the stage's out in terms of the axes; total: stands for the sum in `value`;
    casts: conversions of each product, innermost first; epilogue: stages over the same domain;
    limits: how far an axis of k really goes, where that depends on other axes; exists: whether
    an element of the result does, where axes were rounded up; around: what is known of inputs;
    pairs: the factors are words of two bf16 each.
    """

    kernel: Kernel
    stage: Stage
    a: Expr
    b: Expr
    acc: DType
    batch: tuple[Expr, ...]
    m: tuple[Expr, ...]
    n: tuple[Expr, ...]
    k: tuple[Expr, ...]
    at: tuple[Expr, ...]
    value: Expr
    total: Expr
    casts: tuple[DType, ...] = ()
    epilogue: tuple[Stage, ...] = ()
    limits: Mapping[Expr, Expr] = field(default_factory=dict)
    exists: Expr | None = None
    around: Around = ALONE
    pairs: bool = False

    @property
    def axes(self) -> tuple[Expr, ...]:
        """The axes of the result, as `at` orders them (outermost first)."""
        order = [v for e in self.at for v in _by_step(e)]
        known = {*self.batch, *self.m, *self.n}
        return tuple(dict.fromkeys(v for v in order if v in known))

    @property
    def pinned(self) -> set[Expr]:
        """Axes that have to be loops around those over k."""
        return {v for e in self.limits.values() for v in variables(e)}

    def is_fixed(self, e: Expr) -> bool:
        """Whether a factor reads nothing that changes between many launches."""
        fixed = self.around.fixed
        return bool(fixed) and all(x.attr in fixed for x in ex.loads(e))

    def count(self, k: Expr) -> Expr:
        """Iterations of an axis of k."""
        return self.limits.get(k, ex.index(k.attr.extent))

    def step(self, acc: Expr, a: Expr, b: Expr) -> Expr:
        """acc + a·b, fused where nothing rounds the product."""
        if self.pairs:
            return ex.dot_bf16(acc, a, b)
        if self.acc.is_float and not self.casts:
            return ex.fma(ex.cast(a, self.acc), ex.cast(b, self.acc), acc)
        p = ex.binary("mul", a, b)
        for to in self.casts:
            p = ex.cast(p, to)
        return ex.binary("add", acc, ex.cast(p, self.acc))

    def ready(self, e: Expr) -> bool:
        """Whether steps take a factor as it is, without a conversion."""
        return self.pairs or e.dtype == self.acc

    def with_factors(self, a: Expr, b: Expr) -> Contract:
        """The same contract on materialised factors."""
        return replace(self, a=a, b=b)


def _by_step(e: Expr) -> list[Expr]:
    """Variables of an affine index, largest coefficient first."""
    terms, _ = ex.linear(e)
    found = [v for v in terms if v.op == "var"]
    return sorted(found, key=lambda v: -d if isinstance(d := terms[v], int) else -(1 << 30))


def variables(e: Expr) -> set[Expr]:
    """The loop variables below an expression."""
    return {x for x in ex.walk(e) if x.op == "var"}


def match(kernel: Kernel) -> Contract | None:
    """The contract that the kernel computes, or None.

    The kernel has one stage whose value holds one ``reduce sum`` of a product (possibly converted),
    then stages without reductions over the same domain that read it at their own index.
    """
    if not kernel.stages or not all(isinstance(s, Stage) for s in kernel.stages):
        return None
    first, *rest = kernel.stages
    assert isinstance(first, Stage)
    found = [e for e in ex.walk(first.value) if e.op == "reduce"]
    if len(found) != 1 or found[0].attr != "sum":
        return None
    (total,) = found
    taken = _factors(total.args[0])
    if taken is None or not _is_epilogue(first, rest):
        return None
    a, b, casts = taken
    acc = f32 if total.dtype.is_float and total.dtype.bits < 32 else total.dtype
    if acc.is_complex:
        return None
    mark = ex.let_var("total", acc)
    value = ex.substitute(first.value, {total: ex.cast(mark, total.dtype)})
    out = _Axes(first.axes, total.args[1:], a, b)
    out.drop_units()
    out.split()
    value = ex.substitute(value, out.env)
    batch, m, n = out.classes()
    c = Contract(kernel, first, out.a, out.b, acc, batch, m, n, out.k, out.at, value, mark, casts,
                 tuple(s for s in rest if isinstance(s, Stage)))
    return c if c.m or c.n else None


def _factors(body: Expr) -> tuple[Expr, Expr, tuple[DType, ...]] | None:
    casts: list[DType] = []
    while body.op == "cast":
        casts.append(body.dtype)
        body = body.args[0]
    if body.op != "mul" or body.dtype.is_bool:
        return None
    a, b = body.args
    if not (ex.loads(a) and ex.loads(b)):
        return None
    return a, b, tuple(reversed(casts))


def _is_epilogue(first: Stage, rest: Sequence[AnyStage]) -> bool:
    """Whether the other stages are elementwise over first's domain."""
    made: list[Buffer] = [first.out]
    for s in rest:
        if not isinstance(s, Stage) or s.out.shape != first.out.shape:
            return False
        for e in ex.walk(s.value):
            if e.op == "reduce":
                return False
            if e.op == "load" and e.attr in made:
                _, idx, pred = ex.load_parts(e)
                if pred is not None or idx != s.axes:
                    return False
        made.append(s.out)
    return True


class _Axes:
    """The axes of a contract while they are simplified."""

    def __init__(self, out: tuple[Expr, ...], k: tuple[Expr, ...], a: Expr, b: Expr) -> None:
        self.at, self.k, self.a, self.b = out, k, a, b
        self.out = list(out)
        self.env: dict[Expr, Expr] = {}  # original axes, for the stage's value

    def _replace(self, env: Mapping[Expr, Expr]) -> None:
        self.a, self.b = ex.substitute(self.a, env), ex.substitute(self.b, env)
        self.at = tuple(ex.substitute(e, env) for e in self.at)
        self.env = {v: ex.substitute(e, env) for v, e in self.env.items()} | {
            v: e for v, e in env.items() if v not in self.env
        }

    def drop_units(self) -> None:
        env = {v: ex.index(0) for v in (*self.out, *self.k) if v.attr.extent == 1}
        self._replace(env)
        self.out = [v for v in self.out if v not in env]
        self.k = tuple(v for v in self.k if v not in env)

    def split(self) -> None:
        """Splits axes that are read as v // d or v % d where d divides their extent."""
        for _ in range(8):
            found = split_point((*self.out, *self.k), self.a, self.b)
            if found is None:
                return
            v, d, q = found
            hi, lo = ex.var(f"{v.attr.name}h", q), ex.var(v.attr.name, d)
            self._replace({v: hi * d + lo})
            self.out = [w for u in self.out for w in ((hi, lo) if u is v else (u,))]
            self.k = tuple(w for u in self.k for w in ((hi, lo) if u is v else (u,)))

    def classes(self) -> tuple[tuple[Expr, ...], tuple[Expr, ...], tuple[Expr, ...]]:
        """batch, m, n."""
        in_a, in_b = variables(self.a), variables(self.b)
        batch = tuple(v for v in self.out if (v in in_a) == (v in in_b))
        m = tuple(v for v in self.out if v in in_a and v not in in_b)
        n = tuple(v for v in self.out if v in in_b and v not in in_a)
        return batch, m, n
