"""MNIST with one matrix: softmax regression, about 92 % of the test digits right.

Every pixel votes for every digit with a weight; softmax turns the ten sums into probabilities, and
cross entropy says how far those are from the label. 7,850 numbers are learned.
"""

from __future__ import annotations

import time

import common

import flowc as tf
from flowc.examples.tutorials.mnist import input_data

NUM_PIXELS = 784
NUM_CLASSES = 10


def main() -> None:
    settings = common.options(
        __doc__,
        steps=(2000, "training steps"),
        batch_size=(100, "images for each step"),
        rate=(0.5, "learning rate of the gradient descent"),
        data=("MNIST_data", "folder of the MNIST files; what is missing is downloaded to it"),
    )
    mnist = input_data.read_data_sets(settings.data, one_hot=True, seed=0)

    x = tf.placeholder(tf.float32, [None, NUM_PIXELS], name="pixels")
    y_ = tf.placeholder(tf.float32, [None, NUM_CLASSES], name="labels")
    W = tf.Variable(tf.zeros([NUM_PIXELS, NUM_CLASSES]), name="weights")
    b = tf.Variable(tf.zeros([NUM_CLASSES]), name="biases")
    y = tf.matmul(x, W) + b

    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y))
    train = tf.train.GradientDescentOptimizer(settings.rate).minimize(loss)
    correct = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        check = {x: mnist.validation.images[:100], y_: mnist.validation.labels[:100]}
        common.report_step(sess, train, check)
        started = time.perf_counter()
        for _ in common.Steps(settings.steps, "softmax", loss=lambda: sess.run(loss, check)):
            images, labels = mnist.train.next_batch(settings.batch_size)
            sess.run(train, feed_dict={x: images, y_: labels})
        seconds = time.perf_counter() - started
        test = {x: mnist.test.images, y_: mnist.test.labels}
        print(f"accuracy: {sess.run(accuracy, feed_dict=test):.4f} on {mnist.test.num_examples}")
    print(f"time: {seconds:.2f} s for {settings.steps} steps")


if __name__ == "__main__":
    main()
