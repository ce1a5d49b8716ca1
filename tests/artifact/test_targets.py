"""Other machines: every x86-64 level on this one, AArch64 under qemu's user mode."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flowc.compiler import artifact, driver, linker
from flowc.compiler.options import Options
from flowc.ir import interpreter, ops
from flowc.ir.core import Function
from flowc.ir.parser import parse_function
from flowc.runtime.jit import host_cpu

assert ops

# A network with rows (softmax), a contract and its epilogue, a column reduction, transcendentals.
NET = """func @net(%x: f32[B,20], %w: f32[20,37], %b: f32[37]) -> (f32[B,37], f32[37]) {
  %0: f32[B,37] = dot(%x, %w) {contract=[[1],[0]], batch=[[],[]]}
  %1: f32[B,37] = broadcast(%b) {shape=[B,37], dims=[1]}
  %2: f32[B,37] = add(%0, %1)
  %3: f32[B,37] = tanh(%2)
  %4: f32[B] = reduce(%3) {op=max, axes=[1]}
  %5: f32[B,37] = broadcast(%4) {shape=[B,37], dims=[0]}
  %6: f32[B,37] = sub(%3, %5)
  %7: f32[B,37] = exp(%6)
  %8: f32[B] = reduce(%7) {op=sum, axes=[1]}
  %9: f32[B,37] = broadcast(%8) {shape=[B,37], dims=[0]}
  %10: f32[B,37] = div(%7, %9)
  %11: f32[37] = reduce(%10) {op=sum, axes=[0]}
  return %10, %11
}"""

MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "net.h"
static char memory[1 << 20] __attribute__((aligned(64)));
int main(int argc, char **argv) {
  static float x[5 * 20], w[20 * 37], b[37], y[5 * 37], s[37];
  FILE *f = fopen(argv[1], "rb");
  if (!f || fread(x, sizeof x, 1, f) != 1 || fread(w, sizeof w, 1, f) != 1
      || fread(b, sizeof b, 1, f) != 1) return 2;
  int64_t shapes[] = {5, 20, 20, 37, 37}, dims[8];
  if (net_bind(shapes, dims)) return 3;
  if (net_workspace_size(dims, 1) > (int64_t)sizeof memory) return 4;
  void *buffers[] = {x, w, b, y, s};
  int32_t code = net(NULL, buffers, dims, memory);
  if (code) return 10 + code;
  fwrite(y, sizeof y, 1, stdout);
  fwrite(s, sizeof s, 1, stdout);
  return 0;
}
"""


def net() -> Function:
    return parse_function(NET)


def inputs(batch: int = 5) -> list[np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(4)
    shapes = ((batch, 20), (20, 37), (37,))
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def levels() -> list[str]:
    if not host_cpu().triple.startswith("x86_64"):
        return []
    features = host_cpu().features
    out = ["x86-64"]
    for name, wanted in (("v2", "+sse4.2"), ("v3", "+avx2"), ("v4", "+avx512vl")):
        if wanted in features.split(","):
            out.append(f"x86-64-{name}")
    return out


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("batch", [0, 1, 5, 37])
def test_every_level_that_this_machine_runs(level: str, batch: int) -> None:
    f, args = net(), inputs(batch)
    compiled = driver.compile_program(f, Options(cpu=level))
    got = compiled.load().call(args)
    for a, b in zip(got, interpreter.run(f, args), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_wider_vectors_at_higher_levels() -> None:
    text = {k: driver.compile_program(net(), Options(cpu=k)).as_text("asm") for k in levels()}
    assert "zmm" not in text.get("x86-64-v3", "")
    assert "ymm" not in text.get("x86-64", "")
    if "x86-64-v4" in text:
        assert "zmm" in text["x86-64-v4"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not installed")
@pytest.mark.skipif(not linker.has_zig(), reason="ziglang is not installed")
def test_aarch64_runs_under_qemu(tmp_path: Path) -> None:
    f, args = net(), inputs()
    compiled = driver.compile_program(f, Options(target="aarch64-linux-musl", cpu="cortex-a72"))
    artifact.write(compiled, tmp_path / "net.o")
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "data").write_bytes(b"".join(a.tobytes() for a in args))
    build = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-O2",
             "-static", "main.c", "net.o", "-lm", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    run = ["qemu-aarch64", "./main", "data"]
    out = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, timeout=60).stdout
    got = np.frombuffer(out, np.float32)
    want = interpreter.run(f, args)
    np.testing.assert_allclose(got[: 5 * 37].reshape(5, 37), want[0], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(got[5 * 37 :], want[1], rtol=2e-5, atol=2e-6)
