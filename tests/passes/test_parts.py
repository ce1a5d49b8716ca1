"""Kernels of several parts: text, rules, and that they compute what they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.backends.cpu.schedule import schedule
from flowc.backends.cpu.target import host
from flowc.compiler.passes.order import pointwise
from flowc.ir.core import IRError
from flowc.ir.kernel.form import Kernel
from flowc.ir.kernel.interp import run_kernel
from flowc.ir.kernel.parse import parse_kernel
from flowc.ir.kernel.text import print_kernel
from flowc.ir.kernel.verify import verify_kernel

TEXT = """\
kernel @k(x: f32[B,3], g: f32[40000], lr: f32[]) -> (y: f32[B,3], z: f32[40000], s: f32[3]) {
  stage t[]: f32 = lr[] * f32(2.0)
  part
  stage y[i<B, j<3]: f32 = x[i, j] + t[]
  part
  stage z[i<40000]: f32 = g[i] * t[]
  part
  stage s[i<3]: f32 = sum(r<B) { x[r, i] }
}
"""


def kernel(text: str = TEXT) -> Kernel:
    k = parse_kernel(text)
    assert isinstance(k, Kernel)
    return k


def test_text() -> None:
    k = kernel()
    assert print_kernel(k) == TEXT
    assert k.parts == (1, 1, 1, 1)
    verify_kernel(k)
    names = [([b.name for b in p.inputs], [b.name for b in p.outputs]) for p in k.split()]
    assert names == [(["lr"], ["t"]), (["x", "t"], ["y"]), (["g", "t"], ["z"]), (["x"], ["s"])]


def test_a_part_reads_no_array_of_another() -> None:
    wrong = TEXT.replace("sum(r<B) { x[r, i] }", "sum(r<B) { y[r, i] }")
    with pytest.raises(IRError, match="a part reads y: "):
        verify_kernel(kernel(wrong))


@pytest.mark.parametrize("order", ["forward", "reverse", 3])
@pytest.mark.parametrize("rows", [0, 1, 5, 20000])
def test_the_schedule(rows: int, order: str | int) -> None:
    """Phases of parts that read single elements come after those that make them."""
    k = kernel()
    (variant,) = schedule(k, host())
    verify_kernel(variant.kernel)
    assert len(variant.kernel.phases) >= 2
    rng = np.random.default_rng(0)
    rows = min(rows, 900)
    given = [rng.standard_normal((rows, 3)).astype("f4"), np.ones(40000, "f4"), np.float32(3)]
    found = run_kernel(variant.kernel, given, order=order)
    np.testing.assert_allclose(found[0], given[0] + 6, rtol=1e-6)
    np.testing.assert_allclose(found[1], given[1] * 6, rtol=1e-6)
    np.testing.assert_allclose(found[2], given[0].sum(0), rtol=1e-4, atol=1e-4)


def step(sizes: list[int], threads: int) -> list[Any]:
    """Three steps of Adam on variables of these sizes: what they and the moments are then."""
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        rng = np.random.default_rng(0)
        given = [rng.standard_normal(n).astype("f4") for n in sizes]
        variables = [tf.Variable(x) for x in given]
        loss = tf.add_n([tf.reduce_sum(tf.square(v - 3.0)) for v in variables])
        train = tf.train.AdamOptimizer(0.1).minimize(loss)
        config = tf.ConfigProto(intra_op_parallelism_threads=threads)
        session = tf.Session(config=config)
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(train)
        return [given, session.run(variables)]


@pytest.mark.parametrize("sizes", [[1], [3, 0, 16384, 16385, 1], [50000, 7, 32768, 50000]])
def test_updates_of_many_sizes(sizes: list[int]) -> None:
    given, found = step(sizes, 1)
    for x, y in zip(given, found, strict=True):
        m = v = np.zeros(x.shape)
        w = x.astype("f8")
        for t in (1, 2, 3):
            g = 2 * (w - 3)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w = w - 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(y, w, rtol=2e-5, atol=2e-5)
    for y, z in zip(found, step(sizes, 3)[1], strict=True):
        assert np.array_equal(y, z)


def test_a_part_does_not_overwrite_what_another_reads() -> None:
    """Small results of different shapes, one of which replaces what the others read."""
    with tf.Graph().as_default():
        v = tf.Variable(np.arange(4, dtype="f4"))
        w = tf.Variable(np.ones((3, 4), np.float32))
        old = tf.identity(v)
        with tf.control_dependencies([old]):
            train = tf.group(v.assign(old * 2), w.assign(w + tf.reverse(old, [0])))
        session = tf.Session()
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            session.run(train)
        np.testing.assert_array_equal(session.run(v), [0, 4, 8, 12])
        np.testing.assert_array_equal(session.run(w)[1], [10, 7, 4, 1])


def test_what_another_part_reads_is_not_replaced_in_place() -> None:
    k = kernel("""\
kernel @k(w: f32[8], v: f32[4]) -> (n: f32[8], m: f32[4]) {
  stage n[i<8]: f32 = w[i] + f32(1.0)
  part
  stage m[i<4]: f32 = v[i] * w[i]
}
""")
    (w, v), (n, m) = k.inputs, k.outputs
    assert not pointwise(k, w, n)
    assert pointwise(k, v, m)
