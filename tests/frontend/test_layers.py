"""`tf.layers`, `tf.contrib.layers`, and moving averages, against NumPy, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf

NATIVE = True
RNG = np.random.default_rng(6)


def names() -> list[str]:
    return [v.op.name for v in tf.global_variables()]


def test_dense() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.layers.dense(x, 4, tf.nn.relu, bias_initializer=tf.constant_initializer(0.25))
    z = tf.layers.dense(tf.reshape(x, [-1, 1, 3]), 2, use_bias=False, name="last")
    assert names() == ["dense/kernel", "dense/bias", "last/kernel"]
    assert y.op.name == "dense/Relu"
    given = RNG.normal(size=(5, 3))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        a, b, (k, bias, last) = sess.run([y, z, tf.global_variables()], {x: given})
    np.testing.assert_allclose(a, np.maximum(given @ k + bias, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b[:, 0], given @ last, rtol=1e-5, atol=1e-6)
    limit = np.sqrt(6 / (3 + 4))  # Glorot's
    assert np.abs(k).max() <= limit
    assert (bias == 0.25).all()


def test_names_and_reuse() -> None:
    x = tf.placeholder(tf.float32, [None, 3])

    def tower() -> Any:
        return tf.layers.dense(tf.layers.dense(x, 3), 2)

    with tf.variable_scope("a"):
        first = tower()
    with tf.variable_scope("a", reuse=True):
        second = tower()
    one = tf.layers.dense(x, 2, name="one")
    two = tf.layers.dense(x, 2, name="one", reuse=True)
    layer = tf.layers.Dense(2)
    three, four = layer(x), layer(x)
    assert names() == [
        "a/dense/kernel", "a/dense/bias", "a/dense_1/kernel", "a/dense_1/bias", "one/kernel",
        "one/bias", "dense/kernel", "dense/bias",
    ]  # fmt: skip
    assert len(layer.trainable_variables) == 2
    with pytest.raises(ValueError, match="already exists"):
        tf.layers.dense(x, 2, name="one")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        got = sess.run([first, second, one, two, three, four], {x: RNG.normal(size=(2, 3))})
    for a, b in zip(got[::2], got[1::2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_sizes_that_a_layer_needs() -> None:
    with pytest.raises(ValueError, match="last dimension of the inputs should be defined"):
        tf.layers.dense(tf.placeholder(tf.float32, [3, None]), 2)
    with pytest.raises(ValueError, match="expected ndim=4"):
        tf.layers.conv2d(tf.ones([2, 3]), 4, 3)
    with pytest.raises(ValueError, match="`padding` argument"):
        tf.layers.conv2d(tf.ones([1, 4, 4, 1]), 4, 3, padding="half")
    with pytest.raises(ValueError, match="`kernel_size` argument"):
        tf.layers.conv2d(tf.ones([1, 4, 4, 1]), 4, [3, 3, 3])


def windows(x: Any, size: int, stride: int) -> Any:
    """[n, rows, columns, size, size, channels] of images."""
    found = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.moveaxis(found[:, ::stride, ::stride], 3, 5)


def test_convolution_and_pooling() -> None:
    x = tf.placeholder(tf.float32, [None, 7, 7, 3])
    y = tf.layers.conv2d(x, 4, 3, strides=2, activation=tf.nn.relu)
    same = tf.layers.conv2d(x, 2, [3, 3], padding="same")
    top = tf.layers.max_pooling2d(x, 2, 2)
    mean = tf.layers.average_pooling2d(x, (3, 3), (2, 2))
    first = tf.layers.max_pooling2d(tf.transpose(x, [0, 3, 1, 2]), 2, 2,
                                    data_format="channels_first")
    flat = tf.layers.flatten(same)
    large = tf.layers.conv2d_transpose(x, 2, 3, strides=(2, 2), padding="same")
    assert flat.shape.as_list() == [None, 98]
    assert large.shape.as_list() == [None, 14, 14, 2]
    given = RNG.normal(size=(2, 7, 7, 3))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        got = sess.run([y, top, mean, first, flat, same, large], {x: given})
        k = sess.run(tf.global_variables()[0])
    want = np.einsum("nijabc,abck->nijk", windows(given, 3, 2), k)
    np.testing.assert_allclose(got[0], np.maximum(want, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], windows(given, 2, 2).max((3, 4)), rtol=1e-6)
    np.testing.assert_allclose(got[2], windows(given, 3, 2).mean((3, 4)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(got[3], np.moveaxis(got[1], 3, 1))
    np.testing.assert_array_equal(got[4], got[5].reshape(2, -1))
    assert got[6].shape == (2, 14, 14, 2)


@pytest.mark.parametrize("fed", [True, False])
def test_dropout(fed: bool) -> None:
    x = tf.placeholder(tf.float32, [None])
    training: Any = tf.placeholder_with_default(False, []) if fed else True
    y = tf.layers.dropout(x, 0.25, training=training)
    off = y if fed else tf.layers.dropout(x, 0.25)
    ones = np.ones(4000, np.float32)
    with tf.Session() as sess:
        got = sess.run(y, {x: ones, training: True} if fed else {x: ones})
        np.testing.assert_array_equal(sess.run(off, {x: ones}), ones)
    np.testing.assert_allclose(got[got > 0], 1 / 0.75, rtol=1e-6)
    assert 0.2 < np.mean(got == 0) < 0.3


@pytest.mark.parametrize(("shape", "fed"), [((6, 3), True), ((2, 4, 4, 3), True), ((6, 3), False)])
def test_batch_normalization(shape: tuple[int, ...], fed: bool) -> None:
    x = tf.placeholder(tf.float32, [None, *shape[1:]])
    training: Any = tf.placeholder(tf.bool, []) if fed else True
    y = tf.layers.batch_normalization(x, training=training, momentum=0.9)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert len(updates) == 2
    assert [n.split("/")[1] for n in names()] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert len(tf.trainable_variables()) == 2
    given = RNG.normal(2, 3, size=shape)
    feeds = {x: given, training: True} if fed else {x: given}
    axes = tuple(range(len(shape) - 1))
    mean, variance, n = given.mean(axes), given.var(axes), given.size // 3
    moved = variance * n / (n - 1) if len(shape) == 4 else variance
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        got, _ = sess.run([y, updates], feeds)
        np.testing.assert_allclose(got, (given - mean) / np.sqrt(variance + 1e-3), atol=1e-5)
        averages = sess.run(tf.global_variables()[2:])
        np.testing.assert_allclose(averages[0], 0.1 * mean, rtol=1e-5)
        np.testing.assert_allclose(averages[1], 0.9 + 0.1 * moved, rtol=1e-5)
        if fed:
            got, _ = sess.run([y, updates], {x: given, training: False})
            want = (given - averages[0]) / np.sqrt(averages[1] + 1e-3)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
            now = sess.run(tf.global_variables()[2:])
            np.testing.assert_allclose(now, averages, rtol=1e-6)


def test_training_through_batch_normalization() -> None:
    x = tf.placeholder(tf.float32, [None, 4, 4, 2])
    h = tf.layers.conv2d(x, 3, 3, use_bias=False, padding="same")
    h = tf.nn.relu(tf.layers.batch_normalization(h, training=True))
    loss = tf.reduce_mean(tf.square(tf.layers.dense(tf.layers.flatten(h), 1) - 1.0))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train = tf.train.AdamOptimizer(0.05).minimize(loss)
    given = RNG.normal(size=(8, 4, 4, 2))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(loss, {x: given})
        for _ in range(20):
            sess.run(train, {x: given})
        assert sess.run(loss, {x: given}) < 0.1 * before


def test_contrib_layers() -> None:
    x = tf.placeholder(tf.float32, [None, 2, 3])
    flat = tf.contrib.layers.flatten(x)
    y = tf.contrib.layers.fully_connected(
        flat, 4, weights_regularizer=tf.contrib.layers.l2_regularizer(0.5))
    w = tf.get_variable("w", [30, 20], initializer=tf.contrib.layers.xavier_initializer())
    assert names() == ["fully_connected/weights", "fully_connected/biases", "w"]
    given = RNG.normal(size=(2, 2, 3))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        got, k, loss = sess.run(
            [y, tf.global_variables()[0], tf.losses.get_regularization_loss()], {x: given})
        assert np.abs(sess.run(w)).max() <= np.sqrt(6 / 50)
    np.testing.assert_allclose(got, np.maximum(given.reshape(2, 6) @ k, 0), rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(0.5 * 0.5 * np.sum(k.astype(float) ** 2), rel=1e-5)


# ---- Moving averages.


def test_exponential_moving_average() -> None:
    v, step = tf.Variable(10.0, name="v"), tf.Variable(0, trainable=False)
    average = tf.train.ExponentialMovingAverage(0.9, num_updates=step)
    update = average.apply([v])
    shadow = average.average(v)
    assert shadow is not None
    assert shadow.op.name == average.average_name(v) == "v/ExponentialMovingAverage"
    assert set(average.variables_to_restore()) == {"v/ExponentialMovingAverage", "Variable"}
    with pytest.raises(ValueError, match="already computed"):
        average.apply([v])
    with pytest.raises(TypeError, match="half, float, or double"):
        average.apply([step])
    want = 10.0
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(shadow) == 10
        for n in range(4):
            sess.run(v.assign(float(n)))
            sess.run(step.assign(n))
            sess.run(update)
            decay = min(0.9, (1 + n) / (10 + n))
            want = decay * want + (1 - decay) * n
            assert sess.run(shadow) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("debias", [False, True])
def test_averages_of_tensors(debias: bool) -> None:
    x = tf.placeholder(tf.float32, [2])
    average = tf.train.ExponentialMovingAverage(0.5, zero_debias=debias)
    update = average.apply([x])
    want, values = np.zeros(2), RNG.normal(size=(3, 2))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for n, value in enumerate(values):
            sess.run(update, {x: value})
            want = 0.5 * want + 0.5 * value
            shown = want / (1 - 0.5 ** (n + 1)) if debias else want
            np.testing.assert_allclose(sess.run(average.average(x)), shown, rtol=1e-5)
