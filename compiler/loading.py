"""`flowc.load`: a compiled library as a Python callable."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from flowc.runtime import Context, Executable, FastCall, ThreadPool, jit
from flowc.runtime.arrays import Array, address, zeros
from flowc.runtime.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from flowc.runtime.manifest import Manifest

from . import artifact, elf

_serial = itertools.count(1)
SUFFIXES = ("", "_bind", "_workspace_size", "_output_shapes")


class Loaded:
    """A compiled function: ``f(x, y)`` or ``f(x=…, y=…)``.

    One output comes as an array, several as a tuple. `state`: the variables by name, as arrays that
    calls update in place; they start with the values in the library, or zeros. Inputs are named as
    in the manifest, a trailing ``:0`` may be left out. Calls from several threads are safe where
    the function writes no state.
    """

    def __init__(self, executable: Executable, threads: int = 1) -> None:
        self.executable, m = executable, executable.manifest
        self.name = m.name
        self.input_names = tuple(t.name for t in m.inputs)
        self.output_names = tuple(t.name for t in m.outputs)
        self.state = {t.name: _zeros(t) for t in m.state}
        pool = ThreadPool(threads) if threads > 1 else None
        self._call = FastCall(executable, list(self.state.values()), Context(pool))
        self._position = {n.removesuffix(":0"): i for i, n in enumerate(self.input_names)}
        self.reset()

    @property
    def manifest(self) -> Manifest:
        """What the buffers, sizes and operations are."""
        return self.executable.manifest

    def reset(self) -> None:
        """Give the state the initial values that the library holds, or zeros."""
        arrays = list(self.state.values())
        symbol = f"{self.name}_init_state"
        if arrays and symbol in self.executable.library:
            call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.executable.library.address(symbol))
            pointers = (ctypes.c_void_p * len(arrays))(*map(address, arrays))
            call(ctypes.addressof(pointers))
        else:
            for a in arrays:
                a[...] = 0

    def __call__(self, *args: Any, **named: Any) -> Any:
        if named or len(args) != len(self.input_names):
            args = tuple(self._ordered(args, named))
        outputs = self._call(*args)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _ordered(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        names = ", ".join(self.input_names)
        if len(args) > len(self.input_names):
            raise InvalidArgumentError(f"{self.name} takes ({names}), {len(args)} were given")
        values: dict[int, Any] = dict(enumerate(args))
        for key, value in named.items():
            at = self._position.get(key.removesuffix(":0"))
            if at is None:
                raise InvalidArgumentError(f"{self.name} has no input {key!r}; it takes ({names})")
            if at in values:
                raise InvalidArgumentError(f"{self.name}: input {key!r} is given twice")
            values[at] = value
        missing = [n for i, n in enumerate(self.input_names) if i not in values]
        if missing:
            raise InvalidArgumentError(f"{self.name}: no value for {', '.join(missing)}")
        return [values[i] for i in range(len(self.input_names))]

    def __repr__(self) -> str:
        ins = ", ".join(map(str, self.manifest.inputs))
        return f"<flowc function {self.name}({ins})>"


def _zeros(spec: Any) -> Array:
    if any(isinstance(d, str) for d in spec.shape):
        raise FailedPreconditionError(f"state {spec} has no static shape")
    return zeros(spec.shape, spec.dtype.numpy)


def load(path: str | os.PathLike[str], name: str = "", threads: int = 1) -> Loaded:
    """Load a library (``.so``) or object (``.o``) that flowc made for this machine.

    name: which function, where there are several. threads: of its own pool. The file is checked
    before any of it runs: raises DataLossError where it is damaged or no artifact,
    FailedPreconditionError for another architecture, ABI version, or CPU features that this
    machine lacks, NotFoundError where there is no file or function.
    """
    image = read(path)
    found = artifact.records(image)
    if not found:
        raise DataLossError(f"{os.fspath(path)} holds no compiled function")
    file = elf.parse(image)
    record = _chosen(found, name)
    _check(image, file, found, record)
    manifest = Manifest.parse(record.manifest)
    library = _object(image) if file.kind == elf.RELOCATABLE else _library(image, manifest.name)
    return Loaded(Executable(manifest, library), threads)


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file. Raises NotFoundError, UnavailableError."""
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {os.fspath(path)}") from None
    except OSError as error:
        raise UnavailableError(f"cannot read {os.fspath(path)}: {error}") from error


def _chosen(found: list[artifact.Record], name: str) -> artifact.Record:
    names = [str(r.manifest.get("name")) for r in found]
    if name and name not in names:
        raise NotFoundError(f"no function {name!r}; there is {', '.join(names)}")
    if not name and len(found) > 1:
        raise InvalidArgumentError(f"which function? there is {', '.join(names)}")
    return found[names.index(name)] if name else found[0]


def _check(
    image: bytes, file: elf.Elf, found: list[artifact.Record], record: artifact.Record
) -> None:
    first = found[0]
    if not any(first.digest):
        raise DataLossError("the file was not written by `flowc compile`: it cannot be checked")
    if artifact.file_digest(image, first.offset) != first.digest:
        raise DataLossError("the file is damaged: it is not what `flowc compile` wrote")
    here = jit.host_cpu()
    machine = here.triple.split("-", 1)[0]
    if file.machine != machine:
        raise FailedPreconditionError(f"the library is for {file.machine}, this is {machine}")
    has = set(here.features.split(","))
    wanted = [f for f in str(record.manifest.get("features", "")).split(",") if f.startswith("+")]
    known = {f[1:] for f in has}
    lacking = [f[1:] for f in wanted if f not in has and f[1:] in known]
    if lacking:
        raise FailedPreconditionError(
            f"the library needs CPU features that this machine lacks: {', '.join(lacking)}"
        )


def _fresh_path(fd: int) -> str:
    """A path of a file descriptor that no library was loaded by before.

    The loader takes a library of the same path for the same library, and numbers of descriptors
    come again: so the path spells a serial number in dots and slashes that mean nothing.
    """
    bits = f"{next(_serial):b}"
    return f"/proc/self/fd{''.join('/.' if b == '1' else '/' for b in bits)}/{fd}"


def _object(image: bytes) -> jit.Library:
    return jit.load(image)


def _library(image: bytes, name: str) -> jit.Library:
    """Load the very bytes that were checked: the file may change meanwhile."""
    if sys.platform != "linux":
        raise FailedPreconditionError("libraries are loaded on Linux only")
    fd = os.memfd_create(f"flowc-{name}", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as f:
            f.write(image)
        handle = ctypes.CDLL(_fresh_path(fd), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise DataLossError(f"the library cannot be loaded: {error}") from error
    finally:
        os.close(fd)
    addresses = {}
    for suffix in (*SUFFIXES, "_init_state"):
        symbol = getattr(handle, name + suffix, None)
        if symbol is not None:
            addresses[name + suffix] = ctypes.cast(symbol, ctypes.c_void_p).value or 0
    return jit.Library(name, handle, addresses)
