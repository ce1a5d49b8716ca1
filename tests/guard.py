"""Arrays that end at (or start after) a page without access: an access outside them faults.

with guarded((3, 5), np.float32) as array: ...          # the byte behind the last faults
with guarded((3, 5), np.float32, front=True) as array:  # the byte before the first faults
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_PROT_NONE = 0


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


@contextmanager
def guarded(
    shape: tuple[int, ...], dtype: Any, *, front: bool = False, fill: Any = None
) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """A writable C-contiguous array between two pages that may not be touched (POSIX).

    It ends exactly at the second one, or with `front` starts exactly behind the first. The pages
    become plain memory again at the end; the mapping lives as long as the array.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    page = mmap.PAGESIZE
    body = max(page, -(-size // page) * page)
    memory = mmap.mmap(-1, body + 2 * page)
    start = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    offset = page if front else page + body - size
    array: np.ndarray[Any, np.dtype[Any]] = np.ndarray(shape, kind, memory, offset)
    if fill is not None:
        array[...] = fill
    libc = _libc()
    for at in (start, start + page + body):
        if libc.mprotect(at, page, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    try:
        yield array
    finally:
        for at in (start, start + page + body):
            libc.mprotect(at, page, mmap.PROT_READ | mmap.PROT_WRITE)
