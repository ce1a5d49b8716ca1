"""The generic calling path: results, checks, errors."""

from __future__ import annotations

import threading
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from flowc.runtime import Context, Executable, ThreadPool, empty
from flowc.runtime.abi import ALIGNMENT
from flowc.runtime.arrays import address
from flowc.runtime.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnknownError,
)
from guard import guarded

Get = Callable[[str], Executable]
f32 = np.float32


@pytest.mark.parametrize("n", [0, 1, 3, 1000, 100_000])
def test_symbolic_batch(executable: Get, n: int) -> None:
    x, y = np.arange(n, dtype=f32), np.ones(n, f32)
    (z,) = executable("axpy").call([f32(2), x, y])
    np.testing.assert_array_equal(z, 2 * x + y)
    assert address(z) % ALIGNMENT == 0


def test_strided_unaligned_and_swapped_inputs_are_copied(executable: Get) -> None:
    x = np.arange(20, dtype=f32)[::2]
    raw = np.zeros(41, np.uint8)
    y = raw[1:].view(f32)
    assert not y.flags.aligned
    (z,) = executable("axpy").call([np.asarray(3, ">f4"), x, y])
    np.testing.assert_array_equal(z, 3 * x)


def test_inputs_are_not_read_past_their_end(executable: Get) -> None:
    for front in (False, True):
        with guarded((7,), f32, fill=1, front=front) as x, guarded((7,), f32, fill=2) as y:
            (z,) = executable("axpy").call([f32(1), x, y])
            np.testing.assert_array_equal(z, np.full(7, 3, f32))


def test_out(executable: Get) -> None:
    x = np.ones(8, f32)
    out, odd = empty((8,), np.dtype(f32)), np.empty(9, f32)[1:]
    for given in (out, odd):
        (z,) = executable("axpy").call([f32(2), x, x], out=[given])
        assert z is given
        np.testing.assert_array_equal(z, np.full(8, 3, f32))
    (z,) = executable("axpy").call([f32(2), x, x], out=[x])  # overlaps the inputs
    np.testing.assert_array_equal(z, np.full(8, 3, f32))
    with pytest.raises(InvalidArgumentError, match=r"output 'z' is float32\[8\]"):
        executable("axpy").call([f32(2), x, x], out=[np.empty(7, f32)])


def test_state_is_updated_in_place(executable: Get) -> None:
    v = np.zeros(4, f32)
    for _ in range(3):
        assert executable("counter").call([f32(2)], [v]) == []
    np.testing.assert_array_equal(v, np.full(4, 6, f32))


def test_state_has_to_fit(executable: Get) -> None:
    run = executable("counter")
    with pytest.raises(InvalidArgumentError, match="1 state buffers, 0 were given"):
        run.call([f32(1)])
    with pytest.raises(InvalidArgumentError, match=r"state 'v'.*f32\[4\]: given float32\[5\]"):
        run.call([f32(1)], [np.zeros(5, f32)])
    with pytest.raises(FailedPreconditionError, match="state 'v'"):
        run.call([f32(1)], [np.zeros(8, f32)[::2]])


def test_errors_name_input_line_and_shapes(executable: Get) -> None:
    run, x = executable("axpy"), np.ones(3, f32)
    with pytest.raises(InvalidArgumentError, match="takes 3 inputs, 1 were given"):
        run.call([x])
    with pytest.raises(InvalidArgumentError, match=r"'x' \(train.py:1\): f32\[B\]: .*float64"):
        run.call([f32(1), np.ones(3), x])
    with pytest.raises(InvalidArgumentError, match=r"input 'yy'.*f32\[B\]: given shape \[3,1\]"):
        run.call([f32(1), x, x[:, None]])
    with pytest.raises(InvalidArgumentError, match="not an array"):
        run.call([f32(1), [[1], [1, 2]], x])
    with pytest.raises(InvalidArgumentError) as caught:
        run.call([f32(1), x, np.ones(4, f32)])
    text = str(caught.value)
    for part in ("add: x and yy differ", "train.py:12", "input 'x'", "[3]", "[4]"):
        assert part in text


def test_wrong_ml_dtype(executable: Get) -> None:
    with pytest.raises(InvalidArgumentError, match="bfloat16"):
        executable("axpy").call([f32(1), np.ones(3, ml_dtypes.bfloat16), np.ones(3, f32)])


def test_op_errors(executable: Get) -> None:
    run = executable("divide")
    (q,) = run.call([np.int32(7), np.int32(2)])
    assert q == 3
    with pytest.raises(InvalidArgumentError, match="integer division by zero") as caught:
        run.call([np.int32(7), np.int32(0)])
    assert (caught.value.op, caught.value.loc) == ("floordiv", "train.py:30")


def test_sizes_that_only_the_data_tells(executable: Get) -> None:
    (p,) = executable("positive").call([np.array([1, -1, 2, 0, 3], f32)])
    np.testing.assert_array_equal(p, [1, 2, 3])
    out = np.empty(3, f32)
    (p,) = executable("positive").call([np.array([1, -1, 2, 0, 3], f32)], out=[out])
    assert p is out
    with pytest.raises(InvalidArgumentError, match="the result has shape"):
        executable("positive").call([np.array([1, -1], f32)], out=[out])


def test_parallel_sum_has_the_same_bits_on_any_number_of_threads(executable: Get) -> None:
    x = np.random.default_rng(0).normal(size=1_000_003).astype(f32)
    (expected,) = executable("psum").call([x])
    for threads in (1, 2, 3):
        pool = ThreadPool(threads)
        ctx = Context(pool)
        for _ in range(20):
            (s,) = executable("psum").call([x], ctx=ctx)
            assert s == expected
        pool.close()


def test_concurrent_runs_share_a_context(executable: Get) -> None:
    x = np.random.default_rng(0).normal(size=300_000).astype(f32)
    (expected,) = executable("psum").call([x])
    pool = ThreadPool(2)
    ctx = Context(pool)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(100):
            (s,) = executable("psum").call([x], ctx=ctx)
            if s != expected:
                wrong.append(s)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    pool.close()
    assert not wrong


def test_cancel_from_another_thread(executable: Get) -> None:
    ctx = Context()
    timer = threading.Timer(0.2, ctx.cancel)
    timer.start()
    with pytest.raises(CancelledError, match="partly updated: v"):
        executable("endless").call([], [np.zeros(4, f32)], ctx=ctx)
    timer.join()


def test_grow_and_host_calls(executable: Get) -> None:
    seen = []

    def second(buffers: int, dims: int) -> int:
        seen.append(buffers)
        return 0

    (o,) = executable("callbacks").call([], ctx=Context(host_calls=[second, second]))
    assert o == 4711
    assert len(seen) == 1


def test_an_exception_in_a_host_call_is_the_cause(executable: Get) -> None:
    def fail(buffers: int, dims: int) -> int:
        raise KeyError("here")

    def stop(buffers: int, dims: int) -> int:
        raise SystemExit(3)

    with pytest.raises(UnknownError, match="KeyError") as caught:
        executable("callbacks").call([], ctx=Context(host_calls=[fail, fail]))
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(SystemExit):
        executable("callbacks").call([], ctx=Context(host_calls=[stop, stop]))


def test_a_missing_symbol(executable: Get) -> None:
    source = executable("axpy")
    with pytest.raises(NotFoundError, match="no symbol 'other'"):
        Executable(source.manifest, source.library, "other")
