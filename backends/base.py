"""What a backend is: a handful of methods between scheduled kernels and bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from flowc.ir.kernel.form import Kernel
from flowc.ir.plan import ALONE, Around, Program, Variant

from .llvm.emit import Unit


class Backend(Protocol):
    """A target: chooses schedules, and turns a planned program into code."""

    @property
    def name(self) -> str:
        """``cpu``, ``cuda``."""
        ...

    @property
    def target(self) -> Any:
        """The machine: triple, cpu, features."""
        ...

    def schedule(self, kernel: Kernel, around: Around = ALONE) -> tuple[Variant, ...]:
        """At most three ways to run the kernel; the last one always applies."""
        ...

    def fuses(self, kernel: Kernel) -> bool:
        """Whether it has one schedule for the contracts of the kernel and the rows between them."""
        ...

    def unit(self) -> Unit:
        """An empty module to generate into."""
        ...

    def stages(self, program: Program, unit: Unit) -> dict[str, Callable[[Any], Any]]:
        """Extension → function: ``ll`` makes the module's text, others take it; ``o``: bytes."""
        ...

    def fingerprint(self) -> str:
        """What the code depends on besides the program: target, features, versions."""
        ...
