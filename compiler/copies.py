"""Functions that compute nothing: constants go into variables. NumPy does that; none is compiled.

What initializes a network from arrays is such a function, of hundreds of results, and runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flowc.ir.core import Function, Value
from flowc.ir.ops.constant import Constant
from flowc.ir.ops.layout import Broadcast

if TYPE_CHECKING:
    from .driver import Compiled

Array = np.ndarray[Any, Any]
LEAST = 16384  # bytes: a call of compiled code takes a microsecond, this one some more


class Copies:
    """The executable of such a function. What is asked beyond calling it compiles it."""

    manifest = {"host_calls": ["copy"]}  # Python runs it, so Python holds the session's lock

    def __init__(self, f: Function, values: Sequence[Array], again: Callable[[], Compiled]) -> None:
        self.function, self.values, self._again = f, values, again

    def bind(
        self, state: Sequence[Array] = (), pool: Any = None, calls: Any = (), gate: Any = None
    ) -> Callable[[], list[Array]]:
        """A call that writes the constants to `state`, the arrays in order; it has no results."""
        pairs = [
            (array, self.values[info.updated_by])
            for array, info in zip(state, self.function.infos, strict=True) if info.updated_by >= 0
        ]

        def run() -> list[Array]:
            for array, value in pairs:
                array[...] = value
            return []

        return run

    @cached_property
    def compiled(self) -> Compiled:
        """The function as native code, with all its stages."""
        return self._again()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.compiled, name)


def constants(f: Function) -> list[Array] | None:
    """The values of the results, where all are constants for variables, and large."""
    updates = {i.updated_by for i in f.infos}
    if any(i.kind != "state" for i in f.infos) or f.guards or len(updates - {-1}) < len(f.results):
        return None
    known: dict[Value, Array] = {}
    for i in f.instrs:
        if isinstance(i.op, Constant):
            known[i.result] = i.op.value.array
        elif isinstance(i.op, Broadcast) and i.operands[0] in known:
            if not all(isinstance(d, int) for d in i.op.shape):
                return None
            known[i.result] = i.op.eval(known[i.operands[0]])
        else:
            return None
    values = [known[r] for r in f.results if r in known]
    if len(values) < len(f.results) or sum(v.nbytes for v in values) < LEAST:
        return None
    return values
