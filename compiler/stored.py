"""Whole functions in the compile cache: a warm start runs no pass and imports no code generator.

The key is what a function is compiled from: its text with its constants, the options, the machine,
and the compiler's own sources. An entry is the manifest, the object code, and the digests of the
large constants that the code refers to, which the function at hand has anyway. Behind it stands the
driver's cache of LLVM modules, which a change that does not reach the code (a line number) hits.

Functions that call back into Python are not stored: what they call has no text.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite
import llvmlite.binding as llvm
import ml_dtypes
import numpy as np

from flowc.ir.core import Function
from flowc.ir.literal import Literal
from flowc.ir.printer import text_and_blobs
from flowc.runtime import (
    Cache,
    Context,
    Executable,
    FastCall,
    Gate,
    Library,
    ThreadPool,
    jit,
    open_default,
)
from flowc.runtime.abi import ABI_VERSION
from flowc.runtime.timings import Timings

from .options import Options

if TYPE_CHECKING:
    from .driver import Compiled

log = logging.getLogger("flowc.cache")

SOURCES = ("backends", "compiler", "ir", "runtime")  # what decides the code of a function
ROOT = Path(__file__).resolve().parent.parent
_LENGTH = struct.Struct("<Q")

compiles = 0  # how many functions this process has made: tests of recompilation count them


class Runnable:
    """A compiled function that can be loaded and called; `object`, `manifest`, `constants` and
    `host_functions` come from the class below."""

    manifest: dict[str, Any]
    object: bytes
    timings: Timings

    def constants(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """The arrays that the object code refers to, by symbol."""
        raise NotImplementedError

    def host_functions(self) -> Sequence[Any]:
        """What its host calls call."""
        raise NotImplementedError

    @cached_property
    def executable(self) -> Executable:
        """The function, loaded into this process once."""
        shared = self.constants()
        imports = {name: array.ctypes.data for name, array in shared.items()}
        with self.timings.part("load"):
            library: Library = jit.load(self.object, imports=imports, keep=tuple(shared.values()))
            return Executable(self.manifest, library)

    def load(self) -> Executable:
        """See `executable`."""
        return self.executable

    def bind(
        self, state: Sequence[np.ndarray[Any, Any]] = (), pool: ThreadPool | None = None,
        calls: Sequence[Any] = (), gate: Gate | None = None,
    ) -> FastCall:
        """A call object over these state arrays, which it updates in place.

        calls: what its host calls call, by default what the ops say (`hostcalls`). gate: keeps
        apart calls that change the same state.
        """
        ctx = Context(pool, host_calls=tuple(calls or self.host_functions()))
        return FastCall(self.executable, list(state), ctx, gate=gate)


class Stored(Runnable):
    """A function from the cache. What is asked beyond calling it compiles it once more."""

    def __init__(
        self, manifest: dict[str, Any], code: bytes, shared: Mapping[str, np.ndarray[Any, Any]],
        again: Callable[[], Compiled], timings: Timings,
    ) -> None:
        self.manifest, self.object, self.timings = manifest, code, timings
        self._shared, self._again = shared, again

    def constants(self) -> Mapping[str, np.ndarray[Any, Any]]:
        return self._shared

    def host_functions(self) -> Sequence[Any]:
        return ()

    @cached_property
    def compiled(self) -> Compiled:
        """The function with all its stages."""
        return self._again()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.compiled, name)


@lru_cache(maxsize=1)
def default_cache() -> Cache | None:
    """The on-disk compile cache of this user, or None where it is off or cannot be used."""
    options = Options.read()
    if not options.cache:
        return None
    return Cache(options.cache_dir) if options.cache_dir else open_default()


def compile_function(
    f: Function, options: Options, compile: Callable[..., Compiled]
) -> Compiled | Stored:
    """The function from this user's cache; else `compile(f, options, cache=…)`, which is stored."""
    global compiles
    where = default_cache() if _storable(options) else None
    if where is None:
        return compile(f, options, cache=default_cache())
    timings = Timings()
    with timings.part("cache"):
        key, blobs = function_key(f, options)
        data = where.get(key)
        found = _unpacked(data, blobs) if data is not None else None
    if found is not None:
        compiles += 1
        manifest, code, shared = found
        again = lambda: compile(f, options, cache=where)  # noqa: E731
        return Stored(manifest, code, shared, again, timings)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s is not in the cache: %s", f.name, where.why_missed(key))
    made = compile(f, options, cache=where)
    with timings.part("cache"):
        entry = _packed(made, blobs) if sources() == _at_import and _known_ops(f) else None
        if entry is not None:
            where.put(key, entry)
    made.timings.merge(timings)
    return made


def _storable(options: Options) -> bool:
    """Whether passes need not run: nobody watches them, and code is for this process."""
    watched = options.verify or options.print_after or options.dump_dir or options.time_passes
    return options.target == "host" and options.rewrite_limit < 0 and not watched


def function_key(f: Function, options: Options) -> tuple[dict[str, str], dict[str, Literal]]:
    """All that decides a function's code, and its large constants by digest."""
    text, blobs = text_and_blobs(f)
    parts = hashlib.sha256(text.encode())
    for lit in blobs:
        parts.update(lit.digest.encode())
    key = {
        "name": f"function {f.name}", "function": parts.hexdigest(), "options": repr(options),
        "machine": repr(jit.host_cpu()), "compiler": _at_import, "versions": _versions(),
    }
    return key, {lit.digest: lit for lit in blobs}


@cache
def _versions() -> str:
    return repr((ABI_VERSION, sys.version_info[:3], llvmlite.__version__, llvm.llvm_version_info,
                 np.__version__, ml_dtypes.__version__))


def sources(root: Path = ROOT) -> str:
    """A hash of the compiler's files: names, sizes, times of change, as Python's byte code has."""
    rows = sorted(row for name in SOURCES for row in _files(str(root / name)))
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for e in entries:
            if e.name.endswith(".py"):
                s = e.stat()
                yield e.path, s.st_size, s.st_mtime_ns
            elif e.name not in ("frontend", "cli", "__pycache__") and e.is_dir():
                yield from _files(e.path)


_at_import = sources()  # later ones may not be those that this process runs


def _known_ops(f: Function) -> bool:
    """Whether all ops are flowc's own, whose code `sources` covers."""
    return all(
        type(i.op).__module__.startswith("flowc.ir.ops.")
        and all(map(_known_ops, i.op.subfunctions()))
        for i in f.instrs
    )


def _packed(c: Compiled, blobs: Mapping[str, Literal]) -> bytes | None:
    """The bytes of an entry; None where the code needs what no entry holds."""
    shared = c.shared()
    if c.manifest["host_calls"] or any(lit.digest not in blobs for lit in shared.values()):
        return None
    head = {"manifest": c.manifest, "constants": {n: lit.digest for n, lit in shared.items()}}
    text = json.dumps(head, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text + c.object


def _unpacked(
    data: bytes, blobs: Mapping[str, Literal]
) -> tuple[dict[str, Any], bytes, dict[str, np.ndarray[Any, Any]]] | None:
    """Manifest, object and constants of an entry; None where it is not one."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        shared = {n: blobs[d].array for n, d in head["constants"].items()}
        return head["manifest"], data[_LENGTH.size + length :], shared
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("compile cache: an entry is malformed: %r", error)
        return None
