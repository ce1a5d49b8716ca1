"""Libraries and objects: what is in them, C that calls them, Python that loads them."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from flowc.compiler import artifact, driver, elf, linker, loading
from flowc.compiler.options import Options
from flowc.ir import ops
from flowc.ir.parser import parse_function
from flowc.runtime import jit
from flowc.runtime.errors import DataLossError, FlowcError, InvalidArgumentError, NotFoundError

assert ops
HAS_CC = shutil.which("cc") is not None
needs_cc = pytest.mark.skipif(not HAS_CC, reason="no C compiler")
needs_linker = pytest.mark.skipif(not HAS_CC and not linker.has_zig(), reason="no linker")

STEP = """func @step(%x: f32[B,8], %y: f32[B,4], %w: f32[8,4] {kind=state, updated_by=1})
    -> (f32[] {name="loss"}, f32[8,4]) {
  %p: f32[B,4] = dot(%x, %w) {contract=[[1],[0]], batch=[[],[]]}
  %d: f32[B,4] = sub(%p, %y)
  %s: f32[B,4] = mul(%d, %d)
  %l: f32[] = reduce(%s) {op=sum, axes=[0,1]}
  %g: f32[8,4] = dot(%x, %d) {contract=[[0],[0]], batch=[[],[]]}
  %c: f32[] = constant() {value=f32[] 0.01}
  %r: f32[8,4] = broadcast(%c) {shape=[8,4], dims=[]}
  %h: f32[8,4] = mul(%g, %r)
  %n: f32[8,4] = sub(%w, %h)
  return %l, %n
}"""


def data(batch: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(3)
    shapes = ((batch, 8), (batch, 4), (8, 4))
    x, y, w = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    return x, y, w


@pytest.fixture(scope="module")
def step() -> driver.Compiled:
    return driver.compile_program(parse_function(STEP), Options())


@pytest.fixture(scope="module")
def library(step: driver.Compiled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not HAS_CC and not linker.has_zig():
        pytest.skip("no linker")
    path = tmp_path_factory.mktemp("lib") / "step.so"
    artifact.write(step, path, {"w": data()[2]})
    return path


def test_a_loaded_library_trains_with_the_same_bits_as_the_jit(
    step: driver.Compiled, library: Path
) -> None:
    x, y, w = data()
    f = loading.load(library)
    np.testing.assert_array_equal(f.state["w"], w)
    state = [w.copy()]
    executable = step.load()
    for _ in range(3):
        want = executable.call([x, y], state)[0]
        got = f(y=y, x=x)
        assert got.tobytes() == want.tobytes()
        assert f.state["w"].tobytes() == state[0].tobytes()
    loss = ((x.astype(np.float64) @ w - y) ** 2).sum()
    f.reset()
    assert abs(float(f(x, y)) - loss) < 1e-4 * loss


@needs_linker
def test_many_libraries_live_side_by_side(tmp_path: Path) -> None:
    functions = []
    for k in range(5):
        text = f"""func @f(%x: f32[]) -> (f32[]) {{
          %c: f32[] = constant() {{value=f32[] {k}.0}}
          %y: f32[] = add(%x, %c)
          return %y
        }}"""
        path = tmp_path / "same.so"  # replaced while the one before is in use
        artifact.write(driver.compile_program(parse_function(text)), path)
        functions.append(loading.load(path))
    assert [float(f(np.float32(10))) for f in functions] == [10, 11, 12, 13, 14]


def test_objects_load_too(step: driver.Compiled, tmp_path: Path) -> None:
    path = tmp_path / "step.o"
    assert artifact.write(step, path) == [str(path), str(tmp_path / "step.h")]
    x, y, w = data(2)
    f = loading.load(path, threads=2)
    f.state["w"][...] = w
    want = ((x.astype(np.float64) @ w - y) ** 2).sum()
    assert abs(float(f(x, y)) - want) < 1e-4 * want


def test_inputs_are_named(library: Path) -> None:
    f = loading.load(library)
    x, y, _ = data()
    with pytest.raises(InvalidArgumentError, match=r"no value for y"):
        f(x)
    with pytest.raises(InvalidArgumentError, match=r"no input 'z'; it takes \(x, y\)"):
        f(x, z=y)
    with pytest.raises(InvalidArgumentError, match=r"'x' is given twice"):
        f(x, x=y)
    with pytest.raises(InvalidArgumentError, match=r"given shape \[6,8\]"):
        f(x, x)


def test_damage_anywhere_is_found(library: Path, tmp_path: Path) -> None:
    good = library.read_bytes()
    bad = tmp_path / "bad.so"
    rng = np.random.default_rng(0)
    for at in [*range(0, 64, 3), *rng.integers(0, len(good), 150)]:
        image = bytearray(good)
        image[at] ^= 1 << int(rng.integers(8))
        bad.write_bytes(image)
        with pytest.raises(FlowcError) as e:
            loading.load(bad)
        assert isinstance(e.value, DataLossError)
    for size in [0, 1, 4, 63, 64, 100, len(good) // 2, len(good) - 1]:
        bad.write_bytes(good[:size])
        with pytest.raises(DataLossError):
            loading.load(bad)


def test_what_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        loading.load(tmp_path / "missing.so")
    other = tmp_path / "other.o"
    other.write_bytes(jit.compile_ir("define void @f() { ret void }"))
    with pytest.raises(DataLossError, match="holds no compiled function"):
        loading.load(other)


@needs_linker
def test_other_machines_are_refused(tmp_path: Path) -> None:
    c = driver.compile_program(
        parse_function(STEP), Options(target="aarch64-linux-gnu", cpu="cortex-a72")
    )
    path = tmp_path / "step.o"
    artifact.write(c, path)
    assert elf.parse(path.read_bytes()).machine == "aarch64"
    with pytest.raises(FlowcError, match="for aarch64, this is"):
        loading.load(path)


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")
def test_undefined_symbols_are_of_libc_and_libm_only(library: Path) -> None:
    run = subprocess.run(
        ["nm", "-D", "-u", library], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1].split("@")[0] for line in run.stdout.splitlines()}
    libraries = [ctypes.CDLL(ctypes.util.find_library(n)) for n in ("c", "m")]
    weak = {"_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__"}
    for name in names - weak:
        assert any(hasattr(lib, name) for lib in libraries), name


MAIN = r"""
#include "step.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  static float x[6*8], y[6*4], w[8*4], loss;
  int64_t shapes[step_INPUT_RANKS] = {6, 8, 6, 4}, dims[step_DIMS + 1];
  void *buffers[step_BUFFERS];
  flowc_context ctx;
  if (fread(x, 4, 48, stdin) != 48 || fread(y, 4, 24, stdin) != 24) return 2;
  buffers[step_IN_x] = x; buffers[step_IN_y] = y;
  buffers[step_STATE_w] = w; buffers[step_OUT_loss] = &loss;
  step_init_state(&buffers[step_STATE_w]);
  if (step_bind(shapes, dims) || dims[step_DIM_B] != 6) return 3;
  shapes[2] = 5;
  { int64_t other[step_DIMS + 1]; if (!step_bind(shapes, other)) return 4; }
  void *pool = aligned_alloc(FLOWC_ALIGNMENT, (flowc_pool_size(2) + 63) / 64 * 64);
  int threads = flowc_pool_init(pool, 2);
  memset(&ctx, 0, sizeof ctx);
  ctx.size = sizeof ctx; ctx.abi_version = FLOWC_ABI_VERSION;
  ctx.pool = pool; ctx.workers = threads; ctx.parallel_for = flowc_parallel_for;
  size_t bytes = (size_t)step_workspace_size(dims, threads) / 64 * 64 + 64;
  void *workspace = aligned_alloc(FLOWC_ALIGNMENT, bytes);
  for (int i = 0; i < 3; ++i)
    if (step(i ? &ctx : NULL, buffers, dims, workspace)) return 5;
  if (flowc_pool_destroy(pool)) return 6;
  fwrite(&loss, 4, 1, stdout); fwrite(w, 4, 32, stdout);
  return 0;
}
"""


@needs_cc
@pytest.mark.parametrize("kind", ["o", "a"])
def test_a_c_program_gets_the_bits_of_python(
    step: driver.Compiled, library: Path, tmp_path: Path, kind: str
) -> None:
    x, y, w = data()
    artifact.write(step, tmp_path / f"step.{kind}", {"w": w})
    (tmp_path / "main.c").write_text(MAIN)
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "main.c",
               f"step.{kind}", "-o", "main", "-lm", "-lpthread"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [tmp_path / "main"], input=x.tobytes() + y.tobytes(), capture_output=True, check=True
    )
    f = loading.load(library)
    losses = [f(x, y) for _ in range(3)]
    assert done.stdout == losses[-1].tobytes() + f.state["w"].tobytes()


@needs_cc
def test_the_header_is_cpp_too(step: driver.Compiled, tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    artifact.write(step, tmp_path / "step.h")
    (tmp_path / "a.cc").write_text('#include "step.h"\n#include "step.h"\nint n = step_BUFFERS;\n')
    command = ["c++", "-Wall", "-Werror", "-pedantic", "-fsyntax-only", "a.cc"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_the_header_documents_every_buffer(step: driver.Compiled) -> None:
    text = artifact.header_of(step, {})
    for line in ("#define step_IN_x 0  /* float [B, 8]: x */",
                 "#define step_STATE_w 2  /* float [8, 4], updated: w */",
                 "#define step_OUT_loss 3  /* float []: loss */",
                 "#define step_DIM_B 0"):
        assert line in text


def test_initial_values_must_fit(step: driver.Compiled) -> None:
    with pytest.raises(InvalidArgumentError, match="initial value of 'w' is float64"):
        artifact.object_code(step, {"w": np.zeros((8, 4))})


@pytest.mark.slow
@pytest.mark.skipif(not linker.has_zig(), reason="needs ziglang")
@pytest.mark.parametrize("triple", ["aarch64-linux-gnu", "riscv64-linux-gnu"])
def test_libraries_for_other_machines(triple: str, tmp_path: Path) -> None:
    c = driver.compile_program(parse_function(STEP), Options(target=triple))
    path = tmp_path / "step.so"
    artifact.write(c, path, {})
    file = elf.parse(path.read_bytes())
    assert (file.machine, file.kind) == (triple.split("-")[0], elf.SHARED)
    assert artifact.records(path.read_bytes())[0].manifest["name"] == "step"


@pytest.mark.parametrize(("triple", "target"), [
    ("x86_64-unknown-linux-gnu", "x86_64-linux-gnu"), ("arm64-apple-macosx14.0", "aarch64-macos"),
    ("armv7-linux-gnueabihf", "arm-linux-gnueabihf"), ("riscv64-linux-gnu", "riscv64-linux-gnu"),
    ("x86_64-pc-windows-gnu", "x86_64-windows-gnu"),
    ("aarch64-linux-android", "aarch64-linux-android"),
])  # fmt: skip
def test_zig_targets(triple: str, target: str) -> None:
    assert linker.zig_target(triple) == target
