"""Object code into the process: LLVM's LLJIT as a loader, and what the host is."""

from __future__ import annotations

import ctypes
import itertools
import struct
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from .errors import InternalError, InvalidArgumentError, NotFoundError

_lock = threading.Lock()
_serial = itertools.count()


@dataclass(frozen=True)
class HostCPU:
    """`triple`, `name` (may be wrong for new chips) and `features`, which is what matters."""

    triple: str
    name: str
    features: str


@cache
def initialize() -> None:
    """Initialize LLVM's targets and code generators, once a process."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@cache
def host_cpu() -> HostCPU:
    """The machine that this process runs on, as LLVM spells it."""
    initialize()
    features: str = llvm.get_host_cpu_features().flatten()
    return HostCPU(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


def host_target_machine(opt: int = 2) -> Any:
    """A target machine for the host whose objects serve both LLJIT and ahead-of-time linking."""
    host = host_cpu()
    return llvm.Target.from_triple(host.triple).create_target_machine(
        cpu=host.name, features=host.features, opt=opt, reloc="pic", codemodel="default"
    )


@cache
def _lljit() -> Any:
    """The process's LLJIT. Never disposed of: threads and a signal handler live in its code."""
    initialize()
    if sys.platform.startswith("linux"):  # so that libm's symbols are in the process
        for name in ("libm.so.6", "libpthread.so.0"):
            try:
                ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
    jit = llvm.create_lljit_compiler(host_target_machine(), suppress_errors=True)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(jit))
    return jit


class Library:
    """Loaded object code. Addresses are valid while it lives: whoever calls one holds it."""

    __slots__ = ("_addresses", "_keep", "_tracker", "name")

    def __init__(
        self, name: str, tracker: Any, addresses: Mapping[str, int], keep: object = None
    ) -> None:
        self.name, self._tracker, self._addresses = name, tracker, dict(addresses)
        self._keep = keep  # what the code refers to

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._addresses

    def address(self, symbol: str) -> int:
        """The address of an exported symbol. Raises NotFoundError."""
        try:
            return self._addresses[symbol]
        except KeyError:
            raise NotFoundError(f"{self.name} has no symbol {symbol!r}") from None

    def immortal(self) -> Library:
        """Never unload it: for code that may run after its last Python reference is gone."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._tracker))
        return self


def defined_symbols(image: bytes) -> tuple[str, ...]:
    """Names of the global symbols that a 64-bit little-endian ELF object defines.

    Raises InvalidArgumentError when `image` is not such an object.
    """
    try:
        return tuple(_elf_symbols(image))
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise InvalidArgumentError(f"not an ELF object: {error}") from error


def _elf_symbols(image: bytes) -> Iterable[str]:
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("wrong magic")
    (offset,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, offset + i * size) for i in range(count)]
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, info, _, index = struct.unpack_from("<IBBH", image, at)
            if info >> 4 in (1, 2) and index != 0 and name:  # STB_GLOBAL, STB_WEAK; defined
                end = image.index(b"\0", names + name)
                yield image[names + name : end].decode()


def load(
    image: bytes,
    symbols: Iterable[str] | None = None,
    imports: Mapping[str, int] | None = None,
    keep: object = None,
) -> Library:
    """Link an object into the process.

    `symbols`: what to export, all that it defines by default; `imports`: addresses for undefined
    symbols, before those of the process (libc and libm are found there); `keep`: what they belong
    to, alive as long as the library. Raises NotFoundError for a symbol that the object lacks,
    InternalError when LLVM cannot link it.
    """
    defined = defined_symbols(image)
    wanted = tuple(defined if symbols is None else symbols)
    missing = sorted(set(wanted) - set(defined))
    if missing:
        raise NotFoundError(f"the object does not define {', '.join(missing)}")
    builder = llvm.JITLibraryBuilder().add_object_img(image).add_current_process()
    for name, address in (imports or {}).items():
        builder.import_symbol(name, address)
    for name in wanted:
        builder.export_symbol(name)
    library = f"flowc.{next(_serial)}"
    try:
        with _lock:
            tracker = builder.link(_lljit(), library)
    except RuntimeError as error:
        raise InternalError(f"cannot link {library}: {error}") from error
    return Library(library, tracker, {name: tracker[name] for name in wanted}, keep)


def compile_ir(text: str, machine: Any | None = None) -> bytes:
    """LLVM IR text to object code, with no pass pipeline; for the host by default.

    Raises InvalidArgumentError for text that LLVM rejects.
    """
    initialize()
    machine = machine or host_target_machine()
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise InvalidArgumentError(f"bad LLVM IR: {error}") from error
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    image: bytes = machine.emit_object(module)
    return image
