"""The text of programs: buffers, then steps with their kernels; prints and parses back.

    program @main {
      input x: f32[B,784] "x"
      state w: f32[784,10] "w" update(t9)
      output t3: f32[B,10] "y"
      temp t2: f32[B,10] at(0)
      const c1: f32[3] = f32[3] [1, 2, 3]
      view t4: f32[7840] = t3
      workspace 40*B
      steps {
        launch (x, w) -> (t3) {
          kernel @k0(…) …
          loops @k0 target("cpu") (…) …
        }
        copy w = t9
      }
    }

A kernel's own buffer names are local to it; they are bound by the lists of its launch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .core import Param
from .datatext import DataScanner, literal_text
from .dims import Dim, symbols
from .kernel.expr import Expr
from .kernel.exprtext import ExprPrinter, Namer
from .kernel.form import (
    AnyStage,
    Buffer,
    Kernel,
    LoopKernel,
    Phase,
    Proc,
    Stage,
    map_stmts,
    rename_buffers,
)
from .kernel.parse import Parser
from .kernel.text import print_kernel
from .literal import Literal
from .plan import (
    Cond,
    Copy,
    Define,
    HostCall,
    Launch,
    Loop,
    Program,
    Push,
    Raw,
    Step,
    Variant,
)
from .text import IDENT, quote

_NAME = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)


def print_program(p: Program) -> str:
    """The text of a program."""
    return _Printer(p).run()


class _Printer:
    def __init__(self, p: Program) -> None:
        self.p = p
        self.names: dict[Buffer, str] = {}
        self.taken: set[str] = set()
        self.lines: list[str] = []

    def name(self, b: Buffer) -> str:
        """The buffer's name; a temporary is declared when it is first named."""
        if b not in self.names:
            self.declare("temp", b, self._place(b))
        return self.names[b]

    def _place(self, b: Buffer) -> str:
        if b in self.p.views:
            return f" view({self.name(self.p.views[b])})"
        return f" at({self.p.offsets[b]})" if b in self.p.offsets else ""

    def declare(self, kind: str, b: Buffer, rest: str = "") -> None:
        base = "".join(c if c.isalnum() or c in "._" else "_" for c in b.name) or "b"
        name, n = base, 1
        while name in self.taken:
            name, n = f"{base}_{n}", n + 1
        self.taken.add(name)
        self.names[b] = name
        self.lines.append(f"  {kind} {name}: {b.type}{rest}")

    def run(self) -> str:
        p = self.p
        for b, info in zip(p.inputs, p.infos, strict=False):
            self.declare("input", b, f" {quote(info.name)}")
        for b, info in zip(p.state, p.infos[len(p.inputs) :], strict=True):
            self.declare("state", b, f" {quote(info.name)}")
        names = list(p.output_names) + [""] * len(p.outputs)
        for b, text in zip(p.outputs, names, strict=False):
            self.declare("output", b, f" {quote(text)}")
        for b, lit in p.constants.items():
            self.declare("const", b, f" = {literal_text(lit)}")
        body = self.steps(p.steps, "    ")
        for symbol, bound in p.bounds.items():
            self.lines.append(f"  bound {symbol} = {bound}")
        for old, new in p.updates.items():
            self.lines.append(f"  update {self.name(old)} = {self.name(new)}")
        self.lines.append(f"  workspace {p.workspace}")
        head = [f"program @{quote(p.name)} {{"]
        return "\n".join([*head, *self.lines, "  steps {", *body, "  }", "}"]) + "\n"

    def steps(self, steps: Sequence[Step], indent: str) -> list[str]:
        return [line for s in steps for line in self.step(s, indent)]

    def step(self, s: Step, indent: str) -> list[str]:
        if isinstance(s, Copy):
            return [f"{indent}copy {self.name(s.dst)} = {self.name(s.src)}"]
        if isinstance(s, Launch):
            return self.launch(s, indent)
        if isinstance(s, Raw):
            made = s.stage.outs
            reads = [b for b in dict.fromkeys(e.attr for e in s.stage.reads()) if b not in made]
            k = Kernel("raw", tuple(reads), made, (s.stage,))
            return self.launch(Launch(k), indent, "raw")
        if isinstance(s, Cond):
            head = f"{indent}if {self.name(s.pred)} {{"
            then = self.steps(s.then, indent + "  ")
            other = self.steps(s.otherwise, indent + "  ")
            return [head, *then, f"{indent}}} else {{", *other, f"{indent}}}"]
        if isinstance(s, Loop):
            return self.loop(s, indent)
        if isinstance(s, Push):
            word = "push growing" if s.grows else "push"
            return [f"{indent}{word} {self.name(s.stack)} = {self.name(s.value)}"]
        if isinstance(s, Define):
            return [f"{indent}define {s.symbol} = {self.name(s.value)}"]
        ins, outs = self.listing(s.inputs), self.listing(s.outputs)
        return [f"{indent}host {quote(s.name)} {ins} -> {outs}"]

    def listing(self, buffers: Sequence[Buffer]) -> str:
        return f"({', '.join(map(self.name, buffers))})"

    def loop(self, s: Loop, indent: str) -> list[str]:
        head = f"{indent}loop"
        if s.count is not None:
            head += f" count({s.count})" + (" reverse" if s.reverse else "")
        for element, array in s.xs:
            head += f" element{self.listing((element, array))}"
        head += f" trips({self.name(s.trips)})" if s.trips is not None else ""
        head += f" symbol({s.symbol})" if s.symbol else ""
        head += f" max({s.max_trips})" if s.max_trips is not None else ""
        lines = [f"{head} {{"]
        if s.pred is not None:
            test = self.steps(s.test, indent + "  ")
            lines = [f"{head} while {self.name(s.pred)} {{", *test, f"{indent}}} do {{"]
        return [*lines, *self.steps(s.body, indent + "  "), f"{indent}}}"]

    def launch(self, s: Launch, indent: str, word: str = "launch") -> list[str]:
        inner = indent + "  "
        k = s.kernel
        head = f"{indent}{word} {self.listing(k.inputs)} -> {self.listing(k.outputs)} {{"
        out = [head, *_indented(print_kernel(s.kernel), inner)]
        for v, scratch in zip(s.variants, s.scratch, strict=True):
            if v.when is not None:
                out.append(f"{inner}when {_predicate(v.when)}")
            out.append(f"{inner}scratch {self.listing(scratch)}")
            out.extend(_indented(print_kernel(v.kernel), inner))
        return [*out, f"{indent}}}"]


