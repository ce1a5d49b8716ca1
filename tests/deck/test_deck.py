"""Every program of the talk runs and gives what the talk says it gives."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowc as tf
from deck import extract
from deck.edits import FEED_X_DATA, FEED_X_IN, PROGRAMS, Edit
from flowc.examples.tutorials.mnist import input_data

Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program of the talk from a file and return its variables."""

    def run(name: str, without: tuple[Edit, ...] = (), **given: Any) -> dict[str, Any]:
        file = tmp_path / f"{name}.py"
        file.write_text(extract.assemble(name, without), encoding="utf-8")
        return runpy.run_path(str(file), init_globals=given)

    return run


def digits() -> input_data.Datasets:
    """MNIST where it is at hand; else scikit-learn's 8x8 digits, drawn on 28x28 pixels."""
    folder = input_data.data_dir()
    if folder is not None and (folder / "mnist").is_dir():
        return input_data.read_data_sets(folder / "mnist", one_hot=True, seed=0)
    sklearn = pytest.importorskip("sklearn.datasets", reason="neither FLOWC_DATA nor scikit-learn")
    small = sklearn.load_digits()
    large = np.kron(small.images * (255 / 16), np.ones((3, 3)))
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)[..., None]
    labels = input_data.dense_to_one_hot(small.target, 10)
    order = np.random.RandomState(0).permutation(len(images))
    parts = [order[:1400], order[1400:1500], order[1500:]]
    return input_data.Datasets(*[input_data.DataSet(images[p], labels[p], seed=0) for p in parts])


@pytest.mark.parametrize("name", ["build", "line-1", "line-2", "line-3", "line-4", "line-5"])
def test_slides_that_only_build_a_graph(name: str, run: Run) -> None:
    names = run(name)
    assert names["tf"] is tf
    shapes = {"a": (), "b": (), "c": (), "x": (None,), "W": (1,), "y": (None,)}
    if name.startswith("line"):
        shapes["b"] = (1,)
    for key, shape in shapes.items():
        if key in names:
            assert tuple(names[key].get_shape().as_list()) == shape, key


def test_then_run_it(run: Run) -> None:
    assert run("run")["value_of_c"] == 3


def test_whats_the_output(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("variable-loop")
    assert capsys.readouterr().out.split() == ["1", "2", "3"]


def test_running_the_computation(run: Run) -> None:
    names = run("running")
    sess, x, y, w, b = (names[n] for n in ("sess", "x", "y", "W", "b"))
    values = sess.run([y, w, b], {x: [names["x_in"]]})
    assert values[0].shape == (1,)
    np.testing.assert_allclose(values[0], 3 * values[1] + values[2], rtol=1e-6)


def test_inference_putting_it_all_together(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("inference")
    printed = capsys.readouterr().out.strip()
    assert printed.startswith("[")
    assert np.isfinite(float(printed.strip("[]")))


def test_an_optimizer_step_lowers_the_loss(run: Run) -> None:
    names = run("optimizer")
    sess, x, labels = names["sess"], names["x"], names["y_train"]
    for _ in range(200):
        sess.run(names["train"], {x: [0.1, 0.9], labels: [0.31, 0.39]})
    after = sess.run(names["loss"], {x: [0.1, 0.9], labels: [0.31, 0.39]})
    assert after < 1e-6
    assert after <= names["before"]


def test_linear_regression_finds_the_mystery_equation(run: Run) -> None:
    slope, intercept = run("together")["fit"]
    np.testing.assert_allclose(slope, [0.1], atol=0.02)
    np.testing.assert_allclose(intercept, [0.3], atol=0.02)


@pytest.mark.parametrize(
    ("program", "edit"),
    [("running", FEED_X_IN), ("together", FEED_X_DATA)],
    ids=["running", "together"],
)
def test_the_talks_scalar_feed_says_what_is_wrong(program: str, edit: Edit, run: Run) -> None:
    """As the slide has it, `x_in = 3` meets a placeholder of shape [None]."""
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)) as caught:
        run(program, without=(edit,))
    message = str(caught.value)
    assert "x:0" in message or "'x'" in message or '"x"' in message
    assert any(shape in message for shape in ("(None,)", "[None]", "(?,)", "[?]")), message
    assert "()" in message or "[]" in message


