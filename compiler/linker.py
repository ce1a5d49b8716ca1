"""Linking objects to libraries, with the C compiler that is there or the one that pip can bring."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from flowc.runtime import jit
from flowc.runtime.errors import InternalError, InvalidArgumentError, UnavailableError

HINT = "install a C compiler, or `pip install flowc[link]`"


@dataclass(frozen=True)
class Linker:
    """A command that takes C compiler arguments, and what `flowc doctor` calls it."""

    command: tuple[str, ...]
    name: str


def has_zig() -> bool:
    """Whether the package `ziglang` is installed."""
    return importlib.util.find_spec("ziglang") is not None


def find(triple: str, host: str) -> Linker:
    """What links for `triple` on this machine. Raises UnavailableError where nothing does."""
    if same_platform(triple, host):
        for name in ("cc", "clang", "gcc"):
            path = shutil.which(name)
            if path:
                return Linker((path,), name)
    if has_zig():
        command = (sys.executable, "-m", "ziglang", "cc", "-target", zig_target(triple))
        return Linker(command, "ziglang")
    where = "this machine" if same_platform(triple, host) else triple
    raise UnavailableError(f"nothing here links libraries for {where}: {HINT}")


def same_platform(a: str, b: str) -> bool:
    """Whether two triples name one architecture and system; vendor and ABI spelling apart."""
    return zig_target(a).split("-")[:2] == zig_target(b).split("-")[:2]


def zig_target(triple: str) -> str:
    """``x86_64-unknown-linux-gnu`` → ``x86_64-linux-gnu``; ``arm64-apple-macosx14`` → …-macos."""
    arch, *rest = triple.split("-")
    arch = {"arm64": "aarch64", "amd64": "x86_64"}.get(arch, arch)
    if re.match(r"(arm|thumb)v?\d", arch):
        arch = "arm"
    system, abi = "linux", ""
    for part in rest:
        name = re.sub(r"[\d.]+$", "", part)
        if name in ("macosx", "darwin", "macos"):
            system = "macos"
        elif name in ("linux", "windows", "wasi", "freestanding", "ios"):
            system = name
        elif name in ("android", "androideabi"):
            system, abi = "linux", name
        elif name.startswith(("gnu", "musl", "msvc", "eabi")):
            abi = name
    if system == "linux" and not abi:
        abi = "gnueabihf" if arch == "arm" else "gnu"
    return "-".join(filter(None, (arch, system, abi)))


def shared(objects: Sequence[bytes], triple: str, host: str, soname: str) -> bytes:
    """A shared library of these objects. Raises UnavailableError, InternalError."""
    linker = find(triple, host)
    with tempfile.TemporaryDirectory(prefix="flowc-link-") as folder:
        files = _written(objects, folder)
        out = os.path.join(folder, "library")
        flags = ["-shared", "-O2", "-o", out]
        if zig_target(triple).split("-")[1] == "linux":
            flags += [f"-Wl,-soname,{soname}", "-Wl,-z,noexecstack", "-Wl,-z,defs"]
        system = ["-lm", "-lpthread"] if "linux" in triple else []
        _run([*linker.command, *flags, *files, *system], linker)
        with open(out, "rb") as f:
            return f.read()


def wasm(objects: Sequence[bytes], exports: Sequence[str]) -> bytes:
    """A WebAssembly module that exports these functions and its memory."""
    if not has_zig():
        raise UnavailableError(f"nothing here links WebAssembly: {HINT}")
    with tempfile.TemporaryDirectory(prefix="flowc-link-") as folder:
        files = _written(objects, folder)
        out = os.path.join(folder, "module.wasm")
        flags = ["--no-entry", "--allow-undefined", *(f"--export={n}" for n in exports)]
        command = (sys.executable, "-m", "ziglang", "wasm-ld")
        _run([*command, *flags, "-o", out, *files], Linker(command, "ziglang"))
        with open(out, "rb") as f:
            return f.read()


def _written(objects: Sequence[bytes], folder: str) -> list[str]:
    files = []
    for n, image in enumerate(objects):
        files.append(os.path.join(folder, f"{n}.o"))
        with open(files[-1], "wb") as f:
            f.write(image)
    return files


def _run(command: Sequence[str], linker: Linker) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{linker.name} does not run: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise InternalError(f"{linker.name} failed with {done.returncode}: {said}")


def archive(members: Sequence[tuple[str, bytes]]) -> bytes:
    """A static library (System V ``ar``) of ELF objects, with its index of symbols."""
    index: list[tuple[str, int]] = []
    for n, (_, image) in enumerate(members):
        try:
            index += [(name, n) for name in jit.defined_symbols(image)]
        except InvalidArgumentError:
            raise InvalidArgumentError(
                "static libraries are made of 64-bit ELF objects only; write an object (.o)"
            ) from None
    names = b"".join(name.encode() + b"\0" for name, _ in index)
    body_size = 4 + 4 * len(index) + len(names)
    offsets, at = [], 8 + 60 + body_size + body_size % 2
    for _, image in members:
        offsets.append(at)
        at += 60 + len(image) + len(image) % 2
    words = [len(index), *(offsets[n] for _, n in index)]
    table = b"".join(w.to_bytes(4, "big") for w in words) + names
    return b"!<arch>\n" + b"".join(
        _member(name, data) for name, data in [("", table), *members]
    )


def _member(name: str, data: bytes) -> bytes:
    head = f"{name[:15] + '/':<16}{0:<12}{0:<6}{0:<6}{'644':<8}{len(data):<10}`\n"
    return head.encode() + data + b"\n" * (len(data) % 2)
