"""The ways to run a contract, at most three, chosen at entry by the sizes."""

from __future__ import annotations

from typing import Any

from flowc.ir.kernel.form import Kernel
from flowc.ir.plan import Variant

from .blocked import blocked
from .cost import machine
from .match import Contract


def schedule(
    kernel: Kernel, contract: Contract, target: Any = None, options: Any = None
) -> list[Variant]:
    """Scheduled kernels for a contract; the last one always applies."""
    assert contract.kernel is kernel
    mach = machine(target)
    return [Variant(None, blocked(contract, mach, options))]