def test_softmax_rows_are_probabilities(run: Run) -> None:
    names = run("softmax")
    pixels = np.random.RandomState(0).rand(5, 784).astype(np.float32)
    rows = names["sess"].run(names["Y"], {names["X"]: pixels})
    assert rows.shape == (5, 10)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), np.ones(5), rtol=1e-5)


@pytest.mark.parametrize(("name", "least"), [("mnist-softmax", 0.9), ("mnist-hidden", 0.92)])
def test_mnist(name: str, least: float, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(name, mnist=digits())
    printed = capsys.readouterr().out
    assert printed.startswith("Accuracy 0.")
    assert float(printed.split()[1]) >= least


def test_every_program_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in PROGRAMS if f'"{name}"' not in text] == []


def convolve(image: Any, weights: Any) -> np.ndarray:
    image = tf.reshape(tf.constant(image, tf.float32), [1, 5, 5, 1])
    weights = tf.reshape(tf.constant(weights, tf.float32), [3, 3, 1, 1])
    result = tf.nn.conv2d(image, weights, strides=[1, 1, 1, 1], padding="VALID")
    with tf.Session() as sess:
        value: np.ndarray = sess.run(result)
    return value[0, :, :, 0]


def test_convolution_slide() -> None:
    image, weights = extract.numbers("convolution"), extract.weights("convolution")
    assert weights == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    feature = convolve(image, weights)
    assert feature[0, 0] == extract.numbers("convolved")[0][0] == 4
    windows = np.lib.stride_tricks.sliding_window_view(np.array(image), (3, 3))
    assert feature.tolist() == (windows * np.array(weights)).sum(axis=(2, 3)).tolist()


def test_max_pool_slide() -> None:
    # the slide's input is a picture, of which the transcription has nothing: this input is ours
    depth = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
    pooled = tf.nn.max_pool(
        tf.constant(depth.reshape(1, 4, 4, 1)), [1, 2, 2, 1], [1, 2, 2, 1], "VALID"
    )
    with tf.Session() as sess:
        assert sess.run(pooled)[0, :, :, 0].tolist() == extract.numbers("pooled")


def test_loss_bowl_slide() -> None:
    """The table is x² + y²; of its last column, x = 5, the slide shows only the row y = 0."""
    header, *rows = extract.numbers("bowl")
    x = tf.constant(np.array(header, np.float32))
    y = tf.constant(np.array([[row[0]] for row in rows], np.float32))
    with tf.Session() as sess:
        table = sess.run(tf.square(x) + tf.square(y))
    assert len(rows) == 11
    for computed, (_, *shown) in zip(table.tolist(), rows, strict=True):
        assert len(shown) >= 10
        assert computed[: len(shown)] == shown


def test_descent_in_the_loss_bowl_ends_at_its_bottom() -> None:
    position = tf.Variable([-4.0, 5.0])
    loss = tf.reduce_sum(tf.square(position))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(loss) == 41.0
        losses = []
        for _ in range(60):
            sess.run(train)
            losses.append(float(sess.run(loss)))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-6


def optimizers() -> list[str]:
    lines = extract.read_slides()["optimizers"].text.split()
    return [line.removeprefix("tf.train.") for line in lines if line != "..."]


@pytest.mark.parametrize("name", optimizers())
def test_the_optimizers_that_the_talk_names(name: str) -> None:
    """Each of them lowers the loss of the talk's line."""
    slope, intercept = tf.Variable([1.0]), tf.Variable([-1.0])
    x = np.linspace(0, 1, 20).astype(np.float32)
    loss = tf.reduce_mean(tf.square(slope * x + intercept - (0.1 * x + 0.3)))
    step = tf.Variable(0, trainable=False, dtype=tf.int64)
    extra = {"global_step": step} if name == "AdagradDAOptimizer" else {}
    optimizer = getattr(tf.train, name)(0.1, **extra)
    train = optimizer.minimize(loss, global_step=step)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(loss)
        for _ in range(200):
            sess.run(train)
        after = sess.run(loss)
        assert sess.run(step) == 200
    assert after < before * (0.999 if name == "AdadeltaOptimizer" else 0.5)
