"""Stores past the caches: right at every alignment, nothing written beyond a result."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from flowc.backends.llvm import streams
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dtypes as dt
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, LoopKernel, Store
from native.run import HOST, Compiled, kernel

streaming = pytest.mark.skipif(HOST.arch != "x86_64", reason="streams on x86-64 only")
TYPES = {
    "f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16, "bool": np.bool_,
    "i8": np.int8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def everything_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FOOTPRINT", 0)
    monkeypatch.setattr(streams, "LEAST", 0)


def double(n: int, width: int, kind: str = "f32") -> LoopKernel:
    """y = 2 x, or not x."""
    t = dt.dtype(kind)
    x, y = Buffer("x", t, (n,)), Buffer("y", t, (n,))
    i = ex.var("i", n)
    value: Expr = ex.unary("not", x[i]) if t.is_bool else x[i] + x[i]
    return kernel([x], [y], For(i, ex.index(n), "vector", (Store(y, (i,), value),), width))


def at_offset(n: int, offset: int, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """n zeros, `offset` elements behind an aligned address, and all the memory around them."""
    memory = np.zeros(n + 200, kind)
    start = (-memory.ctypes.data // memory.itemsize) % 64 + 64 + offset
    return memory[start : start + n], memory


@streaming
@pytest.mark.parametrize("kind", list(TYPES))
@pytest.mark.parametrize("n", [512, 513, 1000, 1023])
def test_all_alignments(kind: str, n: int) -> None:
    k = double(n, 16, kind)
    assert "nontemporal" in lower_phase(k, k.phases[0], "phase", HOST)
    compiled = Compiled(k)
    x = (np.arange(n) % 50).astype(TYPES[kind])
    want = ~x if kind == "bool" else x + x
    for offset in [*range(18), 31, 33, 63]:
        out, memory = at_offset(n, offset, TYPES[kind])
        compiled.run(x, out)
        np.testing.assert_array_equal(out, want)
        assert np.count_nonzero(memory) == np.count_nonzero(want)


@streaming
def test_wide_vectors_are_aligned_to_a_line() -> None:
    compiled = Compiled(double(1000, 64))
    x = np.arange(1000, dtype=np.float32)
    for offset in range(16):
        out, _ = at_offset(1000, offset, np.float32)
        compiled.run(x, out)
        np.testing.assert_array_equal(out, x + x)


@streaming
def test_the_chunk_ends_in_a_fence() -> None:
    k = double(1000, 16)
    assert "sfence" in lower_phase(k, k.phases[0], "phase", HOST).split("ret void")[0]


def test_what_is_read_again_or_short_stays_in_cache() -> None:
    def text(k: LoopKernel) -> str:
        return lower_phase(k, k.phases[0], "phase", HOST)

    assert "nontemporal" not in text(double(100, 16))
    k = double(1000, 16)
    y, i = k.outputs[0], ex.var("i", 1000)
    again = For(i, ex.index(1000), "vector", (Store(y, (i,), y[i] * 2.0),), 16)
    assert "nontemporal" not in text(kernel(k.inputs, [y], *k.phases[0].body, again))
    inplace = k.replace(inplace=((k.inputs[0], y),))
    assert "nontemporal" not in text(inplace)


def test_nothing_streams_below_the_size_of_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for n, want in ((1 << 20, False), (4 << 20, HOST.arch == "x86_64")):
        k = double(n, 16)
        assert ("nontemporal" in lower_phase(k, k.phases[0], "phase", HOST)) == want
