"""The exclusion of calls that change the same state."""

from __future__ import annotations

import ctypes
import threading
import time
from types import TracebackType

from .native import native

_PAUSE = 20e-6  # seconds
_MINE = 2


class Gate:
    """A re-entrant lock, one word of which native code takes too, without waiting.

    A native call that finds the word taken refuses, and Python code waits here in its stead.
    `address`: of the word, an int32 that is not 0 while somebody has it.
    """

    def __init__(self) -> None:
        self._word = ctypes.c_int32(0)
        self.address = ctypes.addressof(self._word)
        self._lock = threading.RLock()
        self._depth = 0
        self._take = native().take

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            while self._depth == 0 and not self._take(self.address, _MINE):
                time.sleep(_PAUSE)
        except BaseException:  # an interrupt, before or after the word was taken
            if self._depth == 0 and self._word.value == _MINE:
                self._word.value = 0
            self._lock.release()
            raise
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._depth == 1:
            self._word.value = 0
        self._depth -= 1
        self._lock.release()
