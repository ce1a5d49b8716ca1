"""Compiles and runs scheduled kernels on the host, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowc.backends.cpu import codegen, target
from flowc.backends.llvm import abi
from flowc.backends.llvm.emit import decode_error
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dims
from flowc.ir.kernel.form import For, LoopKernel, Phase, Stmt
from flowc.runtime import jit

HOST = target.host()


class Compiled:
    """A kernel in machine code. `run` takes arrays in params order and the symbols' values."""

    def __init__(self, kernel: LoopKernel, opt: int = 1, cpu: target.CpuTarget = HOST) -> None:
        self.kernel = kernel
        self.texts = [lower_phase(kernel, p, "phase", cpu) for p in kernel.phases]
        self.libraries = [jit.load(codegen.compile_ir(t, cpu, opt)) for t in self.texts]
        proto = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)
        self.functions = [proto(lib.address("phase")) for lib in self.libraries]
        self.error: tuple[int, int] | None = None

    def args(self, arrays: Sequence[np.ndarray], symbols: Mapping[str, int]) -> Any:
        """The args struct, and what it points to."""
        names = abi.symbols(self.kernel)
        need = dims.substitute(abi.scratch_bytes(self.kernel), symbols)
        scratch = np.zeros(int(str(need)) + 64, np.uint8)
        flag = np.zeros(1, np.uint32)
        words = np.zeros(abi.args_words(self.kernel), np.int64)
        words[abi.ERROR_FLAG] = flag.ctypes.data
        words[abi.SCRATCH] = -(-scratch.ctypes.data // 64) * 64
        words[abi.SCRATCH_STRIDE] = int(str(need))
        for n, a in enumerate(arrays):
            words[abi.buffer_word(self.kernel, n)] = a.ctypes.data
        for s in names:
            words[abi.dim_word(self.kernel, s)] = symbols[s]
        return words, flag, scratch

    def run(self, *arrays: np.ndarray, **symbols: int) -> None:
        """All phases, chunk after chunk."""
        words, flag, _scratch = self.args(arrays, symbols)
        for phase, fn in zip(self.kernel.phases, self.functions, strict=True):
            for chunk in range(chunks(phase, symbols)):
                fn(words.ctypes.data, chunk, 0)
        self.error = decode_error(int(flag[0]))


def chunks(phase: Phase, symbols: Mapping[str, int]) -> int:
    """Iterations of a phase's parallel loop."""
    first = phase.body[0]
    if not (isinstance(first, For) and first.kind == "parallel"):
        return 1
    assert first.extent.op == "lin"
    assert not first.extent.args
    return int(str(dims.substitute(first.extent.attr[1], symbols)))


def kernel(inputs: Any, outputs: Any, *body: Stmt, scratch: Any = ()) -> LoopKernel:
    """A kernel of one phase."""
    return LoopKernel("k", tuple(inputs), tuple(outputs), tuple(scratch), (Phase(body),))
