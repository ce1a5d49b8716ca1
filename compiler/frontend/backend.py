"""Where functions become something that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.compiler.options import Options
from flowc.ir.core import Function

from .lazy import driver

Compile = Callable[[Function, Options], Any]


class Backend:
    """`compile(function, options)` → an executable with `.bind(state) → (*inputs) → outputs`."""

    compile: Compile | None = None  # the driver's, unless a test puts another in its place


def compile_function(f: Function, options: Options) -> Any:
    """Compile a function for the options' target."""
    compiler = Backend.compile or driver.compile_function
    return compiler(f, options)
