"""Scheduled kernels, built by hand, through LLVM on the host: loops, vectors, tails, addresses."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu import codegen
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dtypes as dt
from flowc.ir.dims import sym
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, If, Let, LoopKernel, Phase, Stmt, Store, While
from flowc.runtime.abi import ContextStruct
from flowc.runtime.errors import InternalError
from native.run import HOST, Compiled, kernel

N, M = sym("N"), sym("M")
SIZES = (0, 1, 15, 16, 17, 1000)
W = 16


def loop(name: str, extent: Any, kind: Any, fn: Any, width: int = 1) -> For:
    """``for name < extent: fn(name)``."""
    e = ex.index(extent)
    bound = ex.is_const_index(e)
    v = ex.var(name, bound)
    body = fn(v)
    return For(v, e, kind, body if isinstance(body, tuple) else (body,), width)


def vector(name: str, extent: Any, fn: Any) -> For:
    return loop(name, extent, "vector", fn, W)


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-2, 2, shape).astype(np.float32)


def guarded(n: int) -> np.ndarray:
    """n sevens, and 40 more that nothing may write."""
    return np.full(n + 40, 7, np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("static", [False, True])
def test_map_with_tail(size: int, static: bool) -> None:
    n = size if static else N
    x, y = Buffer("x", dt.f32, (n,)), Buffer("y", dt.f32, (n,))
    body = vector("i", n, lambda i: Store(y, (i,), x[i] * 2.0 + 1.0))
    a, out = rand(size), guarded(size)
    Compiled(kernel([x], [y], body)).run(a, out, N=size)
    np.testing.assert_array_equal(out[:size], a * np.float32(2) + np.float32(1))
    assert (out[size:] == 7).all()


@pytest.mark.parametrize("n", [1, 3, 17, 33])
def test_transposed_and_strided(n: int) -> None:
    """Stride of a symbol (gather), reversal, a constant stride, a broadcast."""
    x = Buffer("x", dt.f32, (N, 40))
    col, rev, odd, one = (Buffer(s, dt.f32, (N,)) for s in "croz")
    body = vector("i", N, lambda i: (
        Store(col, (i,), x[i, 3]),
        Store(rev, (ex.index(N - 1) - i,), x[0, 3]),
        Store(odd, (ex.index(N - 1) - i,), x[i, ex.index(2)] + x[N - 1, 1]),
        Store(one, (i,), x[ex.index(N - 1) - i, 5] * 3.0),
    ))
    a = rand(n, 40)
    outs = [guarded(n) for _ in range(4)]
    Compiled(kernel([x], [col, rev, odd, one], body)).run(a, *outs, N=n)
    np.testing.assert_array_equal(outs[0][:n], a[:, 3])
    np.testing.assert_array_equal(outs[1][:n], np.full(n, a[0, 3]))
    np.testing.assert_array_equal(outs[2][:n], (a[:, 2] + a[n - 1, 1])[::-1])
    np.testing.assert_array_equal(outs[3][:n], a[::-1, 5] * np.float32(3))
    for o in outs:
        assert (o[n:] == 7).all()


@pytest.mark.parametrize("n", SIZES)
def test_reversed_and_step_two(n: int) -> None:
    x, y, z = Buffer("x", dt.f32, (N,)), Buffer("y", dt.f32, (N,)), Buffer("z", dt.f32, (2 * N,))
    body = vector("i", N, lambda i: (
        Store(y, (i,), x[ex.index(N - 1) - i]),
        Store(z, (i * 2,), x[i]),
        Store(z, (i * 2 + 1,), x[ex.index(N - 1) - i]),
    ))
    a, o, p = rand(n), guarded(n), guarded(2 * n)
    Compiled(kernel([x], [y, z], body)).run(a, o, p, N=n)
    np.testing.assert_array_equal(o[:n], a[::-1])
    np.testing.assert_array_equal(p[: 2 * n], np.stack([a, a[::-1]], 1).ravel())
    assert (p[2 * n:] == 7).all()


@pytest.mark.parametrize("n", SIZES)
def test_guarded_loads_touch_nothing_outside(n: int) -> None:
    """y[i] = x[i − 3] inside, else 0; the array ends where unreadable memory would."""
    x, y = Buffer("x", dt.f32, (N,)), Buffer("y", dt.f32, (N,))

    def one(i: Expr) -> Stmt:
        at = i - 3
        inside = (at >= ex.index(0)) & (at < ex.index(N))
        far = x.at((i * 100000,), (i < ex.index(0)))
        edge = x.at((ex.index(N + 10**9),), ex.index(N) < ex.index(0))
        return Store(y, (i,), x.at((at,), inside) + far + edge)

    a, out = rand(n), guarded(n)
    Compiled(kernel([x], [y], vector("i", N, one))).run(a, out, N=n)
    want = np.concatenate([np.zeros(3, np.float32), a])[:n]
    np.testing.assert_array_equal(out[:n], want)


@pytest.mark.parametrize("n", [1, 16, 30])
def test_index_arithmetic(n: int) -> None:
    """⌊·⌋, mod, min, max and products of indices, as data and as addresses, also negative."""
    x = Buffer("x", dt.i64, (N,))
    outs = [Buffer(f"o{k}", dt.i64, (N,)) for k in range(6)]

    def one(i: Expr) -> tuple[Stmt, ...]:
        j = i - 7
        return (
            Store(outs[0], (i,), ex.cast(ex.floordiv(j, 3), dt.i64)),
            Store(outs[1], (i,), ex.cast(ex.mod(j, 5), dt.i64)),
            Store(outs[2], (i,), ex.cast(ex.imin(j, ex.index(4)), dt.i64)),
            Store(outs[3], (i,), x[ex.floordiv(i, 2)]),
            Store(outs[4], (i,), ex.cast(ex.floordiv(j, ex.index(N)), dt.i64)),
            Store(outs[5], (i,), ex.cast(ex.mod(i * i, ex.index(N)), dt.i64)),
        )

    a = np.arange(n) * 10
    got = [np.zeros(n, np.int64) for _ in outs]
    Compiled(kernel([x], outs, vector("i", N, one))).run(a, *got, N=n)
    i = np.arange(n)
    want = [(i - 7) // 3, (i - 7) % 5, np.minimum(i - 7, 4), a[i // 2], (i - 7) // n, i * i % n]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("rows", [1, 3])
def test_row_softmax(n: int, rows: int) -> None:
    """Vector accumulators in registers, a horizontal reduction, a row cached in local memory."""
    x, y = Buffer("x", dt.f32, (M, N)), Buffer("y", dt.f32, (M, N))
    peak = Buffer("peak", dt.f32, (W,), "register")
    total = Buffer("total", dt.f32, (W,), "register")
    row = Buffer("row", dt.f32, (N,), "local")
    top, inv = ex.let_var("top", dt.f32), ex.let_var("inv", dt.f32)

    def chunk(r: Expr) -> Stmt:
        def sweep(fn: Any) -> Stmt:
            def outer(o: Expr) -> Stmt:
                rest = ex.imin(ex.index(N) - o * W, W)
                return vector("l", rest, lambda lane: fn(o * W + lane, lane))
            return loop("o", (N + W - 1) // W, "serial", outer)
        least = ex.const(-np.inf, dt.f32)
        return Alloc(peak, (Alloc(total, (Alloc(row, (
            vector("l", W, lambda v: Store(peak, (v,), least)),
            vector("l", W, lambda v: Store(total, (v,), ex.const(0, dt.f32))),
            sweep(lambda j, v: Store(peak, (v,), ex.binary("max", peak[v], x[r, j]))),
            Let(top, ex.hreduce("max", peak)),
            sweep(lambda j, v: (
                Store(row, (j,), ex.unary("exp", x[r, j] - top)),
                Store(total, (v,), total[v] + row[j]),
            )),
            Let(inv, ex.const(1, dt.f32) / ex.hreduce("sum", total)),
            vector("j", N, lambda j: Store(y, (r, j), row[j] * inv)),
        )),)),))

    k = kernel([x], [y], loop("r", M, "parallel", chunk))
    a, out = rand(rows, n) * 20, np.zeros((rows, n), np.float32)
    Compiled(k).run(a, out, N=n, M=rows)
    if n:
        e = np.exp(a.astype(np.float64) - a.max(1, keepdims=True))
        np.testing.assert_allclose(out, e / e.sum(1, keepdims=True), rtol=5e-6, atol=1e-30)


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("n", [1, 2, 5, 7, 8, 16])
def test_hreduce_is_the_documented_tree(op: str, n: int) -> None:
    x, y = Buffer("x", dt.f32, (3, n)), Buffer("y", dt.f32, (3,))
    acc = Buffer("acc", dt.f32, (3, n), "register")
    body = Alloc(acc, (
        loop("r", 3, "unroll", lambda r: loop("l", n, "vector", lambda i: Store(
            acc, (r, i), x[r, i]), 1 << (n - 1).bit_length())),
        loop("r", 3, "unroll", lambda r: Store(y, (r,), ex.hreduce(op, acc, (r,)))),
    ))
    a, out = rand(3, n), np.zeros(3, np.float32)
    Compiled(kernel([x], [y], body)).run(a, out)
    fn = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[op]
    rows = a.T.copy()
    while len(rows) > 1:
        h = (len(rows) + 1) // 2
        rows = np.concatenate([fn(rows[: len(rows) - h], rows[h:]), rows[len(rows) - h: h]])
    np.testing.assert_array_equal(out, rows[0])


def test_serial_loops_and_lets_order_loads_and_stores() -> None:
    """Prefix sums in place, element by element, then each added to its neighbour."""
    x, y = Buffer("x", dt.i32, (N,)), Buffer("y", dt.i32, (N,))
    first = ex.let_var("first", dt.i32)
    body = (
        loop("i", N, "serial", lambda i: Store(y, (i,), x[i])),
        loop("i", N - 1, "serial", lambda i: Store(y, (i + 1,), y[i] + y[i + 1])),
        Let(first, y[0]),
        Store(y, (ex.index(0),), y[0] + 100),
        Store(y, (ex.index(1),), y[0] + first),
    )
    a, out = np.arange(1, 21, dtype=np.int32), np.zeros(20, np.int32)
    Compiled(kernel([x], [y], *body)).run(a, out, N=20)
    want = np.cumsum(a)
    want[0], want[1] = 101, 102
    np.testing.assert_array_equal(out, want)


def test_unrolled_lets_are_bound_anew() -> None:
    x, y = Buffer("x", dt.f32, (4, N)), Buffer("y", dt.f32, (4, N))
    v = ex.let_var("v", dt.f32)
    body = vector("j", N, lambda j: loop("i", 4, "unroll", lambda i: (
        Let(v, x[i, j] * 2.0), Store(y, (i, j), v + v * v))))
    a, out = rand(4, 21), np.zeros((4, 21), np.float32)
    Compiled(kernel([x], [y], body)).run(a, out, N=21)
    np.testing.assert_array_equal(out, 2 * a + (2 * a) * (2 * a))


def test_while_and_if() -> None:
    """Collatz steps: a loop whose trips only the data tells."""
    x, y = Buffer("x", dt.i64, (N,)), Buffer("y", dt.i32, (N,))
    cur, n = Buffer("cur", dt.i64, (), "register"), Buffer("n", dt.i32, (), "register")

    def chunk(i: Expr) -> Stmt:
        odd = ex.binary("and", cur[()], ex.const(1, dt.i64)).eq(1)
        return Alloc(cur, (Alloc(n, (
            Store(cur, (), x[i]),
            Store(n, (), ex.const(0, dt.i32)),
            While(cur[()] > 1, (
                If(odd, (Store(cur, (), cur[()] * 3 + 1),),
                   (Store(cur, (), ex.binary("shr", cur[()], 1)),)),
                Store(n, (), n[()] + 1),
            )),
            Store(y, (i,), n[()]),
        )),))

    def steps(v: int) -> int:
        return 0 if v == 1 else 1 + steps(v * 3 + 1 if v % 2 else v // 2)

    a, out = np.arange(1, 40), np.zeros(39, np.int32)
    Compiled(kernel([x], [y], loop("i", N, "serial", chunk))).run(a, out, N=39)
    assert out.tolist() == [steps(v) for v in a]


@pytest.mark.parametrize("n", [1, 16, 19])
def test_divergent_if_masks_lanes(n: int) -> None:
    x, y, z = (Buffer(s, dt.f32, (N,)) for s in "xyz")
    body = vector("i", N, lambda i: If(
        x[i] > 0.0, (Store(y, (i,), x[i] * 2.0),),
        (Store(y, (i,), x[i] * 3.0), Store(z, (ex.index(0),), x[i]))))
    a, out, last = rand(n), guarded(n), np.full(n, 5, np.float32)
    Compiled(kernel([x], [y, z], body)).run(a, out, last, N=n)
    np.testing.assert_array_equal(out[:n], np.where(a > 0, a * 2, a * np.float32(3)))
    want = a[a <= 0][-1] if (a <= 0).any() else 5
    assert last[0] == want
    assert (last[1:] == 5).all()


def test_large_local_buffers_lie_in_the_workers_scratch() -> None:
    x, y = Buffer("x", dt.f64, (3, N)), Buffer("y", dt.f64, (3, N))
    big, small = Buffer("big", dt.f64, (N,), "local"), Buffer("small", dt.f64, (8,), "local")
    body = loop("r", 3, "parallel", lambda r: Alloc(big, (Alloc(small, (
        loop("j", N, "serial", lambda j: (
            Store(big, (j,), x[r, j] * 2.0), Store(small, (ex.mod(j, 8),), x[r, j]))),
        loop("j", N, "serial", lambda j: Store(
            y, (r, j), big[ex.index(N - 1) - j] + small[ex.mod(j, 8)])),
    )),)))
    a, out = np.random.rand(3, 16), np.zeros((3, 16))
    Compiled(kernel([x], [y], body)).run(a, out, N=16)
    np.testing.assert_array_equal(out, 2 * a[:, ::-1] + np.tile(a[:, 8:], 2))


def test_padded_rows() -> None:
    x, y = Buffer("x", dt.f32, (5, 7)), Buffer("y", dt.f32, (5, 7))
    tile = Buffer("tile", dt.f32, (5, 7), "local", pad=3)
    body = Alloc(tile, (
        loop("i", 5, "serial", lambda i: vector("j", 7, lambda j: Store(tile, (i, j), x[i, j]))),
        loop("i", 5, "serial", lambda i: vector("j", 7, lambda j: Store(y, (i, j), tile[i, j]))),
    ))
    a, out = rand(5, 7), np.zeros((5, 7), np.float32)
    Compiled(kernel([x], [y], body)).run(a, out)
    np.testing.assert_array_equal(out, a)


def test_in_place_pairs_may_alias() -> None:
    """y is x's memory, shifted reads see what was written, as in the order of the text."""
    x, y = Buffer("x", dt.f32, (N,)), Buffer("y", dt.f32, (N,))
    body = loop("i", N - 1, "serial", lambda i: Store(y, (i + 1,), x[i] + x[0]))
    plain = kernel([x], [y], body)
    c = Compiled(plain.replace(inplace=((y, x),)))
    a = np.ones(9, np.float32)
    c.run(a, a, N=9)
    assert a.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert "noalias" in lower_phase(plain, plain.phases[0], "p", HOST)
    assert "noalias" not in c.texts[0]


