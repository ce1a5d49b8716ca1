"""Artifacts: objects, libraries and headers that run with no Python behind them.

An artifact is the object that the JIT would load, with three things added: the manifest in a
section of its own, the initial values of its state, and the thread pool. Files appear whole or not
at all, and hold a hash of themselves, so that what was damaged is never run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowc.runtime import pool_ir
from flowc.runtime.abi import LLVM_TYPES
from flowc.runtime.errors import DataLossError, InvalidArgumentError, UnimplementedError
from flowc.runtime.jit import host_cpu

from . import elf, linker
from .driver import Compiled
from .header import header
from .version import version

SECTION = "flowc_manifest"
MAGIC = b"FLOWCART"
HEAD = struct.Struct("<8sIIQ32s32s")  # magic, version, 0, length, SHA-256 of JSON, of the file
VERSION = 1
DIGEST_AT = HEAD.size - 32
KINDS = (".o", ".so", ".a", ".h", ".wasm", ".dylib", ".dll", ".obj", ".s", ".ll", ".ptx", ".cubin")
TEXTS = (".h", ".s", ".ll", ".ptx", ".cubin")  # no C header beside them

State = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class Record:
    """A manifest found in a file: where it lies, its JSON, and the hash of the file, if any."""

    offset: int
    manifest: dict[str, Any]
    digest: bytes


def describe(c: Compiled, initial: State | None = None) -> dict[str, Any]:
    """The manifest of an artifact: the runtime's, output shapes, and which state has values."""
    outputs = [
        {**spec, "shape": [d if isinstance(d, int) else str(d) for d in b.shape]}
        for spec, b in zip(c.manifest["outputs"], c.program.outputs, strict=True)
    ]
    given = sorted(initial) if initial is not None else []
    return {**c.manifest, "outputs": outputs, "flowc": version(), "initial": given}


def object_code(c: Compiled, initial: State | None = None, pool: bool = True) -> bytes:
    """The object: the compiled module, the manifest, the initial state, the pool."""
    parts = [c.llvm, _manifest_ir(c, describe(c, initial))]
    if c.manifest["state"] and initial is not None:
        parts.append(_state_ir(c, initial))
    if pool and has_pool(c):
        parts.append(_pool_ir(c.manifest["target"], c.llvm))
    unit = c.backend.unit()
    image: bytes = c.backend.stages(c.program, unit)["o"](_joined(parts))
    c.timings.merge(unit.spent)
    return image


def has_pool(c: Compiled) -> bool:
    """Whether the target has a thread pool."""
    return pool_ir.supports(str(c.manifest["target"]))


def _joined(parts: list[str]) -> str:
    """One module's text: a function that two parts declare is declared once."""
    seen: set[str] = set()
    out: list[str] = []
    for line in "\n".join(parts).splitlines():
        declared = re.match(r"declare .*?(@[\w.$\"]+)\(", line)
        if declared:
            if declared[1] in seen:
                continue
            seen.add(declared[1])
        out.append(line)
    return "\n".join(out)


def _manifest_ir(c: Compiled, manifest: Mapping[str, Any]) -> str:
    data = json.dumps(manifest, separators=(",", ":")).encode()
    head = HEAD.pack(MAGIC, VERSION, 0, len(data), hashlib.sha256(data).digest(), bytes(32))
    record = head + data
    record += bytes(-len(record) % 8)
    where = f', section "{SECTION}"' if _is_elf_target(manifest["target"]) else ""
    return (f"@{c.program.name}_manifest = constant [{len(record)} x i8] "
            f'c"{_escaped(record)}"{where}, align 8')


def _is_elf_target(triple: str) -> bool:
    return not re.search(r"apple|macos|darwin|windows|wasm", triple)


def _escaped(data: bytes) -> str:
    return "\\" + data.hex("\\").upper() if data else ""


def _state_ir(c: Compiled, initial: State) -> str:
    """Constants with the initial values, and NAME_init_state; what has none becomes zero."""
    name, lines, body = c.program.name, [], []
    for n, (b, info) in enumerate(zip(c.program.state, c.manifest["state"], strict=True)):
        size = b.type.nbytes
        if not isinstance(size, int):
            raise UnimplementedError(f"state {info['name']!r} has no static size")
        body += [f"  %p{n} = getelementptr ptr, ptr %state, i64 {n}",
                 f"  %b{n} = load ptr, ptr %p{n}"]
        value = initial.get(info["name"])
        if value is None:
            body.append(f"  call void @llvm.memset.p0.i64(ptr %b{n}, i8 0, i64 {size}, i1 false)")
            continue
        value = np.ascontiguousarray(value)
        if value.dtype != b.dtype.np or value.shape != b.shape:
            raise InvalidArgumentError(
                f"the initial value of {info['name']!r} is {value.dtype}{list(value.shape)},"
                f" the state {b.type}"
            )
        lines.append(f"@{name}.initial{n} = internal constant [{size} x i8] "
                     f'c"{_escaped(value.tobytes())}", align 64')
        body.append(f"  call void @llvm.memcpy.p0.p0.i64(ptr %b{n}, ptr @{name}.initial{n}, "
                    f"i64 {size}, i1 false)")
    declared = ["declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
                "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"]
    head = f"define void @{name}_init_state(ptr %state) nounwind {{"
    return "\n".join([*lines, *declared, head, *body, "  ret void", "}"])


