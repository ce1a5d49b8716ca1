"""Products whose matrix does not fit into the caches, and products of bf16 by pairs.

The schedules are chosen as for a machine with tiny caches, so that small matrices are large.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu.contract import match, schedule, stream, variants
from flowc.backends.cpu.contract.cost import Machine
from flowc.backends.cpu.target import LEVELS, CpuTarget, host, level
from flowc.ir import dims
from flowc.ir.kernel.form import Prefetch, walk_stmts
from flowc.ir.kernel.interp import run_kernel
from flowc.ir.kernel.parse import parse_kernel
from flowc.ir.kernel.text import print_kernel

from .contract_cases import data, dot, run_all
from .contract_native import HostTarget, Native

B = dims.sym("B")
PAIRS = replace(HostTarget(), has_bf16_dot=host().has_bf16_dot)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 2 KiB of cache, whatever the target."""
    monkeypatch.setattr(variants, "machine", lambda target: Machine(l2=2048, bf16_dot=True))
    monkeypatch.setattr(stream, "DEPTH", 24)


def shapes(m: Any, k: int, n: int, ta: int, tb: int) -> Any:
    return dot((k, m) if ta else (m, k), (n, k) if tb else (k, n), ((1 - ta,), (tb,)))


def check(kernel: Any, env: dict[str, int], ta: int, tb: int, notes: str) -> None:
    """All variants against float64; one of them has `notes` in its note."""
    (a, b), results, kernels = run_all(kernel, env)
    assert any(notes in k.note for k in kernels), [k.note for k in kernels]
    a, b = a.astype(np.float64), b.astype(np.float64)
    want = (a.T if ta else a) @ (b.T if tb else b)
    for (out,) in results:
        np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5 * want.shape[0] * 10)


@pytest.mark.parametrize(("m", "k", "n"), [(9, 17, 48), (16, 24, 97), (33, 49, 130), (13, 100, 47)])
@pytest.mark.parametrize("ta", [0, 1])
def test_streamed(m: int, k: int, n: int, ta: int) -> None:
    check(shapes(m, k, n, ta, 0), {}, ta, 0, "streamed")
    if not ta:
        check(shapes(B, k, n, 0, 0), {"B": m}, 0, 0, "streamed")


def test_streamed_rows_of_a_batch_and_no_rows() -> None:
    kernel = dot((B, 40), (40, 100))
    c = match(kernel)
    assert c is not None
    k = next(v.kernel for v in schedule(kernel, c) if "streamed" in v.kernel.note)
    native = Native(k)
    for m in (0, 1, 3, 8, 9, 31):
        arrays = {b: data(b, {"B": m}, i) for i, b in enumerate(kernel.inputs)}
        native.prepare(arrays, {"B": m})()
        a, b = (arrays[x].astype(np.float64) for x in kernel.inputs)
        np.testing.assert_allclose(arrays[kernel.outputs[0]], a @ b, rtol=1e-4, atol=1e-4)


def test_streamed_asks_for_the_next_panel() -> None:
    kernel = dot((16, 40), (40, 192))
    c = match(kernel)
    assert c is not None
    (v,) = schedule(kernel, c)
    found = [s for p in v.kernel.phases for s in walk_stmts(p.body) if isinstance(s, Prefetch)]
    assert found
    assert all(s.buffer is kernel.inputs[1] for s in found)
    text = print_kernel(v.kernel)
    assert "prefetch b[" in text
    assert print_kernel(parse_kernel(text)) == text


@pytest.mark.parametrize(("m", "k", "n"), [(1, 40, 33), (1, 7, 5000), (2, 9, 2500), (8, 41, 1100)])
@pytest.mark.parametrize("ta", [0, 1])
def test_swept(m: int, k: int, n: int, ta: int) -> None:
    check(shapes(m, k, n, ta, 0), {}, ta, 0, "swept")


def test_no_rows_of_a_large_matrix() -> None:
    for dt in ("f32", "bf16"):
        _, results, _ = run_all(dot((0, 40), (40, 900), dt=dt), {})
        assert all(out.shape == (0, 900) for (out,) in results)


def test_one_row_of_many_is_swept() -> None:
    check(dot((B, 40), (40, 70)), {"B": 1}, 0, 0, "swept")
    check(dot((B, 40), (40, 70)), {"B": 6}, 0, 0, "swept")


