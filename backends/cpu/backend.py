"""The CPU backend: any LLVM CPU target."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from flowc.ir.kernel.form import Kernel
from flowc.ir.plan import ALONE, Around, Program, Variant
from flowc.runtime.abi import ABI_VERSION

from ..llvm.data import fill, shared
from ..llvm.emit import Unit
from . import attention, codegen
from .host import host_text, large_constants
from .schedule import schedule
from .target import CpuTarget


@dataclass(frozen=True)
class CpuBackend:
    """Schedules, host function and code for one CPU target."""

    target: CpuTarget
    opt_level: int = 1

    name = "cpu"

    def schedule(self, kernel: Kernel, around: Around = ALONE) -> tuple[Variant, ...]:
        """See `backends.base.Backend`."""
        found = attention.match(kernel)
        if found is not None:
            return tuple(attention.schedule(kernel, found, self.target))
        return schedule(kernel, self.target, around)

    def fuses(self, kernel: Kernel) -> bool:
        """See `backends.base.Backend`."""
        return attention.match(kernel) is not None

    def unit(self) -> Unit:
        """An empty LLVM module."""
        return Unit(self.target)

    def stages(self, program: Program, unit: Unit) -> dict[str, Callable[[Any], Any]]:
        """``ll``: the module's text; ``s``: assembly; ``o``: the object; ``jit``: the object for
        this process, which shares the largest constants."""
        return {
            "ll": lambda _: host_text(program, unit),
            "s": lambda ll: codegen.as_assembly(ll, self.target, self.opt_level),
            "o": lambda ll: self.object(program, ll, unit),
            "jit": lambda ll: self.object(program, shared(ll), unit),
        }

    def object(self, program: Program, ll: str, unit: Unit) -> bytes:
        """The object of a module's text, with the program's large constants."""
        image = codegen.compile_ir(ll, self.target, self.opt_level, spent=unit.spent)
        return fill(image, large_constants(program, self.target.triple))

    def fingerprint(self) -> str:
        """Target, versions, ABI and optimization level, as a hash."""
        t = self.target
        parts = (t.triple, t.cpu, t.features, llvmlite.__version__, llvm.llvm_version_info,
                 ABI_VERSION, self.opt_level)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
