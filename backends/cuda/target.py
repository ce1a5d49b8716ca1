"""CUDA targets: what code generation has to know of a GPU generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from flowc.runtime.errors import InvalidArgumentError
from flowc.runtime.jit import initialize

TRIPLE = "nvptx64-nvidia-cuda"
ARCHS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
SHARED_BYTES = 48 * 1024  # of one block, on every generation without opting in for more
WARP = 32


@dataclass(frozen=True)
class CudaTarget:
    """A GPU generation. Raises InvalidArgumentError for one that is not in `ARCHS`.

    Older generations lack `min.NaN`, which `min` and `max` need.
    """

    cpu: str = "sm_80"
    features: str = ""

    def __post_init__(self) -> None:
        if self.cpu not in ARCHS:
            raise InvalidArgumentError(f"no code is generated for {self.cpu!r}; {', '.join(ARCHS)}")

    @property
    def triple(self) -> str:
        """LLVM's name of the machine."""
        return TRIPLE

    @property
    def vector_bits(self) -> int:
        """No vectors: a thread is scalar."""
        return 0

    @property
    def has_fma(self) -> bool:
        """Whether a fused multiply-add is an instruction."""
        return True

    @property
    def has_round(self) -> bool:
        """Whether floor, ceil and rounding to even are instructions."""
        return True

    @property
    def has_bf16_dot(self) -> bool:
        """Whether `dot_bf16` is an instruction."""
        return False

    @property
    def has_f16(self) -> bool:
        """Whether conversions between f16 and f32 are instructions."""
        return True

    def machine(self, opt: int = 2) -> Any:
        """LLVM's target machine."""
        initialize()
        found = llvm.Target.from_triple(self.triple)
        return found.create_target_machine(cpu=self.cpu, features=self.features, opt=opt)
