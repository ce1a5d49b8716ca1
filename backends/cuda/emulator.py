"""Runs device modules on the host: for tests of kernels, with checks of bounds and races.

What runs is the text that becomes PTX, retargeted (`retarget.py`); `Emulated.source` is the hash of
that text. Whole programs are run by the host function of `host.py`, which calls the same runner.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from flowc.ir import dims
from flowc.ir.kernel.form import LoopKernel
from flowc.runtime import jit
from flowc.runtime.errors import InternalError

from ..cpu import codegen
from ..cpu.target import host
from ..llvm.abi import footprint
from ..llvm.emit import decode_error
from . import emulator_ir as ir
from .lower import DeviceKernel, DeviceModule, digest, grid_size, shared_size
from .retarget import SHARED, WRITE, host_text, trampoline_name
from .target import CudaTarget

Array = np.ndarray[Any, Any]
KINDS = {
    ir.OUT_OF_BOUNDS: "out of bounds", ir.RACE: "race",
    ir.DIVERGENT: "barrier that not all threads reach", ir.OVERFLOW: "stack overflow",
}


@dataclass(frozen=True)
class Finding:
    """The first fault of a launch, and how many there were.

    thread, other: threads of the block (for a race, the one that touched the element before);
    offset: bytes from the buffer's start.
    """

    kernel: str
    kind: str
    buffer: str
    access: str
    block: int
    thread: int
    other: int
    offset: int
    count: int

    def __str__(self) -> str:
        what = f"{self.kernel}: {self.kind}: block {self.block}, thread {self.thread}"
        if self.buffer:
            what += f": {self.access} of {self.buffer} at byte {self.offset}"
        if self.kind == "race":
            what += f", which thread {self.other} has touched"
        return f"{what} ({self.count} in all)"


def emulated_text(device: str, checks: bool = False) -> str:
    """The whole host module of a device module: its code and the runner."""
    triple = host().triple
    parts = [host_text(device, triple, checks), ir.runner_text(triple)]
    parts += [ir.ACCESS] if checks else []
    return "\n".join(parts)


def compile_host(text: str, opt_level: int) -> bytes:
    """The object file of an emulated module; the fibers' switch is inline assembly."""
    jit.initialize()
    llvm.initialize_native_asmparser()
    return codegen.compile_ir(text, host(), opt_level)


