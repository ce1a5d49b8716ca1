"""The runtime's own native code, compiled once, kept in the cache, loaded at first use.

`native()` is one for the process and lives as long as it: pool threads and the SIGINT handler run
in this code.
"""

from __future__ import annotations

import ctypes
import hashlib
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache

import llvmlite.binding as llvm

from . import cache as cache_module
from . import fastcall_ir, host_ir, pool_ir
from .abi import ABI_VERSION
from .errors import UnimplementedError
from .jit import Library, compile_ir, host_cpu, load

_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


def build(name: str, text: str, cache: cache_module.Cache | None) -> bytes:
    """Compile IR text for the host, through `cache` where there is one."""
    host = host_cpu()
    key = {
        "name": name,
        "source": hashlib.sha256(text.encode()).hexdigest(),
        "target": f"{host.triple} {host.name} {host.features}",
        "version": f"abi {ABI_VERSION} llvm {llvm.llvm_version_info}",
    }
    found = cache.get(key) if cache else None
    if found is None:
        found = compile_ir(text)
        if cache:
            cache.put(key, found)
    return found


def _function(library: Library, name: str, result: type | None, *args: type) -> Callable[..., int]:
    """A ctypes function that releases the GIL."""
    prototype = ctypes.CFUNCTYPE(result, *args)
    return prototype(library.address(name))


class Native:
    """Addresses (for contexts and records) and ctypes functions (for Python)."""

    def __init__(self, cache: cache_module.Cache | None) -> None:
        triple = host_cpu().triple
        if sys.maxsize < 1 << 32 or not pool_ir.supports(triple):
            raise UnimplementedError(f"the Python runtime needs 64-bit Linux, not {triple}")
        pool = load(build("flowc_pool", pool_ir.module_text(triple), cache)).immortal()
        text = host_ir.expand_fields(host_ir.module_text() + fastcall_ir.text(host_ir.RETRY))
        python = {
            name: ctypes.cast(getattr(ctypes.pythonapi, name), _P).value or 0
            for name in fastcall_ir.PYTHON_SYMBOLS
        }
        host = load(build("flowc_host", text, cache), imports=python).immortal()
        self.parallel_for = pool.address("flowc_parallel_for")
        self.grow = host.address("flowc_grow")
        self.fastcall = host.address("flowc_fastcall")
        self.callable = host.address("flowc_callable")
        self.pool_size = _function(pool, "flowc_pool_size", _I64, _I32)
        self.pool_init = _function(pool, "flowc_pool_init", _I32, _P, _I32)
        self.pool_destroy = _function(pool, "flowc_pool_destroy", _I32, _P)
        self.run = _function(host, "flowc_run", _I32, _P, _P, _P, _P, _P)
        self.try_lock = _function(host, "flowc_try_lock", _I32, _P)
        self.take = _function(host, "flowc_take_word", _I32, _P, _I32)
        self.unlock = _function(host, "flowc_unlock", None, _P)
        self.slots_free = _function(host, "flowc_slots_free", None, _P)
        self.interrupt_clear = _function(host, "flowc_interrupt_clear", None)
        self._install = _function(host, "flowc_interrupt_install", _I32, _I64)

    def watch_interrupts(self) -> bool:
        """Let Ctrl-C cancel the main thread's runs, where Python's default handler is in force.

        Returns whether it does; to be called again after the program changed its handlers.
        """
        main = threading.main_thread()
        if threading.current_thread() is not main:
            return False
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return False
        return bool(self._install(main.ident or 0))


_lock = threading.Lock()


@cache
def _native() -> Native:
    return Native(cache_module.open_default())


def native() -> Native:
    """The process's native helpers. Raises UnimplementedError off 64-bit Linux."""
    with _lock:
        return _native()
