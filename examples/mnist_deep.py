"""MNIST with two hidden layers, 784-128-32-10: about 97.5 % of the test digits right.

Hidden layers are hierarchies of features: the first finds strokes, the second what strokes make up.
Adam adapts the step of every weight, and five passes over the data are enough.
"""

from __future__ import annotations

import math
import time

import common

import flowc as tf
from flowc.examples.tutorials.mnist import input_data

NUM_PIXELS = 784
NUM_CLASSES = 10


def layer(x: tf.Tensor, inputs: int, outputs: int, name: str) -> tf.Tensor:
    """x W + b; the weights' spread keeps the signal's size through a relu (He et al. 2015)."""
    with tf.name_scope(name):
        start = tf.truncated_normal([inputs, outputs], stddev=math.sqrt(2.0 / inputs))
        weights = tf.Variable(start, name="weights")
        biases = tf.Variable(tf.zeros([outputs]), name="biases")
        return tf.matmul(x, weights) + biases


def main() -> None:
    settings = common.options(
        __doc__,
        steps=(2750, "training steps; 550 of 100 images are one pass over the data"),
        batch_size=(100, "images for each step"),
        rate=(0.001, "learning rate of Adam"),
        hidden1=(128, "units of the first hidden layer"),
        hidden2=(32, "units of the second hidden layer"),
        data=("MNIST_data", "folder of the MNIST files; what is missing is downloaded to it"),
    )
    mnist = input_data.read_data_sets(settings.data, seed=0)
    tf.set_random_seed(1)

    x = tf.placeholder(tf.float32, [None, NUM_PIXELS], name="pixels")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    hidden1 = tf.nn.relu(layer(x, NUM_PIXELS, settings.hidden1, "hidden1"))
    hidden2 = tf.nn.relu(layer(hidden1, settings.hidden1, settings.hidden2, "hidden2"))
    logits = layer(hidden2, settings.hidden2, NUM_CLASSES, "softmax_linear")

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses)
    train = tf.train.AdamOptimizer(settings.rate).minimize(loss)
    accuracy = tf.reduce_mean(tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.float32))

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        check = {x: mnist.validation.images[:100], labels: mnist.validation.labels[:100]}
        common.report_step(sess, train, check)
        started = time.perf_counter()
        for _ in common.Steps(settings.steps, "two layers", loss=lambda: sess.run(loss, check)):
            batch = mnist.train.next_batch(settings.batch_size)
            feeds = {x: batch[0], labels: batch[1]}
            sess.run(train, feed_dict=feeds)
        seconds = time.perf_counter() - started
        test = {x: mnist.test.images, labels: mnist.test.labels}
        print(f"accuracy: {sess.run(accuracy, feed_dict=test):.4f} on {mnist.test.num_examples}")
    print(f"time: {seconds:.2f} s for {settings.steps} steps")


if __name__ == "__main__":
    main()
