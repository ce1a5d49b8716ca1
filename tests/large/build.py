"""Builds, compiles and runs a large graph; prints what it took. Run: build.py SHAPE OPS.

The result is compared with NumPy in f64. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np

import flowc as tf

Feed = dict[Any, Any]


def chain(ops: int) -> tuple[Any, Feed, Any]:
    """One value after the other: multiply, add, tanh."""
    x = tf.placeholder(tf.float32, [None, 16], name="x")
    data = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    v, want = x, data.astype(np.float64)
    for i in range(ops):
        if i % 3 == 0:
            v, want = tf.tanh(v), np.tanh(want)
        elif i % 3 == 1:
            v, want = v + x, want + data
        else:
            v, want = v * 0.5, want * 0.5
    return v, {x: data}, want


def wide(ops: int) -> tuple[Any, Feed, Any]:
    """A tree: leaves with constants of their own, half of them tanh, added pairwise."""
    x = tf.placeholder(tf.float32, [None], name="x")
    data = np.random.default_rng(0).standard_normal(61).astype(np.float32)
    leaves, sums = [], []
    for i in range(ops * 2 // 5):
        factor = (i % 97 + i / ops) / 97
        leaf = x * factor
        value = data.astype(np.float64) * np.float64(np.float32(factor))
        leaves.append(tf.tanh(leaf) if i % 2 else leaf)
        sums.append(np.tanh(value) if i % 2 else value)
    while len(leaves) > 1:
        pairs = zip(leaves[::2], leaves[1::2], strict=False)
        leaves = [a + b for a, b in pairs] + ([leaves[-1]] if len(leaves) % 2 else [])
    return leaves[0], {x: data}, np.sum(sums, axis=0)


def residual(ops: int) -> tuple[Any, Feed, Any]:
    """Blocks v + tanh(v · w)."""
    x = tf.placeholder(tf.float32, [None, 16], name="x")
    w = tf.placeholder(tf.float32, [16, 16], name="w")
    rng = np.random.default_rng(0)
    data = rng.standard_normal((5, 16)).astype(np.float32)
    weights = (rng.standard_normal((16, 16)) * 0.1).astype(np.float32)
    v, want, factor = x, data.astype(np.float64), weights.astype(np.float64)
    for _ in range(ops // 3):
        v = v + tf.tanh(tf.matmul(v, w))
        want = want + np.tanh(want @ factor)
    return v, {x: data, w: weights}, want


def main(shape: str, ops: int) -> dict[str, Any]:
    """What the graph took."""
    start = time.perf_counter()
    fetch, feed, want = {"chain": chain, "wide": wide, "residual": residual}[shape](ops)
    made = time.perf_counter()
    with tf.Session() as sess:
        got = sess.run(fetch, feed)
        ready = time.perf_counter()
        again = sess.run(fetch, feed)
        seconds = time.perf_counter() - ready
    used = resource.getrusage(resource.RUSAGE_SELF)
    scale = np.maximum(np.abs(want), 1.0)
    return {
        "shape": shape, "ops": len(tf.get_default_graph().nodes), "build": made - start,
        "compile": ready - made, "run": seconds, "wall": time.perf_counter() - start,
        "cpu": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1024,
        "error": float(np.max(np.abs(got - want) / scale)),
        "same": bool(np.array_equal(got, again)),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
