"""``flowc compile``: artifacts."""

from __future__ import annotations

import argparse
import os
import sys

from flowc.ir.core import Function
from flowc.runtime.timings import Timings

from .. import artifact, driver
from ..freezing import freeze
from ..header import identifier
from ..passes.functionalize import functionalize
from . import inputs
from .failures import UserError, compiling
from .watch import Watch


def run(a: argparse.Namespace) -> None:
    """Write what the output's name asks for, and a header."""
    timings = Timings()
    with timings.part("reading"):
        options = inputs.options(a)
        if os.path.splitext(a.output)[1] not in artifact.KINDS:
            raise UserError(f"-o {a.output}: what to write is told by {' '.join(artifact.KINDS)}")
        loaded = inputs.program(a)
        f = functionalize(loaded.function)
        f = f.replace(name=c_name(f, a.output, a.name))
        if a.freeze:
            f = freeze(f, loaded.initial)
    with compiling(options, f):
        compiled = driver.compile_program(
            f, options, observers=(Watch(options),), assemble=False, timings=timings
        )
        initial = loaded.initial if loaded.initial or not compiled.manifest["state"] else {}
        with timings.part("writing"):
            paths = artifact.write(compiled, a.output, initial)
        for path in paths:
            print(f"{path}: {os.path.getsize(path)} bytes")
        if options.time_passes:
            print(timings.table(), file=sys.stderr)
        if options.time_passes or a.verbose:
            print(compiled.statistics(), file=sys.stderr)


def c_name(f: Function, output: str, given: str | None) -> str:
    """The C name: as given, the function's own, or for @main the output's."""
    if given:
        if identifier(given) != given:
            raise UserError(f"--name {given!r} is no C identifier")
        return given
    stem = os.path.splitext(os.path.basename(output))[0].removeprefix("lib")
    return identifier(stem if f.name == "main" else f.name)
