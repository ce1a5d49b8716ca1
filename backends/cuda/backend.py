"""The GPU backend, emulated: kernels for NVPTX, run on the host by the emulator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from flowc.ir.kernel.form import Kernel
from flowc.ir.plan import ALONE, Around, Program, Variant
from flowc.runtime import jit
from flowc.runtime.abi import ABI_VERSION
from flowc.runtime.errors import InternalError

from ..cpu import codegen
from ..cpu.host import large_constants
from ..cpu.target import CpuTarget
from ..cpu.target import host as host_target
from ..llvm.data import fill, shared
from ..llvm.emit import Unit
from . import emulator_ir, ptx
from .host import device_text, program_text
from .lower import digest
from .retarget import host_text
from .schedule import schedule
from .target import CudaTarget


@dataclass(frozen=True)
class CudaEmuBackend:
    """GPU schedules and device code for `device`, with the emulator on `target` to run them.

    What runs is the device module that `ptx` is made from; see `emulator.py`.
    """

    device: CudaTarget = field(default_factory=CudaTarget)
    target: CpuTarget = field(default_factory=host_target)
    opt_level: int = 1

    name = "cuda-emu"

    def schedule(self, kernel: Kernel, around: Around = ALONE) -> tuple[Variant, ...]:
        """See `backends.base.Backend`."""
        return (Variant(None, schedule(kernel)),)

    def fuses(self, kernel: Kernel) -> bool:
        """See `backends.base.Backend`: products and rows are launches of their own."""
        return False

    def unit(self) -> Unit:
        """An empty module for the host function."""
        return Unit(self.target)

    def stages(self, program: Program, unit: Unit) -> dict[str, Callable[[Any], Any]]:
        """``ll``: host and device module; ``ptx``, ``cubin``: the device's; ``o``: an object that
        emulates it, ``jit`` one for this process."""
        return {
            "ll": lambda _: program_text(program, unit, self.device),
            "ptx": lambda ll: ptx.compile_ptx(device_text(ll), self.device).text,
            "cubin": lambda ll: ptx.assemble(ptx.compile_ptx(device_text(ll), self.device)).image,
            "o": lambda ll: self._object(program, ll),
            "jit": lambda ll: self._object(program, shared(ll)),
        }

    def _object(self, program: Program, ll: str) -> bytes:
        """Host module and emulated device module, linked, with the program's large constants."""
        device = device_text(ll)
        emulated = host_text(device, self.target.triple, False)
        if not emulated.startswith(f"; emulates sha256:{digest(device)}\n"):
            raise InternalError("the emulator runs another module than the one given")
        jit.initialize()
        llvm.initialize_native_asmparser()
        machine = self.target.machine(max(1, min(self.opt_level, 2)))
        module = codegen.parse(ll)
        other = codegen.parse(emulated + emulator_ir.runner_text(self.target.triple))
        for m in (module, other):
            m.triple, m.data_layout = self.target.triple, str(machine.target_data)
        module.link_in(other)
        codegen.optimize(module, machine, self.opt_level)
        out: bytes = machine.emit_object(module)
        return fill(out, large_constants(program, self.target.triple))

    def fingerprint(self) -> str:
        """Targets, versions, ABI and optimization level, as a hash."""
        t = self.target
        parts = (self.name, t.triple, t.cpu, t.features, self.device, llvmlite.__version__,
                 llvm.llvm_version_info, ABI_VERSION, self.opt_level)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
