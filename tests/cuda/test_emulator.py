"""What the emulator catches, and that it runs what ptxas gets."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
import pytest

from flowc.backends.cuda.emulator import Emulated, EmulatedKernel
from flowc.backends.cuda.lower import BARRIER, DeviceKernel, DeviceModule, digest
from flowc.backends.cuda.ptx import assemble, compile_ptx, find_ptxas
from flowc.backends.cuda.schedule import schedule
from flowc.backends.cuda.target import CudaTarget
from flowc.ir.dtypes import f32, f64, i32
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Alloc, Buffer, For, Kernel, LoopKernel, Phase, Stmt, Store
from flowc.ir.types import TensorType
from flowc.runtime.errors import InternalError, InvalidArgumentError

needs_ptxas = pytest.mark.skipif(find_ptxas() is None, reason="ptxas is not installed")


def matmul(m: int, n: int, k: int) -> LoopKernel:
    c = Compute()
    a, b = c.buffer(TensorType(f32, (m, k))), c.buffer(TensorType(f32, (k, n)))
    out = c.compute(
        TensorType(f32, (m, n)), lambda i, j: c.reduce("sum", (k,), lambda r: a[i, r] * b[r, j])
    )
    return schedule(Kernel("matmul", (a, b), (out,), tuple(c.stages)))


def threads(n: int, body: Any) -> For:
    t = ex.var("t", n)
    return For(t, ex.index(n), "thread", tuple(body(t)))


def kernel(inputs: Any, outputs: Any, threads_: int, blocks: int, body: Any) -> LoopKernel:
    b = ex.var("block", blocks)
    phase = Phase((For(b, ex.index(blocks), "block", tuple(body(b))),), threads_)
    return LoopKernel("k", tuple(inputs), tuple(outputs), (), (phase,), "cuda")


def run(text: str, k: DeviceKernel, *arrays: Any, record: Any = None) -> Any:
    error = np.zeros(2, np.uint64) if record is None else record
    return Emulated(text, [k], checks=True).launch(0, arrays, {}, error)


# ---- faults

def without_barrier(text: str, n: int) -> str:
    """The text without its n-th barrier."""
    at = [m.start() for m in re.finditer(re.escape(f"  call void {BARRIER}(i32 0)\n"), text)][n]
    return text[:at] + text[text.index("\n", at) + 1 :]


@pytest.mark.parametrize("n", [0, 1])
def test_a_missing_barrier_is_a_race(n: int) -> None:
    module = DeviceModule(CudaTarget())
    scheduled = matmul(70, 65, 40)
    made = module.add(scheduled, scheduled.phases[0], "matmul")
    assert module.text().count(f"call void {BARRIER}") == 2
    arrays = [np.ones(s, np.float32) for s in ((70, 40), (40, 65), (70, 65))]
    assert run(module.text(), made, *arrays) is None
    found = run(without_barrier(module.text(), n), made, *arrays)
    assert found.kind == "race"
    assert found.kernel == "matmul"
    assert "tile_" in found.buffer
    assert found.thread != found.other


def test_blocks_that_write_one_element_race() -> None:
    out = Buffer("out", f32, (32,))
    same = kernel([], [out], 32, 2, lambda b: [
        threads(32, lambda t: [Store(out, (t,), ex.const(1, f32))])
    ])
    e = EmulatedKernel(same)
    e.run(np.zeros(32, np.float32))
    assert e.finding is not None
    assert (e.finding.kind, e.finding.buffer, e.finding.block) == ("race", "out", 1)


def test_neighbours_through_shared_memory_need_no_barrier_of_their_own() -> None:
    """The lowering finds where thread loops meet in memory."""
    x, out = Buffer("x", f32, (96,)), Buffer("out", f32, (96,))
    tile = Buffer("tile", f32, (32,), "shared")

    def body(b: ex.Expr) -> list[Stmt]:
        load = threads(32, lambda t: [Store(tile, (t,), x[b * 32 + t])])
        flip = threads(32, lambda t: [Store(out, (b * 32 + t,), tile[31 - t])])
        return [Alloc(tile, (load, flip))]

    e = EmulatedKernel(kernel([x], [out], 32, 3, body))
    data, got = np.arange(96, dtype=np.float32), np.zeros(96, np.float32)
    e.run(data, got)
    assert e.finding is None
    assert e.text.count(f"call void {BARRIER}") == 1
    np.testing.assert_array_equal(got, data.reshape(3, 32)[:, ::-1].reshape(-1))


@pytest.mark.parametrize(("shift", "array"), [(1, "x"), (-1, "x"), (0, "tile")])
def test_out_of_bounds(shift: int, array: str) -> None:
    x, out = Buffer("x", f32, (64,)), Buffer("out", f32, (64,))
    tile = Buffer("tile", f32, (31 if array == "tile" else 32,), "shared")

    def body(b: ex.Expr) -> list[Stmt]:
        load = threads(32, lambda t: [Store(tile, (t,), x[b * 32 + t + shift])])
        keep = threads(32, lambda t: [Store(out, (b * 32 + t,), tile[t])])
        return [Alloc(tile, (load, keep))]

    e = EmulatedKernel(kernel([x], [out], 32, 2, body))
    e.run(np.zeros(64, np.float32), np.zeros(64, np.float32))
    found = e.finding
    assert found is not None
    assert found.kind == "out of bounds"
    assert array in found.buffer
    assert found.offset in ((256, -4) if array == "x" else (124, 128))
    assert "out of bounds" in str(found)


SKIPPED = f"""target triple = "nvptx64-nvidia-cuda"
define ptx_kernel void @skip() nounwind "nvvm.maxntid"="32" {{
entry:
  %v1 = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %v2 = icmp ult i32 %v1, 7
  br i1 %v2, label %some, label %done
some:
  call void {BARRIER}(i32 0)
  br label %done
done:
  ret void
}}
declare void {BARRIER}(i32) nounwind convergent
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x() nounwind memory(none)
"""


def test_a_barrier_that_some_threads_skip() -> None:
    made = DeviceKernel("skip", (), (), ex.index(2), 32, (), True, False, 16384)
    found = run(SKIPPED, made)
    assert found.kind == "barrier that not all threads reach"
    assert found.count == 2


# ---- one text

def test_emulator_and_ptx_share_their_source() -> None:
    e = EmulatedKernel(matmul(65, 65, 17))
    ptx = compile_ptx(e.text, CudaTarget())
    assert e.code.source == ptx.source == digest(e.text)
    assert e.code.text.startswith(f"; emulates sha256:{ptx.source}\n")
    assert digest(e.text + "\n") != ptx.source


def test_arithmetic_lines_survive_retargeting() -> None:
    """Only addresses, special registers and barriers change."""
    e = EmulatedKernel(matmul(65, 65, 17), checks=False)
    same = re.compile(r"  %\w+ = (?:call float @llvm|f|add|mul|icmp|or|and|shl|lshr|udiv|urem)")
    device = [line for line in e.text.splitlines() if same.match(line)]
    assert len(device) > 200
    missing = set(device) - set(e.code.text.splitlines())
    assert not missing


@needs_ptxas
@pytest.mark.parametrize("cpu", ["sm_80", "sm_90", "sm_100"])
def test_ptxas_and_resources(cpu: str) -> None:
    e = EmulatedKernel(matmul(300, 300, 100))
    cubin = assemble(compile_ptx(e.text, CudaTarget(cpu)))
    (usage,) = cubin.usage.values()
    assert cubin.image[:4] == b"\x7fELF"
    assert usage.registers <= 128
    assert max(usage.spill_loads, usage.spill_stores) <= 16
    assert 8192 <= usage.shared <= 48 * 1024


def test_products_are_not_contracted() -> None:
    """ptxas would fuse a plain mul and add: results would depend on the optimizer."""
    c = Compute()
    x = c.buffer(TensorType(f32, (5,)))
    y = c.elementwise(x.type, lambda a: a * a + a, x)
    text = EmulatedKernel(schedule(Kernel("k", (x,), (y,), tuple(c.stages)))).text
    ptx = compile_ptx(text, CudaTarget()).text
    assert "mul.rn.f32" in ptx
    assert "add.rn.f32" in ptx
    assert "fma" not in ptx


# ---- errors, limits

def test_the_lowest_failing_site_and_value_are_reported() -> None:
    index, out = Buffer("index", i32, (100,)), Buffer("out", i32, (100,))

    def body(b: ex.Expr) -> list[Stmt]:
        def one(t: ex.Expr) -> list[Stmt]:
            v = index[b * 50 + t]
            return [Store(out, (b * 50 + t,), ex.check(v, v < 10, 2, "gather", "f.py:3"))]
        return [threads(50, one)]

    e = EmulatedKernel(kernel([index], [out], 50, 2, body))
    data = np.zeros(100, np.int32)
    data[[20, 70, 90]] = 40, 33, 99
    for reverse in (False, True):
        got = np.full(100, -1, np.int32)
        e.run(data, got, reverse=reverse)
        assert e.error is not None
        assert e.error[0] == 2
        assert got[20] == got[70] == 0


def test_too_much_shared_memory() -> None:
    out, tile = Buffer("out", f32, (32,)), Buffer("tile", f32, (20000,), "shared")
    big = kernel([], [out], 32, 1, lambda b: [Alloc(tile, (
        threads(32, lambda t: [Store(tile, (t,), ex.const(0, f32))]),
    ))])
    with pytest.raises(InternalError, match="80000 bytes of shared memory"):
        EmulatedKernel(big)


def test_targets() -> None:
    assert CudaTarget("sm_100").triple == "nvptx64-nvidia-cuda"
    with pytest.raises(InvalidArgumentError, match="sm_52"):
        CudaTarget("sm_52")


# ---- fmod: NVPTX's own is not exact

@pytest.mark.parametrize("dt", [f32, f64], ids=str)
def test_remainder_is_exact(dt: Any) -> None:
    special = [0.0, -0.0, 1.0, -1.5, math.inf, -math.inf, math.nan, 5e-324, 1e-45, 1e-40, 3e38]
    bits = np.random.default_rng(1).integers(0, 1 << dt.bits, (2, 400), dtype=np.uint64)
    rows = [(a, b) for a in special for b in special]
    rows += [tuple(_from_bits(int(v), dt) for v in pair) for pair in bits.T]
    with np.errstate(all="ignore"):
        x, y = (np.array(column).astype(dt.np) for column in zip(*rows, strict=True))
    c = Compute()
    a, b = (c.buffer(TensorType(dt, x.shape)) for _ in range(2))
    out = c.elementwise(a.type, lambda p, q: ex.binary("rem", p, q), a, b)
    e = EmulatedKernel(schedule(Kernel("k", (a, b), (out,), tuple(c.stages))))
    got = np.zeros_like(x)
    with np.errstate(all="ignore"):
        e.run(x, y, got)
        want = np.fmod(x, y)
    assert "@flowc_fmod" in e.text
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


def _from_bits(v: int, dt: Any) -> float:
    (value,) = struct.unpack("<f" if dt.bits == 32 else "<d", v.to_bytes(dt.bits // 8, "little"))
    return float(value)
