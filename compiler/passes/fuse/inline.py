"""Inlining: a load of a buffer is replaced by the formula that computes it.

Always for views and constants, else where that does not repeat more work than the trip through
memory costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import AnyStage, Buffer, Proc, Stage, map_stmts
from flowc.ir.kernel.patterns import (
    classify,
    estimate,
    is_affine,
    is_loaded,
    is_product,
    is_view,
    iterations,
    weight,
)
from flowc.ir.plan import Copy, Raw, Step, step_reads

from ..base import Context
from .limits import Limits
from .order import equal_once


class Inliner:
    """Decides for each buffer of a block whether it is stored or recomputed where it is used."""

    def __init__(
        self, steps: list[Step], needed: set[Buffer], fixed: set[Buffer],
        views: dict[Buffer, Buffer], constant: dict[Buffer, Stage], opts: Limits, ctx: Context,
    ) -> None:
        self.steps, self.needed, self.fixed, self.views = steps, needed, fixed, views
        self.formulas: dict[Buffer, Stage] = dict(constant)
        self.opts, self.ctx = opts, ctx
        self.viewed = set(views.values())
        self.flat = {v: k for k, v in views.items() if k.name.endswith(".flat")}
        self.uses: dict[Buffer, list[AnyStage | None]] = {}
        # what other steps read lies in memory: loops, copies, host calls
        self.whole = {b for s in steps if not isinstance(s, Raw) for b in step_reads(s)}
        stages = [s.stage for s in steps if isinstance(s, Raw)]
        self._folded = {s.outs[0] for s in stages if classify(s) not in ("map", "proc")}
        copies = [s for s in steps if isinstance(s, Copy)]
        self.copied, self.changed = {s.src for s in copies}, {s.dst for s in copies}

    def run(self) -> list[Step]:
        self.steps = equal_once(self.steps)
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
        if src is not None and s.out not in self.needed and not self._overtaken(s.out, src) and (
                s.out in self.whole or self._in_memory(src)):
            self.views[s.out] = src
            self.viewed.add(src)
            return False
        moved = s.value
        while moved.op == "cast":
            moved = moved.args[0]
        return moved.op == "load" and metrics(s.value)[0] <= 64

    def _overtaken(self, out: Buffer, src: Buffer) -> bool:
        """Whether src may have changed when `out` is copied: carried values change places."""
        return out in self.copied and self._root(src) in self.changed

    def _in_memory(self, b: Buffer) -> bool:
        return b in self.fixed or b in self.views or b not in self._maps()

    def _is_folded(self, b: Buffer) -> bool:
        """Whether b is the result of a reduction or contract of this block: what reads it element
        by element can be its epilogue, at no cost."""
        return b in self._folded

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
                out = s.stage.outs[0]
                if out in self.formulas or out in self.views:
                    if out not in self.needed and out not in self.whole:
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
        if any(classify(u) == "contract" and (is_product(u) or _repeats(s, u) > 1)
               for u in users if u is not None):
            return False
        if work <= self.opts.cheap and len({e.attr for e in s.reads() if e.attr.shape}) <= 1:
            return True
        once = all(u is not None and _repeats(s, u) <= 1.0 for u in users)
        return once and (len(users) == 1 or (work <= 2 * self.opts.cheap and self._saves(s, users)))

    def _saves(self, s: Stage, users: Sequence[AnyStage | None]) -> bool:
        """Whether storing s and loading it moves no fewer bytes than reading again what it reads,
        of which nothing is kept alive for that alone."""
        def volume(buffers: Iterable[Buffer]) -> int:
            return sum(estimate(b.type.nbytes) for b in buffers)

        own = {e.attr for e in s.reads()}
        for b in own:
            whole, others = b.shape == s.out.shape, self.uses.get(self._root(b), [])
            if whole and (self._is_folded(b) or (b not in self.fixed and len(others) < 2)):
                return False
        again = sum(volume(own - {e.attr for e in u.reads()}) for u in users if u is not None)
        return again <= (2 + len(users)) * volume([s.out])  # a store fetches the line that it fills

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
    if pred is None and idx == src.axes and not has_reduce(src.value):
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
    value = _guard(value, pred)
    if is_loaded(value):
        return value  # which is 0 where the predicate is false
    return ex.select(pred, value, ex.const(0, value.dtype))


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


def has_reduce(e: Expr) -> bool:
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
