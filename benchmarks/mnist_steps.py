"""Training steps of the MNIST examples' networks: seconds to compile, steps a second.

On random images of MNIST's shape, so that nothing is downloaded: the time of a step does not
depend on what the images show. Batches are of the size that the examples use.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import numpy as np
from _timing import machine, measure

import flowc as tf


def softmax(x: Any) -> Any:
    """One matrix."""
    return tf.matmul(x, tf.Variable(tf.zeros([784, 10]))) + tf.Variable(tf.zeros([10]))


def deep(x: Any) -> Any:
    """Two hidden layers, 784-128-32-10."""
    return dense(dense(dense(x, 128), 32), 10, relu=False)


def dense(x: Any, size: int, relu: bool = True) -> Any:
    """A layer, all inputs to all outputs."""
    width = int(x.get_shape()[1])
    w = tf.Variable(tf.truncated_normal([width, size], stddev=0.05))
    y = tf.matmul(x, w) + tf.Variable(tf.zeros([size]))
    return tf.nn.relu(y) if relu else y


def conv(x: Any) -> Any:
    """Two convolutions of 5 × 5 with pooling, then 1024 hidden units."""
    h = tf.reshape(x, [-1, 28, 28, 1])
    for channels, filters in ((1, 32), (32, 64)):
        w = tf.Variable(tf.truncated_normal([5, 5, channels, filters], stddev=0.1))
        y = tf.nn.conv2d(h, w, [1, 1, 1, 1], "SAME") + tf.Variable(tf.zeros([filters]))
        h = tf.nn.max_pool(tf.nn.relu(y), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    return dense(dense(tf.reshape(h, [-1, 7 * 7 * 64]), 1024), 10, relu=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    settings = parser.parse_args()
    config = tf.ConfigProto(intra_op_parallelism_threads=settings.threads)
    rng = np.random.default_rng(0)
    print(machine(settings.threads))
    print(f"{'network':10} {'batch':>6} {'first step s':>13} {'ms a step':>10} {'steps/s':>9}")
    for network, batch in ((softmax, 100), (deep, 100), (conv, 50)):
        images = rng.random((batch, 784), np.float32)
        labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, batch)]
        with tf.Graph().as_default(), tf.Session(config=config) as sess:
            x, y = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.float32, [None, 10])
            loss = tf.reduce_mean(
                tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=network(x)))
            train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
            sess.run(tf.global_variables_initializer())
            start = time.perf_counter()
            sess.run(train, {x: images, y: labels})
            first = time.perf_counter() - start
            feeds = {x: images, y: labels}
            (times,) = measure([partial(sess.run, train, feeds)], settings.seconds)
        step = times.median
        print(f"{network.__name__:10} {batch:6} {first:13.2f} {step * 1e3:10.3f} {1 / step:9.0f}")


if __name__ == "__main__":
    main()
