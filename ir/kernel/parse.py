"""Reading kernels back: `print_kernel(parse_kernel(t)) == t`, and the structure is the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar, cast

from .. import dims
from ..dims import Shape
from ..dtypes import bool_
from ..text import IDENT, MAX_DEPTH, ParseError
from ..types import TensorType, shape_text
from .expr import INDEX, Expr, index, is_const_index, let_var, var
from .exprparse import ExprParser
from .form import (
    Alloc,
    AnyStage,
    Buffer,
    For,
    If,
    Kernel,
    Kind,
    Let,
    LoopKernel,
    Phase,
    Prefetch,
    Proc,
    Scope,
    Stage,
    Stmt,
    Store,
    While,
)

__all__ = ["ParseError", "parse_kernel", "parse_kernels"]

KINDS = ("serial", "parallel", "vector", "unroll", "block", "thread")
SCOPES = ("global", "shared", "local", "register")
MAX_WIDTH = 4096
T = TypeVar("T")
MAX_STATEMENTS = 2 * MAX_DEPTH  # nested in one another

_SYMBOL = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)


def parse_kernel(text: str, file: str = "<text>") -> Kernel | LoopKernel:
    """The one kernel that a text is; raises ParseError with line and column."""
    p = Parser(text, file)
    k = p.kernel()
    if p.pos < len(text):
        p.fail(f"expected the end of the text, found {p.found()}")
    return k


def parse_kernels(text: str, file: str = "<text>") -> list[Kernel | LoopKernel]:
    """All kernels of a text."""
    p = Parser(text, file)
    out = []
    while p.pos < len(text):
        out.append(p.kernel())
    return out


class Parser(ExprParser):
    """Reads kernels from `pos` on; `plan_text.py` starts it inside of a program."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.nesting = 0

    # ---- headers

    def kernel(self) -> Kernel | LoopKernel:
        self.buffers, self.vars, self.alias, self.symbols = {}, {}, {}, set()
        scheduled = self.word("loops")
        if not scheduled and not self.word("kernel"):
            self.fail(f"expected 'kernel' or 'loops', found {self.found()}")
        self.expect("@")
        name = self.string() if self.at('"') else self.need(_SYMBOL, "a name")
        target = self.text_option("target", "cpu") if scheduled else ""
        note = self.text_option("note", "") if scheduled else ""
        if self.word("symbols"):
            self.expect("(")
            self.items(")", lambda: self.symbols.add(self.need(_SYMBOL, "a symbol")))
        inputs = self.declarations()
        self.expect("->")
        outputs = self.declarations()
        scratch = self.declarations() if scheduled and self.word("scratch") else ()
        inplace = self.pairs() if scheduled and self.word("inplace") else ()
        self.expect("{")
        if scheduled:
            phases = tuple(self.until_brace(self.phase))
            return LoopKernel(name, inputs, outputs, scratch, phases, target, note, inplace)
        stages, parts = self.stages()
        return Kernel(name, inputs, outputs, stages, parts)

    def stages(self) -> tuple[tuple[AnyStage, ...], tuple[int, ...]]:
        """Stages up to the brace, and how many each part has if there are several."""
        out: list[AnyStage] = []
        starts = [0]
        while not self.accept("}"):
            if self.word("part"):
                starts.append(len(out))
            out.append(self.stage())
        if len(starts) == 1:
            return tuple(out), ()
        return tuple(out), tuple(b - a for a, b in pairwise([*starts, len(out)]))

    def until_brace(self, one: Callable[[], T]) -> list[T]:
        out: list[T] = []
        while not self.accept("}"):
            out.append(one())
        return out

    def text_option(self, word: str, default: str) -> str:
        if not self.word(word):
            return default
        self.expect("(")
        out = self.string()
        self.expect(")")
        return out

    def pairs(self) -> tuple[tuple[Buffer, Buffer], ...]:
        """``(y=x, …)``: buffers that may be the same memory."""
        out: list[tuple[Buffer, Buffer]] = []

        def known() -> Buffer:
            start = self.pos
            return self.buffer(self.need(IDENT, "a buffer"), start)

        def one() -> None:
            a = known()
            self.expect("=")
            out.append((a, known()))

        self.expect("(")
        self.items(")", one)
        return tuple(out)

    def declarations(self, header: bool = True) -> tuple[Buffer, ...]:
        """``(x: f32[B,784], y)``; a name alone is a buffer that has been declared."""
        out: list[Buffer] = []

        def one() -> None:
            m = re.compile(r"[A-Za-z_]\w*(?=\s*[,)])").match(self.text, self.pos)
            start = self.pos
            if m:
                out.append(self.buffer(self.need(IDENT, "a buffer"), start))
            else:
                out.append(self.declaration(header))

        self.expect("(")
        self.items(")", one)
        return tuple(out)

    def declaration(self, header: bool = False) -> Buffer:
        """``x: f32[B,784] shared pad(8)``; a header's shapes bring symbols."""
        start = self.pos
        name = self.need(IDENT, "a buffer's name")
        self.expect(":")
        t = self.tensor_type()
        for d in t.shape:
            if header:
                self.symbols |= dims.symbols(d)
            self.known_symbols(d, start)
        return self.new_buffer(name, t, start)

    def new_buffer(self, name: str, t: TensorType, start: int) -> Buffer:
        if name in self.buffers or name in self.vars:
            self.fail(f"{name!r} has a meaning here already", start)
        scope: Scope = "global"
        for s in SCOPES:
            if self.word(s):
                scope = cast(Scope, s)
        pad = 0
        if self.word("pad"):
            pad = self.small("a pad")
        b = self.buffers[name] = Buffer(name, t.dtype, t.shape, scope, pad)
        return b

    def small(self, what: str) -> int:
        """``(16)``."""
        self.expect("(")
        start = self.pos
        n = self.integer()
        if not 0 <= n <= MAX_WIDTH:
            self.fail(f"{what} is between 0 and {MAX_WIDTH}", start)
        self.expect(")")
        return n

    # ---- unscheduled

    def stage(self) -> AnyStage:
        self.axes = {}
        if self.word("proc"):
            return self.proc()
        if not self.word("stage"):
            self.fail(f"expected 'stage' or 'proc', found {self.found()}")
        start = self.pos
        name = self.need(IDENT, "a buffer's name")
        axes = self.domain()
        self.expect(":")
        out = self.stage_buffer(name, tuple(v.attr.extent for _, v in axes), start)
        at = self.pos
        if self.accept("="):
            at = self.pos
            value = self.expr()
        else:
            value = self.value_block()
        if value.dtype != out.dtype:
            self.fail(f"a stage of {out} computes {value.dtype}", at)
        self.end_scope(axes)
        return Stage(out, tuple(v for _, v in axes), value)

    def stage_buffer(self, name: str, shape: Shape, start: int) -> Buffer:
        """The declared output of this name, or a new temporary."""
        at = self.pos
        if re.compile(r"\w+\[").match(self.text, self.pos):
            t = self.tensor_type()
        else:
            t = TensorType(self.dtype(), shape)
        found = self.buffers.get(name)
        if found is None:
            return self.new_buffer(name, t, start)
        if found.type != t:
            self.fail(f"{found} is declared, {t} is computed ({shape_text(shape)})", at)
        return found

    def domain(self) -> list[tuple[str, Expr]]:
        axes: list[tuple[str, Expr]] = []

        def one() -> None:
            name, v = self.axis({})
            self.vars[name] = v
            axes.append((name, v))

        self.expect("[")
        self.items("]", one)
        return axes

    def end_scope(self, axes: list[tuple[str, Expr]]) -> None:
        for name, _ in axes:
            del self.vars[name]
        self.alias = {}

    def proc(self) -> Proc:
        outs = self.declarations(header=False)
        axes = self.domain()
        body = self.block()
        self.end_scope(axes)
        return Proc(outs, tuple(v for _, v in axes), body)

    # ---- statements

    def phase(self) -> Phase:
        if not self.word("phase"):
            self.fail(f"expected 'phase', found {self.found()}")
        threads = self.small("the number of threads") if self.word("threads") else 1
        body = self.block()
        self.alias = {}
        return Phase(body, threads)

    def block(self) -> tuple[Stmt, ...]:
        """``{ statements }`` with their own scope of names."""
        self.nesting += 1
        if self.nesting > MAX_STATEMENTS:
            self.fail("statements nest too deeply")
        self.expect("{")
        variables, aliases = dict(self.vars), dict(self.alias)
        out: list[Stmt] = []
        self.axes = {}
        while not self.accept("}"):
            if self.pos >= len(self.text):
                self.fail("expected '}', found the end of the text")
            s = self.stmt()
            if s is not None:
                out.append(s)
                self.axes = {}
        self.vars, self.alias = variables, aliases
        self.nesting -= 1
        return tuple(out)

    def stmt(self) -> Stmt | None:
        """One statement; None for an abbreviation."""
        if self.word("let"):
            if self.at("%"):
                self.abbreviation()
                return None
            return self.let()
        if self.word("for"):
            return self.loop()
        if self.word("while"):
            cond = self.typed(bool_, "a condition")
            return While(cond, self.block())
        if self.word("if"):
            cond = self.typed(bool_, "a condition")
            then = self.block()
            return If(cond, then, self.block() if self.word("else") else ())
        if self.word("alloc"):
            b = self.declaration()
            body = self.block()
            del self.buffers[b.name]
            return Alloc(b, body)
        if self.word("prefetch"):
            start = self.pos
            b = self.buffer(self.need(IDENT, "a buffer"), start)
            return Prefetch(b, tuple(self.indices(b, start)))
        return self.store()

    def store(self) -> Store:
        start = self.pos
        name = self.need(IDENT, "a statement")
        if not self.at("["):
            self.fail(f"expected a statement, found {name!r}", start)
        b = self.buffer(name, start)
        idx = self.indices(b, start)
        self.expect("=")
        return Store(b, tuple(idx), self.typed(b.dtype, "what is stored"))

    def new_name(self) -> str:
        start = self.pos
        name = self.need(IDENT, "a new variable")
        if name in self.vars or name in self.symbols or name in self.buffers:
            self.fail(f"{name!r} has a meaning here already", start)
        return name

    def within(self) -> Expr | None:
        """The bound in ``within(784)`` as an index, or None."""
        if not self.word("within"):
            return None
        self.expect("(")
        start = self.pos
        d = self.dim()
        self.known_symbols(d, start)
        self.expect(")")
        return index(d)

    def let(self) -> Let:
        name = self.new_name()
        self.expect(":")
        dt = self.to_dtype()
        bound = self.within() if dt is INDEX else None
        self.expect("=")
        value = self.typed(dt, f"the value of {name}")
        v = let_var(name, dt) if bound is None else var(name, is_const_index(bound))
        self.vars[name] = v
        return Let(v, value)

    def loop(self) -> For:
        name = self.new_name()
        self.expect("<")
        extent = self.typed(INDEX, "an extent")
        kind: Kind = "serial"
        width = 1
        for k in KINDS:
            if self.word(k):
                kind = cast(Kind, k)
                width = self.small("a width") if self.at("(") else 1
        limit = is_const_index(extent)
        bound = self.within()
        if bound is not None:
            limit = is_const_index(bound)
        elif self.word("unbounded"):
            limit = None
        v = self.vars[name] = var(name, limit)
        body = self.block()
        del self.vars[name]
        return For(v, extent, kind, body, width)
