"""Fusion: raw stages become kernels.

Two steps. *Inlining* replaces a load of a buffer by the formula that computes it: always for views
and constants, and where that does not repeat more work than the trip through memory costs.
*Grouping* puts stages into one kernel: elementwise stages over one domain, rows (several passes
over a row that stays in cache), a contract and its epilogue. Both look at what a stage computes,
never at the op that it came from.

A group holds a position in the order of steps. A stage may join the group at position p only if
nothing that it reads is made after p; so groups never depend on each other in a circle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import AnyStage, Buffer, Kernel, Proc, Stage, map_stmts
from flowc.ir.kernel.patterns import (
    Kind,
    classify,
    cost,
    estimate,
    is_affine,
    is_identity,
    is_view,
    iterations,
    weight,
)
from flowc.ir.plan import Cond, Launch, Loop, Program, Raw, Step, step_reads, step_writes

from .base import Context, Pass, Unit, register


@register
@dataclass(frozen=True)
class Fuse(Pass):
    """Group stages into kernels. cheap: cost up to which a formula is recomputed in each consumer;
    nodes: the size at which formulas stop growing; rows, epilogues: allow these groups."""

    cheap: int = 5
    nodes: int = 300
    rows: bool = True
    epilogues: bool = True

    name = "fuse"

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_programs(lambda p: fuse_program(p, self, ctx))


def fuse_program(p: Program, opts: Fuse, ctx: Context) -> Program:
    """The program with every raw stage in a kernel."""
    views = dict(p.views)
    serial = itertools.count()
    fixed = {*p.inputs, *p.state, *p.constants}
    needed = {*p.outputs, *p.updates.values()}
    constant: dict[Buffer, Stage] = {}
    steps = _block(p.steps, needed, fixed, views, constant, serial, opts, ctx)
    return p.replace(steps=steps, views=views)


def _block(
    steps: tuple[Step, ...],
    needed: set[Buffer],
    fixed: set[Buffer],
    views: dict[Buffer, Buffer],
    constant: dict[Buffer, Stage],
    serial: itertools.count[int],
    opts: Fuse,
    ctx: Context,
) -> tuple[Step, ...]:
    for s in steps:
        if isinstance(s, Raw) and isinstance(s.stage, Stage) and not s.stage.reads():
            if cost(s.stage.value) <= 2 * opts.cheap:
                constant[s.stage.out] = s.stage
    inner: list[Step] = []
    for s in steps:
        args = (fixed, views, constant, serial, opts, ctx)
        if isinstance(s, Cond):
            then, otherwise = (_block(b, set(), *args) for b in (s.then, s.otherwise))
            s = replace(s, then=then, otherwise=otherwise)
        elif isinstance(s, Loop):
            test = _block(s.test, {s.pred}, *args) if s.pred is not None else ()
            s = replace(s, test=test, body=_block(s.body, set(), *args))
        inner.append(s)
    inlined = _Inliner(inner, needed, fixed, views, constant, opts, ctx).run()
    return _Grouper(inlined, needed, views, serial, opts, ctx).run()


class _Inliner:
    """Decides for each buffer of a block whether it is stored or recomputed where it is used."""

    def __init__(
        self, steps: list[Step], needed: set[Buffer], fixed: set[Buffer],
        views: dict[Buffer, Buffer], constant: dict[Buffer, Stage], opts: Fuse, ctx: Context,
    ) -> None:
        self.steps, self.needed, self.fixed, self.views = steps, needed, fixed, views
        self.formulas: dict[Buffer, Stage] = dict(constant)
        self.opts, self.ctx = opts, ctx
        self.viewed = set(views.values())
        self.flat = {v: k for k, v in views.items() if k.name.endswith(".flat")}
        self.uses: dict[Buffer, list[AnyStage | None]] = {}

    def run(self) -> list[Step]:
        steps = self._sweep(self.steps, self._free)
        self._count(steps)
        steps = self._sweep(steps, self._worth)
        return self._live(steps)

    def _sweep(self, steps: list[Step], decide: object) -> list[Step]:
        out: list[Step] = []
        for s in steps:
            if not isinstance(s, Raw):
                out.append(s)
                continue
            stage = self.expand(s.stage)
            out.append(Raw(stage))
            if isinstance(stage, Stage) and decide(stage):  # type: ignore[operator]
                self.formulas[stage.out] = stage
        return out

    def _free(self, s: Stage) -> bool:
        """Views of what is in memory anyway become views; other pure moves are inlined."""
        if s.value.op == "const":
            return True
        src = is_view(s)
        if src is not None and s.out not in self.needed and self._in_memory(src):
            self.views[s.out] = src
            self.viewed.add(src)
            return False
        moved = s.value
        while moved.op == "cast":
            moved = moved.args[0]
        return moved.op == "load" and metrics(s.value)[0] <= 64

    def _in_memory(self, b: Buffer) -> bool:
        return b in self.fixed or b in self.views or b not in self._maps()

    def _maps(self) -> set[Buffer]:
        if not hasattr(self, "_map_outs"):
            raws = (s.stage for s in self.steps if isinstance(s, Raw))
            self._map_outs = {
                s.out for s in raws if isinstance(s, Stage) and classify(s) == "map"
            }
        return self._map_outs

    def _count(self, steps: list[Step]) -> None:
        for s in steps:
            if isinstance(s, Raw):
                if s.stage.outs[0] in self.formulas or s.stage.outs[0] in self.views:
                    if s.stage.outs[0] not in self.needed:
                        continue
                for b in dict.fromkeys(e.attr for e in s.stage.reads()):
                    self.uses.setdefault(self._root(b), []).append(s.stage)
            else:
                for b in step_reads(s):
                    self.uses.setdefault(self._root(b), []).append(None)

    def _root(self, b: Buffer) -> Buffer:
        while b in self.views:
            b = self.views[b]
        return b

    def _worth(self, s: Stage) -> bool:
        """Whether consumers should recompute s rather than load it."""
        if s.out in self.formulas:
            return True
        if s.out in self.needed or s.out in self.views or s.out in self.viewed:
            return False
        users = self.uses.get(s.out, [])
        nodes, work, reduces = metrics(s.value)
        if None in users or any(isinstance(u, Proc) for u in users) or reduces:
            return False
        if nodes > self.opts.nodes or not self.ctx.allow("inline"):
            return False
        if any(u is not None and classify(u) == "contract" for u in users):
            return False
        if work <= self.opts.cheap and len({e.attr for e in s.reads() if e.attr.shape}) <= 1:
            return True
        return len(users) == 1 and users[0] is not None and _repeats(s, users[0]) <= 1.0

    def expand(self, s: AnyStage) -> AnyStage:
        """The stage with loads of inlined buffers replaced by their formulas."""
        memo: dict[Expr, Expr] = {}

        def step(e: Expr) -> Expr | None:
            if e.op != "load" or e.attr not in self.formulas:
                return None
            src = self.formulas[e.attr]
            if src.out is s.outs[0]:
                return None
            return inline_load(e, src, lambda x: ex.rewrite(x, step, memo))

        if isinstance(s, Proc):
            return Proc(s.outs, s.axes, map_stmts(s.body, lambda e: ex.rewrite(e, step, memo)))
        value = ex.rewrite(s.value, step, memo)
        return s if value is s.value else Stage(s.out, s.axes, value)

    def _live(self, steps: list[Step]) -> list[Step]:
        """Without the stages that nothing reads any more."""
        wanted = set(self.needed)
        out: list[Step] = []
        for s in reversed(steps):
            if isinstance(s, Raw):
                outs = s.stage.outs
                if outs[0] in self.views and outs[0] not in self.needed:
                    if outs[0] in wanted:
                        wanted.add(self.views[outs[0]])
                    continue
                if not any(o in wanted for o in outs):
                    continue
            for b in step_reads(s):
                wanted.add(b)
                while b in self.views:
                    b = self.views[b]
                    wanted.add(b)
            out.append(Raw(_flatten(s.stage, self.views, self.flat)) if isinstance(s, Raw) else s)
        return out[::-1]


def _repeats(s: Stage, user: AnyStage) -> float:
    """How often the user would compute an element of s, on average."""
    if isinstance(user, Proc):
        return 1e9
    sites = sum(1 for e in user.reads() if e.attr is s.out)
    total, own = iterations(user), dims.product(s.out.shape)
    if total == own:
        return float(max(sites, 1))
    return max(sites, 1) * estimate(total) / max(estimate(own), 1)


def inline_load(e: Expr, src: Stage, go: object) -> Expr:
    """The formula of `src` at the indices of the load e; guarded where the load is."""
    _, idx, pred = ex.load_parts(e)
    if pred is None and idx == src.axes and not _has_reduce(src.value):
        return src.value
    idx = tuple(go(i) for i in idx)  # type: ignore[operator]
    env = dict(zip(src.axes, idx, strict=True))
    fresh = {
        v: ex.var(v.attr.name, v.attr.extent)
        for x in ex.walk(src.value) if x.op == "reduce" for v in x.args[1:]
    }
    value = ex.substitute(src.value, {**env, **fresh})
    if pred is None:
        return value
    pred = go(pred)  # type: ignore[operator]
    return ex.select(pred, _guard(value, pred), ex.const(0, value.dtype))


_metrics: WeakKeyDictionary[Expr, tuple[int, int, bool]] = WeakKeyDictionary()


def metrics(e: Expr) -> tuple[int, int, bool]:
    """(nodes, cost, whether it reduces) of an expression as a tree: bounds, kept for each node."""
    found = _metrics.get(e)
    if found is not None:
        return found
    for x in ex.walk_new(e, _metrics):
        inner = [_metrics[a] for a in x.args]
        nodes = min(1 + sum(m[0] for m in inner), 1 << 20)
        work = min(weight(x) + sum(m[1] for m in inner), 1 << 20)
        _metrics[x] = (nodes, work, x.op == "reduce" or any(m[2] for m in inner))
    return _metrics[e]


def _has_reduce(e: Expr) -> bool:
    return metrics(e)[2]


def _guard(value: Expr, pred: Expr) -> Expr:
    """The expression with its loads predicated, its checks satisfied where pred is false."""
    def step(x: Expr) -> Expr | None:
        if x.op == "load":
            buf, idx, own = ex.load_parts(x)
            idx = tuple(ex.rewrite(i, step, memo) for i in idx)  # which may load, too
            own = pred if own is None else ex.rewrite(own, step, memo) & pred
            return ex.load(buf, idx, own)
        if x.op == "check":
            v, ok = (ex.rewrite(a, step, memo) for a in x.args)
            return ex.node("check", (v, ok | ex.unary("not", pred)), x.attr, x.dtype)
        return None
    memo: dict[Expr, Expr] = {}
    return ex.rewrite(value, step, memo)


def _flatten(
    s: AnyStage, views: dict[Buffer, Buffer], flat: dict[Buffer, Buffer]
) -> AnyStage:
    """Loads whose indices divide, but whose memory offset does not, go through a flat view."""

    def step(e: Expr) -> Expr | None:
        if e.op != "load":
            return None
        buf, idx, pred = ex.load_parts(e)
        if len(idx) < 2 or is_affine(idx) or buf.scope != "global":
            return None
        offset = buf.offset(idx)
        if not is_affine((offset,)):
            return None
        if buf not in flat:
            flat[buf] = Buffer(f"{buf.name}.flat", buf.dtype, (dims.product(buf.shape),))
            views[flat[buf]] = buf
        return ex.load(flat[buf], (offset,), pred)

    if isinstance(s, Proc):
        return s
    memo: dict[Expr, Expr] = {}
    value = ex.rewrite(s.value, step, memo)
    return s if value is s.value else Stage(s.out, s.axes, value)


# ---- grouping

@dataclass
class _Group:
    """Stages of one kernel to be. rank: how many leading axes are rows, None while undecided."""

    kind: Kind
    stages: list[AnyStage] = field(default_factory=list)
    rank: int | None = None
    step: Step | None = None
    nodes: int = 0

    @property
    def first(self) -> Stage:
        s = self.stages[0]
        assert isinstance(s, Stage)
        return s


class _Grouper:
    def __init__(
        self, steps: list[Step], needed: set[Buffer], views: dict[Buffer, Buffer],
        serial: itertools.count[int], opts: Fuse, ctx: Context,
    ) -> None:
        self.steps, self.needed, self.views = steps, needed, views
        self.serial, self.opts, self.ctx = serial, opts, ctx
        self.groups: list[_Group] = []
        self.made_by: dict[Buffer, int] = {}

    def run(self) -> tuple[Step, ...]:
        for s in self.steps:
            if isinstance(s, Raw):
                self._place(s.stage)
                continue
            self.groups.append(_Group("proc", step=s))
            for b in step_writes(s):
                self.made_by[self.root(b)] = len(self.groups) - 1
        read_by: dict[Buffer, set[int]] = {}
        for n, g in enumerate(self.groups):
            for b in _group_reads(g):
                read_by.setdefault(self.root(b), set()).add(n)
        out: list[Step] = []
        for n, g in enumerate(self.groups):
            if g.step is not None:
                out.append(g.step)
                continue
            kept = [
                b for s in g.stages for b in s.outs
                if b in self.needed or b in self.views or read_by.get(b, set()) - {n}
                or isinstance(s, Proc)  # it writes all of its results, read or not
            ]
            out.append(Launch(make_kernel(f"k{next(self.serial)}", g.stages, kept, self.opts)))
        return tuple(out)

    def _place(self, s: AnyStage) -> None:
        kind = classify(s)
        at = max((self.made_by.get(self.root(e.attr), -1) for e in s.reads()), default=-1)
        group = self.groups[at] if at >= 0 else None
        if group is not None and group.step is None and self._joins(s, kind, group, at):
            group.stages.append(s)
            group.nodes += _size(s)
        else:
            folds = kind in ("rows", "columns") and isinstance(s, Stage)
            rank = len(s.outs[0].shape) if folds else None
            if rank == 0:
                kind = "columns"  # one result: the reduction is split, what follows is its epilogue
            self.groups.append(_Group(kind, [s], rank, nodes=_size(s)))
            at = len(self.groups) - 1
        for b in s.outs:
            self.made_by[self.root(b)] = at

    def root(self, b: Buffer) -> Buffer:
        """The buffer whose memory b is."""
        while b in self.views:
            b = self.views[b]
        return b

    def _joins(self, s: AnyStage, kind: Kind, g: _Group, at: int) -> bool:
        if isinstance(s, Proc) or g.kind == "proc" or kind == "contract":
            return False
        if len(g.stages) >= 16 or g.nodes + _size(s) > 2 * self.opts.nodes:
            return False
        local = [e for e in s.reads() if self.made_by.get(self.root(e.attr)) == at]
        if any(e.attr in self.views for e in local):
            return False  # the same memory under another shape is complete only after the kernel
        if g.kind in ("contract", "columns"):
            same = s.out.shape == g.first.out.shape and all(is_identity(e, s.axes) for e in local)
            return self.opts.epilogues and kind == "map" and same and self.ctx.allow("epilogue")
        if kind == "map" and g.kind == "map":
            same = s.out.shape == g.first.out.shape and all(is_identity(e, s.axes) for e in local)
            return same and self.ctx.allow("group")
        return self.opts.rows and self._joins_rows(s, kind, g, local)

    def _joins_rows(self, s: Stage, kind: Kind, g: _Group, local: list[Expr]) -> bool:
        """Rows: all stages share the leading `rank` axes and read each other within the row."""
        rank = g.rank if g.rank is not None else len(s.out.shape)
        if kind == "columns" or rank == 0 or len(s.out.shape) < rank:
            return False
        shape = g.first.out.shape[:rank]
        if s.out.shape[:rank] != shape or any(
            isinstance(m, Stage) and m.out.shape[:rank] != shape for m in g.stages
        ):
            return False
        for e in local:
            _, idx, pred = ex.load_parts(e)
            if pred is not None or idx[:rank] != s.axes[:rank]:
                return False
            if any(v in ex.walk(i) for i in idx[rank:] for v in s.axes[:rank]):
                return False
        if not self.ctx.allow("rows"):
            return False
        g.rank, g.kind = rank, "rows"
        return True


def _size(s: AnyStage) -> int:
    return metrics(s.value)[0] if isinstance(s, Stage) else 0


def _group_reads(g: _Group) -> Iterable[Buffer]:
    if g.step is not None:
        return step_reads(g.step)
    return (e.attr for s in g.stages for e in s.reads())


def make_kernel(name: str, stages: list[AnyStage], kept: list[Buffer], opts: Fuse) -> Kernel:
    """A kernel of these stages; temporaries that are read pointwise and cheap are inlined."""
    stages = _inline_temps(stages, set(kept), opts)
    made = {b for s in stages for b in s.outs}
    reads = dict.fromkeys(e.attr for s in stages for e in s.reads())
    inputs = tuple(b for b in reads if b not in made and b.scope == "global")  # not a proc's own
    return Kernel(name, inputs, tuple(kept), tuple(stages))


def _inline_temps(stages: list[AnyStage], kept: set[Buffer], opts: Fuse) -> list[AnyStage]:
    formulas: dict[Buffer, Stage] = {}
    out: list[AnyStage] = []
    counts: dict[Buffer, int] = {}
    for s in stages:
        for b in dict.fromkeys(e.attr for e in s.reads()):
            counts[b] = counts.get(b, 0) + 1
    deepest = max(len(b.shape) for s in stages for b in s.outs)
    pointwise = len({getattr(s, "out", s.outs[0]).shape for s in stages}) == 1
    for s in stages:
        if isinstance(s, Stage):
            memo: dict[Expr, Expr] = {}

            def step(e: Expr, memo: dict[Expr, Expr] = memo) -> Expr | None:
                if e.op != "load" or e.attr not in formulas:
                    return None
                return inline_load(
                    e, formulas[e.attr], lambda x: ex.rewrite(x, step, memo)
                )

            value = ex.rewrite(s.value, step, memo)
            s = Stage(s.out, s.axes, value)
            small = pointwise or len(ex.walk(value)) <= opts.nodes
            simple = small and classify(s) == "map"
            once = counts.get(s.out, 0) <= 1 and len(s.out.shape) == deepest
            cheap = pointwise or once or cost(value) <= opts.cheap
            if simple and cheap:
                formulas[s.out] = s  # a kept one is stored, and its value is used where it is read
                if s.out not in kept:
                    continue
        out.append(s)
    return out