# ---- the register tile

def gemm(n: int, rows: int, vectors: int) -> LoopKernel:
    """C = A·B by register tiles of `rows` x `vectors` vectors."""
    w = HOST.lanes(dt.f32)
    cols = vectors * w
    a, b, c = (Buffer(s, dt.f32, (n, n)) for s in "abc")
    acc = Buffer("acc", dt.f32, (rows, cols), "register")
    zero = ex.const(0, dt.f32)

    def tile(fn: Any) -> Stmt:
        return loop("i", rows, "unroll", lambda i: loop("v", vectors, "unroll", lambda v: loop(
            "l", w, "vector", lambda lane: fn(i, v * w + lane), w)))

    def block(i0: Expr) -> Stmt:
        def column(j0: Expr) -> Stmt:
            def at(i: Expr, j: Expr) -> tuple[Expr, Expr]:
                return i0 * rows + i, j0 * cols + j
            return Alloc(acc, (
                tile(lambda i, j: Store(acc, (i, j), zero)),
                loop("k", n, "serial", lambda k: tile(lambda i, j: Store(acc, (i, j), ex.fma(
                    a[i0 * rows + i, k], b[k, j0 * cols + j], acc[i, j])))),
                tile(lambda i, j: Store(c, at(i, j), acc[i, j])),
            ))
        return loop("j0", n // cols, "serial", column)

    phase = Phase((loop("i0", n // rows, "parallel", block),))
    return LoopKernel("gemm", (a, b), (c,), (), (phase,))


def test_register_tile_is_right_and_stays_in_registers() -> None:
    k = gemm(256, 8, 2)
    c = Compiled(k)
    a, b, out = rand(256, 256), rand(256, 256), np.zeros((256, 256), np.float32)
    c.run(a, b, out)
    want = a.astype(np.float64) @ b
    np.testing.assert_allclose(out, want, atol=1e-4)
    if HOST.vector_bits == 512:
        assembly = codegen.as_assembly(c.texts[0], HOST)
        assert assembly.count("vfmadd") == 16, "one per accumulator: k is not unrolled"
        assert "(%rsp" not in assembly, "an accumulator was spilled"


def peak_kernel() -> LoopKernel:
    """Nothing but fused multiply-adds: what the machine can do."""
    w = HOST.lanes(dt.f32)
    x, y = Buffer("x", dt.f32, (w,)), Buffer("y", dt.f32, (12, w))
    acc = Buffer("acc", dt.f32, (12, w), "register")

    def tile(fn: Any) -> Stmt:
        return loop("i", 12, "unroll", lambda i: loop("l", w, "vector", lambda v: fn(i, v), w))

    body = Alloc(acc, (
        tile(lambda i, v: Store(acc, (i, v), x[v])),
        loop("k", 100000, "serial", lambda k: tile(
            lambda i, v: Store(acc, (i, v), ex.fma(acc[i, v], x[v], x[v])))),
        tile(lambda i, v: Store(y, (i, v), acc[i, v])),
    ))
    return kernel([x], [y], body)


def seconds(c: Compiled, arrays: list[np.ndarray], chunks: int, rounds: int) -> float:
    words, _flag, _scratch = c.args(arrays, {})
    fn, args, best = c.functions[0], words.ctypes.data, 1e9
    for _ in range(rounds):
        start = time.perf_counter()
        for chunk in range(chunks):
            fn(args, chunk, 0)
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.slow
def test_register_tile_reaches_most_of_peak() -> None:
    n, w = 256, HOST.lanes(dt.f32)
    rows, vectors = (8, 2) if HOST.vector_bits == 512 else (4, 2)
    a, b, out = rand(n, n), rand(n, n), np.zeros((n, n), np.float32)
    small = np.ones(w, np.float32)
    shares = []
    for _ in range(3):  # a shared machine: the best of a few
        tile = 2 * n**3 / seconds(Compiled(gemm(n, rows, vectors)), [a, b, out], n // rows, 30)
        most = 2 * 12 * w * 100000 / seconds(
            Compiled(peak_kernel()), [small * 0.5, np.zeros((12, w), np.float32)], 1, 10)
        shares.append(tile / most)
    assert max(shares) >= 0.7, shares


# ---- the grammar's limits

def test_broken_kernels_are_refused() -> None:
    x, y = Buffer("x", dt.f32, (N,)), Buffer("y", dt.f32, (N,))
    inner = loop("i", N, "parallel", lambda i: Store(y, (i,), x[i]))
    for body, message in (
        (loop("j", 2, "serial", lambda j: inner), "outermost"),
        (loop("i", N, "unroll", lambda i: Store(y, (i,), x[i])), "not constant"),
        (loop("i", N, "thread", lambda i: Store(y, (i,), x[i])), "thread"),
        (Alloc(Buffer("s", dt.f32, (4,), "shared"), ()), "shared"),
        (vector("i", N, lambda i: vector("j", N, lambda j: Store(y, (j,), x[i]))), "inside"),
        (Store(y, (ex.var("loose", N),), x[0]), "no value"),
    ):
        k = kernel([x], [y], body)
        with pytest.raises(InternalError, match=message):
            lower_phase(k, k.phases[0], "p", HOST)


def test_cancel_ends_a_while_loop() -> None:
    y = Buffer("y", dt.i32, (1,))
    body = While(y[0] < 5, (Store(y, (ex.index(0),), y[0] * 1),))
    c = Compiled(kernel([], [y], body))
    words, _f, _s = c.args([np.zeros(1, np.int32)], {})
    context = ContextStruct()
    context.cancel = 1
    words[0] = ctypes.addressof(context)
    c.functions[0](words.ctypes.data, 0, 0)
