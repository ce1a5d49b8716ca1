"""Where functions become something that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.compiler import stored
from flowc.compiler.options import Options
from flowc.ir.core import Function

from .lazy import driver

Compile = Callable[[Function, Options], Any]


class Backend:
    """`compile(function, options)` → an executable with `.bind(state) → (*inputs) → outputs`."""

    compile: Compile | None = None  # the driver's, unless a test puts another in its place


def compile_function(f: Function, options: Options) -> Any:
    """Compile a function for the options' target."""
    if Backend.compile is not None:
        return Backend.compile(f, options)
    return stored.compile_function(f, options, _compile)


def _compile(f: Function, options: Options, **how: Any) -> Any:
    return driver.compile_program(f, options, **how)
