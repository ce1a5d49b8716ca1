"""Attention as one kernel: sizes around its tiles, special values, threads, memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu.attention.cost import choose
from flowc.backends.cpu.contract.cost import Machine
from flowc.compiler import driver
from flowc.compiler.options import Options
from flowc.ir import interpreter
from flowc.ir.builder import Builder
from flowc.ir.core import Function
from flowc.ir.dims import Dim, sym
from flowc.ir.dtypes import f32
from flowc.ir.plan import launches
from flowc.ir.types import TensorType
from flowc.runtime import Context, ThreadPool
from guarded_call import call_guarded

Array = np.ndarray[Any, Any]


def attention(
    lead: tuple[Dim, ...], rows: Dim, keys: Dim, depth: int, lanes: int, mask: bool = False
) -> Function:
    """softmax(q·kᵀ / 4 + mask)·v."""
    b = Builder("main")
    shapes = [(*lead, rows, depth), (*lead, keys, depth), (*lead, keys, lanes)]
    q, k, v = (b.param(TensorType(f32, s), n) for s, n in zip(shapes, "qkv", strict=True))
    r = len(lead) + 1
    at = tuple(range(r - 1))
    s = b.dot(q, k, contract=((r,), (r,)), batch=(at, at))
    s = b.mul(s, b.const(0.25, s))
    if mask:
        s = b.add(s, b.broadcast_to(b.param(TensorType(f32, (rows, keys)), "mask"), s.ty.shape))

    def along(x: Any) -> Any:
        return b.broadcast(x, shape=s.ty.shape, dims=(*at, r - 1))

    e = b.exp(b.sub(s, along(b.reduce(s, op="max", axes=(r,)))))
    p = b.div(e, along(b.reduce(e, op="sum", axes=(r,))))
    return b.finish([b.dot(p, v, contract=((r,), (r - 1,)), batch=(at, at))])


def arrays(
    lead: tuple[int, ...], rows: int, keys: int, depth: int, lanes: int, mask: bool = False
) -> list[Array]:
    rng = np.random.default_rng(rows * keys + depth)
    shapes = [(*lead, rows, depth), (*lead, keys, depth), (*lead, keys, lanes)]
    return [rng.standard_normal(s, np.float32) for s in [*shapes, *[(rows, keys)] * mask]]


def expected(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    with np.errstate(all="ignore"):
        s = q @ np.swapaxes(k, -1, -2) / 4 + (0 if mask is None else mask)
        e = np.exp(s - s.max(-1, keepdims=True, initial=-np.inf))
        return e / e.sum(-1, keepdims=True) @ v  # type: ignore[no-any-return]


@cache
def compiled(f: Function, cpu: str = "") -> Any:
    made = driver.compile_program(f, Options(cpu=cpu))
    (step,) = launches(made.program.steps)
    assert step.variants[-1].kernel.note.startswith("attention")
    return made


def check(f: Function, args: list[Array], error: float = 1e-5) -> None:
    exe = compiled(f).load()
    for front in (False, True):
        out = call_guarded(exe, args, front=front)[0][0]
        np.testing.assert_allclose(out, expected(*args), 0, error)


SIZES = (  # batch, rows, keys, depth, lanes
    ((), 8, 2, 1, 3), ((2,), 9, 3, 16, 5), ((3, 4), 17, 33, 32, 80), ((9,), 64, 64, 40, 64),
    ((12,), 127, 129, 64, 64), ((1, 2), 128, 128, 80, 40), ((), 300, 70, 20, 16),
    ((2,), 200, 47, 128, 128), ((0,), 16, 16, 8, 8), ((2,), 16, 0, 8, 8), ((1,), 65, 1025, 8, 3),
)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size: Any, mask: bool) -> None:
    check(attention(*size, mask), arrays(*size, mask))


@pytest.fixture(scope="module")
def any_size() -> Function:
    return attention((sym("B"), 2), sym("N"), sym("M"), 24, 40, True)


@pytest.mark.parametrize("rows", [0, 1, 3, 8, 65, 130])
@pytest.mark.parametrize("keys", [0, 1, 2, 63, 64, 65])
def test_any_size(any_size: Function, rows: int, keys: int) -> None:
    check(any_size, arrays((2, 2), rows, keys, 24, 40, True))


def test_special_values() -> None:
    """Rows that are masked whole, infinities and NaNs, as the interpreter has them."""
    f = attention((3,), 33, 40, 16, 24, True)
    q, k, v, mask = arrays((3,), 33, 40, 16, 24, True)
    mask[np.arange(40) > np.arange(33)[:, None]] = -np.inf
    mask[5] = -np.inf
    mask[6, 3], mask[7, 39], mask[8, 1] = np.nan, np.inf, -1e30
    q[1, 9, 2], k[2, 1, 0], v[0, 39, 5], v[1, 0, 7] = np.nan, np.inf, np.inf, np.nan
    out = call_guarded(compiled(f).load(), [q, k, v, mask])[0][0]
    (want,) = interpreter.run(f, [q, k, v, mask])
    np.testing.assert_allclose(out, want, 0, 3e-6)
    assert np.isnan(out[:, 5:8]).all()
    assert np.isfinite(out[0, 9:, :5]).all()


@pytest.mark.parametrize("size", [((12,), 70, 90, 32, 32), ((2,), 300, 90, 32, 32)], ids=str)
def test_the_same_bits_on_any_number_of_threads(size: Any) -> None:
    exe, args = compiled(attention(*size)).load(), arrays(*size)
    contexts = (Context(), Context(ThreadPool(2)), Context(ThreadPool(3)))
    first, *others = (call_guarded(exe, args, ctx=c)[0][0].tobytes() for c in contexts)
    assert all(first == x for x in others)


def test_rows_do_not_depend_on_their_number() -> None:
    """A row's bits are the same wherever it lies in a block of rows."""
    f = attention((2,), sym("N"), 50, 16, 16)
    q, k, v = arrays((2,), 131, 50, 16, 16)
    exe = compiled(f).load()
    whole = call_guarded(exe, [q, k, v])[0][0]
    for start, stop in ((0, 1), (3, 130), (64, 131)):
        part = call_guarded(exe, [np.ascontiguousarray(q[:, start:stop]), k, v])[0][0]
        assert part.tobytes() == np.ascontiguousarray(whole[:, start:stop]).tobytes()


