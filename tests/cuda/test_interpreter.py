"""The kernel interpreter, which knows nothing of LLVM, agrees on scheduled GPU kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowc.backends.cuda.schedule import schedule
from flowc.ir.dtypes import f32
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer, Kernel
from flowc.ir.kernel.interp import run_kernel
from flowc.ir.types import TensorType


def tensor(*shape: int) -> TensorType:
    return TensorType(f32, shape)


def product(k: Compute, a: Buffer, b: Buffer) -> Buffer:
    """a @ b."""
    (m, n), (_, p) = a.shape, b.shape
    return k.compute(
        TensorType(f32, (m, p)), lambda i, j: k.reduce("sum", (n,), lambda r: a[i, r] * b[r, j])
    )


def softmax(k: Compute, a: Buffer, b: Buffer) -> Buffer:
    """Of each row of a, with b unused but for its first row."""
    m, n = (int(str(d)) for d in a.shape)
    top = k.compute(tensor(m), lambda i: k.reduce("max", (n,), lambda j: a[i, j]))
    less = k.compute(tensor(m, n), lambda i, j: (a[i, j] - top[i]) * b[0, 0])
    total = k.compute(tensor(m), lambda i: k.reduce("sum", (n,), lambda j: less[i, j]))
    return k.compute(tensor(m, n), lambda i, j: less[i, j] - total[i])


def whole(k: Compute, a: Buffer, b: Buffer) -> Buffer:
    """The sum of all of a."""
    return k.compute(tensor(), lambda: k.reduce("sum", a.shape, lambda i, j: a[i, j] + b[0, 0]))


@pytest.mark.parametrize("order", ["reverse", 3])
@pytest.mark.parametrize("build", [product, softmax, whole], ids=lambda f: f.__name__)
def test_agrees(build: Any, order: str | int) -> None:
    """With checks of races between blocks and between threads."""
    k = Compute()
    a, b = k.buffer(tensor(9, 12)), k.buffer(tensor(12, 17))
    kernel = Kernel("k", (a, b), (build(k, a, b),), tuple(k.stages))
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(x.shape).astype(np.float32) for x in (a, b)]
    (got,) = run_kernel(schedule(kernel), inputs, order=order)
    (want,) = run_kernel(kernel, inputs)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
