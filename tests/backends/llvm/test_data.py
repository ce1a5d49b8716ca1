"""Large constants: the same results as small ones, on ELF of both widths."""

from __future__ import annotations

import numpy as np
import pytest

from flowc.backends.cpu import codegen
from flowc.backends.cpu.target import CpuTarget
from flowc.backends.llvm import data
from flowc.compiler import driver
from flowc.ir.builder import Builder
from flowc.ir.types import tensor
from flowc.runtime.errors import InternalError


@pytest.mark.parametrize("n", [4, 31, 32, 300])  # 31·32·4 bytes is the largest small one
def test_large_constants_are_in_the_object(n: int) -> None:
    rng = np.random.default_rng(n)
    w, v = rng.standard_normal((2, n, 32)).astype(np.float32)
    b = Builder("f")
    x = b.param(tensor("f32", 3, n), "x")
    y = b.dot(x, b.const(w, "f32"), contract=((1,), (0,)), batch=((), ()))
    z = b.reduce(b.mul(b.const(v, "f32"), b.const(w, "f32")), op="max", axes=(0,))
    compiled = driver.compile_program(b.finish([y, z]))
    assert all(t.tobytes() in compiled.object for t in (w,))
    assert len(compiled.llvm) < 100_000 + 3 * 4096 * 4
    args = rng.standard_normal((3, n)).astype(np.float32)
    got, most = compiled.load().call([args])
    np.testing.assert_allclose(got, args.astype(np.float64) @ w, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(most, (v * w).max(0))


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu", "armv7-linux-gnueabihf"])
def test_fill(triple: str) -> None:
    value = bytes(range(256)) * 20
    text = data.global_text("@c", value, triple) + """
define i8 @get(i32 %i) nounwind {
  %p = getelementptr i8, ptr @c, i32 %i
  %x = load i8, ptr %p
  ret i8 %x
}"""
    image = codegen.compile_ir(text, CpuTarget(triple))
    assert value not in image
    assert value in data.fill(image, {"c": value, "gone": b"12"})
    with pytest.raises(InternalError, match="has 5120 bytes, not 3"):
        data.fill(image, {"c": b"123"})


def test_text_tells_data_apart() -> None:
    a, b = (data.global_text("@c", bytes([i]) * 5000, "x86_64-linux-gnu") for i in (1, 2))
    assert a != b
    assert "zeroinitializer" not in data.global_text("@c", bytes(5000), "wasm32-unknown-unknown")
