"""What a call costs beyond its arithmetic: a training step of linear regression on 3 points.

The step (two parameters, mean squared error, gradient descent) does some 30 operations, so nearly
all of its time is that of the call. Beside it: the same step written out in NumPy.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _timing import machine

import flowc as tf

X = np.array([0.0, 0.5, 1.0], np.float32)
Y = np.array([0.3, 0.35, 0.4], np.float32)


def per_call(call: Callable[[], Any], calls: int) -> tuple[float, float]:
    """The least and the median of 9 averages over `calls` calls: one is too short for the clock."""
    averages = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        averages.append((time.perf_counter() - start) / calls)
    return min(averages), statistics.median(averages)


def numpy_step(w: Any, b: Any) -> None:
    """One step of gradient descent, in place."""
    error = w * X + b - Y
    w -= np.float32(0.5) * (error * X).mean() * 2
    b -= np.float32(0.5) * error.mean() * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    calls = parser.parse_args().calls
    x = tf.placeholder(tf.float32, [None])
    y = tf.placeholder(tf.float32, [None])
    w, b = tf.Variable([0.0]), tf.Variable([0.0])
    loss = tf.reduce_mean(tf.square(w * x + b - y))
    train = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    feeds = {x: X, y: Y}
    nw, nb = np.zeros(1, np.float32), np.zeros(1, np.float32)
    print(machine(1))
    print(f"{'call':34} {'least µs':>9} {'median µs':>10}")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        step = sess.make_callable(train, [x, y])
        rows: list[tuple[str, Callable[[], Any]]] = [
            ("an empty Python function", lambda: None),
            ("Session.run(train, feeds)", lambda: sess.run(train, feeds)),
            ("Session.run([loss, train], feeds)", lambda: sess.run([loss, train], feeds)),
            ("Session.run(w)", lambda: sess.run(w)),
            ("make_callable(train)(x, y)", lambda: step(X, Y)),
            ("the step in NumPy", lambda: numpy_step(nw, nb)),
        ]
        for name, call in rows:
            call()
            least, median = per_call(call, calls)
            print(f"{name:34} {least * 1e6:9.2f} {median * 1e6:10.2f}")


if __name__ == "__main__":
    main()
