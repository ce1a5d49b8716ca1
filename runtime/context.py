"""Thread pools and run contexts: what a compiled function gets besides its buffers."""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .abi import ABI_VERSION, ALIGNMENT, E_HOST, ContextStruct
from .arrays import Array, address, block
from .errors import InvalidArgumentError
from .host_ir import SLOTS
from .native import Native, native

log = logging.getLogger("flowc.runtime")

HostFunction = Callable[[int, int], "int | None"]
"""Called with the addresses of `buffers` and `dims`; 0 or None is success."""

TraceFunction = Callable[[int, bool], None]
"""Called with the kernel's index and whether it begins (else it ends); on any thread."""

_HOST_CALL = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p
)
_TRACE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)


class _Slot(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


class RunContextStruct(ctypes.Structure):
    """`flowc_context` and, behind it, what the Python runtime keeps for it (`host_ir`)."""

    _fields_ = [
        ("base", ContextStruct),
        ("lock", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_int64),
        ("slots", _Slot * SLOTS),
    ]


class ThreadPool:
    """`threads` threads, the caller's included; those besides it start now and sleep when idle.

    Contexts share a pool: when two runs want it at once, the second runs serially on its own
    thread. After a fork the child's first use starts its own threads.
    """

    def __init__(self, threads: int) -> None:
        if not 1 <= threads <= 1024:
            raise InvalidArgumentError(f"a pool has 1 to 1024 threads, not {threads}")
        library = native()
        self._memory = block(library.pool_size(threads))
        self.address = address(self._memory) + -address(self._memory) % ALIGNMENT
        self.threads = library.pool_init(self.address, threads)
        # At exit the threads are left to the process's end: a daemon thread may still use them. So
        # the memory outlives the interpreter unless the pool is closed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._memory))
        self._finalizer = weakref.finalize(self, _destroy, library, self.address, self._memory)
        self._finalizer.atexit = False
        if self.threads < threads:
            log.warning("only %d of %d threads could be started", self.threads, threads)

    def close(self) -> None:
        """End the threads. No context with this pool may be used afterwards."""
        self._finalizer()


def _destroy(library: Native, pool: int, memory: Array) -> None:
    """A pool that another thread is using stays."""
    if library.pool_destroy(pool) == 0:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(memory))
    else:
        log.warning("a thread pool was dropped while in use; its threads stay")


class Context:
    """One run at a time: error fields, cancel flag, workspace. `pool=None` is serial.

    `host_calls`: functions by id, in the order of the manifest's `host_calls`.
    """

    def __init__(
        self,
        pool: ThreadPool | None = None,
        host_calls: Sequence[HostFunction] = (),
        trace: TraceFunction | None = None,
    ) -> None:
        self._native = native()
        self.pool, self.host_calls, self.trace = pool, tuple(host_calls), trace
        self.host_error: BaseException | None = None
        self.struct = RunContextStruct()
        self.address = ctypes.addressof(self.struct)
        self._workspace: Array | None = None
        self._callbacks: list[Any] = []
        self._spare: Context | None = None
        base = self.struct.base
        base.size, base.abi_version = ctypes.sizeof(ContextStruct), ABI_VERSION
        base.grow, base.workers = self._native.grow, 1
        if pool is not None and pool.threads > 1:
            base.parallel_for, base.pool = self._native.parallel_for, pool.address
            base.workers = pool.threads
        if self.host_calls:
            base.host_call = self._callback(_HOST_CALL(self._host_call))
        if trace is not None:
            base.trace = self._callback(_TRACE(lambda _, kernel, begin: trace(kernel, bool(begin))))
        # Not at exit: a daemon thread may still run then.
        weakref.finalize(self, _free_slots, self._native, self.struct).atexit = False

    def cancel(self) -> None:
        """Ask the run in progress to stop; from any thread. Forgotten when the next run starts."""
        self.struct.base.cancel = 1

    def acquire(self) -> Context:
        """This context if it is free, else another one with the same pool; locked either way."""
        if self._native.try_lock(self.address):
            return self
        spare = self._spare
        if spare is None:
            spare = self._spare = Context(self.pool, self.host_calls, self.trace)
        return spare.acquire()

    def release(self) -> None:
        """Give it back."""
        self._native.unlock(self.address)

    def workspace(self, nbytes: int) -> int:
        """The address of at least `nbytes`, 64-byte aligned; kept, and grown when needed."""
        if nbytes > self.struct.workspace_bytes or self._workspace is None:
            self._workspace = None
            self.struct.workspace_bytes = 0
            memory = block(nbytes)
            start = address(memory)
            self._workspace = memory
            self.struct.workspace = start + -start % ALIGNMENT
            self.struct.workspace_bytes = nbytes
        return int(self.struct.workspace)

    def error(self) -> tuple[int, int, tuple[int, ...]]:
        """Code, op id and detail of the last run's error."""
        base = self.struct.base
        return base.error_code, base.error_op, tuple(base.error_detail)

    def _callback(self, function: Any) -> int:
        self._callbacks.append(function)
        return ctypes.cast(function, ctypes.c_void_p).value or 0

    def _host_call(self, _: int, index: int, buffers: int, dims: int) -> int:
        try:
            return int(self.host_calls[index](buffers, dims) or 0)
        except BaseException as error:  # carried over the native frames
            self.host_error = error
            return E_HOST


def _free_slots(library: Native, struct: RunContextStruct) -> None:
    library.slots_free(ctypes.addressof(struct))
