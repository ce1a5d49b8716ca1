"""A stand-in for compiled functions: the interpreter behind the driver's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowc.ir import interpreter
from flowc.ir.core import Function


class Interpreted:
    """An executable that interprets its function."""

    manifest = {"host_calls": ["interpreter"]}  # Python runs it, so Python holds the locks

    def __init__(self, function: Function, options: Any) -> None:
        self.function = function

    def bind(
        self, state: list[Any], pool: Any = None, gate: Any = None
    ) -> Callable[..., list[Any]]:
        f = self.function
        inputs = sum(i.kind == "input" for i in f.infos)
        updates = [(i.updated_by, a) for i, a in zip(f.infos[inputs:], state, strict=True)]
        kept = len(f.results) - sum(i >= 0 for i, _ in updates)

        def run(*arrays: Any) -> list[Any]:
            out = interpreter.run(f, [*arrays, *state])
            out = [np.array(a, copy=True) for a in out]
            for index, array in updates:
                if index >= 0:
                    array[...] = out[index]
            return out[:kept]

        return run
