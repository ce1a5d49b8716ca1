"""``flowc targets``: what code can be made for."""

from __future__ import annotations

import argparse
import textwrap

from flowc.backends.cpu.names import CPUS, FEATURES
from flowc.backends.cpu.target import LEVELS, host

from .. import linker
from .failures import UserError

TRIPLES = (
    ("x86_64-linux-gnu", "Linux"), ("aarch64-linux-gnu", "Linux"), ("riscv64-linux-gnu", "Linux"),
    ("armv7-linux-gnueabihf", "Linux, 32 bits"), ("aarch64-linux-android", "Android"),
    ("x86_64-windows-gnu", "Windows"), ("arm64-apple-macosx", "macOS"),
    ("wasm32-unknown-unknown", "WebAssembly"),
)  # fmt: skip


def run(a: argparse.Namespace) -> None:
    """List targets, or the CPUs and features of an architecture."""
    if a.arch:
        architecture(a.arch)
        return
    here = host()
    print(f"host: {here.triple}, cpu {here.cpu or 'unknown'}\n")
    print("--target TRIPLE, for example:")
    for triple, about in TRIPLES:
        print(f"  {triple:26} {about}{'' if _links(triple) else '  (no linker here: .o, .a, .h)'}")
    print("  cuda-emu                   NVIDIA kernels, emulated on the CPU\n")
    print(f"--mcpu native, {', '.join(LEVELS)}, or a CPU: flowc targets "
          f"{'|'.join(CPUS)} lists them")


def _links(triple: str) -> bool:
    if triple.startswith("wasm"):
        return linker.has_zig()
    return linker.has_zig() or linker.same_platform(triple, host().triple)


def architecture(arch: str) -> None:
    """CPUs and features."""
    if arch not in CPUS:
        raise UserError(f"no CPUs are known for {arch!r}; known: {', '.join(CPUS)}")
    for what, names in (("CPUs", CPUS[arch]), ("features (+NAME, -NAME)", FEATURES[arch])):
        print(f"{what} of {arch}:")
        print(textwrap.fill(" ".join(sorted(names)), 96, initial_indent="  ",
                            subsequent_indent="  ", break_on_hyphens=False))
