"""Whether two kernels are the same up to the identity of buffers and variables."""

from __future__ import annotations

from typing import Any

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel import form


class Same:
    """Maps buffers and variables of one kernel to the other's, first use first."""

    def __init__(self) -> None:
        self.map: dict[Any, Any] = {}
        self.known: dict[ex.Expr, ex.Expr] = {}

    def pair(self, a: Any, b: Any) -> bool:
        return self.map.setdefault(a, b) is b

    def buffer(self, a: form.Buffer, b: form.Buffer) -> bool:
        return self.pair(a, b) and (a.type, a.scope, a.pad) == (b.type, b.scope, b.pad)

    def exprs(self, xs: Any, ys: Any) -> bool:
        return len(xs) == len(ys) and all(map(self.expr, xs, ys))

    def expr(self, a: ex.Expr, b: ex.Expr) -> bool:
        if a in self.known:
            return self.known[a] is b
        same = a.op == b.op and a.dtype == b.dtype and len(a.args) == len(b.args)
        same = same and self.node(a, b)
        if same:
            self.known[a] = b
        return same

    def node(self, a: ex.Expr, b: ex.Expr) -> bool:
        if a.op == "var":
            return self.pair(a, b) and a.attr.extent == b.attr.extent
        if a.op == "load":
            return self.buffer(a.attr, b.attr) and self.exprs(a.args, b.args)
        if a.op == "hreduce":
            return (a.attr[0] == b.attr[0] and self.buffer(a.attr[1], b.attr[1])
                    and self.exprs(a.args, b.args))
        if a.op == "lin":
            return a.attr[1] == b.attr[1] and self.terms(a, b)
        if a.op == "reduce":
            return a.attr == b.attr and self.exprs((*a.args[1:], a.args[0]),
                                                   (*b.args[1:], b.args[0]))
        return a.attr == b.attr and self.exprs(a.args, b.args)

    def terms(self, a: ex.Expr, b: ex.Expr) -> bool:
        """Sums are unordered: pair each term with one of the same coefficient."""
        left = list(zip(b.args, b.attr[0], strict=True))
        for x, k in zip(a.args, a.attr[0], strict=True):
            for n, (y, j) in enumerate(left):
                if k == j and ((x.op == "var" and self.map.get(x, y) is y and y.op == "var")
                               or (x.op != "var" and Trial(self).expr(x, y))):
                    assert self.expr(x, y)
                    del left[n]
                    break
            else:
                return False
        return True

    def stmts(self, xs: Any, ys: Any) -> bool:
        return len(xs) == len(ys) and all(map(self.stmt, xs, ys))

    def stmt(self, a: Any, b: Any) -> bool:
        if type(a) is not type(b):
            return False
        if isinstance(a, form.Alloc) and not self.buffer(a.buffer, b.buffer):
            return False
        if isinstance(a, form.Store) and not self.buffer(a.buffer, b.buffer):
            return False
        if not self.exprs(form.own_exprs(a), form.own_exprs(b)):
            return False
        if isinstance(a, form.For | form.Let):
            self.map.pop(a.var, None)  # a variable may be bound again where its scope has ended
            self.known.clear()
            if not self.expr(a.var, b.var):
                return False
        if isinstance(a, form.For) and (a.kind, a.width) != (b.kind, b.width):
            return False
        return all(map(self.stmts, form.children(a), form.children(b)))

    def kernel(self, a: Any, b: Any) -> bool:
        if type(a) is not type(b) or a.name != b.name:
            return False
        for x, y in zip((*a.inputs, *a.outputs), (*b.inputs, *b.outputs), strict=True):
            if not self.buffer(x, y):
                return False
        if isinstance(a, form.LoopKernel):
            same = all(map(self.pair, sum(a.inplace, ()), sum(b.inplace, ())))
            return (same and len(a.inplace) == len(b.inplace)
                    and (a.target, a.note, len(a.phases)) == (b.target, b.note, len(b.phases))
                    and all(map(self.buffer, a.scratch, b.scratch))
                    and all(p.threads == q.threads and self.stmts(p.body, q.body)
                            for p, q in zip(a.phases, b.phases, strict=True)))
        return len(a.stages) == len(b.stages) and all(map(self.stage, a.stages, b.stages))

    def stage(self, a: Any, b: Any) -> bool:
        if type(a) is not type(b) or len(a.outs) != len(b.outs):
            return False
        for axis in a.axes:  # stages may share their variables
            self.map.pop(axis, None)
        self.known.clear()
        if not (all(map(self.buffer, a.outs, b.outs)) and self.exprs(a.axes, b.axes)):
            return False
        if isinstance(a, form.Stage):
            return self.expr(a.value, b.value)
        return self.stmts(a.body, b.body)


class Trial(Same):
    """A comparison that leaves no trace."""

    def __init__(self, base: Same) -> None:
        super().__init__()
        self.map, self.known = dict(base.map), dict(base.known)


def same_kernel(a: Any, b: Any) -> bool:
    """Whether they differ in nothing but identities and names."""
    return Same().kernel(a, b)


SYMS = tuple(dims.sym(n) for n in "BN")
