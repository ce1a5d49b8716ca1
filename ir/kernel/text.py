"""The text of kernels, unscheduled and scheduled; `parse.py` reads it back.

    kernel @name(x: f32[B,784]) -> (y: f32[B]) {
      stage y[i<B]: f32 = sum(r<784) { x[i, r] }
    }

    loops @name target("cpu") (x: f32[B,784]) -> (y: f32[B]) {
      phase {
        for i < B parallel {
          y[i] = …

`docs/ir.md` has the grammar.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .. import dims
from ..dims import Dim
from ..printer import symbol_text
from ..text import quote
from .expr import Expr, is_const_index, walk
from .exprtext import ExprPrinter, Namer, dim_text
from .form import (
    Alloc,
    AnyStage,
    Buffer,
    For,
    If,
    Kernel,
    Let,
    LoopKernel,
    Phase,
    Prefetch,
    Proc,
    Stage,
    Stmt,
    Store,
    While,
    stmt_exprs,
    walk_stmts,
)


def print_kernel(k: Kernel | LoopKernel) -> str:
    """The text of a kernel."""
    return _Printer(k).run()


def symbols_of(k: Kernel | LoopKernel) -> set[str]:
    """All dimension symbols of a kernel."""
    out: set[str] = set()
    for d in _all_dims(k):
        out |= dims.symbols(d)
    return out


def _all_dims(k: Kernel | LoopKernel) -> Iterator[Dim]:
    exprs: list[Expr] = []
    buffers: list[Buffer] = []
    if isinstance(k, Kernel):
        buffers += [*k.inputs, *k.outputs, *(b for s in k.stages for b in s.outs)]
        for s in k.stages:
            exprs += [*s.axes, *([s.value] if isinstance(s, Stage) else _stmt_exprs(s.body))]
    else:
        buffers += k.params
        for p in k.phases:
            exprs += _stmt_exprs(p.body)
    bodies = [s.body for s in k.stages if isinstance(s, Proc)] if isinstance(k, Kernel) else [
        p.body for p in k.phases]
    buffers += [s.buffer for b in bodies for s in walk_stmts(b) if isinstance(s, Alloc)]
    for b in buffers:
        yield from b.shape
    for e in walk(*exprs):
        if e.op == "lin":
            yield from (*e.attr[0], e.attr[1])
        elif e.op == "var" and e.attr.extent is not None:
            yield e.attr.extent


def _stmt_exprs(body: Iterable[Stmt]) -> list[Expr]:
    body = tuple(body)
    return stmt_exprs(body) + [s.var for s in walk_stmts(body) if isinstance(s, For | Let)]


class _Printer:
    def __init__(self, k: Kernel | LoopKernel) -> None:
        self.k = k
        self.symbols = symbols_of(k)
        self.names = Namer(self.symbols)
        self.serial = [0]
        self.lines: list[str] = []

    def run(self) -> str:
        k = self.k
        head = f"{'kernel' if isinstance(k, Kernel) else 'loops'} {symbol_text(k.name)}"
        if isinstance(k, LoopKernel):
            head += f" target({quote(k.target)})"
            head += f" note({quote(k.note)})" if k.note else ""
        params = self.params(k)
        extra = sorted(self.symbols - self.header_symbols(k))
        head += f" symbols({', '.join(extra)})" if extra else ""
        self.lines.append(f"{head} {params} {{" if head.endswith(")") else f"{head}{params} {{")
        if isinstance(k, Kernel):
            starts = set(itertools.accumulate(k.parts[:-1]))
            for n, s in enumerate(k.stages):
                if n in starts:
                    self.lines.append("  part")
                self.stage(s)
        else:
            for p in k.phases:
                self.phase(p)
        return "\n".join([*self.lines, "}"]) + "\n"

    def params(self, k: Kernel | LoopKernel) -> str:
        text = f"({self.declared(k.inputs)}) -> ({self.declared(k.outputs)})"
        if isinstance(k, LoopKernel) and k.scratch:
            text += f" scratch({self.declared(k.scratch)})"
        if isinstance(k, LoopKernel) and k.inplace:
            pairs = (f"{self.names[a]}={self.names[b]}" for a, b in k.inplace)
            text += f" inplace({', '.join(pairs)})"
        return text

    def header_symbols(self, k: Kernel | LoopKernel) -> set[str]:
        buffers = [*k.inputs, *k.outputs, *(k.scratch if isinstance(k, LoopKernel) else ())]
        return {s for b in buffers for d in b.shape for s in dims.symbols(d)}

    def declared(self, buffers: Sequence[Buffer]) -> str:
        """Declarations; a buffer that has been declared is only named."""
        return ", ".join(
            self.names[b] if b in self.names.of else self.declare(b) for b in buffers)

    def declare(self, b: Buffer) -> str:
        return f"{self.names.declare(b, b.name)}: {b.type}{_storage(b)}"

    # ---- unscheduled

    def stage(self, s: AnyStage) -> None:
        if isinstance(s, Proc):
            outs = self.declared(s.outs)
            axes = self.axes(s.axes)
            self.lines.append(f"  proc ({outs}) [{axes}] {{")
            self.block(s.body, "    ")
            self.lines.append("  }")
        else:
            self.formula(s)
        self.names.forget(s.axes)

    def axes(self, axes: Sequence[Expr]) -> str:
        return ", ".join(f"{self.names.declare(a, a.attr.name)}<{dim_text(a.attr.extent)}"
                         for a in axes)

    def formula(self, s: Stage) -> None:
        b = s.out
        new = b not in self.names.of
        name = self.names.declare(b, b.name) if new else self.names[b]
        axes = self.axes(s.axes)
        shape = tuple(a.attr.extent for a in s.axes)
        kind = str(b.type) if shape != b.shape else b.dtype.name
        kind += _storage(b) if new else ""
        p = ExprPrinter(self.names, self.serial)
        lines, (value,) = p.block([s.value], "    ")
        p.done()
        head = f"  stage {name}[{axes}]: {kind}"
        if lines:
            self.lines += [f"{head} {{", *lines, f"    return {value}", "  }"]
        else:
            dedented = value.replace("\n  ", "\n")
            self.lines.append(f"{head} = {dedented}")

    # ---- scheduled

    def phase(self, p: Phase) -> None:
        threads = f" threads({p.threads})" if p.threads != 1 else ""
        self.lines.append(f"  phase{threads} {{")
        self.block(p.body, "    ")
        self.lines.append("  }")

    def block(self, body: Iterable[Stmt], indent: str) -> None:
        named: list[Any] = []
        for s in body:
            self.stmt(s, indent, named)
        self.names.forget(named)

    def exprs(self, roots: Sequence[Expr], indent: str) -> list[str]:
        """The texts of a statement's expressions, abbreviations before it."""
        p = ExprPrinter(self.names, self.serial)
        lines, texts = p.block(roots, indent)
        p.done()
        self.lines += lines
        return texts

    def stmt(self, s: Stmt, indent: str, named: list[Any]) -> None:
        if isinstance(s, Store):
            *idx, value = self.exprs((*s.indices, s.value), indent)
            self.lines.append(f"{indent}{self.names[s.buffer]}[{', '.join(idx)}] = {value}")
        elif isinstance(s, Let):
            (value,) = self.exprs([s.value], indent)
            bound = "" if s.var.attr.extent is None else f" within({dim_text(s.var.attr.extent)})"
            named.append(s.var)
            name = self.names.declare(s.var, s.var.attr.name)
            self.lines.append(f"{indent}let {name}: {s.var.dtype.name}{bound} = {value}")
        elif isinstance(s, Prefetch):
            at = ", ".join(self.exprs(s.indices, indent))
            self.lines.append(f"{indent}prefetch {self.names[s.buffer]}[{at}]")
        elif isinstance(s, For):
            self.loop(s, indent)
        elif isinstance(s, Alloc):
            self.lines.append(f"{indent}alloc {self.declare(s.buffer)} {{")
            self.inner(s.body, indent)
            self.names.forget([s.buffer])
        else:
            self.branch(s, indent)

    def inner(self, body: Iterable[Stmt], indent: str) -> None:
        self.block(body, indent + "  ")
        self.lines.append(f"{indent}}}")

    def loop(self, s: For, indent: str) -> None:
        (extent,) = self.exprs([s.extent], indent)
        name = self.names.declare(s.var, s.var.attr.name)
        kind = f" {s.kind}" if s.kind != "serial" else ""
        if s.width != 1 or s.kind == "vector":
            kind = f" {s.kind}({s.width})"
        bound, usual = s.var.attr.extent, is_const_index(s.extent)
        if bound != usual:
            kind += " unbounded" if bound is None else f" within({dim_text(bound)})"
        self.lines.append(f"{indent}for {name} < {extent}{kind} {{")
        self.inner(s.body, indent)
        self.names.forget([s.var])

    def branch(self, s: If | While, indent: str) -> None:
        (cond,) = self.exprs([s.cond], indent)
        if isinstance(s, While):
            self.lines.append(f"{indent}while {cond} {{")
            self.inner(s.body, indent)
            return
        self.lines.append(f"{indent}if {cond} {{")
        self.block(s.then, indent + "  ")
        if s.otherwise:
            self.lines.append(f"{indent}}} else {{")
            self.block(s.otherwise, indent + "  ")
        self.lines.append(f"{indent}}}")


def _storage(b: Buffer) -> str:
    scope = f" {b.scope}" if b.scope != "global" else ""
    return scope + (f" pad({b.pad})" if b.pad else "")
