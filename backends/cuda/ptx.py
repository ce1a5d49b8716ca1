"""Device modules to PTX (LLVM) and to machine code (ptxas, where it is installed)."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowc.runtime.errors import InternalError, UnavailableError

from ..cpu.codegen import optimize, parse
from .lower import digest
from .target import CudaTarget


@dataclass(frozen=True)
class Ptx:
    """PTX and the hash of the device module that it was made of."""

    text: str
    source: str
    target: CudaTarget


@dataclass(frozen=True)
class Usage:
    """What a kernel takes, as ptxas reports it: registers a thread, bytes spilled, and memory."""

    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int


@dataclass(frozen=True)
class Cubin:
    """Machine code of one GPU generation."""

    image: bytes
    usage: Mapping[str, Usage] = field(default_factory=dict)


def compile_ptx(device: str, target: CudaTarget, opt_level: int = 2) -> Ptx:
    """PTX of a device module. InternalError where the text is no valid module."""
    module = parse(device)
    machine = target.machine(max(1, min(opt_level, 3)))
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    optimize(module, machine, opt_level)
    return Ptx(machine.emit_assembly(module), digest(device), target)


@functools.lru_cache(maxsize=1)
def find_ptxas() -> str | None:
    """The assembler: on the path, or where CUDA is usually installed."""
    return shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")


def assemble(ptx: Ptx, cpu: str = "") -> Cubin:
    """Machine code for `cpu` (the PTX's own target by default), with each kernel's resources.

    Raises UnavailableError where ptxas is not installed, InternalError where it rejects the PTX.
    """
    tool = find_ptxas()
    if tool is None:
        raise UnavailableError("ptxas is not installed")
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "k.ptx", Path(folder) / "k.cubin"
        source.write_text(ptx.text)
        done = subprocess.run(
            [tool, "-v", "-arch", cpu or ptx.target.cpu, str(source), "-o", str(out)],
            capture_output=True, text=True, check=False,
        )
        if done.returncode:
            raise InternalError(f"ptxas rejects the PTX: {done.stderr or done.stdout}")
        return Cubin(out.read_bytes(), _usage(done.stderr))


_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SMEM = re.compile(r"(\d+) bytes smem")


def _usage(log: str) -> dict[str, Usage]:
    out: dict[str, Usage] = {}
    name, spills = "", (0, 0, 0)
    for line in log.splitlines():
        if found := _ENTRY.search(line):
            name = found[1]
        elif found := _SPILLS.search(line):
            spills = int(found[1]), int(found[2]), int(found[3])
        elif found := _USED.search(line):
            smem = _SMEM.search(line)
            out[name] = Usage(int(found[1]), spills[1], spills[2], spills[0],
                              int(smem[1]) if smem else 0)
    return out
