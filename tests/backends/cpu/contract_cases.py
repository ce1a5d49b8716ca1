"""Kernels of contractions for tests: products and convolutions as the ops lower them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.backends.cpu.contract import match, schedule
from flowc.ir import dims
from flowc.ir.dtypes import dtype
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer, Kernel
from flowc.ir.kernel.verify import verify_kernel
from flowc.ir.ops.conv import Conv, bounds_guard
from flowc.ir.ops.dot import Dot
from flowc.ir.types import TensorType

from .contract_native import Native, aligned

MATMUL = (((1,), (0,)), ((), ()))


def dot(
    sa: Any, sb: Any, contract: Any = MATMUL[0], batch: Any = MATMUL[1], dt: str = "f32"
) -> Kernel:
    """The kernel of one `dot`."""
    k, a, b = Compute(), Buffer("a", dtype(dt), sa), Buffer("b", dtype(dt), sb)
    out = Dot(contract=contract, batch=batch).lower(k, a, b)
    return Kernel("dot", (a, b), (out,), tuple(k.stages))


def conv(xs: Any, ws: Any, strides: Any = (1, 1), pads: Any = ((0, 0), (0, 0)),
         lhs: Any = (1, 1), rhs: Any = (1, 1), groups: int = 1) -> tuple[Conv, Kernel]:
    """The op and the kernel of one `conv`."""
    k, x, w = Compute(), Buffer("x", dtype("f32"), xs), Buffer("w", dtype("f32"), ws)
    op = Conv(strides=strides, pads=pads, lhs_dilation=lhs, rhs_dilation=rhs, groups=groups)
    out = op.lower(k, x, w)
    return op, Kernel("conv", (x, w), (out,), tuple(k.stages))


def filter_gradient(n: Any, xs: Any, ws: Any, s: int, p: int) -> Kernel:
    """dw[ky, kx, c, o] = Σ x[n, y·s+ky−p, x·s+kx−p, c] · g[n, y, x, o]."""
    (h, w, c), (kh, kw, _, o) = xs, ws
    ho, wo = (h + 2 * p - kh) // s + 1, (w + 2 * p - kw) // s + 1
    x, g = Buffer("x", dtype("f32"), (n, h, w, c)), Buffer("g", dtype("f32"), (n, ho, wo, o))
    k = Compute()

    def element(ky: Any, kx: Any, ci: Any, co: Any) -> Any:
        def product(yy: Any, xx: Any, b: Any) -> Any:
            iy, ix = yy * s + ky - p, xx * s + kx - p
            ok = bounds_guard(ix, w, bounds_guard(iy, h))
            return x.at((b, iy, ix, ci), ok) * g[b, yy, xx, co]
        return k.reduce("sum", [ho, wo, n], product)

    out = k.compute(TensorType(dtype("f32"), tuple(ws)), element)
    return Kernel("dw", (x, g), (out,), tuple(k.stages))


def input_gradient(n: Any, xs: Any, ws: Any, s: int, p: int) -> Kernel:
    """dx: g, dilated by s, correlated with the flipped filter, as `Conv.grad` composes it."""
    (h, w, c), (kh, kw, _, o) = xs, ws
    ho, wo = (h + 2 * p - kh) // s + 1, (w + 2 * p - kw) // s + 1
    g, f = Buffer("g", dtype("f32"), (n, ho, wo, o)), Buffer("w", dtype("f32"), tuple(ws))
    k = Compute()

    def position(i: Any, size: int) -> tuple[Any, Any]:
        if s == 1:
            return i, bounds_guard(i, size)
        q, hit = ex.floordiv(i, s), ex.mod(i, s)
        return q, bounds_guard(q, size, hit.eq(0))

    def element(b: Any, yy: Any, xx: Any, ci: Any) -> Any:
        def product(r: Any, t: Any, co: Any) -> Any:
            iy, ok_y = position(yy + r - (kh - 1 - p), ho)
            ix, ok_x = position(xx + t - (kw - 1 - p), wo)
            ok = ok_x if ok_y is None else ok_y if ok_x is None else ok_y & ok_x
            return g.at((b, iy, ix, co), ok) * f[kh - 1 - r, kw - 1 - t, ci, co]
        return k.reduce("sum", [kh, kw, o], product)

    out = k.compute(TensorType(dtype("f32"), (n, h, w, c)), element)
    return Kernel("dx", (g, f), (out,), tuple(k.stages))


def data(b: Buffer, env: dict[str, int], seed: int = 0) -> Any:
    """Random numbers for a buffer; small integers for integer types."""
    rng = np.random.default_rng(seed)
    a = aligned(dims.shape_substitute(b.shape, env), b.dtype.np)
    if b.dtype.is_int:
        a[...] = rng.integers(-100 if b.dtype.kind == "i" else 0, 100, a.shape)
    else:
        a[...] = rng.standard_normal(a.shape)
    return a


def run_all(kernel: Kernel, env: dict[str, int], target: Any = None) -> Any:
    """(inputs, [outputs of each variant], scheduled kernels), every variant run natively."""
    c = match(kernel)
    assert c is not None
    inputs = {b: data(b, env, n) for n, b in enumerate(kernel.inputs)}
    results, kernels = [], []
    for v in schedule(kernel, c, target):
        arrays = dict(inputs)
        verify_kernel(v.kernel)
        Native(v.kernel, target).prepare(arrays, env)()
        results.append([arrays[o] for o in kernel.outputs])
        kernels.append(v.kernel)
    return [inputs[b] for b in kernel.inputs], results, kernels
