"""The same bits on any number of threads; one compilation for any batch size; concurrent runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.compiler import stored

Array = np.ndarray[Any, np.dtype[Any]]
Made = tuple[Any, Any, list[Any], dict[Any, Array]]  # the step, its loss, the weights, a feed


def weights(*shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    scale = 1 / np.sqrt(np.prod(shape[:-1]))
    return tf.Variable((rng.standard_normal(shape) * scale).astype(np.float32))


def labels(n: int) -> Array:
    return np.eye(10, dtype=np.float32)[np.random.default_rng(1).integers(0, 10, n)]


def entropy(y: Any, logits: Any) -> Any:
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=logits))


def mlp(n: int = 200) -> Made:
    x, y = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.float32, [None, 10])
    parts = [weights(784, 512), weights(512), weights(512, 512), weights(512, 10)]
    hidden = tf.nn.relu(tf.matmul(x, parts[0]) + parts[1])
    loss = entropy(y, tf.matmul(tf.tanh(tf.matmul(hidden, parts[2])), parts[3]))
    step = tf.train.AdamOptimizer(1e-5).minimize(loss)
    data = np.random.default_rng(0).random((n, 784), np.float32)
    return step, loss, parts, {x: data, y: labels(n)}


def softmax(n: int = 1000) -> Made:
    x, y = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.float32, [None, 10])
    parts = [weights(784, 10), weights(10)]
    loss = entropy(y, tf.matmul(x, parts[0]) + parts[1])
    step = tf.train.GradientDescentOptimizer(1e-3).minimize(loss)
    data = np.random.default_rng(0).random((n, 784), np.float32)
    return step, loss, parts, {x: data, y: labels(n)}


def convnet(n: int = 20) -> Made:
    x, y = tf.placeholder(tf.float32, [None, 28, 28, 1]), tf.placeholder(tf.float32, [None, 10])
    parts = [weights(5, 5, 1, 16), weights(5, 5, 16, 24), weights(7 * 7 * 24, 10)]
    v = x
    for w in parts[:2]:
        v = tf.nn.relu(tf.nn.conv2d(v, w, [1, 1, 1, 1], "SAME"))
        v = tf.nn.max_pool(v, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    loss = entropy(y, tf.matmul(tf.reshape(v, [-1, 7 * 7 * 24]), parts[2]))
    step = tf.train.GradientDescentOptimizer(1e-2).minimize(loss)
    data = np.random.default_rng(0).random((n, 28, 28, 1), np.float32)
    return step, loss, parts, {x: data, y: labels(n)}


def trained(made: Made, threads: int) -> list[Array]:
    """The losses of a few steps and the weights after them."""
    step, loss, parts, feed = made
    config = tf.ConfigProto(intra_op_parallelism_threads=threads)
    with tf.Session(config=config) as sess:
        sess.run(tf.global_variables_initializer())
        losses = [sess.run([loss, step], feed)[0] for _ in range(4)]
        assert losses[-1] < losses[0]
        return [np.array(losses), *sess.run(parts)]


@pytest.mark.parametrize("model", [mlp, softmax, convnet])
def test_the_number_of_threads_changes_no_bit(model: Callable[[], Made]) -> None:
    made = model()
    runs = [trained(made, threads) for threads in (1, 2, 3)]
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("model", [mlp, softmax, convnet])
def test_a_batch_size_never_seen_before(model: Callable[[], Made]) -> None:
    _, loss, parts, feed = model()
    gradients = tf.gradients(loss, parts)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([loss, *gradients], feed)
        compiled = stored.compiles
        sizes = (1, 2, 3, 7, 16, 19)
        results = [sess.run([loss, *gradients], {k: v[:n] for k, v in feed.items()}) for n in sizes]
        assert stored.compiles == compiled
    for n, got in zip(sizes[::2], results[::2], strict=True):
        for a, b in zip(got, fixed(model, n), strict=True):
            assert np.max(np.abs(a - b)) <= 2e-5 * max(1.0, np.max(np.abs(b)))


def fixed(model: Callable[[], Made], n: int) -> list[Array]:
    """What the model gives where every size is static."""
    with tf.Graph().as_default(), tf.Session() as sess:
        _, loss, parts, feed = model()
        for t in feed:
            t.set_shape((n, *t.shape.as_list()[1:]))
        sess.run(tf.global_variables_initializer())
        part = {t: v[:n] for t, v in feed.items()}
        out: list[Array] = sess.run([loss, *tf.gradients(loss, parts)], part)
        return out


def test_read_only_runs_at_once() -> None:
    x = tf.placeholder(tf.float32, [None, 64])
    w = weights(64, 64)
    out = tf.tanh(tf.matmul(x, w)) + tf.reduce_sum(x, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((n, 64)).astype(np.float32) for n in (1, 5, 33, 200)]
    failures: list[Any] = []
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=2)) as sess:
        sess.run(w.initializer)
        value = sess.run(w).astype(np.float64)
        wants = [
            np.tanh(a.astype(np.float64) @ value) + a.sum(1, keepdims=True, dtype=np.float64)
            for a in inputs
        ]
        go = threading.Barrier(6)

        def work(k: int) -> None:
            go.wait()
            for n in range(60):
                a, want = inputs[(k + n) % 4], wants[(k + n) % 4]
                got = sess.run(out, {x: a})
                if got.shape != want.shape or np.max(np.abs(got - want)) > 1e-4:
                    failures.append((k, n))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not failures


def test_updates_from_several_threads_are_all_made() -> None:
    v = tf.Variable(np.zeros(100, np.float32))
    add = v.assign_add(np.ones(100, np.float32))
    with tf.Session() as sess:
        sess.run(v.initializer)

        def work() -> None:
            for _ in range(200):
                sess.run(add.op)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        np.testing.assert_array_equal(sess.run(v), 800)