class Emulated:
    """Kernels in machine code of the host. `source`: the hash of the device module."""

    def __init__(self, device: str, kernels: Sequence[DeviceKernel], checks: bool = False) -> None:
        self.kernels, self.checks, self.source = tuple(kernels), checks, digest(device)
        self.text = emulated_text(device, checks)
        if not self.text.startswith(f"; emulates sha256:{self.source}\n"):
            raise InternalError("the emulator runs another module than the one given")
        entries = "".join(
            f'define void @"launch.{n}"(ptr %l, i64 %c, i32 %w) nounwind {{\n'
            f"  store ptr {trampoline_name(k.name)}, ptr %l\n"
            "  call void @flowc_emu_chunk(ptr %l, i64 %c, i32 %w)\n  ret void\n}\n"
            for n, k in enumerate(self.kernels)
        )
        self._library = jit.load(compile_host(self.text + entries, 1))
        proto = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)
        self._entries = [
            proto(self._library.address(f"launch.{n}")) for n in range(len(self.kernels))
        ]

    def launch(
        self, n: int, arrays: Sequence[Array], symbols: Mapping[str, int], error: Array,
        order: Sequence[int] | None = None,
    ) -> Finding | None:
        """Runs kernel n; `order`: its blocks in this order (all, rising, by default)."""
        k = self.kernels[n]
        grid = grid_size(k, dict(symbols))
        args = [a.ctypes.data for a in arrays] + [symbols[s] for s in k.symbols]
        args += [error.ctypes.data] if k.checked else []
        args += [a.nbytes for a in arrays]
        words = np.array(args, np.int64)
        need = scratch_bytes(k)
        scratch = np.empty(need + 64, np.uint8)
        report, shadows = self._report(k, arrays) if self.checks else (None, [])
        block = np.zeros(ir.LAUNCH_WORDS, np.int64)
        block[1:3] = words.ctypes.data, grid
        block[3] = k.threads | int(k.barriers) << 32
        block[4:6] = shared_bytes(k), k.stack
        block[6] = 0 if report is None else report.ctypes.data
        block[7:10] = 1, -(-scratch.ctypes.data // 64) * 64, need
        for b in range(grid) if order is None else order:
            self._entries[n](block.ctypes.data, b, 0)
        del shadows
        return None if report is None else self._finding(k, report)

    def _report(self, k: DeviceKernel, arrays: Sequence[Array]) -> tuple[Array, list[Array]]:
        sizes = [a.size for a in arrays] + [b for _, b in k.shared]
        shadows = [np.zeros(max(1, n) * ir.SHADOW_BYTES, np.uint8) for n in sizes]
        for i, a in enumerate(arrays):  # parameters that are the same memory share a shadow
            same = next(j for j, b in enumerate(arrays) if b.ctypes.data == a.ctypes.data)
            shadows[i] = shadows[same] if arrays[same].size >= a.size else shadows[i]
        report = np.zeros(ir.REPORT_WORDS + len(sizes), np.int64)
        report[ir.REPORT_WORDS :] = [s.ctypes.data for s in shadows]
        return report, shadows

    def _finding(self, k: DeviceKernel, report: Array) -> Finding | None:
        count = int(report[0])
        if not count:
            return None
        kind, block, thread, other, buffer, access = (
            int(v) for v in report.view(np.int32)[2:8]
        )
        names = [b.name for b in k.params] + [s[1:] for s, _ in k.shared]
        where = names[buffer] if access else ""
        verb = ("write" if access & WRITE else "read") + " (shared)" * bool(access & SHARED)
        at = int(report[4])
        return Finding(k.name, KINDS[kind], where, verb, block, thread, other, at, count)


def shared_bytes(k: DeviceKernel) -> int:
    """Shared memory of a block, padded."""
    return -(-shared_size(k.shared) // 64) * 64


def scratch_bytes(k: DeviceKernel) -> int:
    """What a worker needs to emulate a block: shared memory, and fibers where it has barriers."""
    fibers = k.threads * (ir.THREAD_BYTES + k.stack) if k.barriers else 0
    return -(-(shared_bytes(k) + fibers) // 64) * 64


class EmulatedKernel:
    """A scheduled kernel, ready to run: ``run(*arrays in params order, **symbols)``.

    After a run `error` is the (code, site) of a failed check or None, `finding` the first fault
    that `checks` has found.
    """

    def __init__(
        self, kernel: LoopKernel, checks: bool = True, target: CudaTarget | None = None
    ) -> None:
        self.kernel = kernel
        module = DeviceModule(target or CudaTarget())
        for n, phase in enumerate(kernel.phases):
            module.add(kernel, phase, f"{kernel.name}_{n}")
        self.module, self.text = module, module.text()
        self.code = Emulated(self.text, module.kernels, checks)
        self.error: tuple[int, int] | None = None
        self.finding: Finding | None = None

    def run(self, *arrays: Array, reverse: bool = False, **symbols: int) -> None:
        """All phases. reverse: blocks from last to first (results must not depend on it)."""
        given = [*arrays, *self._scratch(arrays, symbols)]
        record = np.zeros(2, np.uint64)
        self.finding = None
        for n, k in enumerate(self.code.kernels):
            order = range(grid_size(k, symbols))
            found = self.code.launch(n, given, symbols, record, order[::-1] if reverse else order)
            self.finding = self.finding or found
        self.error = decode_error(int(record[0]) >> 32)

    def _scratch(self, arrays: Sequence[Array], symbols: Mapping[str, int]) -> list[Array]:
        """Arrays for the kernel's scratch, filled with what no result may depend on."""
        out = []
        for b in self.kernel.scratch:
            size = int(str(dims.substitute(footprint(b), dict(symbols))))
            out.append(np.full(size // b.dtype.size, 0x7F, np.uint8).repeat(b.dtype.size)
                       .view(b.dtype.np))
        return out
