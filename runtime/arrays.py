"""Memory of arrays: 64-byte aligned, and recycled when no reference to it is left.

A fresh 64 MiB array costs as much again as computing it (page faults), so large outputs come from
blocks that a `Recycler` keeps. NumPy makes every view's `base` the block itself, and a DLPack or
buffer export holds its array, so a block is free when nobody but the recycler refers to it.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

from .abi import ALIGNMENT
from .errors import InvalidArgumentError

Array = np.ndarray[Any, np.dtype[Any]]

RECYCLE_BYTES = 64 * 1024
"""Outputs of this size and more come from a Recycler; smaller ones are cheap to make afresh."""

_COUNTS_REFERENCES = (
    sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
)


def _references(blocks: list[Array], index: int) -> int:
    return sys.getrefcount(blocks[index])


_FREE_COUNT = _references([np.empty(1)], 0)  # of a block that only the list holds


def address(array: Array) -> int:
    """The address of the first element."""
    pointer: int = array.__array_interface__["data"][0]
    return pointer


def block(nbytes: int) -> Array:
    """Uninitialized u8 memory with room for `nbytes` from its first aligned address."""
    return np.empty(nbytes + ALIGNMENT, np.uint8)


def view(memory: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An aligned array of `shape` and `dtype` on a block."""
    start = -address(memory) % ALIGNMENT
    array: Array = np.ndarray(shape, dtype, memory, start)
    return array


def byte_size(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of a dense array. Raises InvalidArgumentError past 2**60 or for a negative size."""
    size = math.prod(shape) * itemsize
    if size > 1 << 60 or any(d < 0 for d in shape):
        raise InvalidArgumentError(f"no array can have the shape {list(shape)}", shapes=[shape])
    return size


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Like `np.empty`, at a 64-byte aligned address."""
    return view(block(byte_size(shape, dtype.itemsize)), shape, dtype)


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Zeros at a 64-byte aligned address; large ones are pages that the system clears when used."""
    size = byte_size(shape, dtype.itemsize)
    return view(np.zeros(size + ALIGNMENT, np.uint8), shape, dtype)


def aligned_copy(array: Array) -> Array:
    """A C-contiguous copy in native byte order at a 64-byte aligned address."""
    result = empty(array.shape, array.dtype.newbyteorder("="))
    result[...] = array
    return result


class Recycler:
    """Hands out arrays on blocks that it keeps; at most `max_idle_bytes` of unused ones.

    Thread-safe. Without reference counts (free-threaded builds, other Pythons) it never reuses.
    """

    def __init__(self, max_idle_bytes: int = 256 << 20) -> None:
        self.max_idle_bytes = max_idle_bytes
        self._blocks: list[Array] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An uninitialized array, 64-byte aligned."""
        size = byte_size(shape, dtype.itemsize)
        if size < RECYCLE_BYTES or not _COUNTS_REFERENCES:
            return empty(shape, dtype)
        with self._lock:
            return view(self._find(_size_class(size)), shape, dtype)

    def idle_bytes(self) -> int:
        """Bytes in blocks that nobody uses."""
        with self._lock:
            return sum(self._blocks[i].nbytes for i in range(len(self._blocks)) if self._is_free(i))

    def clear(self) -> None:
        """Forget all blocks; those in use live on as plain memory."""
        with self._lock:
            self._blocks.clear()

    def _is_free(self, index: int) -> bool:
        return _references(self._blocks, index) <= _FREE_COUNT

    def _find(self, size: int) -> Array:
        """A free block of this size class, moved to the end (recently used), or a new one."""
        idle = 0
        found = -1
        for index in range(len(self._blocks) - 1, -1, -1):
            if not self._is_free(index):
                continue
            nbytes = self._blocks[index].nbytes
            if nbytes == size + ALIGNMENT:
                found = index
                break
            idle += nbytes
            if idle > self.max_idle_bytes:
                del self._blocks[index]
        memory = block(size) if found < 0 else self._blocks.pop(found)
        self._blocks.append(memory)
        return memory


def _size_class(size: int) -> int:
    """Round up to an eighth of a power of two: sizes that vary a little share blocks."""
    step = 1 << max(12, size.bit_length() - 4)
    return -(-size // step) * step
