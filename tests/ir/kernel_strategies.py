"""Random scalar expressions and kernels for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from flowc.ir import dims
from flowc.ir.dtypes import bool_, c64, dtype, f32, i32, u8
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel import form

B = dims.sym("B")
DIMS = st.sampled_from([1, 2, 3, 8, B, 2 * B + 1, B // 4, dims.maximum(B, 3) % 4])


class Maker:
    """Draws expressions over some buffers and variables."""

    def __init__(self, draw: Any, buffers: list[form.Buffer], variables: list[ex.Expr]) -> None:
        self.draw, self.buffers, self.vars = draw, buffers, variables
        self.pool: list[ex.Expr] = []

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def index(self, depth: int) -> ex.Expr:
        kind = self.pick("var", "const", "add", "sub", "mul", "div", "mod", "min", "max", "select")
        if depth <= 0 or kind in ("var", "const"):
            if kind == "var" and self.vars:
                return self.pick(*self.vars)
            return ex.index(self.draw(st.one_of(st.integers(-9, 9), DIMS)))
        a, b = self.index(depth - 1), self.index(depth - 2)
        if kind in ("add", "sub", "mul"):
            return a + b if kind == "add" else a - b if kind == "sub" else a * b
        if kind in ("div", "mod"):
            by = self.pick(2, 3, B)
            return ex.floordiv(a, by) if kind == "div" else ex.mod(a, by)
        if kind == "select":
            return ex.select(self.cond(depth - 1), a, b)
        return ex.imin(a, b) if kind == "min" else ex.imax(a, b)

    def cond(self, depth: int) -> ex.Expr:
        if self.draw(st.booleans()):
            return ex.compare(self.pick("lt", "eq", "ge"), self.index(1), self.index(1))
        return ex.compare(self.pick("ne", "le"), self.data(depth - 1), self.data(depth - 1))

    def data(self, depth: int) -> ex.Expr:
        """An f32 expression."""
        if self.pool and self.draw(st.integers(0, 3)) == 0:
            return self.pick(*self.pool)
        kind = self.pick("load", "const", "un", "bin", "bin", "fma", "select", "cast", "guard",
                         "reduce", "check", "bits", "index", "hreduce")
        if depth <= 0 and kind != "load":
            kind = "const"
        out = self.made(kind, depth)
        if not any(v.op == "var" and v not in self.vars for v in ex.walk(out)):
            self.pool.append(out)
        return out

    def made(self, kind: str, depth: int) -> ex.Expr:
        if kind in ("load", "guard"):
            b = self.pick(*self.buffers)
            idx = [self.index(2) for _ in b.shape]
            return b.at(idx, self.cond(1) if kind == "guard" else None)
        wide = [b for b in self.buffers if b.shape]
        if kind == "hreduce" and wide:
            b = self.pick(*wide)
            return ex.hreduce(self.pick("sum", "max"), b, [self.index(1) for _ in b.shape[1:]])
        if kind in ("const", "hreduce"):
            return ex.const(self.pick(0.0, -0.0, 1.5, 1e-45, float("nan"), float("-inf"), 0.1), f32)
        if kind == "index":
            return ex.cast(self.index(2), f32)
        if kind == "bits":
            return ex.bitcast(ex.bitcast(self.data(depth - 1), i32), f32)
        if kind == "reduce":
            return self.reduce(depth)
        a = self.data(depth - 1)
        if kind == "un":
            return ex.unary(self.pick("exp", "neg", "tanh", "floor"), a)
        if kind == "cast":
            return ex.cast(ex.cast(a, self.pick(i32, u8, bool_, dtype("bf16"), c64)), f32)
        if kind == "check":
            return ex.check(a, self.cond(depth - 1), 2, "gather", 'a "b".py:3')
        b = self.data(depth - 1)
        if kind == "fma":
            return ex.fma(a, b, a)
        if kind == "select":
            return ex.select(self.cond(depth - 1), a, b)
        return ex.binary(self.pick("add", "sub", "mul", "div", "rem", "max", "pow"), a, b)

    def reduce(self, depth: int) -> ex.Expr:
        axes = [ex.var("r", self.draw(DIMS)) for _ in range(self.draw(st.integers(0, 2)))]
        before, pool = self.vars, self.pool
        self.vars, self.pool = [*before, *axes], list(pool)
        bodies = [self.data(depth - 1) for _ in range(self.draw(st.integers(1, 2)))]
        self.vars, self.pool = before, pool
        parts = [ex.reduce(self.pick("sum", "max"), axes, x) for x in bodies]
        return parts[0] if len(parts) == 1 else ex.binary("sub", parts[0], parts[1])


@st.composite
def kernels(draw: Any) -> form.Kernel:
    """An unscheduled kernel of a few stages."""
    inputs = [form.Buffer("x", f32, (B, 3)), form.Buffer("x", f32, ())]
    buffers, stages = list(inputs), []
    for n in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(DIMS, max_size=3)))
        axes = [ex.var(draw(st.sampled_from(["i", "j", "if", "B"])), d) for d in shape]
        value = Maker(draw, buffers, axes).data(4)
        out = form.Buffer(draw(st.sampled_from(["t", "x", "out:0"])), f32, shape, pad=n % 2)
        stages.append(form.Stage(out, tuple(axes), value))
        buffers.append(out)
    return form.Kernel("k", tuple(inputs), (buffers[-1],), tuple(stages))


def _block(draw: Any, m: Maker, depth: int) -> tuple[form.Stmt, ...]:
    return tuple(_stmt(draw, m, depth) for _ in range(draw(st.integers(1, 2))))


def _stmt(draw: Any, m: Maker, depth: int) -> form.Stmt:
    kind = draw(st.sampled_from(["store", "for", "let", "if", "while", "alloc", "prefetch"]))
    before, buffers = m.vars, m.buffers
    m.pool = []
    if kind == "prefetch":
        b = m.pick(*m.buffers)
        return form.Prefetch(b, tuple(m.index(2) for _ in b.shape))
    if depth <= 0 or kind in ("store", "let"):
        if kind == "let":
            return form.Let(ex.let_var("v", f32), m.data(2))
        b = m.pick(*m.buffers)
        return form.Store(b, tuple(m.index(2) for _ in b.shape), m.data(3))
    try:
        if kind == "for":
            extent = m.index(2)
            bound = draw(st.one_of(st.just(ex.is_const_index(extent)), st.just(8), st.none()))
            v = ex.var("i", bound)
            m.vars = [*before, v]
            loop = m.pick("serial", "parallel", "vector", "unroll", "block", "thread")
            width = 16 if loop == "vector" else m.pick(1, 1, 4)
            return form.For(v, extent, loop, _block(draw, m, depth - 1), width)
        if kind == "alloc":
            scope = m.pick("register", "local", "shared")
            b = form.Buffer("acc", f32, (6, 4), scope)
            m.buffers = [*buffers, b]
            return form.Alloc(b, _block(draw, m, depth - 1))
        cond = m.cond(1)
        m.pool = []
        if kind == "while":
            return form.While(cond, _block(draw, m, depth - 1))
        other = _block(draw, m, depth - 1) if draw(st.booleans()) else ()
        return form.If(cond, _block(draw, m, depth - 1), other)
    finally:
        m.vars, m.buffers = before, buffers


@st.composite
def loop_kernels(draw: Any) -> form.LoopKernel:
    """A scheduled kernel that is grammatical, if not sensible."""
    x, y = form.Buffer("x", f32, (B, 3)), form.Buffer("y", f32, (B,))
    s = form.Buffer("y", f32, (dims.sym("N"),))
    phases = tuple(
        form.Phase(_block(draw, Maker(draw, [x, y, s], []), 3), draw(st.sampled_from([1, 128])))
        for _ in range(draw(st.integers(1, 2))))
    return form.LoopKernel("k/1", (x,), (y,), (s,), phases, "cuda", 'a "note"', ((y, s),))
