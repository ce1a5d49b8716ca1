"""What the benchmarks share: times, the machine, and the peak that shares are given of."""

from __future__ import annotations

import ctypes
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import llvmlite.binding as llvm

_ACCUMULATORS = 12  # enough independent chains to fill two pipes of latency 4 to 5


class Time(NamedTuple):
    """Seconds of a call: the least (what the code can do) and the median (what else ran, too)."""

    least: float
    median: float


def measure(calls: Sequence[Callable[[], Any]], seconds: float = 0.5) -> list[Time]:
    """The times of each call, over rounds for `seconds`, after one that is not counted.

    A round makes each call once: what else the machine does meets all of them.
    """
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds * len(calls)
    while len(times[0]) < 5 or time.perf_counter() < end:
        for call, found in zip(calls, times, strict=True):
            found.append(_seconds(call))
    return [Time(min(t), statistics.median(t)) for t in times]


def machine(threads: int) -> str:
    """A line that says what was measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
        model = found[0] if found else model
    except OSError:
        pass
    versions = "  ".join(f"{p} {metadata.version(p)}" for p in ("numpy", "llvmlite"))
    date = time.strftime("%Y-%m-%d")
    return (f"{date}  {model}, {os.cpu_count()} cores, {threads} thread(s)  "
            f"Python {sys.version.split()[0]}  {versions}")


def limit_numpy(threads: int) -> None:
    """Let NumPy's BLAS use as many threads; call it before NumPy is imported."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def _loop(lanes: int) -> str:
    """LLVM IR of `n` rounds of independent fused multiply-adds in registers."""
    vector = f"<{lanes} x float>"
    every = range(_ACCUMULATORS)
    phis = [f"  %a{i} = phi {vector} [ zeroinitializer, %entry ], [ %b{i}, %loop ]" for i in every]
    fmas = [
        f"  %b{i} = call {vector} @llvm.fma.v{lanes}f32({vector} %a{i}, {vector} %x, {vector} %x)"
        for i in every
    ]
    sums = [f"  %s{i + 1} = fadd {vector} %s{i}, %b{i}" for i in every]
    return "\n".join([
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
        "define void @peak(i64 %n, ptr %p) {", "entry:", f"  %x = load {vector}, ptr %p, align 4",
        "  br label %loop", "loop:", "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]", *phis, *fmas,
        "  %j = add i64 %i, 1", "  %more = icmp slt i64 %j, %n",
        "  br i1 %more, label %loop, label %done", "done:",
        f"  %s0 = fadd {vector} %x, %x", *sums,
        f"  store {vector} %s{_ACCUMULATORS}, ptr %p, align 4", "  ret void", "}",
    ])


def peak() -> float:
    """Floating-point operations per second (f32) of one core at its best: FMAs from registers."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    lanes = 16 if features.get("avx512f") else 8 if features.get("avx2") else 4
    chip = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2, jit=True)
    module = llvm.parse_assembly(_loop(lanes))
    with llvm.create_mcjit_compiler(module, chip) as engine:
        engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
        function = kind(engine.get_function_address("peak"))
        data = (ctypes.c_float * lanes)(*([0.5] * lanes))
        rounds = 500_000
        times = [_seconds(lambda: function(rounds, data)) for _ in range(25)]
    return 2.0 * lanes * _ACCUMULATORS * rounds / min(times)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
