"""CPU targets: triple, CPU, features, and what code generation has to know of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import llvmlite.binding as llvm

from flowc.ir.dtypes import DType
from flowc.runtime.errors import InvalidArgumentError
from flowc.runtime.jit import host_cpu, initialize

from .names import CPUS, FEATURES

LEVELS = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
_TRIPLE = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+){1,4}")
_ARCHS = {
    "x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64",
    "riscv64": "riscv64", "arm": "arm", "thumb": "arm", "wasm32": "wasm32",
}  # fmt: skip
_WASM_FEATURES = frozenset(
    ("simd128", "bulk-memory", "sign-ext", "nontrapping-fptoint", "relaxed-simd")
)


@dataclass(frozen=True)
class CpuTarget:
    """A machine to compile for. `features`: ``+avx2,-fma``, on top of what `cpu` has.

    Raises InvalidArgumentError for a triple, CPU or feature that LLVM does not know.
    """

    triple: str
    cpu: str = ""
    features: str = ""

    def __post_init__(self) -> None:
        arch = self.arch
        cpus = CPUS.get(arch, frozenset(("generic",)))
        if self.cpu and self.cpu not in cpus:
            raise InvalidArgumentError(f"LLVM knows no CPU {self.cpu!r} for {arch}")
        known = FEATURES.get(arch, _WASM_FEATURES)
        for f in filter(None, self.features.split(",")):
            if f[0] not in "+-" or f[1:] not in known:
                raise InvalidArgumentError(f"LLVM knows no feature {f!r} (+NAME, -NAME) for {arch}")

    @property
    def arch(self) -> str:
        """``x86_64 aarch64 riscv64 arm wasm32``."""
        if not _TRIPLE.fullmatch(self.triple):
            raise InvalidArgumentError(f"{self.triple!r} is not a target triple")
        first = self.triple.split("-", 1)[0]
        prefix = "arm" if re.match(r"(arm|thumb)v?\d", first) and first != "arm64" else first
        try:
            return _ARCHS[prefix]
        except KeyError:
            raise InvalidArgumentError(f"no code is generated for the target {first!r}") from None

    @property
    def vector_bits(self) -> int:
        """Bits of the vectors to use; 0 where there are none."""
        return _probe(self).vector_bits

    @property
    def has_fma(self) -> bool:
        """Whether a fused multiply-add is an instruction."""
        return _probe(self).fma

    @property
    def has_round(self) -> bool:
        """Whether floor, ceil and rounding to even are instructions."""
        return _probe(self).round

    @property
    def has_f16(self) -> bool:
        """Whether conversions between f16 and f32 are instructions."""
        return _probe(self).f16

    @property
    def has_maximum(self) -> bool:
        """Whether the greater of two floats, a NaN if either is one and 0 above −0, is one
        instruction (x86 and RISC-V need half a dozen)."""
        return self.arch in ("aarch64", "arm", "wasm32")

    @property
    def has_bf16_dot(self) -> bool:
        """Whether products of pairs of bf16 are an instruction (x86: avx512_bf16)."""
        return _probe(self).bf16

    def lanes(self, dt: DType) -> int:
        """Elements of a vector: the lanes of a loop that computes in dt (narrow floats in f32)."""
        bits = 32 if dt.is_float and dt.bits < 32 else max(8, dt.bits)
        return max(1, self.vector_bits // bits)

    def machine(self, opt: int = 2) -> Any:
        """LLVM's target machine; its objects serve LLJIT and ahead-of-time linking."""
        initialize()
        try:
            found = llvm.Target.from_triple(self.triple)
        except RuntimeError as error:
            raise InvalidArgumentError(f"LLVM has no target {self.triple!r}: {error}") from error
        return found.create_target_machine(
            cpu=self.cpu, features=self.features, opt=opt, reloc="pic", codemodel="default"
        )


@cache
def host() -> CpuTarget:
    """The machine that this process runs on. Its features count, its name may be wrong."""
    found = host_cpu()
    arch = CpuTarget(found.triple).arch
    name = found.name if found.name in CPUS.get(arch, ()) else ""
    known = FEATURES.get(arch, frozenset())
    features = [f for f in found.features.split(",") if f[1:] in known]
    return CpuTarget(found.triple, name, ",".join(features))


def generic(triple: str) -> CpuTarget:
    """The least machine that a system for the triple runs on (RISC-V: rv64gc, as Linux needs)."""
    plain = CpuTarget(triple)
    return CpuTarget(triple, "", "+m,+a,+f,+d,+c") if plain.arch == "riscv64" else plain


def level(name: str, triple: str = "x86_64-unknown-linux-gnu") -> CpuTarget:
    """One of the x86-64 levels, ``x86-64-v3``."""
    if name not in LEVELS:
        raise InvalidArgumentError(f"{name!r} is not one of {', '.join(LEVELS)}")
    return CpuTarget(triple, name)


# ---- what LLVM makes of a target: asked of LLVM itself, since CPU names imply features

@dataclass(frozen=True)
class _Facts:
    vector_bits: int
    fma: bool
    round: bool
    f16: bool
    bf16: bool


_PROBE = """
define void @vector(ptr %p) nounwind "prefer-vector-width"="512" {
  %x = load <16 x float>, ptr %p, align 4
  %y = fadd <16 x float> %x, %x
  store <16 x float> %y, ptr %p, align 4
  ret void
}
"""
_FMA = _PROBE.replace("fadd <16 x float> %x, %x", "call <16 x float> @llvm.fma.v16f32("
                      "<16 x float> %x, <16 x float> %x, <16 x float> %x)"
                      ) + "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, " \
                          "<16 x float>)"
_ROUND = _PROBE.replace("fadd <16 x float> %x, %x", "call <16 x float> @llvm.roundeven.v16f32("
                        "<16 x float> %x)") + "declare <16 x float> @llvm.roundeven.v16f32(" \
                                              "<16 x float>)"
_F16 = """
define void @half(ptr %p) nounwind {
  %x = load half, ptr %p
  %y = fpext half %x to float
  store float %y, ptr %p
  ret void
}
"""


# The instruction that converts comes with the one that multiplies; asking LLVM for the latter where
# there is none ends the process.
_BF16 = """
define void @narrow(ptr %p) nounwind "prefer-vector-width"="512" {
  %x = load <16 x float>, ptr %p, align 4
  %y = fptrunc <16 x float> %x to <16 x bfloat>
  store <16 x bfloat> %y, ptr %p, align 4
  ret void
}
"""


@lru_cache(maxsize=64)
def _probe(target: CpuTarget) -> _Facts:
    def assembly(text: str) -> str:
        module = llvm.parse_assembly(f'target triple = "{target.triple}"\n{text}')
        out: str = target.machine().emit_assembly(module)
        return out

    vector = assembly(_PROBE)
    bits = {
        "x86_64": 512 if "zmm" in vector else 256 if "ymm" in vector else 128,
        "aarch64": 128,
        "arm": 128 if re.search(r"vadd\.f32\s+q", vector) else 0,
        "riscv64": 128 if "vfadd" in vector else 0,
        "wasm32": 128 if "f32x4.add" in vector else 0,
    }[target.arch]
    fma = "fma" not in re.findall(r"\b(fma)f?\b(?=\(|@PLT|\s*$)", assembly(_FMA), re.M)
    rounds = "roundeven" not in assembly(_ROUND)
    half = not re.search("__(ext|gnu)", assembly(_F16))
    pairs = target.arch == "x86_64" and bool(re.search(r"vcvtneps2bf16.*, %ymm", assembly(_BF16)))
    return _Facts(bits, fma, rounds, half, pairs)