def _predicate(e: Expr) -> str:
    p = ExprPrinter(Namer(set()), [0])
    lines, (text,) = p.block([e], "")
    assert not lines
    return text


def _indented(text: str, indent: str) -> list[str]:
    return [indent + line for line in text.rstrip("\n").split("\n")]


# ---- parsing

def parse_program(text: str, file: str = "<text>") -> Program:
    """The program that a text is; ParseError with line and column."""
    return _Parser(text, file).program()


class _Parser(DataScanner):
    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file, {})
        self.names: dict[str, Buffer] = {}
        self.groups: dict[str, list[Buffer]] = {"input": [], "state": [], "output": []}
        self.infos: dict[Buffer, str] = {}
        self.constants: dict[Buffer, Literal] = {}
        self.views: dict[Buffer, Buffer] = {}
        self.offsets: dict[Buffer, Dim] = {}
        self.updates: dict[Buffer, Buffer] = {}

    def program(self) -> Program:
        if not self.word("program"):
            self.fail(f"expected 'program', found {self.found()}")
        self.expect("@")
        name = self.string()
        self.expect("{")
        while self._declaration():
            pass
        bounds: dict[str, Dim] = {}
        while self.word("bound"):
            symbol = self.need(IDENT, "a symbol")
            self.expect("=")
            bounds[symbol] = self.line_dim()
        while self.word("update"):
            old = self.buffer()
            self.expect("=")
            self.updates[old] = self.buffer()
        if not self.word("workspace"):
            self.fail(f"expected a declaration or 'workspace', found {self.found()}")
        workspace = self.line_dim()
        if not self.word("steps"):
            self.fail(f"expected 'steps', found {self.found()}")
        steps = self.block()
        self.expect("}")
        g = self.groups
        infos = [Param(self.infos[b]) for b in g["input"]]
        infos += [Param(self.infos[b], "state") for b in g["state"]]
        return Program(
            name, tuple(g["input"]), tuple(g["state"]), tuple(g["output"]), self.constants,
            steps, tuple(infos), (), tuple(self.infos[b] for b in g["output"]), self.updates,
            bounds, self.views, self.offsets, workspace,
        )

    def line_dim(self) -> Dim:
        """A dimension up to the end of the line."""
        end = self.text.find("\n", self.pos)
        end = len(self.text) if end < 0 else end
        return self.dim_text(self.text[self.pos : end], self.pos, end)

    def _declaration(self) -> bool:
        kind = next((k for k in ("input", "state", "output", "const", "temp") if self.word(k)), "")
        if not kind:
            return False
        start = self.pos
        name = self.need(_NAME, "a buffer's name")
        if name in self.names:
            self.fail(f"{name!r} is declared twice", start)
        self.expect(":")
        t = self.tensor_type()
        b = self.names[name] = Buffer(name, t.dtype, t.shape)
        if kind in self.groups:
            self.groups[kind].append(b)
            self.infos[b] = self.string()
        elif kind == "const":
            self.expect("=")
            self.constants[b] = self.literal()
        elif self.word("view"):
            self.views[b] = self.parens(self.buffer)
        elif self.word("at"):
            self.offsets[b] = self.parens(self.dim)
        return True

    def parens(self, one: Any) -> Any:
        self.expect("(")
        out = one()
        self.expect(")")
        return out

    def buffer(self) -> Buffer:
        start = self.pos
        name = self.need(_NAME, "a buffer")
        if name not in self.names:
            self.fail(f"no buffer {name!r} is declared", start)
        return self.names[name]

    def buffers(self) -> tuple[Buffer, ...]:
        out: list[Buffer] = []
        self.expect("(")
        self.items(")", lambda: out.append(self.buffer()))
        return tuple(out)

    def block(self) -> tuple[Step, ...]:
        self.depth += 1
        if self.depth > 32:
            self.fail("steps nest too deeply")
        out: list[Step] = []
        self.expect("{")
        while not self.accept("}"):
            out.append(self.step())
        self.depth -= 1
        return tuple(out)

    def step(self) -> Step:
        if self.word("copy"):
            dst = self.buffer()
            self.expect("=")
            return Copy(dst, self.buffer())
        if self.word("launch"):
            return self.launch()
        if self.word("raw"):
            return Raw(self.launch().kernel.stages[0])
        if self.word("if"):
            pred, then = self.buffer(), self.block()
            if not self.word("else"):
                self.fail(f"expected 'else', found {self.found()}")
            return Cond(pred, then, self.block())
        if self.word("loop"):
            return self.loop()
        if self.word("push"):
            grows = self.word("growing")
            stack = self.buffer()
            self.expect("=")
            return Push(stack, self.buffer(), grows)
        if self.word("define"):
            symbol = self.need(IDENT, "a symbol")
            self.expect("=")
            return Define(symbol, self.buffer())
        if self.word("host"):
            name, inputs = self.string(), self.buffers()
            self.expect("->")
            return HostCall(name, inputs, self.buffers())
        return self.fail(f"expected a step, found {self.found()}")

    def loop(self) -> Loop:
        count, trips, symbol, top = None, None, "", None
        xs: list[tuple[Buffer, Buffer]] = []
        if self.word("count"):
            count = self.parens(self.dim)
        reverse = self.word("reverse")
        while self.word("element"):
            pair = self.buffers()
            if len(pair) != 2:
                self.fail("element takes an element and an array")
            xs.append((pair[0], pair[1]))
        if self.word("trips"):
            trips = self.parens(self.buffer)
        if self.word("symbol"):
            symbol = self.parens(lambda: self.need(IDENT, "a symbol"))
        if self.word("max"):
            top = self.parens(self.integer)
        pred = self.buffer() if self.word("while") else None
        test: tuple[Step, ...] = ()
        if pred is not None:
            test = self.block()
            if not self.word("do"):
                self.fail(f"expected 'do', found {self.found()}")
        return Loop(self.block(), test, pred, count, reverse, tuple(xs), trips, symbol, top)

    def launch(self) -> Launch:
        inputs = self.buffers()
        self.expect("->")
        outputs = self.buffers()
        self.expect("{")
        start = self.pos
        kernel, _ = self.kernel()
        if not isinstance(kernel, Kernel):
            self.fail("a launch begins with its unscheduled kernel", start)
        kernel = rebind(kernel, _pairs(self, start, kernel, inputs, outputs, ()))
        variants: list[Variant] = []
        while not self.accept("}"):
            variants.append(self.variant(inputs, outputs))
        return Launch(kernel, tuple(variants), tuple(v.kernel.scratch for v in variants))

    def variant(self, inputs: tuple[Buffer, ...], outputs: tuple[Buffer, ...]) -> Variant:
        when = None
        if self.word("when"):
            p = Parser(self.text, self.file)
            p.pos = self.pos
            p.symbols = {s for b in self.names.values() for d in b.shape for s in symbols(d)}
            when = p.expr()
            self.pos = p.pos
        if not self.word("scratch"):
            self.fail(f"expected 'scratch', found {self.found()}")
        scratch = self.buffers()
        start = self.pos
        kernel, _ = self.kernel()
        if not isinstance(kernel, LoopKernel):
            self.fail("a variant is a scheduled kernel", start)
        pairs = _pairs(self, start, kernel, inputs, outputs, scratch)
        return Variant(when, rebind_loops(kernel, pairs))

    def kernel(self) -> tuple[Kernel | LoopKernel, int]:
        p = Parser(self.text, self.file)
        p.pos = self.pos
        k = p.kernel()
        self.pos = p.pos
        return k, self.pos


