"""Matrix products: f32 speed beside NumPy's BLAS, and the share of the measured peak.

GFLOP/s are those of the fastest call, the call and the array for the result included; the ratio is
of medians. Calls of both alternate.
"""

from __future__ import annotations

import argparse
from functools import partial

from _timing import limit_numpy, machine, measure, peak

SIZES = [
    (64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024),
    (100, 784, 500), (1, 1024, 1024), (4096, 64, 64), (64, 4096, 64),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    settings = parser.parse_args()
    limit_numpy(settings.threads)
    import numpy as np

    import flowc as tf

    best = peak() * settings.threads
    print(machine(settings.threads))
    print(f"peak: {best / 1e9:.0f} GFLOP/s")
    print(f"{'m × k × n':18} {'GFLOP/s':>8} {'of peak':>8} {'NumPy':>8} {'to NumPy':>9}")
    config = tf.ConfigProto(intra_op_parallelism_threads=settings.threads)
    rng = np.random.default_rng(0)
    for m, k, n in SIZES:
        a, b = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
        with tf.Graph().as_default(), tf.Session(config=config) as sess:
            p, q = tf.placeholder(tf.float32, [m, k]), tf.placeholder(tf.float32, [k, n])
            call = sess.make_callable(tf.matmul(p, q), [p, q])
            calls = (partial(call, a, b), partial(np.matmul, a, b))
            ours, theirs = measure(calls, settings.seconds)
        work = 2.0 * m * k * n
        print(f"{f'{m} × {k} × {n}':18} {work / ours.least / 1e9:8.1f}"
              f" {work / ours.least / best:8.0%} {work / theirs.least / 1e9:8.1f}"
              f" {theirs.median / ours.median:9.2f}")


if __name__ == "__main__":
    main()
