"""Linear regression: find W and b of the mystery equation y = 0.1 x + 0.3 + noise.

Three things make a model: inference (given x, predict y), a loss (how bad was that?), and an
optimizer, which follows the loss's gradient downhill. Two pictures show the fit, and the loss as a
bowl with the way that the descent took through it.
"""

from __future__ import annotations

import time
from pathlib import Path

import common
import numpy as np

import flowc as tf


def samples(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Points around the line."""
    random = np.random.RandomState(0)
    x = random.rand(count).astype(np.float32)
    return x, (0.1 * x + 0.3 + random.normal(0.0, noise, count)).astype(np.float32)


def main() -> None:
    settings = common.options(
        __doc__,
        steps=(1000, "training steps"),
        batch_size=(32, "samples for each step"),
        rate=(0.2, "learning rate; beyond about 0.7 the descent overshoots"),
        samples=(1000, "how many points to fit"),
        noise=(0.02, "standard deviation of the noise"),
        out=("out", "folder for the pictures"),
    )
    x_data, y_data = samples(settings.samples, settings.noise)
    tf.set_random_seed(1)

    # inference
    x = tf.placeholder(tf.float32, shape=[None], name="x")
    y_label = tf.placeholder(tf.float32, shape=[None], name="y_label")
    W = tf.Variable(tf.random_normal([1]), name="W")
    b = tf.Variable(tf.random_normal([1]), name="b")
    y = W * x + b
    # loss
    loss = tf.reduce_mean(tf.square(y - y_label), name="loss")
    # optimizer
    train = tf.train.GradientDescentOptimizer(settings.rate).minimize(loss)

    choose = np.random.RandomState(2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        everything = {x: x_data, y_label: y_data}
        common.report_step(sess, train, everything)
        way = [tuple(float(v[0]) for v in sess.run([W, b]))]
        started = time.perf_counter()
        steps = common.Steps(
            settings.steps, "linear regression", loss=lambda: sess.run(loss, everything)
        )
        for _ in steps:
            chosen = choose.randint(0, settings.samples, settings.batch_size)
            feeds = {x: x_data[chosen], y_label: y_data[chosen]}
            _, slope, intercept = sess.run([train, W, b], feed_dict=feeds)
            way.append((float(slope[0]), float(intercept[0])))
        seconds = time.perf_counter() - started
        slope, intercept = (float(v[0]) for v in sess.run([W, b]))
        print(f"W = {slope:.4f}, b = {intercept:.4f}, loss {sess.run(loss, everything):.6f}")
    print(f"time: {seconds:.2f} s for {settings.steps} steps")
    out = Path(settings.out)
    common.fit_plot(out / "linear_regression_fit.png", x_data, y_data, slope, intercept)
    common.bowl_plot(out / "linear_regression_bowl.png", x_data, y_data, way)


if __name__ == "__main__":
    main()
