"""Code made in other ways for large programs computes the same bits, and fails as small ones do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.backends.cpu import host
from flowc.backends.llvm import calls, statements
from flowc.compiler import driver
from flowc.compiler.options import Options
from robust.where import here

NAMES = ("exp", "tanh", "log1p", "sin", "cos", "sigmoid", "expm1", "erf", "atan", "tan")


def values(sizes: tuple[int, ...] = (1, 5, 16, 33, 100, 2085)) -> list[Any]:
    """A kernel of many transcendentals, on several sizes."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None], name="x")
        v = x
        for n in range(30):
            v = v + getattr(tf, NAMES[n % 10])(x * (n / 8 + 0.1)) * 0.25
        total = tf.reduce_sum(v)
        rng = np.random.default_rng(0)
        return [sess.run([v, total], {x: rng.random(n, np.float32)}) for n in sizes]


def same(a: Any, b: Any) -> bool:
    return all(x.tobytes() == y.tobytes() for p, q in zip(a, b, strict=True)
               for x, y in zip(p, q, strict=True))


def test_calls_of_transcendentals_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_IN_BODY", 0)
    called = values()
    monkeypatch.setattr(calls, "MOST_IN_BODY", 1000)
    assert same(called, values())


def test_masked_loops_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "LARGE_BODY", 0)
    masked = values()
    monkeypatch.setattr(statements, "LARGE_BODY", 10**9)
    assert same(masked, values())


def test_masked_loops_of_reductions_and_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "LARGE_BODY", 0)
    rng = np.random.default_rng(0)
    x, w = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None, None])
    fetches = [
        tf.reduce_sum(x, axis=1), tf.reduce_max(x, axis=0), tf.nn.softmax(x), tf.matmul(x, w),
        tf.cumsum(x, axis=1), tf.transpose(x), tf.argmax(x, axis=1),
    ]
    with tf.Session() as sess:
        for n, m in ((1, 1), (3, 17), (20, 40), (5, 64), (65, 7)):
            a = rng.standard_normal((n, m)).astype(np.float32)
            b = rng.standard_normal((m, n)).astype(np.float32)
            got = sess.run(fetches, {x: a, w: b})
            wide = a.astype(np.float64)
            e = np.exp(wide - wide.max(1, keepdims=True))
            wants = [wide.sum(1), wide.max(0), e / e.sum(1, keepdims=True), wide @ b,
                     wide.cumsum(1), wide.T, wide.argmax(1)]
            for g, want in zip(got, wants, strict=True):
                np.testing.assert_allclose(g, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["host", "cuda-emu"])
def test_long_plans_are_cut(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.float32, [5, 5])
    i = tf.placeholder(tf.int32, [None], name="i")
    v = x
    for _ in range(7):
        v = v + tf.tanh(tf.matmul(v, w))
    v, at = tf.gather(v, i, name="rows"), here()
    for _ in range(7):
        v = v + tf.tanh(tf.matmul(v, w))
    monkeypatch.setattr(host, "OPTIMIZED_LAUNCHES", 2)
    monkeypatch.setattr(host, "SEGMENT", 3)
    monkeypatch.setattr(driver, "default_cache", lambda: None)
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 5), np.float32), (rng.random((5, 5)) - 0.5).astype(np.float32)
    with tf.Session() as sess:
        sess.options = Options(target=target)
        for n in (4, 1, 3):
            want = a[:n].astype(np.float64)
            for k in range(14):
                if k == 7:
                    want = want[[n - 1, 0]]
                want = want + np.tanh(want @ b)
            got = sess.run(v, {x: a[:n], w: b, i: [n - 1, 0]})
            np.testing.assert_allclose(got, want, rtol=1e-5)
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                sess.run(v, {x: a[:n], w: b, i: [0, 9]})
            assert str(caught.value).startswith(f"add_13: index 9 is out of range [0, {n})")
            assert str(caught.value).endswith(f"(op rows, at {at})")
        ((_, compiled),) = next(iter(sess.graph.compiled.values()))
        assert compiled.llvm.count(".steps.") > 4
