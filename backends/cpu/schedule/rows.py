"""Row kernels: several passes over a row in cache (softmax, layer norm, their gradients).

A row is one point of the leading axes that all stages share. Within a row, stages run in order:
reductions into registers, results of a whole row into a local buffer or an output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    Kernel,
    Let,
    LoopKernel,
    Phase,
    Prefetch,
    Stage,
    Stmt,
    Store,
)
from flowc.ir.kernel.patterns import cost, estimate, reduction

from ..target import CpuTarget
from . import axes as ax
from .accumulate import HEAVY, fold, reduce_axes, with_short_indices

Continue = Callable[[], list[Stmt]]


def row_rank(stages: list[Stage]) -> int:
    """How many leading axes are the rows: those of the shortest stage."""
    return min(len(s.out.shape) for s in stages)


def schedule_rows(kernel: Kernel, target: CpuTarget) -> LoopKernel:
    """One pass of the row loop; chunks are whole rows."""
    stages = [s for s in kernel.stages if isinstance(s, Stage)]
    rank = row_rank(stages)
    shape = stages[0].out.shape[:rank]
    weight = max(_row_work(s, rank) for s in stages)
    plan = _Rows(kernel, stages, rank, target)

    def row(flat: Expr) -> list[Stmt]:
        return plan.row(tuple(ax.unravel(flat, shape)))

    loop = ax.chunked(dims.product(shape), ax.rows_per_chunk(weight), row)
    return LoopKernel(
        kernel.name, kernel.inputs, kernel.outputs, (), (Phase((loop,)),), note="rows"
    )


def _row_work(s: Stage, rank: int) -> int:
    r = reduction(s)
    extent = dims.product(s.out.shape[rank:])
    for v in r.axes if r else ():
        extent = dims.mul(extent, v.attr.extent)
    return max(1, estimate(extent, 256))


class _Rows:
    """Builds the statements of one row."""

    def __init__(
        self, kernel: Kernel, stages: list[Stage], rank: int, target: CpuTarget
    ) -> None:
        self.stages = [with_short_indices(s) for s in stages]
        self.rank, self.target = rank, target
        self.kept = set(kernel.outputs)
        self.locals: dict[Buffer, Buffer] = {}
        self.scalars: dict[Buffer, Expr] = {}
        self.now = 0  # the stage that is being made

    def row(self, at: tuple[Expr, ...]) -> list[Stmt]:
        self.at = at
        return self._run(0)

    def _run(self, n: int) -> list[Stmt]:
        """Stage n and, in the scope of what it allocates, all that follow."""
        if n == len(self.stages):
            return []
        s, self.now = self.stages[n], n
        inner_axes = s.axes[self.rank :]
        value = self._value(s)
        if not inner_axes:
            return self._scalar(s, value, lambda: self._run(n + 1))
        kept = s.out in self.kept
        lead = self.at if kept else ()
        local = s.out if kept else self._local(s)
        joined = self._joined(n)
        if joined is not None:
            stmts = self._both(n, value, local, lead, joined)
        else:
            stmts = [*self._fill(s, value, local, lead), *self._run(n + 1)]
        return stmts if kept else [Alloc(local, tuple(stmts))]

    def _value(self, s: Stage) -> Expr:
        env = dict(zip(s.axes[: self.rank], self.at, strict=True))
        return self._redirect(ex.substitute(s.value, env))

    def _local(self, s: Stage) -> Buffer:
        shape: tuple[Dim, ...] = s.out.shape[self.rank :]
        local = Buffer(f"{s.out.name}.row", s.out.dtype, shape, "local")
        self.locals[s.out] = local
        return local

    # ---- a row's values and what is reduced of them, in one loop

    def _joined(self, n: int) -> Expr | None:
        """The reduction that the stage after n makes of n's result, if it walks it in its order."""
        s = self.stages[n]
        if n + 1 == len(self.stages) or len(self.stages[n + 1].axes) != self.rank:
            return None
        if any(e.op == "reduce" for e in ex.walk(s.value)):
            return None
        user = self.stages[n + 1]
        found = reduction(user)
        node = next((e for e in ex.walk(user.value) if e.op == "reduce"), None)
        if found is None or node is None:
            return None
        if tuple(v.attr.extent for v in found.axes) != s.out.shape[self.rank :]:
            return None
        reads = [e for e in user.reads() if e.attr is s.out]
        where = (*user.axes, *found.axes)
        same = all(ex.load_parts(e)[1:] == (where, None) for e in reads)
        return node if reads and same else None

    def _both(
        self, n: int, value: Expr, out: Buffer, lead: tuple[Expr, ...], node: Expr
    ) -> list[Stmt]:
        """Stage n stored into out[lead, …], reduced by stage n + 1 while in registers."""
        s, user = self.stages[n], self.stages[n + 1]
        axes = node.args[1:]
        value = ex.substitute(value, dict(zip(s.axes[self.rank :], axes, strict=True)))
        env = dict(zip(user.axes, self.at, strict=True))
        name = ex.let_var(f"{s.out.name}.v", s.out.dtype)
        body = ex.substitute(node.args[0], env)
        body = ex.rewrite(body, lambda e: name if e.op == "load" and e.attr is s.out else None, {})
        body = self._redirect(body)
        groups = ax.collapse(axes, [body, value], [(out, (*lead, *axes))])
        fresh, of = ax.merged(groups, "rst")
        body, value = (ex.substitute(e, of) for e in (body, value))
        index = tuple(ex.substitute(v, of) for v in axes)

        def before(at: Sequence[Expr]) -> list[Stmt]:
            here = dict(zip(fresh, at, strict=True))
            inner = tuple(ex.substitute(i, here) for i in index)
            where = (*lead, *inner)
            ahead = self._ahead(n + 1, work, s.out.shape[self.rank :], inner)
            return [*ahead, Let(name, ex.substitute(value, here)), Store(out, where, name)]

        def use(total: Expr) -> list[Stmt]:
            found = self._redirect(ex.substitute(user.value, env))
            result = ex.cast(total, node.dtype)
            at = next(e for e in ex.walk(found) if e.op == "reduce")
            return self._bind(user, ex.substitute(found, {at: result}),
                              lambda: self._run(n + 2))

        work = cost(value)
        lanes = ax.widest([s, user], self.target.lanes)
        how = fold(node.attr, body.dtype, self.target)
        return reduce_axes(how, fresh, body, lanes, use, before, work)

    def _ahead(
        self, n: int, work: int, shape: tuple[Dim, ...], inner: Sequence[Expr]
    ) -> list[Stmt]:
        """Asks for the lines that stages from n on will store to, while there is work to do: a
        long row's stores would all wait for memory (softmax of 4096 and more: 1.25 times)."""
        if work < HEAVY:
            return []
        later = (s.out for s in self.stages[n:] if s.out in self.kept)
        return [Prefetch(b, (*self.at, *inner)) for b in later if b.shape[self.rank :] == shape]

    def _redirect(self, value: Expr) -> Expr:
        """Loads of what this row computed before come from registers and row buffers."""
        def step(e: Expr) -> Expr | None:
            if e.op != "load":
                return None
            if e.attr in self.scalars:
                return self.scalars[e.attr]
            if e.attr in self.locals:
                _, idx, pred = ex.load_parts(e)
                rest = tuple(ex.rewrite(i, step, memo) for i in idx[self.rank :])
                return ex.load(self.locals[e.attr], rest, pred)
            return None
        memo: dict[Expr, Expr] = {}
        return ex.rewrite(value, step, memo)

    def _scalar(self, s: Stage, value: Expr, rest: Continue) -> list[Stmt]:
        """A stage with one value a row; it stays in a variable."""
        lanes = ax.widest_of([e.args[0] for e in ex.walk(value) if e.op == "reduce"] or [value],
                             self.target.lanes)
        return self._with_value(value, lanes, lambda v: self._bind(s, v, rest))

    def _bind(self, s: Stage, value: Expr, rest: Continue) -> list[Stmt]:
        name = ex.let_var(s.out.name, s.out.dtype)
        self.scalars[s.out] = name
        out: list[Stmt] = [Let(name, value)]
        if s.out in self.kept:
            out.append(Store(s.out, self.at, name))
        return [*out, *rest()]

    def _lanes(self, s: Stage) -> int:
        return ax.widest([s], self.target.lanes)

    def _with_value(
        self, value: Expr, lanes: int, use: Callable[[Expr], list[Stmt]]
    ) -> list[Stmt]:
        found = next((e for e in ex.walk(value) if e.op == "reduce"), None)
        if found is None:
            return use(value)
        body, axes = found.args[0], list(found.args[1:])
        groups = ax.collapse(axes, [body], [])
        fresh, env = ax.merged(groups, "rst")
        body = ex.substitute(body, env)

        def done(total: Expr) -> list[Stmt]:
            return use(ex.substitute(value, {found: ex.cast(total, found.dtype)}))

        work, shape = cost(body), tuple(v.attr.extent for v in axes)
        index = [env.get(v, v) for v in axes]

        def before(at: Sequence[Expr]) -> list[Stmt]:
            here = dict(zip(fresh, at, strict=True))
            return self._ahead(self.now + 1, work, shape,
                               tuple(ex.substitute(i, here) for i in index))

        how = fold(found.attr, body.dtype, self.target)
        return reduce_axes(how, fresh, body, lanes, done, before)

    def _fill(
        self, s: Stage, value: Expr, out: Buffer, lead: tuple[Expr, ...]
    ) -> list[Stmt]:
        """Loops over the inner axes that store `value` into out[lead, inner…]."""
        inner = s.axes[self.rank :]
        lanes = self._lanes(s)
        if any(e.op == "reduce" for e in ex.walk(value)):
            stmts = self._with_value(value, lanes, lambda v: [Store(out, (*lead, *inner), v)])
            for v in reversed(inner):
                stmts = [For(v, ex.index(v.attr.extent), "serial", tuple(stmts))]
            return stmts
        groups = ax.collapse(inner, [value], [(out, (*lead, *inner))])
        loops, env = ax.merged(groups, "jkl")
        memo: dict[Expr, Expr] = {}
        at = (*lead, *(ex.substitute(v, env, memo) for v in inner))
        width = ax.vector_axis(loops[-1].attr.extent, lanes)
        last = loops[-1]
        store = Store(out, at, ex.substitute(value, env, memo))
        stmts = [For(last, ex.index(last.attr.extent), "vector", (store,), width)]
        for v in reversed(loops[:-1]):
            stmts = [For(v, ex.index(v.attr.extent), "serial", tuple(stmts))]
        return stmts
