"""``flowc opt``: passes, one by one, on text."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from flowc.ir.core import Function
from flowc.ir.parser import parse_module
from flowc.ir.plan import Program
from flowc.ir.plan_text import parse_program
from flowc.ir.verifier import verify
from flowc.runtime.timings import Timings

from .. import driver
from ..options import Options
from ..passes.base import PASSES, Context, Pass, Unit, parse_pass
from ..passes.rewrite import RULES
from ..pipeline import default_pipeline, run_passes
from . import inputs, run_command
from .failures import UserError, compiling
from .watch import Watch, text_of

_AFTER = re.compile(r"; after (\w+)")


def run(a: argparse.Namespace) -> None:
    """Run passes on a program, and show or write what was asked for."""
    if a.list_passes:
        list_passes()
        return
    timings = Timings()
    with timings.part("reading"):
        item, done = source(a)
        options = inputs.options(a)
        passes = chosen(a, done)
    functions = (item,) if isinstance(item, Function) else ()
    with compiling(options, *functions):
        with timings.part("target"):
            ctx = Context(driver.backend_for(options), options, limit=options.rewrite_limit)
        unit = Unit({item.name: item})
        watch = Watch(options)
        unit = run_passes(unit, ctx, passes, (watch,), timings)
        if options.time_passes:
            print(timings.table(), file=sys.stderr)
        if a.rewrites or options.rewrite_limit >= 0:
            print(f"{sum(ctx.rewrites.values())} rewrites", file=sys.stderr)
        if a.rewrites:
            show_rewrites(ctx)
        result = unit.items[item.name]
        if a.execute:
            execute(result, passes, options, a)
        elif a.output:
            with open(a.output, "w", encoding="utf-8") as f:
                f.write(text_of(result))
        elif not watch.printed:
            print(text_of(result), end="")


def source(a: argparse.Namespace) -> tuple[Function | Program, str]:
    """The program, and the pass after which its text was written, if it says so."""
    path = a.start_from or a.file
    if not path:
        raise UserError("a file is needed: flowc opt FILE.flow, or --start-from FILE")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    said = _AFTER.search(text.split("\n", 1)[0])
    done = said[1] if said and a.start_from else ""
    if re.match(r"(\s|;[^\n]*\n)*program\b", text):
        return parse_program(text, path), done or "plan"
    if a.start_from:
        module = parse_module(text, path)
        verify(module)
        return inputs.chosen(module, a.function, path), done
    return inputs.flow_function(path, a.function), done


def chosen(a: argparse.Namespace, done: str) -> list[Pass]:
    """The passes to run."""
    try:
        if a.passes:
            passes = [parse_pass(t) for t in re.split(r",(?![^{]*\})", a.passes) if t.strip()]
        else:
            passes = default_pipeline()
    except ValueError as error:
        raise UserError(str(error)) from None
    if done and not a.passes:
        at = [n for n, p in enumerate(passes) if p.name == done]
        if not at:
            raise UserError(f"{a.start_from} was written after {done!r}, which is no pass here")
        passes = passes[at[-1] + 1 :]
    if a.stop_after:
        at = [n for n, p in enumerate(passes) if p.name == a.stop_after]
        if not at:
            names = ", ".join(dict.fromkeys(p.name for p in passes))
            raise UserError(f"no pass {a.stop_after!r} is run; these are: {names}")
        passes = passes[: at[0] + 1]
    return passes


def list_passes() -> None:
    """Print the pipeline and every pass's options."""
    print("pipeline: " + " ".join(p.name for p in default_pipeline()))
    for name, cls in sorted(PASSES.items()):
        about = (cls.__doc__ or "").strip().split("\n")[0]
        print(f"{name:16} {about}")
        for f in dataclasses.fields(cls):
            print(f"{'':18}{f.name}={f.default}")


def show_rewrites(ctx: Context) -> None:
    """What was rewritten how often, and where the rule is written."""
    where: dict[str, str] = {}
    for name, match in (r for rules in RULES.values() for r in rules):
        code = match.__code__
        where[name] = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
    for name, count in sorted(ctx.rewrites.items(), key=lambda t: -t[1]):
        print(f"{count:6} {name:24} {where.get(name, '')}".rstrip(), file=sys.stderr)


def execute(
    result: Function | Program, passes: list[Pass], options: Options, a: argparse.Namespace
) -> None:
    """Compile what the passes made, with the rest of the pipeline, and run it."""
    rest = list(remaining(result, passes))
    compiled = driver.compile_program(result, options, passes=rest)
    a.program = a.file or a.start_from
    names = [t["name"] for t in compiled.manifest["inputs"]]
    types = [b.type for b in compiled.program.inputs]
    values = inputs.arguments(names, types, a)
    empty = inputs.Loaded(result) if isinstance(result, Function) else None
    state = [
        run_command.initial_value(empty or _NOTHING, s["name"], b.type)
        for s, b in zip(compiled.manifest["state"], compiled.program.state, strict=True)
    ]
    out = compiled.bind(state)(*values)
    labels = [o["name"] for o in compiled.manifest["outputs"]]
    written = [(s["name"], v) for s, v in zip(compiled.manifest["state"], state, strict=True)
               if "w" in s["mode"]]
    run_command.show([*labels, *(n for n, _ in written)], [*out, *(v for _, v in written)])


_NOTHING: Any = inputs.Loaded(Function("none", (), (), ()))


def remaining(result: Function | Program, done: list[Pass]) -> Iterator[Pass]:
    """The passes of the pipeline that still have to run to make code of `result`."""
    pipeline = default_pipeline()
    if isinstance(result, Function):
        yield from (p for p in pipeline if p.name == "functionalize")
        start = next(n for n, p in enumerate(pipeline) if p.name == "lower")
        yield from pipeline[start:]
        return
    names = [p.name for p in pipeline]
    last = max((names.index(p.name) for p in done if p.name in names), default=len(names) - 1)
    yield from pipeline[last + 1 :]