@pytest.mark.parametrize("lead", [(4, 8), (4,)])
def test_scores_do_not_go_to_memory(lead: tuple[int, ...]) -> None:
    made = compiled(attention(lead, 512, 512, 64, 64))
    scores = 4 * int(np.prod(lead)) * 512 * 512
    exe = made.load()
    assert exe.workspace_size(exe.new_dims(), 2) < scores / 2


@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3"])
def test_narrower_vectors(cpu: str) -> None:
    size = ((3,), 37, 45, 16, 24)
    exe, args = compiled(attention(*size, True), cpu).load(), arrays(*size, True)
    np.testing.assert_allclose(call_guarded(exe, args)[0][0], expected(*args), 0, 3e-6)


def test_tiles_fit_the_registers_and_the_cache() -> None:
    for registers in (16, 32):
        mach = Machine(64 if registers == 32 else 32, registers)
        w = mach.lanes(f32)
        for rows in (8, 128, 4096, sym("N")):
            for keys in (1, 64, 2048, 1 << 20, sym("M")):
                t = choose(rows, keys, 64, 64, w, 4, mach)
                for tile in (t.scores, t.out):
                    assert tile.mr == t.scores.mr
                    assert tile.mr * tile.nv + tile.nv < registers
                many = isinstance(keys, int) and t.rows * keys * 4 > mach.l2
                assert t.tiles == 1 or not many
