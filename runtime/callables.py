"""Callables that reach compiled code without Python code in between."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from . import callable_ir as ir
from .fastcall import CALLABLE, FastCall, builtin

_P = ctypes.c_void_p


class Entry:
    """The builtin `function`, and which compiled entry it runs.

    slow: called with the arguments while there is no entry, and where the entry refuses them.
    fail: called with the report of a failed run; it raises.
    """

    def __init__(self, slow: Callable[..., Any], fail: Callable[[bytes], Any]) -> None:
        self._cell = ir.Cell(slow=id(slow), fail=id(fail), list_type=id(list), none=id(None))
        self._keep: tuple[Any, ...] = ()
        holder = (_P(ctypes.addressof(self._cell)), self._cell, slow, fail)
        self.function = builtin(CALLABLE, (bytes(holder[0]), *holder))

    def set(self, run: FastCall, mode: int, finish: Callable[[Any], Any]) -> None:
        """Run this entry from now on, and make of its outputs what `mode` says (`callable_ir`)."""
        self.clear()
        if run.native is None:
            return
        holder = run.native.__self__  # type: ignore[attr-defined]
        self._keep = (run, run.native, holder, finish)
        self._cell.record, self._cell.mode, self._cell.finish = id(holder), mode, id(finish)
        self._cell.owner = id(run.native)

    def clear(self) -> None:
        """Take the slow way."""
        self._cell.owner = None
        self._keep = ()
