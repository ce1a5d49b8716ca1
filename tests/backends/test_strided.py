"""Vectors of every second to fourth element, to the last byte of a buffer."""

from __future__ import annotations

import numpy as np
import pytest

import flowc as tf


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool", "bfloat16"])
@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_every_nth(dtype: str, step: int) -> None:
    rng = np.random.default_rng(0)
    for n, first in ((31, 0), (64, 1), (127, 2)):
        x = (rng.random((3, n)) * 100).astype(tf.as_dtype(dtype).as_numpy_dtype)
        spec = tf.TensorSpec(x.shape, dtype)
        f = tf.function(lambda a, i=first: a[:, i::step]).lower(spec).compile()
        np.testing.assert_array_equal(f(x), x[:, first::step])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_apart(channels: int) -> None:
    x = np.random.default_rng(0).random((33, 47, channels), np.float32)
    f = tf.function(lambda a: [c * (i + 1.0) for i, c in enumerate(tf.unstack(a, channels, 2))])
    for i, got in enumerate(f(x)):
        np.testing.assert_array_equal(got, x[..., i] * np.float32(i + 1))
