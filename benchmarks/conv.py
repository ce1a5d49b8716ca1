"""Convolutions, f32 NHWC: forward and both gradients, and the share of the measured peak.

Beside the forward pass: NumPy's im2col product, a strided view times the filter by BLAS. The
gradients do the work of two forward passes. GFLOP/s are of the fastest call, the ratio is of
medians.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from _timing import limit_numpy, machine, measure, peak

# batch, height and width, channels in, filter, channels out
LAYERS = [
    (32, 28, 1, 5, 32), (32, 14, 32, 5, 64), (8, 56, 64, 3, 64), (8, 28, 128, 3, 128),
    (8, 14, 256, 3, 256), (8, 56, 64, 1, 256),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    settings = parser.parse_args()
    limit_numpy(settings.threads)
    import numpy as np

    import flowc as tf

    def im2col(x: Any, w: Any) -> Any:
        """The SAME convolution of stride 1, as one product."""
        r = w.shape[0]
        padded = np.pad(x, ((0, 0), (r // 2, (r - 1) // 2), (r // 2, (r - 1) // 2), (0, 0)))
        view = np.lib.stride_tricks.sliding_window_view(padded, (r, r), axis=(1, 2))
        columns = view.transpose(0, 1, 2, 4, 5, 3).reshape(-1, r * r * x.shape[3])
        return (columns @ w.reshape(-1, w.shape[3])).reshape(*x.shape[:3], -1)

    best = peak() * settings.threads
    print(machine(settings.threads))
    print(f"peak: {best / 1e9:.0f} GFLOP/s")
    print(f"{'N × H × W × C, filter':30} {'forward':>8} {'of peak':>8} {'gradients':>10}"
          f" {'of peak':>8} {'to im2col':>10}")
    config = tf.ConfigProto(intra_op_parallelism_threads=settings.threads)
    rng = np.random.default_rng(0)
    for n, h, c, r, f in LAYERS:
        image, kernel = (rng.random(s, np.float32) for s in ((n, h, h, c), (r, r, c, f)))
        with tf.Graph().as_default(), tf.Session(config=config) as sess:
            x = tf.placeholder(tf.float32, [n, h, h, c])
            w = tf.placeholder(tf.float32, [r, r, c, f])
            y = tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME")
            forward = sess.make_callable(y, [x, w])
            # the derivative of ½ Σ y²: its gradients need the forward pass too, which is counted
            backward = sess.make_callable(tf.gradients(tf.nn.l2_loss(y), [x, w]), [x, w])
            calls = [partial(f, image, kernel) for f in (forward, backward, im2col)]
            one, all3, theirs = measure(calls, settings.seconds)
        work = 2.0 * n * h * h * c * f * r * r
        name = f"{n} × {h} × {h} × {c}, {r} × {r} → {f}"
        print(f"{name:30} {work / one.least / 1e9:8.1f} {work / one.least / best:8.0%}"
              f" {3 * work / all3.least / 1e9:10.1f} {3 * work / all3.least / best:8.0%}"
              f" {theirs.median / one.median:10.2f}")


if __name__ == "__main__":
    main()
