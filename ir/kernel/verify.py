"""What makes a kernel well formed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from .. import dims
from ..core import IRError
from ..dtypes import bool_, f32, u32
from .expr import COMPARE, INDEX, SCALAR_OPS, Expr, load_parts, walk
from .form import (
    Alloc,
    AnyStage,
    Buffer,
    For,
    If,
    Kernel,
    Let,
    LoopKernel,
    Prefetch,
    Proc,
    Stage,
    Stmt,
    Store,
    While,
)

SAME_TYPE = SCALAR_OPS - COMPARE - {"dot_bf16", "select", "cast", "bitcast", "check", "is_nan"}


def verify_kernel(k: Kernel | LoopKernel) -> None:
    """Raise IRError unless the kernel keeps these rules:

    - each variable is bound (an axis, a loop, a `let`, a reduction) where it is used, once;
    - each buffer is an input, output, temporary or alive allocation where it is used; loads and
      stores give as many indices as it has axes, all of dtype index; values have its dtype;
    - unscheduled: a stage's axes range over its result's shape; a buffer is written by one stage,
      before its readers, in their part if it has several elements; inputs are not written; every
      output is written;
    - scheduled: no `reduce` nodes; a `parallel` loop is the outermost of its phase; `thread` loops
      are inside `block` loops; a vector loop holds `let`, stores and unrolled or serial loops;
      register buffers have constant sizes, indexed by constants, unrolled and vector variables;
      shared memory is allocated inside a block.
    """
    if isinstance(k, Kernel):
        _Unscheduled(k).run()
    else:
        _Scheduled(k).run()


class _Checker:
    def __init__(self, name: str) -> None:
        self.name = name
        self.vars: dict[Expr, str] = {}  # variable → the kind of what binds it
        self.buffers: set[Buffer] = set()
        self.reduces = True

    def fail(self, message: str) -> NoReturn:
        raise IRError(f"kernel @{self.name}: {message}")

    def bind(self, v: Expr, kind: str) -> None:
        if v.op != "var":
            self.fail(f"a {v.op} node cannot be bound as a variable")
        if v in self.vars:
            self.fail(f"the variable {v.attr.name} is bound twice")
        self.vars[v] = kind

    def release(self, variables: Iterable[Expr]) -> None:
        for v in variables:
            del self.vars[v]

    # ---- expressions

    def expr(self, root: Expr) -> None:
        """Variables, buffers and dtypes of an expression; reductions bind their axes."""
        for e in self.nodes(root):
            if e.op == "var" and e not in self.vars:
                self.fail(f"the variable {e.attr.name} is used outside of its scope")
            self.dtypes(e)
            if e.op == "load":
                buffer, idx, pred = load_parts(e)
                self.access(buffer, idx)
                if pred is not None and pred.dtype != bool_:
                    self.fail(f"a load of {buffer} is guarded by {pred.dtype}")
            elif e.op == "hreduce":
                self.access(e.attr[1], e.args, lead=True)
            elif e.op == "reduce":
                self.reduce(e)

    def nodes(self, root: Expr) -> list[Expr]:
        out, seen, stack = [], set(), [root]
        while stack:
            e = stack.pop()
            if e not in seen:
                seen.add(e)
                out.append(e)
                stack += () if e.op == "reduce" else e.args
        return out

    def reduce(self, e: Expr) -> None:
        if not self.reduces:
            self.fail(f"a scheduled kernel holds the reduction {e.attr}")
        body, axes = e.args[0], e.args[1:]
        for a in axes:
            self.bind(a, "reduce")
            if a.attr.extent is None:
                self.fail(f"the reduction variable {a.attr.name} has no extent")
        self.expr(body)
        self.release(axes)

    def dtypes(self, e: Expr) -> None:
        kinds = [a.dtype for a in e.args]
        if e.op in COMPARE:
            ok = len(kinds) == 2 and kinds[0] == kinds[1] and e.dtype == bool_
        elif e.op in SAME_TYPE:
            ok = all(k == e.dtype for k in kinds)
        elif e.op == "dot_bf16":
            ok = kinds == [f32, u32, u32] and e.dtype == f32
        elif e.op == "select":
            ok = kinds[0] == bool_ and kinds[1] == kinds[2] == e.dtype
        elif e.op == "check":
            ok = kinds[0] == e.dtype and kinds[1] == bool_
        elif e.op in ("lin", "imul", "floordiv", "mod"):
            ok = e.dtype is INDEX and all(k is INDEX for k in kinds)
        elif e.op == "load":
            ok = e.dtype == e.attr.dtype
        elif e.op == "reduce":
            ok = e.dtype == kinds[0]
        else:
            ok = e.op in ("var", "const", "cast", "bitcast", "hreduce", "is_nan")
        if not ok:
            self.fail(f"{e.op} of {', '.join(map(str, kinds)) or 'nothing'} gives {e.dtype}")

    def access(self, b: Buffer, idx: tuple[Expr, ...], lead: bool = False) -> None:
        if b not in self.buffers:
            self.fail(f"the buffer {b} is used where it has no contents")
        if len(idx) + lead != b.rank:
            self.fail(f"{b} is indexed by {len(idx)} indices")
        if any(i.dtype is not INDEX for i in idx):
            self.fail(f"{b} is indexed by {', '.join(i.dtype.name for i in idx)}")
        if b.scope == "register":
            self.register(b, idx)

    def register(self, b: Buffer, idx: tuple[Expr, ...]) -> None:
        if not all(isinstance(d, int) for d in b.shape):
            self.fail(f"the register buffer {b} has a size that is no constant")
        for v in (x for i in idx for x in walk(i) if x.op == "var"):
            if self.vars.get(v) not in ("vector", "unroll"):
                self.fail(f"the register buffer {b} is indexed by {v.attr.name}, "
                          f"which is bound by {self.vars.get(v, 'nothing')}")

    # ---- statements

    def block(self, body: tuple[Stmt, ...], outer: tuple[str, ...]) -> None:
        """`outer`: the kinds of the loops around, outermost first."""
        named: list[Expr] = []
        for s in body:
            if isinstance(s, Let):
                self.expr(s.value)
                if s.var.dtype != s.value.dtype:
                    self.fail(f"{s.var.attr.name}: {s.var.dtype} is let be {s.value.dtype}")
                self.bind(s.var, "let")
                named.append(s.var)
            else:
                self.stmt(s, outer)
        self.release(named)

    def stmt(self, s: Stmt, outer: tuple[str, ...]) -> None:
        if isinstance(s, For):
            self.loop(s, outer)
        elif isinstance(s, Store):
            self.store(s)
        elif isinstance(s, Prefetch):
            for i in s.indices:
                self.expr(i)
            self.access(s.buffer, s.indices)
        elif isinstance(s, Alloc):
            self.alloc(s, outer)
        elif isinstance(s, If | While):
            self.expr(s.cond)
            if s.cond.dtype != bool_:
                self.fail(f"a condition is {s.cond.dtype}")
            self.straight(type(s).__name__.lower(), outer)
            for part in (s.then, s.otherwise) if isinstance(s, If) else (s.body,):
                self.block(part, outer)

    def straight(self, what: str, outer: tuple[str, ...]) -> None:
        if "vector" in outer:
            self.fail(f"a vector loop holds {what}")

    def loop(self, s: For, outer: tuple[str, ...]) -> None:
        self.expr(s.extent)
        if s.extent.dtype is not INDEX:
            self.fail(f"the extent of {s.var.attr.name} is {s.extent.dtype}")
        if s.kind in ("parallel", "vector", "block", "thread"):
            self.straight(f"a {s.kind} loop", outer)
        if s.kind == "parallel" and outer:
            self.fail(f"the parallel loop {s.var.attr.name} is not the outermost")
        if s.kind == "block" and any(k != "block" for k in outer):
            self.fail(f"the block loop {s.var.attr.name} is inside another kind of loop")
        if s.kind == "thread" and "block" not in outer:
            self.fail(f"the thread loop {s.var.attr.name} is in no block")
        if s.width < 1:
            self.fail(f"the loop {s.var.attr.name} is {s.width} wide")
        self.bind(s.var, s.kind)
        self.block(s.body, (*outer, s.kind))
        self.release([s.var])

    def store(self, s: Store) -> None:
        for i in s.indices:
            self.expr(i)
        self.expr(s.value)
        self.written(s.buffer)
        self.access(s.buffer, s.indices)
        if s.value.dtype != s.buffer.dtype:
            self.fail(f"{s.value.dtype} is stored to {s.buffer}")

    def written(self, b: Buffer) -> None:
        """Whether it may be."""

    def alloc(self, s: Alloc, outer: tuple[str, ...]) -> None:
        b = s.buffer
        self.straight("an allocation", outer)
        if b in self.buffers:
            self.fail(f"{b} is allocated twice")
        if b.scope == "global":
            self.fail(f"{b} is allocated in global memory")
        if b.scope == "shared" and "block" not in outer:
            self.fail(f"shared memory {b} is allocated outside of a block")
        self.buffers.add(b)
        self.block(s.body, outer)
        self.buffers.discard(b)


class _Unscheduled(_Checker):
    def __init__(self, k: Kernel) -> None:
        super().__init__(k.name)
        self.k = k
        self.proc_outs: tuple[Buffer, ...] = ()

    def run(self) -> None:
        k = self.k
        self.buffers = set(k.inputs)
        if len(self.buffers) != len(k.inputs):
            self.fail("an input is listed twice")
        for s in k.stages:
            self.stage(s)
        self.parts()
        for b in k.outputs:
            if b not in self.buffers:
                self.fail(f"the output {b} is not computed")

    def parts(self) -> None:
        if self.k.parts and (min(self.k.parts) < 1 or sum(self.k.parts) != len(self.k.stages)):
            self.fail(f"parts of {list(self.k.parts)} stages, there are {len(self.k.stages)}")
        made: set[Buffer] = set()
        for part in self.k.split():
            read = {e.attr for s in part.stages for e in s.reads()}
            for b in self.k.temps + self.k.outputs:
                if b in read & made and dims.product(b.shape) != 1:
                    self.fail(f"a part reads {b}, which another part computes")
            made |= {b for s in part.stages for b in s.outs}

    def stage(self, s: AnyStage) -> None:
        for b in s.outs:
            if b in self.buffers:
                self.fail(f"{b} is an input, or computed twice")
        for a in s.axes:
            self.bind(a, "axis")
        if isinstance(s, Stage):
            self.formula(s)
        else:
            self.proc(s)
        self.release(s.axes)
        self.buffers |= set(s.outs)

    def formula(self, s: Stage) -> None:
        shape = tuple(a.attr.extent for a in s.axes)
        if shape != s.out.shape:
            self.fail(f"a stage over {shape} computes {s.out}")
        self.expr(s.value)
        if s.value.dtype != s.out.dtype:
            self.fail(f"a stage of {s.out} computes {s.value.dtype}")

    def proc(self, s: Proc) -> None:
        self.proc_outs = s.outs
        self.buffers |= set(s.outs)
        self.block(s.body, ())
        self.buffers -= set(s.outs)

    def written(self, b: Buffer) -> None:
        if b.scope == "global" and b not in self.proc_outs:
            self.fail(f"a proc writes {b}, which is not its own")


class _Scheduled(_Checker):
    def __init__(self, k: LoopKernel) -> None:
        super().__init__(k.name)
        self.k = k
        self.reduces = False
        self.read_only = set(k.inputs) - set(k.outputs)

    def run(self) -> None:
        k = self.k
        self.buffers = set(k.params)
        if len(set(k.inputs)) != len(k.inputs) or set(k.scratch) & {*k.inputs, *k.outputs}:
            self.fail("a buffer is listed twice")
        for b in k.params:
            if b.scope != "global":
                self.fail(f"the parameter {b} is in {b.scope} memory")
        for a, b in k.inplace:
            if not {a, b} <= self.buffers or a.shape != b.shape or a.dtype != b.dtype:
                self.fail(f"{a} and {b} cannot be the same memory")
        for p in k.phases:
            self.block(p.body, ())

    def written(self, b: Buffer) -> None:
        if b in self.read_only:
            self.fail(f"the input {b} is written")
