"""MNIST with a convolutional network: about 99 % of the test digits right.

Two convolutions, each followed by max pooling, see the same stroke wherever it is; two full layers
decide. Dropout silences half of the units at random in each step, so that none relies on another.
The learning rate halves with every pass, which settles the weights within few passes.
"""

from __future__ import annotations

import math
import time

import common

import flowc as tf
from flowc.examples.tutorials.mnist import input_data

NUM_CLASSES = 10
EVALUATION_BATCH = 500  # keeps the activations of the test set small


def weights(shape: list[int]) -> tf.Variable:
    """Weights whose spread keeps the signal's size through a relu (He et al. 2015)."""
    return tf.Variable(tf.truncated_normal(shape, stddev=math.sqrt(2.0 / math.prod(shape[:-1]))))


def biases(size: int) -> tf.Variable:
    return tf.Variable(tf.zeros([size]))


def convolution(x: tf.Tensor, inputs: int, outputs: int) -> tf.Tensor:
    """5x5 convolution, bias, relu, and a 2x2 max pool: half the height and width."""
    feature = tf.nn.conv2d(x, weights([5, 5, inputs, outputs]), [1, 1, 1, 1], "SAME")
    feature = tf.nn.relu(feature + biases(outputs))
    return tf.nn.max_pool(feature, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")


def network(x: tf.Tensor, keep: tf.Tensor, filters1: int, filters2: int, units: int) -> tf.Tensor:
    """Images `[n, 784]` → logits `[n, 10]`."""
    image = tf.reshape(x, [-1, 28, 28, 1])
    features = convolution(convolution(image, 1, filters1), filters1, filters2)
    size = 7 * 7 * filters2
    flat = tf.reshape(features, [-1, size])
    full = tf.nn.relu(tf.matmul(flat, weights([size, units])) + biases(units))
    dropped = tf.nn.dropout(full, keep)
    return tf.matmul(dropped, weights([units, NUM_CLASSES])) + biases(NUM_CLASSES)


def main() -> None:
    settings = common.options(
        __doc__,
        steps=(2750, "training steps; 550 of 100 images are one pass over the data"),
        batch_size=(100, "images for each step"),
        rate=(0.001, "learning rate of Adam at the start"),
        keep=(0.5, "share of units that dropout keeps"),
        filters1=(32, "filters of the first convolution"),
        filters2=(64, "filters of the second convolution"),
        units=(512, "units of the full layer"),
        data=("MNIST_data", "folder of the MNIST files; what is missing is downloaded to it"),
    )
    mnist = input_data.read_data_sets(settings.data, seed=0)
    tf.set_random_seed(1)

    x = tf.placeholder(tf.float32, [None, 784], name="pixels")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    keep = tf.placeholder(tf.float32, [], name="keep")
    logits = network(x, keep, settings.filters1, settings.filters2, settings.units)

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses)
    step = tf.Variable(0, trainable=False, name="global_step")
    one_pass = max(1, mnist.train.num_examples // settings.batch_size)
    rate = tf.train.exponential_decay(settings.rate, step, one_pass, 0.5)
    train = tf.train.AdamOptimizer(rate).minimize(loss, global_step=step)
    correct = tf.reduce_sum(tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.float32))

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        check = {x: mnist.validation.images[:100], labels: mnist.validation.labels[:100], keep: 1.0}
        common.report_step(sess, train, check)
        started = time.perf_counter()
        for _ in common.Steps(settings.steps, "convolution", loss=lambda: sess.run(loss, check)):
            batch = mnist.train.next_batch(settings.batch_size)
            feeds = {x: batch[0], labels: batch[1], keep: settings.keep}
            sess.run(train, feed_dict=feeds)
        seconds = time.perf_counter() - started
        share = common.accuracy_in_parts(
            sess, correct, lambda i, n: {x: i, labels: n, keep: 1.0}, mnist.test, EVALUATION_BATCH
        )
        print(f"accuracy: {share:.4f} on {mnist.test.num_examples}")
    print(f"time: {seconds:.2f} s for {settings.steps} steps")


if __name__ == "__main__":
    main()
