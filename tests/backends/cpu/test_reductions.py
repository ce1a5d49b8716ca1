"""Schedules of rows, columns and whole arrays against NumPy in f64, at their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.backends.cpu.schedule import columns
from flowc.backends.cpu.schedule.accumulate import Fold, fold, with_short_indices
from flowc.backends.cpu.target import generic, host
from flowc.ir import dtypes as dt
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.evaluate import Evaluator
from flowc.ir.kernel.form import Buffer, Stage

Array = np.ndarray[Any, np.dtype[Any]]
evaluate = Evaluator({}, {})


def run(build: Any, x: Array, shape: tuple[int | None, ...] | None = None) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        p = tf.placeholder(x.dtype, x.shape if shape is None else shape)
        return session.run(build(p), {p: x})


def data(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


SHAPES = [
    (0, 100), (1, 100), (31, 65), (33, 65), (33, 64), (40, 4095), (40, 4096), (40, 4097),
    (511, 130), (512, 130), (513, 130), (521, 4100), (1030, 70), (2000, 10), (33, 9000),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("symbolic", [False, True])
def test_sums_of_columns(shape: tuple[int, int], symbolic: bool) -> None:
    x = data(*shape)
    got = run(lambda p: tf.reduce_sum(p, 0), x, (None, None) if symbolic else None)
    np.testing.assert_allclose(got, x.astype(np.float64).sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 50, 70), (2, 600, 90), (70, 3, 5), (2, 40, 5000)], ids=str)
def test_sums_of_a_middle_axis(shape: tuple[int, ...]) -> None:
    x = data(*shape)
    got = run(lambda p: tf.reduce_sum(p * p, 1), x)
    np.testing.assert_allclose(got, (x.astype(np.float64) ** 2).sum(1), rtol=1e-4)


def test_sums_over_two_axes_that_are_apart() -> None:
    x = data(9, 5, 40, 130)
    got = run(lambda p: tf.reduce_sum(p, [0, 2]), x)
    np.testing.assert_allclose(got, x.astype(np.float64).sum((0, 2)), rtol=1e-4, atol=1e-3)


def test_a_sweep_reads_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits do not depend on how many rows are read at a time, or on the panel."""
    x = data(513, 700)
    first = run(lambda p: tf.reduce_sum(p, 0), x)
    monkeypatch.setattr(columns, "SWEEP_ROWS", 3)
    monkeypatch.setattr(columns, "PANEL_BYTES", 1024)
    assert run(lambda p: tf.reduce_sum(p, 0), x).tobytes() == first.tobytes()


# ---- maxima and minima: NaN wins, −0 is less than 0

SPECIAL = (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1.5, -2.5)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("op", ["max", "min"])
def test_extrema_of_special_values(op: str, kind: type, axis: int | None) -> None:
    rng = np.random.default_rng(3)
    for common in ((-np.inf, -2.5), (0.0, -0.0), (-0.0, -1.0), (0.0, 1.0), SPECIAL[2:], SPECIAL):
        x = rng.choice(np.array(common), (67, 70)).astype(kind)
        got = run(lambda p: getattr(tf, f"reduce_{op}")(p, axis), x)
        np.testing.assert_array_equal(got, getattr(x, op)(axis))
        signs = [_zero_sign(v, op) for v in _lines(x, axis)]
        zero = np.asarray(got).ravel() == 0
        np.testing.assert_array_equal(np.signbit(np.asarray(got).ravel())[zero],
                                      np.array(signs)[zero])


def _lines(x: Array, axis: int | None) -> list[Array]:
    return [x.ravel()] if axis is None else list(np.moveaxis(x, axis, -1))


def _zero_sign(v: Array, op: str) -> bool:
    """Whether an extremum that is 0 is −0."""
    signs = np.signbit(v[v == 0])
    if not signs.size:
        return False
    return bool(signs.all() if op == "max" else signs.any())


@pytest.mark.parametrize("n", [1, 3, 16, 63, 64, 65, 1000])
def test_extrema_of_rows(n: int) -> None:
    x = data(50, n)
    np.testing.assert_array_equal(run(lambda p: tf.reduce_max(p, 1), x), x.max(1))
    np.testing.assert_array_equal(run(lambda p: tf.reduce_min(p, 1), x, (None, None)), x.min(1))


def test_the_maximum_of_nothing() -> None:
    got = run(lambda p: tf.reduce_max(p, 0), np.zeros((0, 70), np.float32))
    assert (got == -np.inf).all()


