"""Where functions become something that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.compiler.options import Options
from flowc.ir.core import Function

Compile = Callable[[Function, Options], Any]


class Backend:
    """`compile(function, options)` → an executable with `.bind(state) → (*inputs) → outputs`."""

    compile: Compile | None = None


def compile_function(f: Function, options: Options) -> Any:
    """Compile a function for the options' target."""
    if Backend.compile is None:
        raise NotImplementedError("no backend is installed")
    return Backend.compile(f, options)
