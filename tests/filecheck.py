"""File tests: a program, how to run it, and lines that its output must hold.

    ; RUN: opt --passes=simplify,cse     (or: parse, verify, run)
    func @main(…) …
    ; ARG: f32[2] [1.0,2.0]              (arguments of `run`)
    ; CHECK: a substring of a line       ({{…}} holds a regular expression)
    ; CHECK-NEXT: … of the line after it
    ; CHECK-NOT: of no line up to the next match

A file may hold functions or kernels. `parse` prints them again, `verify` says ok, `run` prints the
results, `opt` what the passes made; an error is printed as it is, with line and column of the file.
`pytest --bless` replaces the CHECK lines (CHECK-NOT lines stay) by the output, at the file's end.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowc.compiler.driver import backend_for
from flowc.compiler.options import Options
from flowc.compiler.passes.base import Context, Unit, parse_pass
from flowc.compiler.pipeline import default_pipeline, run_passes
from flowc.ir import interpreter, verifier
from flowc.ir.core import Function, IRError
from flowc.ir.datatext import DataScanner, literal_text
from flowc.ir.kernel.interp import run_kernel
from flowc.ir.kernel.parse import parse_kernels
from flowc.ir.kernel.text import print_kernel
from flowc.ir.kernel.verify import verify_kernel
from flowc.ir.literal import Literal
from flowc.ir.parser import parse_module
from flowc.ir.plan_text import print_program
from flowc.ir.printer import print_function, print_module

_DIRECTIVE = re.compile(r"^;\s*(RUN|ARG|CHECK|CHECK-NEXT|CHECK-NOT):\s?(.*)$")


class FileTest:
    """One .flow file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        found = [m.groups() for line in self.text.splitlines() if (m := _DIRECTIVE.match(line))]
        self.runs = [text.strip() for kind, text in found if kind == "RUN"]
        self.args = [text.strip() for kind, text in found if kind == "ARG"]
        self.checks = [(kind, text.rstrip()) for kind, text in found if kind.startswith("CHECK")]
        if len(self.runs) != 1:
            raise ValueError(f"{path.name}: expected one '; RUN:' line, found {len(self.runs)}")

    def output(self) -> str:
        """What the RUN line prints."""
        command, *options = shlex.split(self.runs[0])
        if command not in COMMANDS:
            raise ValueError(f"{self.path.name}: no command {command!r}; known: {list(COMMANDS)}")
        try:
            return COMMANDS[command](self, options)
        except IRError as e:
            return f"error: {e}\n"

    def programs(self) -> Any:
        """The module or the list of kernels."""
        if re.search(r"^(kernel|loops) @", self.text, re.M):
            return parse_kernels(self.text, self.path.name)
        return parse_module(self.text, self.path.name)

    def check(self) -> None:
        """AssertionError where the output is not as the file says."""
        lines = self.output().splitlines()
        shown = "\n".join(lines)
        assert self.checks, f"{self.path.name} checks nothing; output:\n{shown}"
        at, absent = -1, []
        for kind, text in self.checks:
            if kind == "CHECK-NOT":
                absent.append(text)
                continue
            where = range(at + 1, at + 2 if kind == "CHECK-NEXT" else len(lines))
            hit = next((n for n in where if n < len(lines) and matches(text, lines[n])), None)
            assert hit is not None, f"{kind}: {text}\nis not found after line {at + 1} of\n{shown}"
            none_of(absent, lines[at + 1 : hit], shown)
            at, absent = hit, []
        none_of(absent, lines[at + 1 :], shown)

    def bless(self) -> None:
        """Write the output into the file as what it checks."""
        kept = [line for line in self.text.splitlines()
                if not re.match(r";\s*CHECK(-NEXT)?:", line)]
        while kept and not kept[-1].strip():
            kept.pop()
        lines = [line for line in self.output().splitlines() if line.strip()]
        new = [f"; {'CHECK-NEXT' if n else 'CHECK'}: {escape(line)}" for n, line in
               enumerate(lines)]
        self.path.write_text("\n".join([*kept, *new]) + "\n", encoding="utf-8")


def matches(pattern: str, line: str) -> bool:
    """Whether the line holds the pattern, in which {{…}} is a regular expression."""
    parts = re.split(r"\{\{(.*?)\}\}", pattern)
    source = "".join(p if n % 2 else re.escape(p) for n, p in enumerate(parts))
    return re.search(source, line) is not None


def escape(line: str) -> str:
    """A line as a pattern of itself."""
    return line.replace("{{", r"{{\{\{}}")


def none_of(absent: Sequence[str], lines: Sequence[str], shown: str) -> None:
    for text in absent:
        assert not any(matches(text, line) for line in lines), f"CHECK-NOT: {text}\nin\n{shown}"


# ---- commands

def _parse(t: FileTest, options: list[str]) -> str:
    program = t.programs()
    if isinstance(program, list):
        return "".join(map(print_kernel, program))
    return print_module(program)


def _verify(t: FileTest, options: list[str]) -> str:
    program = t.programs()
    if isinstance(program, list):
        for k in program:
            verify_kernel(k)
    else:
        verifier.verify(program)
    return "ok\n"


def _run(t: FileTest, options: list[str]) -> str:
    program = t.programs()
    args = [DataScanner(a, t.path.name, {}).literal().array for a in t.args]
    if isinstance(program, list):
        results = run_kernel(program[-1], args)
    else:
        results = interpreter.run(program.main, args)
    return "".join(f"{literal_text(Literal(r))}\n" for r in results)


def _opt(t: FileTest, options: list[str]) -> str:
    passes = default_pipeline()
    limit = -1
    for option in options:
        key, _, value = option.partition("=")
        if key == "--passes":
            passes = [parse_pass(p) for p in re.findall(r"[^,{]+(?:\{[^}]*\})?", value)]
        elif key == "--rewrite-limit":
            limit = int(value)
        else:
            raise ValueError(f"{t.path.name}: no option {option!r}")
    m = t.programs()
    verifier.verify(m)
    fixed = Options(cpu="x86-64-v3")  # the same schedules on every machine
    ctx = Context(backend_for(fixed), fixed, limit=limit)
    unit = run_passes(Unit(dict(m.functions)), ctx, passes)
    return "\n".join(map(_text, unit.items.values()))


def _text(item: Any) -> str:
    if isinstance(item, Function):
        return print_function(item)
    return print_program(item)


COMMANDS: dict[str, Callable[[FileTest, list[str]], str]] = {
    "parse": _parse, "print": _parse, "verify": _verify, "run": _run, "opt": _opt,
}
