"""``flowc doctor``: whether this installation works."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np

from flowc.backends.cpu.target import host
from flowc.ir.parser import parse_function
from flowc.runtime import Cache, ThreadPool, default_directory
from flowc.runtime.errors import FlowcError

from .. import artifact, driver, linker, loading
from ..options import Options
from ..version import version

_MODEL = """func @doctor(%x: f32[B,8], %w: f32[8,4]) -> (f32[B,4]) {
  %d: f32[B,4] = dot(%x, %w) {contract=[[1],[0]], batch=[[],[]]}
  %t: f32[B,4] = tanh(%d)
  return %t
}"""


def run(a: argparse.Namespace) -> int:
    """Print what was found; 1 where something that is needed is broken."""
    ok = True
    for name, check in CHECKS:
        try:
            said = check()
        except Exception as error:  # whatever it is, the other checks go on
            said, ok = f"BROKEN: {type(error).__name__}: {error}", False
        print(f"{name:12} {said}")
    if not a.quick:
        for name, test in TESTS:
            start = time.perf_counter()
            try:
                said = test() or f"works ({time.perf_counter() - start:.2f} s)"
            except FlowcError as error:
                said, ok = f"FAILS: {error}", False
            except Exception as error:
                said, ok = f"FAILS: {type(error).__name__}: {error}", False
            print(f"{name:12} {said}")
    return 0 if ok else 1


def _versions() -> str:
    parts = [f"flowc {version()}", f"Python {platform.python_version()}"]
    parts += [f"{p} {version(p)}" for p in ("numpy", "llvmlite", "ml_dtypes", "safetensors")]
    return ", ".join([*parts, f"LLVM {'.'.join(map(str, llvm.llvm_version_info))}"])


def _cpu() -> str:
    t = host()
    wanted = ("avx2", "fma", "avx512f", "avx512bf16", "amx-tile", "neon", "sve")
    has = [f for f in wanted if f"+{f}" in t.features.split(",")]
    return (f"{t.triple}, {t.cpu or 'unknown'}, {os.cpu_count()} cores, vectors of "
            f"{t.vector_bits} bits ({', '.join(has)})")


def _cache() -> str:
    folder = default_directory()
    if not Options.read().cache:
        return "off"
    Cache(folder)
    files = [f for f in (folder / "entries").rglob("*") if f.is_file()]
    return f"{folder}: {len(files)} entries, {sum(f.stat().st_size for f in files)} bytes"


def _linker() -> str:
    try:
        found = linker.find(host().triple, host().triple).name
    except FlowcError as error:
        return f"none: {error}"
    other = "ziglang links for other systems" if linker.has_zig() else \
        "for other systems: pip install flowc[link]"
    return f"{found}; {other}"


def _cuda() -> str:
    ptxas = shutil.which("ptxas")
    try:
        ctypes.CDLL("libcuda.so.1")
        driver_text = "driver found"
    except OSError:
        driver_text = "no driver"
    return f"{driver_text}; ptxas {ptxas or 'not found'}"


def _jit() -> str:
    f = driver.compile_program(parse_function(_MODEL)).load()
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((5, 8), (8, 4)))
    _compare(f.call([x, w])[0], x, w)
    return ""


def _compare(got: object, x: object, w: object) -> None:
    want = np.tanh(np.asarray(x, np.float64) @ np.asarray(w, np.float64))
    error = float(np.abs(np.asarray(got) - want).max())
    if not error < 1e-5:
        raise ArithmeticError(f"results are off by {error}")


def _threads() -> str:
    pool = ThreadPool(2)
    count = pool.threads
    pool.close()
    return f"{count} of 2 started"


def _artifact() -> str:
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((3, 8), (8, 4)))
    compiled = driver.compile_program(parse_function(_MODEL))
    kind = "so"
    with tempfile.TemporaryDirectory() as folder:
        try:
            linker.find(host().triple, host().triple)
        except FlowcError:
            kind = "o"
        path = os.path.join(folder, f"doctor.{kind}")
        artifact.write(compiled, path)
        _compare(loading.load(path)(x, w), x, w)
    return ""


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("versions", _versions), ("cpu", _cpu), ("cache", _cache), ("linker", _linker),
    ("cuda", _cuda), ("python", lambda: sys.executable),
)
TESTS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("compile", _jit), ("threads", _threads), ("artifact", _artifact),
)