def _pairs(
    p: _Parser, start: int, k: Kernel | LoopKernel, inputs: tuple[Buffer, ...],
    outputs: tuple[Buffer, ...], scratch: tuple[Buffer, ...],
) -> dict[Buffer, Buffer]:
    """The kernel's own buffers → the program's; fails where counts or types differ."""
    own = [*k.inputs, *k.outputs, *(k.scratch if isinstance(k, LoopKernel) else ())]
    given = [*inputs, *outputs, *scratch]
    if len(own) != len(given):
        p.fail(f"kernel {k.name} has {len(own)} buffers, its launch gives {len(given)}", start)
    for a, b in zip(own, given, strict=True):
        if a.type != b.type:
            p.fail(f"kernel {k.name}: {a} is bound to {b}", start)
    return dict(zip(own, given, strict=True))


def rebind(k: Kernel, env: Mapping[Buffer, Buffer]) -> Kernel:
    """The kernel over other buffers of the same types."""
    table, memo = dict(env), {}  # type: tuple[dict[Buffer, Buffer], dict[Expr, Expr]]

    def buf(b: Buffer) -> Buffer:
        return table.get(b, b)

    def expr(e: Expr) -> Expr:
        return rename_buffers(e, table, memo)

    stages: list[AnyStage] = []
    for s in k.stages:
        if isinstance(s, Proc):
            body = map_stmts(s.body, expr, buf)
            stages.append(Proc(tuple(map(buf, s.outs)), s.axes, body))
        else:
            stages.append(Stage(buf(s.out), s.axes, expr(s.value)))
    inputs, outputs = tuple(map(buf, k.inputs)), tuple(map(buf, k.outputs))
    return Kernel(k.name, inputs, outputs, tuple(stages), k.parts)


def rebind_loops(k: LoopKernel, env: Mapping[Buffer, Buffer]) -> LoopKernel:
    """The scheduled kernel over other buffers of the same types."""
    table, memo = dict(env), {}  # type: tuple[dict[Buffer, Buffer], dict[Expr, Expr]]

    def buf(b: Buffer) -> Buffer:
        return table.get(b, b)

    phases = tuple(
        Phase(map_stmts(p.body, lambda e: rename_buffers(e, table, memo), buf), p.threads)
        for p in k.phases
    )
    return k.replace(
        inputs=tuple(map(buf, k.inputs)), outputs=tuple(map(buf, k.outputs)),
        scratch=tuple(map(buf, k.scratch)), phases=phases,
    )