def _pool_ir(triple: str, module: str) -> str:
    """The pool's functions, weak: several artifacts in one program share them."""
    text = pool_ir.module_text(triple)
    text = re.sub(r"^target triple.*$", "", text, flags=re.M)
    if LLVM_TYPES.strip() in module:
        text = text.replace(LLVM_TYPES, "")
    return re.sub(r"^define (?!internal)", "define weak ", text, flags=re.M)


# ---- files

def write(c: Compiled, path: str | os.PathLike[str], initial: State | None = None) -> list[str]:
    """Write an artifact of the kind that the name ends in; returns the paths written.

    ``.o .obj`` an object, ``.a`` a static library, ``.so .dylib .dll`` a shared one, ``.wasm``,
    ``.h`` the header alone, ``.s .ll`` texts, ``.ptx .cubin`` the kernels of a GPU target. Code
    comes with a header beside it. initial: values of state. Raises InvalidArgumentError for another
    name, or a kind that the target has not, UnavailableError where nothing here can link.
    """
    path = os.fspath(path)
    stem, kind = os.path.splitext(path)
    if kind not in KINDS:
        raise InvalidArgumentError(f"{path!r} ends in none of {' '.join(KINDS)}")
    makers: dict[str, Callable[[], bytes]] = {
        ".h": lambda: header_of(c, initial).encode(),
        ".ll": lambda: c.llvm.encode(),
        ".s": lambda: _stage(c, "s"),
        ".ptx": lambda: _stage(c, "ptx"),
        ".cubin": lambda: _stage(c, "cubin"),
        ".a": lambda: linker.archive([(f"{c.program.name}.o", object_code(c, initial))]),
        ".wasm": lambda: _wasm(c, initial),
    }
    if kind in (".so", ".dylib", ".dll"):
        data = shared_library(c, os.path.basename(path), initial)
    else:
        data = makers.get(kind, lambda: _sealed_object(c, initial))()
    replace_file(path, data)
    if kind in TEXTS:
        return [path]
    replace_file(f"{stem}.h", header_of(c, initial).encode())
    return [path, f"{stem}.h"]


def header_of(c: Compiled, initial: State | None = None) -> str:
    """The C header of the artifact."""
    init = bool(c.manifest["state"]) and initial is not None
    return header(describe(c, initial), has_pool(c), init)


def shared_library(c: Compiled, soname: str, initial: State | None = None) -> bytes:
    """A linked library; of ELF, with the hash of the file in its manifest."""
    triple = str(c.manifest["target"])
    image = linker.shared([object_code(c, initial)], triple, host_cpu().triple, soname)
    return sealed(image) if elf.is_elf(image) else image


def _sealed_object(c: Compiled, initial: State | None) -> bytes:
    image = object_code(c, initial)
    return sealed(image) if elf.is_elf(image) else image


def _wasm(c: Compiled, initial: State | None) -> bytes:
    name = c.program.name
    exports = [name, f"{name}_bind", f"{name}_workspace_size", f"{name}_output_shapes"]
    if c.manifest["state"] and initial is not None:
        exports.append(f"{name}_init_state")
    return linker.wasm([object_code(c, initial)], [*exports, "__heap_base", f"{name}_manifest"])


def _stage(c: Compiled, name: str) -> bytes:
    """What a stage of the backend makes of the module; InvalidArgumentError where it has none."""
    stages = c.backend.stages(c.program, c.backend.unit())
    if name not in stages:
        raise InvalidArgumentError(f"the target {c.backend.name} makes no .{name}")
    out: str | bytes = stages[name](c.llvm)
    return out if isinstance(out, bytes) else out.encode()


def replace_file(path: str, data: bytes) -> None:
    """Write a file so that readers see the old one or the new one, whole."""
    folder = os.path.dirname(path) or "."
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=".flowc-", suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        os.chmod(temporary, 0o755 if path.endswith((".so", ".dylib", ".dll")) else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


# ---- manifests in files

def records(image: bytes) -> list[Record]:
    """The manifests in an ELF file. Raises DataLossError for a broken file or record."""
    found = []
    for section in elf.parse(image).sections:
        if section.name != SECTION or section.kind == elf.NOBITS:
            continue
        at, end = section.offset, section.offset + section.size
        while at + HEAD.size <= end:
            record, at = _record(image, at, end)
            found.append(record)
    return found


def _record(image: bytes, at: int, end: int) -> tuple[Record, int]:
    magic, version, _, length, digest, whole = HEAD.unpack_from(image, at)
    if magic != MAGIC:
        raise DataLossError("the manifest is damaged")
    if version != VERSION:
        raise DataLossError(f"the manifest has format {version}, this flowc reads {VERSION}")
    start = at + HEAD.size
    data = image[start : start + length]
    if start + length > end or hashlib.sha256(data).digest() != digest:
        raise DataLossError("the manifest is damaged")
    following = start + length + -(HEAD.size + length) % 8
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise DataLossError(f"the manifest is damaged: {error}") from None
    return Record(at, manifest, whole), following


def file_digest(image: bytes, at: int) -> bytes:
    """SHA-256 of the file with the place of the hash, in the record at `at`, taken as zeros."""
    h = hashlib.sha256(image[: at + DIGEST_AT])
    h.update(bytes(32))
    h.update(memoryview(image)[at + HEAD.size :])
    return h.digest()


def sealed(image: bytes) -> bytes:
    """The library with its hash written into its first manifest."""
    found = records(image)
    if not found:
        raise DataLossError("the linked library lacks its manifest")
    at = found[0].offset
    digest = file_digest(image, at)
    return image[: at + DIGEST_AT] + digest + image[at + HEAD.size :]
