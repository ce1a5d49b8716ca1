"""One compiled function for every batch size, against one compiled for the size: time ratios.

A 784-512-512-10 network's training step and its inference, at batches of 1, 37 and 1,000. The two
take turns; the ratio is of medians. 1.00: not fixing the size costs nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import flowc as tf

LAYERS = (784, 512, 512, 10)


def build(batch: int | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(train, infer) as functions of arrays, for any batch (None) or one."""
    graph = tf.Graph()
    with graph.as_default():
        tf.set_random_seed(0)
        x = tf.placeholder(tf.float32, [batch, LAYERS[0]])
        y = tf.placeholder(tf.float32, [batch, LAYERS[-1]])
        h = x
        for i, (a, b) in enumerate(pairwise(LAYERS)):
            w = tf.Variable(tf.truncated_normal([a, b], stddev=0.05))
            h = tf.matmul(h, w) + tf.Variable(tf.zeros([b]))
            h = tf.nn.relu(h) if i + 2 < len(LAYERS) else h
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=h))
        step = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        config = tf.ConfigProto(intra_op_parallelism_threads=1)
        sess = tf.Session(graph=graph, config=config)
        sess.run(tf.global_variables_initializer())
    return sess.make_callable(step, [x, y]), sess.make_callable(h, [x])


def ratio(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """(median seconds of one, its ratio to the other's), the two taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(rounds + 2):
        for kept, f in zip(times, (one, other), strict=True):
            start = time.perf_counter()
            f()
            if n >= 2:
                kept.append(time.perf_counter() - start)
    a, b = (statistics.median(t) for t in times)
    return a, a / b


def main() -> None:
    any_train, any_infer = build(None)
    rng = np.random.default_rng(0)
    print(f"{'batch':>6} {'what':>6} {'any size':>12} {'ratio to fixed':>15}")
    for batch in (1, 37, 1000):
        train, infer = build(batch)
        x = rng.random((batch, LAYERS[0]), np.float32)
        y = np.eye(LAYERS[-1], dtype=np.float32)[rng.integers(0, LAYERS[-1], batch)]
        rounds = 15 if batch == 1000 else 100
        pairs = (("train", any_train, train, (x, y)), ("infer", any_infer, infer, (x,)))
        for name, f, g, args in pairs:
            t, r = ratio(partial(f, *args), partial(g, *args), rounds)
            print(f"{batch:>6} {name:>6} {t * 1e3:>9.3f} ms {r:>15.2f}")


if __name__ == "__main__":
    main()
