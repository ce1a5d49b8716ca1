"""Runs scheduled kernels natively, all chunks of a phase on one thread."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from flowc.backends.llvm import abi
from flowc.backends.llvm.emit import Unit
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Buffer, For, LoopKernel
from flowc.runtime import jit


@dataclass(frozen=True)
class HostTarget:
    """The host as code generation sees it, with a vector width of choice."""

    triple: str = jit.host_cpu().triple
    vector_bits: int = 512 if "+avx512f" in jit.host_cpu().features else 256
    has_fma: bool = True
    has_round: bool = True
    has_f16: bool = False
    has_bf16_dot: bool = False


def machine(opt: int = 2) -> Any:
    host = jit.host_cpu()
    return llvm.Target.from_triple(host.triple).create_target_machine(
        cpu="znver4" if "+avx512bf16" in host.features else host.name,
        features=host.features, opt=opt, reloc="pic", codemodel="default")


def optimize(text: str, level: int = 1) -> bytes:
    """LLVM's pipeline at a level, then object code."""
    jit.initialize()
    tm = machine()
    mod = llvm.parse_assembly(text)
    mod.verify()
    mod.triple = tm.triple
    mod.data_layout = str(tm.target_data)
    pto = llvm.create_pipeline_tuning_options(speed_level=level)
    pto.loop_vectorization = pto.slp_vectorization = False
    pb = llvm.create_pass_builder(tm, pto)
    pb.getModulePassManager().run(mod, pb)
    image: bytes = tm.emit_object(mod)
    return image


DRIVER = """
define void @{name}_all(ptr %args, i64 %n, i64 %first, i64 %step) nounwind {{
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %out
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %m = mul i64 %i, %step
  %s = add i64 %m, %first
  call void @{name}(ptr %args, i64 %s, i32 0)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %out
out:
  ret void
}}
"""


class Native:
    """A compiled scheduled kernel."""

    def __init__(self, k: LoopKernel, target: Any = None, level: int = 1) -> None:
        self.k = k
        target = target or HostTarget()
        unit = Unit(target)
        self.names = [f"p{n}" for n in range(len(k.phases))]
        for name, phase in zip(self.names, k.phases, strict=True):
            lower_phase(k, phase, name, target, unit)
        self.text = unit.text() + "".join(DRIVER.format(name=n) for n in self.names)
        start = time.perf_counter()
        self.image = optimize(self.text, level)
        self.compile_s = time.perf_counter() - start
        self.lib = jit.load(self.image, [f"{n}_all" for n in self.names])
        proto = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
        self.fns = [proto(self.lib.address(f"{n}_all")) for n in self.names]
        self.symbols = abi.symbols(k)

    def prepare(self, arrays: dict[Buffer, Any], env: dict[str, int]) -> Any:
        """Fills the arguments; outputs and scratch are made here. Returns a callable."""
        k = self.k
        bufs: list[Any] = []
        for b in k.params:
            shape = dims.shape_substitute(b.shape, env)
            if b in arrays:
                a = arrays[b]
                assert a.shape == shape, (b, a.shape, shape)
                assert a.dtype == b.dtype.np
            else:
                a = aligned(shape, b.dtype.np)
                a.view(np.uint8).fill(0xFF)
                arrays[b] = a
            bufs.append(a)
        need = dims.substitute(abi.scratch_bytes(k), env)
        local = aligned((max(64, need),), np.uint8)
        flag = np.zeros(2, np.uint32)
        words = [0, flag.ctypes.data, local.ctypes.data, need]
        words += [a.ctypes.data for a in bufs] + [env[s] for s in self.symbols]
        args = np.array(words, np.int64)
        counts = [chunk_count(p, env) for p in k.phases]
        keep = (local, flag, args, bufs)
        at = args.ctypes.data

        def run(reverse: bool = False, _keep: Any = keep) -> None:
            for fn, n in zip(self.fns, counts, strict=True):
                fn(at, n, n - 1 if reverse else 0, -1 if reverse else 1)
            assert flag[0] == 0

        run.counts = counts  # type: ignore[attr-defined]
        return run


def aligned(shape: Any, dt: Any) -> Any:
    """An uninitialised array at a multiple of 64 bytes."""
    n = int(np.prod(shape)) * np.dtype(dt).itemsize
    raw = np.empty(n + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n].view(dt).reshape(shape)


def chunk_count(phase: Any, env: dict[str, int]) -> int:
    (s,) = phase.body if len(phase.body) == 1 else (None,)
    if isinstance(s, For) and s.kind == "parallel":
        d = ex.is_const_index(s.extent)
        assert d is not None
        n = dims.substitute(d, env)
        assert isinstance(n, int)
        return n
    return 1


def seconds(run: Any, least: float = 0.1) -> float:
    """The least CPU time of a call: others share the machine."""
    run()
    t = time.thread_time()
    run()
    one = time.thread_time() - t
    times = [one]
    for _ in range(max(3, min(200, int(least / max(one, 1e-7))))):
        t = time.thread_time()
        run()
        times.append(time.thread_time() - t)
    return min(times)
