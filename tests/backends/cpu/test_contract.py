"""Schedules of contractions, run natively, against NumPy in f64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu.contract import blocked, hoistable, match, schedule
from flowc.ir import dims
from flowc.ir.dtypes import dtype
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.kernel.interp import run_kernel

from .contract_cases import conv, data, dot, filter_gradient, input_gradient, run_all
from .contract_native import HostTarget, Native

B, K, N = dims.sym("B"), dims.sym("K"), dims.sym("N")
AVX2 = HostTarget(vector_bits=256)
TINY = HostTarget(vector_bits=0)


def close(got: Any, want: Any, depth: int = 1) -> None:
    assert got.shape == want.shape
    if want.size == 0:
        return
    assert np.isfinite(got).all()
    eps = np.finfo(got.dtype).eps
    bound = 4 * eps * max(1.0, float(np.sqrt(depth))) * max(1.0, float(np.abs(want).max()))
    assert float(np.abs(got - want).max()) <= bound


def check(kernel: Kernel, env: dict[str, int], want: Any, depth: int, target: Any = None) -> None:
    inputs, results, _ = run_all(kernel, env, target)
    wide = [x.astype(np.float64) for x in inputs]
    for (out,) in results:
        close(out, want(*wide), depth)


SIZES = [(1, 1, 1), (1, 7, 5), (2, 3, 17), (8, 16, 48), (9, 33, 49), (15, 64, 31), (37, 20, 100)]


@pytest.mark.parametrize(("m", "k", "n"), [*SIZES, (0, 5, 7), (5, 0, 7), (5, 7, 0)])
def test_static_product(m: int, k: int, n: int) -> None:
    if match(dot((m, k), (k, n))) is None:
        assert m == n == 1
        return
    check(dot((m, k), (k, n)), {}, np.matmul, k)


@pytest.mark.parametrize(("k", "n"), [(7, 5), (20, 48), (33, 100)])
def test_symbolic_rows(k: int, n: int) -> None:
    kernel = dot((B, k), (k, n))
    variants = [v.kernel for v in schedule(kernel, match(kernel), None)]
    natives = [Native(v) for v in variants]
    for m in (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 24, 25, 50, 97, 130):
        for native in natives:
            arrays = {b: data(b, {"B": m}, i) for i, b in enumerate(kernel.inputs)}
            native.prepare(arrays, {"B": m})()
            a, b = (arrays[x].astype(np.float64) for x in kernel.inputs)
            close(arrays[kernel.outputs[0]], a @ b, k)


def test_all_symbolic() -> None:
    kernel = dot((B, K), (K, N))
    natives = [Native(v.kernel) for v in schedule(kernel, match(kernel), None)]
    for m, k, n in itertools.product((0, 1, 5, 40), (0, 1, 9, 40), (0, 3, 16, 33, 97)):
        env = {"B": m, "K": k, "N": n}
        for native in natives:
            arrays = {b: data(b, env, i) for i, b in enumerate(kernel.inputs)}
            native.prepare(arrays, env)()
            a, b = (arrays[x].astype(np.float64) for x in kernel.inputs)
            close(arrays[kernel.outputs[0]], a @ b, k)


@pytest.mark.parametrize("shape", [(B, 40), (23, 40)])
@pytest.mark.parametrize(("ta", "tb"), [(0, 1), (1, 0), (1, 1)])
def test_transposed(shape: Any, ta: int, tb: int) -> None:
    m, k = shape
    sa, sb = ((k, m) if ta else (m, k)), ((50, k) if tb else (k, 50))
    kernel = dot(sa, sb, ((1 - ta,), (tb,)))
    check(kernel, {"B": 23} if m is B else {},
          lambda a, b: (a.T if ta else a) @ (b.T if tb else b), k)


@pytest.mark.parametrize("dt", ["f64", "i32", "u8", "i64", "f16", "bf16"])
def test_element_types(dt: str) -> None:
    kernel = dot((B, 30), (30, 21), dt=dt)
    inputs, results, _ = run_all(kernel, {"B": 14})
    a, b = inputs
    for (out,) in results:
        if dt == "f64":
            close(out, a @ b, 30)
        elif dt in ("f16", "bf16"):  # summed in f32, rounded once
            wide = a.astype(np.float64) @ b.astype(np.float64)
            eps = 2.0 ** (-8 if dt == "bf16" else -10)
            assert np.allclose(out.astype(np.float64), wide, rtol=eps, atol=eps)
        else:
            assert (out == (a.astype(np.int64) @ b.astype(np.int64)).astype(out.dtype)).all()


@pytest.mark.parametrize("target", [AVX2, TINY])
def test_other_vectors(target: Any) -> None:
    check(dot((B, 19), (19, 37)), {"B": 11}, np.matmul, 19, target)
    check(dot((B, 19), (37, 19), ((1,), (1,))), {"B": 11}, lambda a, b: a @ b.T, 19, target)
    check(dot((13, 19), (19,), ((1,), (0,))), {}, np.matmul, 19, target)


@pytest.mark.parametrize(("rows", "k"), [(2, 1), (3, 15), (6, 100), (33, 777)])
def test_matrix_vector(rows: int, k: int) -> None:
    check(dot((rows, k), (k,), ((1,), (0,))), {}, np.matmul, k)
    check(dot((k, rows), (k,), ((0,), (0,))), {}, lambda a, x: a.T @ x, k)
    check(dot((K, rows), (K,), ((0,), (0,))), {"K": k}, lambda a, x: a.T @ x, k)
    check(dot((rows, K), (K, 1)), {"K": k}, np.matmul, k)


@pytest.mark.parametrize("n", [9, 600])
def test_dot_products_in_tiles(n: int) -> None:
    kernel = dot((B, 500), (n, 500), ((1,), (1,)))
    (v, *_) = schedule(kernel, match(kernel), None)
    assert "dot products 4x4" in v.kernel.note
    for m in (0, 1, 3, 4, 9):
        check(kernel, {"B": m}, lambda a, b: a @ b.T, 500)


def test_batches() -> None:
    nt = (((2,), (2,)), ((0,), (0,)))
    check(dot((6, 17, 20), (6, 33, 20), *nt), {}, lambda a, b: a @ b.transpose(0, 2, 1), 20)
    check(dot((B, 17, 20), (B, 33, 20), *nt), {"B": 5}, lambda a, b: a @ b.transpose(0, 2, 1), 20)
    heads = (((3,), (3,)), ((0, 2), (0, 2)))  # q, k: [batch, time, head, feature]
    check(dot((B, 9, 4, 16), (B, 11, 4, 16), *heads), {"B": 3},
          lambda q, k: np.einsum("bthd,bshd->bhts", q, k), 16)
    check(dot((B, 9, 20), (20, 33), ((2,), (0,))), {"B": 4}, np.matmul, 20)
    odd = (((0, 2), (1, 0)), ((1,), (2,)))
    check(dot((5, 6, 7, 8), (7, 5, 6, 9), *odd), {},
          lambda a, b: np.einsum("abcd,caby->bdy", a, b), 35)


def test_bits_do_not_depend_on_place() -> None:
    kernel = dot((B, 300), (300, 70))
    native = Native(schedule(kernel, match(kernel), None)[-1].kernel)
    a, b = kernel.inputs
    whole = {a: data(a, {"B": 61}), b: data(b, {})}
    run = native.prepare(whole, {"B": 61})
    run()
    out = whole[kernel.outputs[0]]
    first = out.copy()
    run(reverse=True)
    assert (out == first).all()
    for m, start in ((5, 0), (13, 7), (24, 30), (61, 0)):
        part = {a: np.ascontiguousarray(whole[a][start : start + m]), b: whole[b]}
        native.prepare(part, {"B": m})()
        assert (part[kernel.outputs[0]] == first[start : start + m]).all()


SAME3, SAME5 = ((1, 1), (1, 1)), ((2, 2), (2, 2))
CONVS: list[tuple[Any, Any, dict[str, Any]]] = [
    ((B, 12, 12, 1), (5, 5, 1, 32), {"pads": SAME5}),
    ((B, 7, 9, 8), (5, 5, 8, 20), {"pads": SAME5}),
    ((2, 10, 10, 4), (3, 3, 4, 16), {}),
    ((2, 11, 11, 4), (3, 3, 4, 16), {"strides": (2, 2), "pads": ((0, 1), (1, 0))}),
    ((B, 11, 9, 4), (3, 3, 4, 16), {"rhs": (2, 2), "pads": SAME5}),
    ((B, 11, 9, 4), (3, 2, 4, 5), {"rhs": (2, 3), "strides": (2, 2), "pads": SAME5}),
    ((B, 6, 5, 4), (3, 3, 4, 16), {"lhs": (2, 2), "pads": SAME3}),
    ((B, 6, 5, 4), (4, 3, 4, 16), {"lhs": (2, 3), "rhs": (1, 2), "pads": SAME5}),
    ((B, 6, 6, 8), (3, 3, 1, 8), {"pads": SAME3, "groups": 8}),
    ((B, 6, 6, 8), (3, 3, 1, 16), {"pads": SAME3, "groups": 8}),
    ((B, 6, 6, 8), (3, 3, 4, 6), {"pads": SAME3, "groups": 2}),
    ((B, 6, 6, 8), (1, 1, 8, 40), {}),
    ((B, 8, 8, 3), (3, 3, 3, 10), {"pads": ((-1, -1), (0, -2))}),
]


@pytest.mark.parametrize(("xs", "ws", "attrs"), CONVS)
@pytest.mark.parametrize("n", [0, 3])
def test_convolution(xs: Any, ws: Any, attrs: dict[str, Any], n: int) -> None:
    op, kernel = conv(xs, ws, **attrs)
    check(kernel, {"B": n}, op.eval, int(np.prod(ws[:-1])))


def _filter_gradient(x: Any, g: Any, ws: Any, s: int, p: int) -> Any:
    out, (ho, wo) = np.zeros(ws), g.shape[1:3]
    x = np.pad(x, ((0, 0), (p, p + s), (p, p + s), (0, 0)))
    for a in range(ws[0]):
        for b in range(ws[1]):
            tap = x[:, a : a + ho * s : s, b : b + wo * s : s]
            out[a, b] = np.einsum("nyxc,nyxo->co", tap, g)
    return out


def _input_gradient(g: Any, w: Any, xs: Any, s: int, p: int) -> Any:
    (n, ho, wo, _), (kh, kw, c, _) = g.shape, w.shape
    out = np.zeros((n, xs[0] + 2 * p + s, xs[1] + 2 * p + s, c))
    for a in range(kh):
        for b in range(kw):
            out[:, a : a + ho * s : s, b : b + wo * s : s] += g @ w[a, b].T
    return out[:, p : p + xs[0], p : p + xs[1]]


GRADIENTS = [
    ((12, 12, 1), (5, 5, 1, 32), 1, 2), ((7, 7, 8), (5, 5, 8, 20), 1, 2),
    ((9, 9, 4), (3, 3, 4, 8), 2, 1), ((8, 8, 4), (3, 3, 4, 8), 3, 1),
    ((8, 8, 4), (1, 1, 4, 8), 2, 0),
    ((9, 8, 4), (5, 2, 4, 20), 2, 1), ((7, 7, 4), (4, 4, 4, 8), 3, 0),
    ((7, 1, 1), (3, 1, 1, 1), 2, 1), ((8, 1, 1), (3, 1, 1, 1), 2, 1),
    ((6, 6, 4), (1, 1, 4, 40), 1, 0),
]


@pytest.mark.parametrize(("xs", "ws", "s", "p"), GRADIENTS)
def test_convolution_gradients(xs: Any, ws: Any, s: int, p: int) -> None:
    depth = int(np.prod(xs))
    check(filter_gradient(B, xs, ws, s, p), {"B": 3},
          lambda x, g: _filter_gradient(x, g, ws, s, p), 3 * depth)
    check(input_gradient(B, xs, ws, s, p), {"B": 3},
          lambda g, w: _input_gradient(g, w, xs, s, p), depth)


def test_long_sums_wait_in_memory() -> None:
    kernel = filter_gradient(B, (20, 20, 16), (3, 3, 16, 32), 1, 1)
    (v,) = schedule(kernel, match(kernel), None)
    assert "k by" in v.kernel.note
    check(kernel, {"B": 6}, lambda x, g: _filter_gradient(x, g, (3, 3, 16, 32), 1, 1), 2400)


def _epilogue(kernel: Kernel, m: Any, n: int, keep_raw: bool) -> tuple[Kernel, Buffer, Buffer]:
    """max(dot + bias, 0) and its mask, perhaps with the product itself."""
    (raw,) = kernel.outputs
    f32 = dtype("f32")
    bias, res = Buffer("bias", f32, (n,)), Buffer("res", f32, (m, n))
    y, z = Buffer("y", f32, (m, n)), Buffer("z", dtype("bool"), (m, n))
    i, j, p, q = ex.var("i", m), ex.var("j", n), ex.var("p", m), ex.var("q", n)
    zero = ex.const(0, f32)
    first = Stage(y, (i, j), ex.binary("max", raw[i, j] + bias[j], zero) + res[i, j])
    second = Stage(z, (p, q), ex.compare("gt", y[p, q], zero))
    outs = (raw, y, z) if keep_raw else (y, z)
    made = Kernel("k", (*kernel.inputs, bias, res), outs, (*kernel.stages, first, second))
    return made, y, z


@pytest.mark.parametrize("keep_raw", [False, True])
@pytest.mark.parametrize("m", [1, 6, 29])
def test_epilogue(m: int, keep_raw: bool) -> None:
    kernel, _, _ = _epilogue(dot((B, 40), (40, 21)), B, 21, keep_raw)
    inputs, results, _ = run_all(kernel, {"B": m})
    a, b, bias, res = (x.astype(np.float64) for x in inputs)
    for outs in results:
        if keep_raw:
            close(outs[0], a @ b, 40)
        want = np.maximum(a @ b + bias, 0) + res
        close(outs[-2], want, 40)
        assert (outs[-1] == (outs[-2] > 0)).all()


def test_prologue_is_applied_once() -> None:
    k = Compute()
    a, b = Buffer("a", dtype("f32"), (B, 30)), Buffer("b", dtype("f32"), (30, 40))
    s = Buffer("s", dtype("f32"), (30,))
    out = k.compute(
        dot((B, 30), (30, 40)).outputs[0].type,
        lambda i, j: k.reduce("sum", [30], lambda r: ex.unary("neg", a[i, r] * s[r]) * b[r, j]))
    kernel = Kernel("k", (a, s, b), (out,), tuple(k.stages))
    check(kernel, {"B": 9}, lambda x, t, w: (-(x * t)) @ w, 30)


def test_blocks_of_k_with_an_epilogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "K_BLOCK", 8)
    for k, n in ((K, 21), (40, 21)):
        kernel, _, _ = _epilogue(dot((B, k), (k, n)), B, n, keep_raw=False)
        inputs, results, kernels = run_all(kernel, {"B": 7, "K": 40})
        assert all("k by" in x.note for x in kernels)
        a, b, bias, res = (x.astype(np.float64) for x in inputs)
        for y, _ in results:
            close(y, np.maximum(a @ b + bias, 0) + res, 40)


def test_costly_epilogue() -> None:
    base = dot((B, 20), (20, 100))
    (raw,), f32 = base.outputs, dtype("f32")
    y = Buffer("y", f32, raw.shape)
    i, j = ex.var("i", B), ex.var("j", 100)
    value = raw[i, j]
    for op in ("tanh", "erf", "sin"):
        value = ex.unary(op, value) + raw[i, j]
    kernel = Kernel("k", base.inputs, (y,), (*base.stages, Stage(y, (i, j), value)))
    inputs, results, _ = run_all(kernel, {"B": 13})
    x = inputs[0].astype(np.float64) @ inputs[1].astype(np.float64)
    erf = np.vectorize(math.erf)
    want = np.sin(erf(np.tanh(x) + x) + x) + x
    for (out,) in results:
        assert float(np.abs(out - want).max()) < 2e-5


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), SAME3])
def test_convolution_of_a_prologue(pads: Any) -> None:
    op, base = conv((B, 9, 9, 4), (3, 3, 4, 10), pads=pads)
    (x, w), (s,) = base.inputs, base.stages
    assert isinstance(s, Stage)
    shift = Buffer("shift", dtype("f32"), (4,))

    def relu(e: ex.Expr) -> ex.Expr | None:
        if e.op != "load" or e.attr is not x:
            return None
        _, idx, pred = ex.load_parts(e)
        return ex.binary("max", e + shift.at((idx[-1],), pred), ex.const(0, dtype("f32")))

    stage = Stage(s.out, s.axes, ex.rewrite(s.value, relu, {}))
    kernel = Kernel("k", (x, shift, w), base.outputs, (stage,))
    check(kernel, {"B": 2}, lambda a, t, f: op.eval(np.maximum(a + t, 0), f), 36)


def test_what_is_no_contract() -> None:
    k = Compute()
    a = Buffer("a", dtype("f32"), (B, 30))
    out = k.compute(Buffer("o", dtype("f32"), (B,)).type,
                    lambda i: k.reduce("sum", [30], lambda r: a[i, r] * a[i, r]))
    assert match(Kernel("k", (a,), (out,), tuple(k.stages))) is None


def _small() -> list[tuple[Kernel, dict[str, int]]]:
    return [
        (dot((B, 7), (7, 11)), {"B": 5}),
        (dot((B, K), (K, N)), {"B": 5, "K": 0, "N": 7}),
        (dot((B, K), (N, K), ((1,), (1,))), {"B": 13, "K": 6, "N": 9}),
        (dot((B, 7), (B, 11), ((0,), (0,))), {"B": 5}),
        (dot((B, 9, 8), (B, 5, 8), ((2,), (2,)), ((0,), (0,))), {"B": 3}),
        (_epilogue(dot((B, 9), (9, 6)), B, 6, True)[0], {"B": 5}),
        (conv((B, 4, 5, 2), (3, 3, 2, 5), pads=SAME3)[1], {"B": 2}),
        (conv((B, 5, 5, 4), (3, 3, 1, 4), pads=SAME3, strides=(2, 2), groups=4)[1], {"B": 2}),
        (filter_gradient(B, (5, 4, 2), (3, 3, 2, 4), 1, 1), {"B": 2}),
        (input_gradient(B, (4, 3, 2), (3, 3, 2, 4), 2, 1), {"B": 1}),
    ]


@pytest.mark.parametrize("n", range(10))
def test_no_races_and_no_stray_access(n: int) -> None:
    """The kernel interpreter checks each index and each pair of chunks."""
    kernel, env = _small()[n]
    inputs = [data(b, env, i) for i, b in enumerate(kernel.inputs)]
    want = run_kernel(kernel, inputs, env)
    for v in schedule(kernel, match(kernel), HostTarget(vector_bits=128)):
        for got, expected in zip(run_kernel(v.kernel, inputs, env, order=1), want, strict=True):
            assert np.allclose(got.astype(np.float64), expected, rtol=1e-4, atol=1e-5)


def test_packing_can_be_hoisted() -> None:
    kernel = dot((B, 40), (50, 40), ((1,), (1,)))
    last = schedule(kernel, match(kernel), None)[-1].kernel
    assert list(hoistable(last).values()) == [(kernel.inputs[1],)]
