"""Showing and writing programs between passes."""

from __future__ import annotations

import os

from flowc.ir.core import Function, Module
from flowc.ir.plan import Program
from flowc.ir.plan_text import print_program
from flowc.ir.printer import print_module
from flowc.ir.verifier import verify

from ..options import Options
from ..passes.base import PASSES, Pass, Unit
from .failures import UserError


def text_of(item: Function | Program) -> str:
    """The text of a program in its form."""
    if isinstance(item, Function):
        return print_module(Module.of([item]))
    return print_program(item)


class Watch:
    """Shows and writes programs after passes; verifies them where the options say so."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.names = {n.strip() for n in options.print_after.split(",") if n.strip()}
        unknown = self.names - set(PASSES) - {"all"}
        if unknown:
            raise UserError(f"no pass is named {', '.join(sorted(unknown))};"
                            f" known: {', '.join(PASSES)}")
        self.count = 0
        self.printed = False
        self.texts: dict[str, str] = {}
        if options.dump_dir:
            os.makedirs(options.dump_dir, exist_ok=True)

    def __call__(self, p: Pass, before: Unit, after: Unit) -> None:
        self.count += 1
        wanted = p.name in self.names or "all" in self.names
        for name, item in after.items.items():
            if self.options.verify and isinstance(item, Function):
                verify(item)
            if not wanted and not self.options.dump_dir:
                continue
            text = text_of(item)
            head = f"; after {p.name}"
            if self.options.dump_dir:
                several = f"-{name}" if len(after.items) > 1 else ""
                file = f"{self.count:02}-{p.name}{several}.flow"
                path = os.path.join(self.options.dump_dir, file)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(f"{head}\n{text}")
            if wanted:
                same = before.items.get(name) is item or self.texts.get(name) == text
                print(f"{head}: unchanged" if same else f"{head}\n{text}", end="\n")
                self.printed = True
                self.texts[name] = text