@pytest.mark.parametrize("m", [1, 2, 4])
def test_rows_of_a_large_matrix_one_by_one(m: int) -> None:
    check(shapes(m, 130, 65, 0, 1), {}, 0, 1, "dot products 1x")


def test_same_bits_on_every_way() -> None:
    """Streamed, swept and blocked are one chain of multiply-adds over k."""
    kernel = dot((B, 100), (100, 97))
    (_, _), results, kernels = run_all(kernel, {"B": 5})
    assert len({k.note.split(",")[0] for k in kernels}) > 1
    for (out,) in results[1:]:
        assert out.tobytes() == results[0][0].tobytes()


@pytest.mark.parametrize(("m", "k", "n"), [(16, 40, 70), (7, 33, 1500), (1, 20, 90)])
def test_no_races(m: int, k: int, n: int) -> None:
    kernel = dot((m, k), (k, n))
    c = match(kernel)
    assert c is not None
    inputs = [data(b, {}, i) for i, b in enumerate(kernel.inputs)]
    want = inputs[0].astype(np.float64) @ inputs[1].astype(np.float64)
    for v in schedule(kernel, c):
        for order in ("reverse", 3):
            (out,) = run_kernel(v.kernel, inputs, order=order)
            np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-4)


# ---- bf16

@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("m", "k", "n"), [(16, 16, 16), (17, 33, 50), (40, 64, 97), (16, 101, 33)])
def test_pairs_of_bf16(m: int, k: int, n: int, ta: int, tb: int) -> None:
    """Products are exact and sums f32: what is left is the rounding of the result."""
    kernel = dot((k, m) if ta else (m, k), (n, k) if tb else (k, n), ((1 - ta,), (tb,)), dt="bf16")
    for target in (HostTarget(), PAIRS):  # by two multiply-adds, and by the instruction if any
        (a, b), results, kernels = run_all(kernel, {}, target)
        assert "bf16 pairs" in kernels[-1].note
        a, b = (x.astype(np.float64) for x in (a, b))
        want = (a.T if ta else a) @ (b.T if tb else b)
        for (out,) in results:
            np.testing.assert_allclose(out.astype(np.float64), want, rtol=2.0**-8,
                                       atol=1e-6 * k)


def test_pairs_of_special_values() -> None:
    kernel = dot((16, 32), (32, 16), dt="bf16")
    c = match(kernel)
    assert c is not None
    k = schedule(kernel, c, PAIRS)[-1].kernel
    native = Native(k, PAIRS)
    arrays = {b: data(b, {}, i) for i, b in enumerate(kernel.inputs)}
    a, b = (arrays[x] for x in kernel.inputs)
    a[0, 3], a[1, 4], b[5, 2] = np.inf, np.nan, -np.inf
    b[3, 0], b[3, 1], a[2, 5] = 0, -1, 0
    native.prepare(arrays, {})()
    out = arrays[kernel.outputs[0]].astype(np.float32)
    with np.errstate(invalid="ignore"):
        want = a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(out), np.isinf(want))


def test_pairs_in_the_interpreter() -> None:
    kernel = dot((16, 18), (18, 20), dt="bf16")
    c = match(kernel)
    assert c is not None
    k = schedule(kernel, c)[-1].kernel
    text = print_kernel(k)
    assert "dot_bf16(" in text
    assert print_kernel(parse_kernel(text)) == text
    inputs = [data(b, {}, i) for i, b in enumerate(kernel.inputs)]
    (out,) = run_kernel(k, inputs)
    want = inputs[0].astype(np.float64) @ inputs[1].astype(np.float64)
    np.testing.assert_allclose(out.astype(np.float64), want, rtol=2.0**-8, atol=1e-5)


def test_which_targets_take_pairs() -> None:
    assert not any(level(name).has_bf16_dot for name in LEVELS)
    linux = "x86_64-unknown-linux-gnu"
    assert CpuTarget(linux, "cooperlake").has_bf16_dot
    assert not CpuTarget(linux, "icelake-server").has_bf16_dot
    assert not CpuTarget("aarch64-unknown-linux-gnu").has_bf16_dot
