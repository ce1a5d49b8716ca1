"""What joins a contract: an epilogue whose other operands come later, factors that are moved."""

from __future__ import annotations

import numpy as np

import flowc as tf
from flowc.compiler.passes.fuse.inline import inline_load
from flowc.ir.dtypes import f32
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Buffer, Stage
from flowc.ir.kernel.patterns import is_contract


def test_a_batch_norm_joins_the_convolution() -> None:
    """Its scale is computed after the convolution in the program's order."""
    rng = np.random.default_rng(0)
    x, z = (rng.standard_normal((2, 6, 6, 8)).astype(np.float32) for _ in range(2))
    w = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    mean, var, beta, gamma = (1 + rng.random((4, 8))).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as s:
        xs, zs = (tf.placeholder(tf.float32, [None, 6, 6, 8]) for _ in range(2))
        y = tf.nn.conv2d(xs, tf.constant(w), [1, 1, 1, 1], "SAME")
        stats = [tf.placeholder(tf.float32, [8]) for _ in range(4)]
        y = tf.nn.relu(tf.nn.batch_normalization(y, *stats, 1e-3) + zs)
        feed = dict(zip([xs, zs, *stats], [x, z, mean, var, beta, gamma], strict=True))
        assert s.cost_analysis(y, feed).kernels <= 2  # the scale, and all else
        got = s.run(y, feed)
    wide = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    conv = sum(wide[:, r : r + 6, t : t + 6] @ w[r, t] for r in range(3) for t in range(3))
    want = np.maximum((conv - mean) / np.sqrt(var + 1e-3) * gamma + beta + z, 0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_moved_load_stays_a_load() -> None:
    """Where a predicate is false a load gives 0: nothing has to be selected."""
    x, t, g = (Buffer(n, f32, (8, 8)) for n in "xtg")
    i, j, r = ex.var("i", 8), ex.var("j", 8), ex.var("r", 8)
    moved = Stage(t, (i, j), x[j, i])
    inside = i + r < ex.index(8)
    value = inline_load(t.at((i + r, i), inside), moved, lambda e: e)
    assert value.op == "load"
    assert value.attr is x
    assert ex.load_parts(value)[2] is inside
    out = Buffer("out", f32, (8, 8))
    total = ex.node("reduce", (value * g[r, j], r), "sum", f32)
    assert is_contract(Stage(out, (i, j), total))