@pytest.mark.parametrize("t", [dt.f32, dt.f64], ids=str)
@pytest.mark.parametrize("op", ["max", "min"])
def test_keys_keep_the_order_and_come_back(op: str, t: dt.DType) -> None:
    most = float(np.finfo(t.np).max)
    values = [-np.inf, -most, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, most, np.inf]
    how = Fold(op, t, t, True)
    keys = [int(evaluate(how.step(how.start, ex.const(v, t)))) for v in values]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    for v, k in zip(values, keys, strict=True):
        back = evaluate(how.decode(ex.const(k, how.dt)))
        assert np.asarray(back, t.np).tobytes() == np.asarray(v, t.np).tobytes()
    for nan in (np.nan, -np.nan):
        key = int(evaluate(how.step(how.start, ex.const(np.asarray(nan, t.np), t))))
        assert key > max(keys) if op == "max" else key < min(keys)
        assert np.isnan(evaluate(how.decode(ex.const(key, how.dt))))


def test_keys_are_for_targets_without_the_instruction() -> None:
    assert not fold("max", dt.f32, generic("aarch64-linux-gnu")).keys
    assert fold("max", dt.f32, generic("x86_64-unknown-linux-gnu")).keys
    assert not fold("sum", dt.f32, host()).keys
    assert not fold("max", dt.i32, host()).keys


@pytest.mark.parametrize(
    "shape", [(9, 1), (9, 10), (5, 63), (5, 65), (3, 1000), (2, 70000)], ids=str
)
def test_positions_of_extrema(shape: tuple[int, int]) -> None:
    """The first of equal ones; a NaN is one."""
    x = np.round(data(*shape))
    x[1, shape[1] // 2 :] = np.nan
    for symbolic in (None, (None, None)):
        np.testing.assert_array_equal(run(lambda p: tf.argmax(p, 1), x, symbolic), x.argmax(1))
        np.testing.assert_array_equal(run(lambda p: tf.argmin(p, 1), x, symbolic), x.argmin(1))


def test_positions_are_found_in_32_bits_where_they_fit() -> None:
    def least(extent: int, value: int) -> str:
        r = ex.var("r", extent)
        x = Buffer("x", dt.bool_, (extent,))
        i = ex.cast(ex.index(r) + 7, dt.i64)
        body = ex.select(x[r], i, ex.const(value, dt.i64))
        s = Stage(Buffer("y", dt.i64, ()), (), ex.reduce("min", [r], body))
        found = with_short_indices(s).value
        return next(e for e in ex.walk(found) if e.op == "reduce").dtype.name

    assert least(1000, 2**63 - 1) == "i32"
    assert least(2**31 - 8, 2**63 - 1) == "i32"
    assert least(2**31 - 7, 2**63 - 1) == "i64"
    assert least(1000, 5) == "i64"


# ---- rows

@pytest.mark.parametrize("n", [1, 2, 10, 15, 16, 17, 37, 128, 1000, 8192])
def test_softmax_of_rows(n: int) -> None:
    x = data(33, n) * 10
    wide = np.exp((x - x.max(1, keepdims=True)).astype(np.float64))
    want = wide / wide.sum(1, keepdims=True)
    for shape in (None, (None, n), (None, None)):
        got = run(tf.nn.softmax, x, shape)
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-37)


def test_softmax_with_special_values() -> None:
    x = data(5, 100)
    x[1, 7], x[2, 9], x[3] = np.nan, -np.inf, -np.inf
    got = run(tf.nn.softmax, x)
    assert np.isnan(got[1]).all()
    assert np.isnan(got[3]).all()
    assert got[2, 9] == 0
    assert np.isfinite(got[[0, 2, 4]]).all()


@pytest.mark.parametrize("shape", [(7, 40, 33), (3, 4, 5, 6)], ids=str)
def test_what_is_stored_and_reduced_in_one_loop(shape: tuple[int, ...]) -> None:
    """A row's values, kept or not, and their sum; over one axis or two."""
    x = data(*shape)
    axes = list(range(1, len(shape)))
    e = np.exp(x.astype(np.float64))
    total = e.sum(tuple(axes))

    def build(p: Any) -> Any:
        v = tf.exp(p)
        s = tf.reduce_sum(v, axes)
        return v, s, v / tf.reshape(s, [shape[0]] + [1] * len(axes))

    got = run(build, x)
    wide = total.reshape(-1, *[1] * len(axes))
    for a, b in zip(got, (e, total, e / wide), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_row_asks_for_the_lines_of_its_result_while_it_works() -> None:
    def loops(build: Any) -> str:
        with tf.Graph().as_default(), tf.Session() as session:
            p = tf.placeholder(tf.float32, (50, 5000))
            session.run(build(p), {p: data(50, 5000)})
            (entry,) = session.graph.compiled.values()
            return str(entry[-1][-1].as_text("plan"))

    assert "prefetch" in loops(tf.nn.softmax)
    assert "prefetch" in loops(tf.nn.log_softmax)
    assert "prefetch" not in loops(lambda p: p - tf.reduce_sum(p, 1, keep_dims=True))
