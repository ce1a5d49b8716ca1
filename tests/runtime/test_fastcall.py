"""The fast path: same results as the generic one, and what it leaves to it."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowc.runtime import Context, Executable, FastCall, ThreadPool
from flowc.runtime.abi import ALIGNMENT
from flowc.runtime.arrays import address
from flowc.runtime.errors import InvalidArgumentError, UnknownError
from guard import guarded

Get = Callable[[str], Executable]
f32 = np.float32


def native(fast: FastCall) -> Callable[..., Any]:
    assert fast.native is not None
    return fast.native


@pytest.mark.parametrize("release_gil", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5, 16383, 16384, 50_000])
def test_outputs(executable: Get, n: int, release_gil: bool) -> None:
    fast = FastCall(executable("axpy"), release_gil=release_gil)
    a, x, y = np.asarray(2, f32), np.arange(n, dtype=f32), np.ones(n, f32)
    (z,) = native(fast)(a, x, y)
    np.testing.assert_array_equal(z, 2 * x + y)
    assert z.dtype == f32
    assert address(z) % ALIGNMENT == 0
    assert z.flags.writeable
    z[...] = 0


def test_what_does_not_fit_takes_the_checking_path(executable: Get) -> None:
    fast = FastCall(executable("axpy"))
    a, x = np.asarray(2, f32), np.arange(6, dtype=f32)
    for bad in (x.astype(np.float64), x[:, None], x[::2], x.astype(">f4"), memoryview(x), 3, "x"):
        assert native(fast)(a, bad, x) is None
    assert native(fast)(a, x) is None
    assert native(fast)(a, x, x[:5].copy()) is None
    (z,) = fast(2 * np.ones((), f32), memoryview(x), x)
    np.testing.assert_array_equal(z, 3 * x)
    with pytest.raises(InvalidArgumentError, match="differ in B"):
        fast(a, x, x[:5])


def test_static_sizes_are_checked(executable: Get) -> None:
    source = executable("axpy")
    fast = FastCall(source)
    x = np.ones(3, f32)
    assert native(fast)(x, x, x) is None
    with pytest.raises(InvalidArgumentError, match="input 'a'"):
        fast(x, x, x)


def test_state_and_error_reports(executable: Get) -> None:
    v = np.zeros(4, f32)
    fast = FastCall(executable("counter"), [v])
    for _ in range(5):
        assert fast(np.asarray(1, f32)) == []
    np.testing.assert_array_equal(v, np.full(4, 5, f32))
    divide = FastCall(executable("divide"))
    with pytest.raises(InvalidArgumentError, match=r"division by zero.*floordiv.*train.py:30"):
        divide(np.asarray(1, np.int32), np.asarray(0, np.int32))
    (q,) = divide(np.asarray(6, np.int32), np.asarray(3, np.int32))
    assert q == 2


def test_workspace_grows(executable: Get) -> None:
    fast = FastCall(executable("psum"))
    for n in (10, 1 << 20, 100):
        (s,) = fast(np.ones(n, f32))
        assert s == n
    assert native(fast)(np.ones(1000, f32)) == [1000]


def test_data_sized_outputs_are_left_to_the_checking_path(executable: Get) -> None:
    fast = FastCall(executable("positive"))
    assert fast.native is None
    (p,) = fast(np.array([1, -1], f32))
    np.testing.assert_array_equal(p, [1])


def test_host_call_errors(executable: Get) -> None:
    def fail(buffers: int, dims: int) -> int:
        raise KeyError("here")

    for release_gil in (False, True):
        ctx = Context(host_calls=[fail, fail])
        with pytest.raises(UnknownError, match="KeyError"):
            FastCall(executable("callbacks"), ctx=ctx, release_gil=release_gil)()


def test_reads_end_at_the_arrays(executable: Get) -> None:
    fast = FastCall(executable("axpy"))
    with guarded((9,), f32, fill=1) as x, guarded((9,), f32, fill=2) as y:
        (z,) = native(fast)(np.asarray(1, f32), x, y)
        np.testing.assert_array_equal(z, np.full(9, 3, f32))


def test_the_builtin_outlives_its_maker(executable: Get) -> None:
    call = native(FastCall(executable("axpy")))
    gc.collect()
    x = np.ones(3, f32)
    np.testing.assert_array_equal(call(np.asarray(1, f32), x, x)[0], 2 * x)


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="needs reference counts")
def test_no_reference_is_leaked(executable: Get) -> None:
    fast = FastCall(executable("axpy"))
    a, x = np.asarray(1, f32), np.ones(3, f32)
    kind = x.dtype
    before = sys.getrefcount(kind), sys.getrefcount(x), sys.getrefcount(None)
    for _ in range(1000):
        fast(a, x, x)
        native(fast)(a, x)
    after = sys.getrefcount(kind), sys.getrefcount(x), sys.getrefcount(None)
    assert all(abs(p - q) < 50 for p, q in zip(before, after, strict=True))


@pytest.mark.parametrize("release_gil", [False, True])
def test_one_fast_call_from_several_threads(executable: Get, release_gil: bool) -> None:
    pool = ThreadPool(2)
    fast = FastCall(executable("psum"), ctx=Context(pool), release_gil=release_gil)
    wrong: list[object] = []

    def work(n: int) -> None:
        x = np.ones(n, f32)
        for _ in range(200):
            (s,) = fast(x)
            if s != n:
                wrong.append(s)

    threads = [threading.Thread(target=work, args=(n,)) for n in (1000, 70_000, 300_000)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    pool.close()
    assert not wrong


def test_overhead_is_printed(executable: Get) -> None:
    def best(call: Callable[..., Any], *args: Any) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(5000):
                call(*args)
            times.append((time.perf_counter() - start) / 5000)
        return min(times) * 1e6

    a, b, x = np.asarray(1, f32), np.asarray(2, np.int32), np.ones(8, f32)
    counter, v = executable("counter"), np.zeros(4, f32)
    held = FastCall(counter, [v], release_gil=False)
    freed = FastCall(counter, [v])
    axpy, divide = FastCall(executable("axpy"), release_gil=False), FastCall(executable("divide"))
    print(
        f"\nµs a call: builtin, 1 input, 0 outputs {best(native(held), a):.3f}; FastCall "
        f"{best(held, a):.3f}; GIL released {best(freed, a):.3f}; 3 inputs, 1 output "
        f"{best(axpy, a, x, x):.3f}; 2 inputs, 1 output, GIL released {best(divide, b, b):.3f}; "
        f"generic path {best(counter.call, [a], [v], None, Context()):.2f}"
    )
