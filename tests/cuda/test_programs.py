"""Whole programs for the emulated GPU: the driver, gradients, threads, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu.host import OPTIMIZED_LAUNCHES
from flowc.backends.cuda.backend import CudaEmuBackend
from flowc.backends.cuda.host import device_text
from flowc.backends.cuda.ptx import find_ptxas
from flowc.compiler import artifact, driver
from flowc.compiler.options import Options
from flowc.ir import interpreter
from flowc.ir.autodiff import gradients
from flowc.ir.builder import Builder
from flowc.ir.core import Function
from flowc.ir.dims import sym
from flowc.ir.dtypes import f32, i32
from flowc.ir.parser import parse_module
from flowc.ir.plan import launches
from flowc.ir.types import TensorType
from flowc.runtime import Context, ThreadPool
from flowc.runtime.errors import FlowcError, InvalidArgumentError
from gpu_harness import OPTIONS, checked, is_straight, notes, plan
from gpu_harness import Batch as Programs

B = sym("B")


def classifier() -> Function:
    """A convolution, a dense layer, softmax cross entropy: loss and gradients of the weights."""
    b = Builder("main")
    x = b.param(TensorType(f32, (B, 8, 8, 3)), "x")
    labels = b.param(TensorType(f32, (B, 10)), "labels")
    w1 = b.param(TensorType(f32, (3, 3, 3, 16)), "w1")
    w2 = b.param(TensorType(f32, (16 * 64, 10)), "w2")
    h = b.conv(x, w1, strides=(1, 1), pads=((1, 1), (1, 1)), lhs_dilation=(1, 1),
               rhs_dilation=(1, 1), groups=1)
    h = b.max(h, b.const(0, h))
    flat = b.reshape(h, shape=(B, 16 * 64))
    logits = b.dot(flat, w2, contract=((1,), (0,)), batch=((), ()))
    top = b.broadcast(b.reduce(logits, op="max", axes=(1,)), shape=(B, 10), dims=(0,))
    shifted = b.sub(logits, top)
    total = b.reduce(b.exp(shifted), op="sum", axes=(1,))
    logs = b.sub(shifted, b.broadcast(b.log(total), shape=(B, 10), dims=(0,)))
    loss = b.neg(b.reduce(b.mul(logs, labels), op="sum", axes=(0, 1)))
    grads = gradients(b, [loss], [w1, w2], [b.const(1, loss)])
    return b.finish((loss, *grads))


def data(n: int) -> list[Any]:
    rng = np.random.default_rng(n)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, n)]
    return [rng.standard_normal((n, 8, 8, 3)).astype(np.float32), labels,
            (rng.standard_normal((3, 3, 3, 16)) / 5).astype(np.float32),
            (rng.standard_normal((1024, 10)) / 30).astype(np.float32)]


def test_training_step() -> None:
    f = classifier()
    loaded = driver.compile_program(f, OPTIONS).load()
    with_threads = Context(ThreadPool(2))
    for n in (1, 7):
        inputs = data(n)
        got = loaded.call(inputs)
        again = loaded.call(inputs, ctx=with_threads)
        want = interpreter.run(f, [x.astype(np.float32) for x in inputs])
        for a, t, w in zip(got, again, want, strict=True):
            np.testing.assert_allclose(a, w, rtol=2e-4, atol=2e-4)
            assert a.tobytes() == t.tobytes()


def test_kernels_of_a_training_step_have_no_faults() -> None:
    program, batch = plan(classifier()), Programs()
    assert is_straight(program)
    assert any("tiles" in note for note in notes(program))
    batch.add(program)
    batch.compile()
    checked(batch, program, data(3))


@pytest.mark.skipif(find_ptxas() is None, reason="ptxas is not installed")
def test_stages() -> None:
    backend = CudaEmuBackend()
    stages = backend.stages(plan(classifier()), backend.unit())
    text = stages["ll"](None)
    assert ".entry main_k0_0" in stages["ptx"](text)
    assert stages["cubin"](text)[:4] == b"\x7fELF"
    assert "ptx_kernel" in device_text(text)


def test_artifacts(tmp_path: Path) -> None:
    """The kernels alone, or a library that emulates them."""
    compiled = driver.compile_program(parse_module(STEP).main, OPTIONS)
    assert artifact.write(compiled, tmp_path / "step.ptx") == [str(tmp_path / "step.ptx")]
    assert ".target sm_80" in (tmp_path / "step.ptx").read_text()
    assert (tmp_path / "step.ptx").read_bytes() == compiled_again(STEP)
    host = driver.compile_program(parse_module(STEP).main, Options())
    with pytest.raises(InvalidArgumentError, match=r"the target cpu makes no \.ptx"):
        artifact.write(host, tmp_path / "cpu.ptx")


def compiled_again(text: str) -> bytes:
    compiled = driver.compile_program(parse_module(text).main, OPTIONS)
    stages = compiled.backend.stages(compiled.program, compiled.backend.unit())
    return str(stages["ptx"](compiled.llvm)).encode()


def test_an_error_names_the_lowest_offender() -> None:
    b = Builder("main")
    x = b.param(TensorType(f32, (10,)), "x")
    index = b.param(TensorType(i32, (B, 1)), "index")
    out = b.gather(x, index, batch=0, bounds="check")
    loaded = driver.compile_program(b.finish((out,)), OPTIONS).load()
    values = np.arange(10, dtype=np.float32)
    good = np.array([[3], [9], [0]], np.int32)
    np.testing.assert_array_equal(loaded.call([values, good])[0], values[good[:, 0]])
    bad = np.full((5000, 1), 4, np.int32)
    bad[[100, 4000], 0] = 77, 11
    with pytest.raises(InvalidArgumentError, match=r"index 11 is out of range \[0, 10\)"):
        loaded.call([values, bad])


def test_division_by_zero() -> None:
    b = Builder("main")
    x, y = b.param(TensorType(i32, (3,)), "x"), b.param(TensorType(i32, (3,)), "y")
    loaded = driver.compile_program(b.finish((b.div(x, y),)), OPTIONS).load()
    one = np.array([7, 8, 9], np.int32)
    with pytest.raises(FlowcError, match="division by zero"):
        loaded.call([one, np.array([1, 0, 2], np.int32)])
    np.testing.assert_array_equal(loaded.call([one, one])[0], [1, 1, 1])


STEP = """func @main(%x: f32[B,8], %w: f32[8,4] {kind=state, updated_by=1}) -> (f32[], f32[8,4]) {
  %0: f32[B,4] = dot(%x, %w) {contract=[[1],[0]], batch=[[],[]]}
  %1: f32[] = reduce(%0) {op=sum, axes=[0,1]}
  %2: f32[8,4] = dot(%x, %0) {contract=[[0],[0]], batch=[[],[]]}
  %3: f32[] = constant() {value=f32[] 0.01}
  %4: f32[8,4] = broadcast(%3) {shape=[8,4], dims=[]}
  %5: f32[8,4] = mul(%2, %4)
  %6: f32[8,4] = sub(%w, %5)
  return %1, %6
}
"""


def test_state_is_updated_in_place() -> None:
    """The kernel's output is the memory of one of its inputs."""
    compiled = driver.compile_program(parse_module(STEP).main, OPTIONS)
    assert compiled.program.views
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    w = np.ones((8, 4), np.float32)
    want = w.astype(np.float64)
    loaded = compiled.load()
    for _ in range(3):
        (total,) = loaded.call([x], state=[w])
        y = x.astype(np.float64) @ want
        np.testing.assert_allclose(total, y.sum(), rtol=1e-4)
        want = want - 0.01 * x.T @ y
        np.testing.assert_allclose(w, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [10, 2000, 300_000])
def test_constants_of_all_sizes(n: int) -> None:
    """In the text, put into the object, or shared with the process."""
    values = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    b = Builder("main")
    x = b.param(TensorType(f32, (n,)), "x")
    out = b.add(x, b.const(values, f32))
    loaded = driver.compile_program(b.finish((out,)), OPTIONS).load()
    np.testing.assert_array_equal(loaded.call([values])[0], values + values)


def test_a_plan_of_many_launches() -> None:
    """A host function in segments."""
    b = Builder("main")
    x = b.param(TensorType(f32, (B, 3)), "x")
    y = x
    for _ in range(60):
        total = b.reduce(y, op="sum", axes=(0,))
        y = b.sub(y, b.broadcast(total, shape=(B, 3), dims=(1,)))
    compiled = driver.compile_program(b.finish((y,)), OPTIONS)
    assert sum(1 for _ in launches(compiled.program.steps)) > OPTIMIZED_LAUNCHES
    loaded = compiled.load()
    data = np.array([[1, 2, 3], [-1, 1, 2]], np.float32)
    want = data.astype(np.float64)
    for _ in range(60):
        want = want - want.sum(0)
    np.testing.assert_allclose(loaded.call([data])[0], want, rtol=1e-4, atol=1e-4)
