"""GPU schedules at sizes that cross the edges of tiles, blocks and pieces, against NumPy in f64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowc.backends.cuda.emulator import EmulatedKernel
from flowc.backends.cuda.schedule import schedule
from flowc.ir.builder import Builder
from flowc.ir.dims import sym
from flowc.ir.dtypes import dtype
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer, Kernel
from flowc.ir.types import TensorType
from gpu_harness import Batch as Programs
from gpu_harness import checked, notes, plan, run_checked

F32 = dtype("f32")


def normal(*shape: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(sum(shape) + len(shape))
    return rng.standard_normal(shape).astype(np.float32)


def tensor(*shape: Any) -> TensorType:
    return TensorType(F32, shape)


class Case:
    """A kernel under construction and the arrays it gets."""

    def __init__(self) -> None:
        self.k = Compute()
        self.inputs: list[Buffer] = []
        self.arrays: list[np.ndarray[Any, Any]] = []

    def input(self, array: np.ndarray[Any, Any]) -> Buffer:
        b = self.k.buffer(tensor(*array.shape), "x")
        self.inputs.append(b)
        self.arrays.append(array)
        return b

    def run(self, *outputs: Buffer, note: str) -> list[np.ndarray[Any, Any]]:
        kernel = Kernel("k", tuple(self.inputs), outputs, tuple(self.k.stages))
        scheduled = schedule(kernel)
        assert note in scheduled.note
        code = EmulatedKernel(scheduled)
        results = []
        for reverse in (False, True):
            outs = [np.full(b.shape, np.nan, np.float32) for b in outputs]
            code.run(*self.arrays, *outs, reverse=reverse)
            assert code.finding is None, str(code.finding)
            results.append(outs)
        for a, b in zip(*results, strict=True):
            assert a.tobytes() == b.tobytes()
        return results[0]


@pytest.mark.parametrize("shape", [(1,), (255,), (257,), (3, 1000), (0,)])
def test_elementwise(shape: tuple[int, ...]) -> None:
    c = Case()
    x, y = c.input(normal(*shape)), c.input(normal(*shape) + 1)
    out = c.k.elementwise(tensor(*shape), lambda a, b: a * b - a, x, y)
    (got,) = c.run(out, note="elementwise")
    a, b = (v.astype(np.float64) for v in c.arrays)
    np.testing.assert_allclose(got, a * b - a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("rows", "n"), [(5, 1), (7, 3), (33, 16), (3, 257), (2, 9000)])
def test_rows(rows: int, n: int) -> None:
    """Two reductions and a row that is kept: in shared memory, or global where it is too long."""
    c = Case()
    x = c.input(normal(rows, n))
    k = c.k
    top = k.compute(tensor(rows), lambda i: k.reduce("max", (n,), lambda j: x[i, j]))
    square = k.compute(tensor(rows, n), lambda i, j: (x[i, j] - top[i]) * (x[i, j] - top[i]))
    total = k.compute(tensor(rows), lambda i: k.reduce("sum", (n,), lambda j: square[i, j]))
    out = k.compute(tensor(rows, n), lambda i, j: square[i, j] - total[i])
    got, sums = c.run(out, total, note="rows")
    a = c.arrays[0].astype(np.float64)
    want = (a - a.max(1, keepdims=True)) ** 2
    np.testing.assert_allclose(sums, want.sum(1), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(got, want - want.sum(1, keepdims=True), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("rows", "n"), [(1, 5), (127, 33), (129, 33), (700, 3), (1, 1)])
def test_columns(rows: int, n: int) -> None:
    c = Case()
    x = c.input(normal(rows, n))
    k = c.k
    total = k.compute(tensor(n), lambda j: k.reduce("sum", (rows,), lambda i: x[i, j]))
    mean = k.compute(tensor(n), lambda j: total[j] * k.const(1 / rows, "f32"))
    got, means = c.run(total, mean, note="columns" if n > 1 else "")
    a = c.arrays[0].astype(np.float64)
    np.testing.assert_allclose(got, a.sum(0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(means, a.mean(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (4096,), (4097,), (90, 101), (0,)])
def test_one_result(shape: tuple[int, ...]) -> None:
    c = Case()
    x = c.input(normal(*shape))
    k = c.k
    out = k.compute(tensor(), lambda: k.reduce("sum", shape, lambda *i: x[i]))
    (got,) = c.run(out, note="reduction")
    np.testing.assert_allclose(got, c.arrays[0].sum(dtype=np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("m", "n", "k"), [(64, 64, 16), (65, 63, 17), (1, 70, 40), (30, 129, 1), (16, 33, 50)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(m: int, n: int, k: int, transposed: bool) -> None:
    """With an epilogue; a transposed first factor is read along its own axis."""
    c = Case()
    a = c.input(normal(k, m) if transposed else normal(m, k))
    b, bias = c.input(normal(k, n)), c.input(normal(n))

    def product(i: Any, j: Any) -> Any:
        return c.k.reduce("sum", (k,), lambda r: (a[r, i] if transposed else a[i, r]) * b[r, j])

    out = c.k.compute(tensor(m, n), product)
    final = c.k.compute(tensor(m, n), lambda i, j: out[i, j] + bias[j])
    (got,) = c.run(final, note="tiles")
    x, y, z = (v.astype(np.float64) for v in c.arrays)
    want = (x.T if transposed else x) @ y + z
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1024, 1500, 5000])
def test_long_sums_are_cut(k: int) -> None:
    c = Case()
    a, b = c.input(normal(k, 20)), c.input(normal(k, 33))
    out = c.k.compute(tensor(20, 33), lambda i, j: c.k.reduce(
        "sum", (k,), lambda r: a[r, i] * b[r, j]))
    final = c.k.compute(tensor(20, 33), lambda i, j: out[i, j] * out[i, j])
    got, squares = c.run(out, final, note="K in pieces")
    want = c.arrays[0].astype(np.float64).T @ c.arrays[1].astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(squares, want**2, rtol=1e-3, atol=1e-2)


def test_batched_product_with_several_axes() -> None:
    x, y = normal(3, 5, 7, 20), normal(3, 20, 9)
    b = Builder("main")
    p, q = b.param(tensor(3, 5, 7, 20)), b.param(tensor(3, 20, 9))
    out = b.dot(p, q, contract=((3,), (1,)), batch=((0,), (0,)))
    (got,) = run_checked(b.finish((out,)), [x, y])
    want = np.einsum("bijk,bkn->bijn", x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "stride", "groups"),
    [((2, 9, 11, 6), 1, 1), ((1, 8, 8, 8), 2, 2), ((1, 7, 5, 4), 1, 4)],
)
def test_convolution(size: tuple[int, ...], stride: int, groups: int) -> None:
    """The border is loads that are guarded, not a padded copy."""
    cout = 8
    x, w = normal(*size), normal(3, 3, size[3] // groups, cout)
    b = Builder("main")
    p, q = b.param(tensor(*x.shape)), b.param(tensor(*w.shape))
    out = b.conv(p, q, strides=(stride, stride), pads=((1, 1), (1, 1)), lhs_dilation=(1, 1),
                 rhs_dilation=(1, 1), groups=groups)
    f = b.finish((out,))
    assert any("tiles" in n for n in notes(plan(f)))
    (got,) = run_checked(f, [x, w])
    np.testing.assert_allclose(got, convolve(x, w, stride, groups), rtol=1e-4, atol=1e-4)


def convolve(x: Any, w: Any, stride: int, groups: int) -> Any:
    """3x3, one cell of padding, NHWC, in f64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    oh, ow = ((n - 3) // stride + 1 for n in x.shape[1:3])
    cin, cout = w.shape[2], w.shape[3] // groups
    out = np.zeros((x.shape[0], oh, ow, w.shape[3]))
    for g in range(groups):
        ins, outs = slice(g * cin, (g + 1) * cin), slice(g * cout, (g + 1) * cout)
        for i in range(3):
            for j in range(3):
                part = x[:, i : i + oh * stride : stride, j : j + ow * stride : stride, ins]
                out[..., outs] += part[:, :oh, :ow] @ w[i, j, :, outs].astype(np.float64)
    return out


def test_symbolic_sizes_share_one_kernel() -> None:
    """One compiled kernel for every batch size."""
    b = Builder("main")
    p, w = b.param(TensorType(F32, (sym("B"), 40)), "x"), b.param(tensor(40, 70), "w")
    product = b.dot(p, w, contract=((1,), (0,)), batch=((), ()))
    out = b.reduce(product, op="sum", axes=(0,))
    f = b.finish((product, out))
    program, batch = plan(f), Programs()
    batch.add(program)
    batch.compile()
    weights = normal(40, 70)
    for size in (0, 1, 64, 65, 300):
        x = normal(size, 40)
        got, total = checked(batch, program, [x, weights])
        want = x.astype(np.float64) @ weights.astype(np.float64)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(total, want.sum(0), rtol=1e-3, atol=1e-3)
