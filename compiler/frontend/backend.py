"""Where functions become something that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.compiler import driver
from flowc.compiler.options import Options
from flowc.ir.core import Function

Compile = Callable[[Function, Options], Any]


class Backend:
    """`compile(function, options)` → an executable with `.bind(state) → (*inputs) → outputs`."""

    compile: Compile = driver.compile_function


def compile_function(f: Function, options: Options) -> Any:
    """Compile a function for the options' target."""
    return Backend.compile(f, options)
