"""Kernels that read across rows: tiles, their edges, and what else the formula holds."""

from __future__ import annotations

import numpy as np
import pytest

import flowc as tf
from flowc.ir.plan import Launch


def notes(compiled: tf.CompiledFunction) -> list[str]:
    steps = compiled.compiled.program.steps
    return [v.kernel.note for s in steps if isinstance(s, Launch) for v in s.variants]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int16, np.bool_])
@pytest.mark.parametrize(
    ("m", "n"), [(8, 16), (9, 31), (64, 64), (65, 127), (200, 33), (1, 70), (70, 1), (0, 40)]
)
def test_transpose(m: int, n: int, dtype: type) -> None:
    x = (np.random.default_rng(0).random((m, n)) * 200 - 60).astype(dtype)
    for shape in ([m, n], [None, None]):
        f = tf.function(tf.transpose).lower(tf.TensorSpec(shape, x.dtype)).compile()
        np.testing.assert_array_equal(f(x), x.T)


@pytest.mark.parametrize("perm", [(0, 3, 1, 2), (0, 2, 3, 1), (3, 2, 1, 0), (2, 0, 3, 1)])
@pytest.mark.parametrize("shape", [(2, 9, 17, 20), (3, 64, 5, 33), (1, 70, 70, 8)])
def test_axes_in_any_order(perm: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    f = tf.function(lambda a: tf.transpose(a, perm) * 2.0 + 1.0)
    np.testing.assert_array_equal(f(x), x.transpose(perm) * np.float32(2) + np.float32(1))


def test_other_operands_and_several_results() -> None:
    """A sum of an array, of its transpose twice, and of a row; two results of one kernel."""
    rng = np.random.default_rng(0)
    x, y, r = rng.random((90, 90)), rng.random((90, 90)), rng.random(90)

    def both(a: tf.Tensor, b: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        z = tf.transpose(a) + b * row + tf.transpose(a * b)
        return z, z * z

    f = tf.function(both).lower(*[tf.TensorSpec(a.shape, tf.float64) for a in (x, y, r)]).compile()
    z = x.T + y * r + (x * y).T
    got = f(x, y, r)
    np.testing.assert_allclose(got[0], z, rtol=1e-14)
    np.testing.assert_allclose(got[1], z * z, rtol=1e-14)
    assert "across rows" in " ".join(notes(f))


def test_short_rows_and_unit_steps_need_no_tiles() -> None:
    for shape, perm in (([100, 3, 400], (0, 2, 1)), ([50, 60, 7], (1, 0, 2))):
        spec = tf.TensorSpec(shape, tf.float32)
        f = tf.function(lambda a, perm=perm: tf.transpose(a, perm)).lower(spec).compile()
        assert "across rows" not in " ".join(notes(f))


def test_what_repeats_is_read_in_whole_vectors() -> None:
    x = np.random.default_rng(0).random((33, 50), np.float32)
    f = tf.function(lambda a: tf.tile(a, [2, 3]) + 1.0).lower(tf.TensorSpec(x.shape, tf.float32))
    compiled = f.compile()
    np.testing.assert_array_equal(compiled(x), np.tile(x, (2, 3)) + np.float32(1))
    body = compiled.as_text("plan").partition("phase")[2]
    assert "% 50" not in body

    def interleave(a: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.stack([a, -a], axis=2), [33, 100])

    got = tf.function(interleave).lower(tf.TensorSpec(x.shape, tf.float32)).compile()(x)
    np.testing.assert_array_equal(got, np.stack([x, -x], 2).reshape(33, 100))
