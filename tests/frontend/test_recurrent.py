"""Loops over an axis and recurrent nets against NumPy (f64), compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf

NATIVE = True
RNG = np.random.default_rng(5)
rc = tf.nn.rnn_cell


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


# ---- map_fn, scan, foldl, foldr.


def test_map_scan_fold() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    given = RNG.normal(size=(4, 3)).astype(np.float32)
    add: Callable[[Any, Any], Any] = lambda a, e: 0.5 * a + e  # noqa: E731
    names = {
        "map": tf.map_fn(lambda r: tf.reduce_sum(r * r), x),
        "scan": tf.scan(add, x),
        "back": tf.scan(add, x, tf.ones([3]), reverse=True),
        "left": tf.foldl(add, x),
        "right": tf.foldr(add, x),
        "pair": tf.map_fn(lambda p: (p[0] * 2, tf.cast(p[1], tf.int32)), (x, x),
                          dtype=(tf.float32, tf.int32)),
    }  # fmt: skip
    got = run(names, {x: given})
    np.testing.assert_allclose(got["map"], (given**2).sum(1), rtol=1e-6)
    want, back, rows = [given[0]], [], given.astype(float)
    for row in rows[1:]:
        want.append(0.5 * want[-1] + row)
    state = np.ones(3)
    for row in rows[::-1]:
        state = 0.5 * state + row
        back.insert(0, state)
    np.testing.assert_allclose(got["scan"], want, rtol=1e-5)
    np.testing.assert_allclose(got["back"], back, rtol=1e-5)
    np.testing.assert_allclose(got["left"], want[-1], rtol=1e-5)
    right = rows[3]
    for row in rows[2::-1]:
        right = 0.5 * right + row
    np.testing.assert_allclose(got["right"], right, rtol=1e-5)
    np.testing.assert_array_equal(got["pair"][1], given.astype(np.int32))


def test_loops_use_and_change_variables() -> None:
    v, count = tf.Variable(2.0), tf.Variable(0)
    x = tf.placeholder(tf.float32, [None])

    def body(e: Any) -> Any:
        with tf.control_dependencies([tf.assign_add(count, 1)]):
            return e * v

    y = tf.map_fn(body, x)
    grads = tf.gradients(tf.reduce_sum(y * y), [x, v])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        out, (gx, gv) = sess.run([y, grads], {x: [1.0, 3.0, 0.5]})
        np.testing.assert_allclose(out, [2, 6, 1])
        np.testing.assert_allclose(gx, [8, 24, 4])
        assert gv == pytest.approx(2 * 2 * (1 + 9 + 0.25))
        assert sess.run(count) == 3


def test_what_no_loop_can_be() -> None:
    with pytest.raises(ValueError, match="is a scalar"):
        tf.map_fn(lambda r: r, tf.constant(1.0))
    with pytest.raises(TypeError, match="callable"):
        tf.scan(None, tf.ones([3]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is float32, a round makes it int32"):
        tf.scan(lambda a, e: tf.cast(e, tf.int32), tf.ones([3]), 0.0)
    with pytest.raises(ValueError, match="has shape"):
        tf.foldl(lambda a, e: tf.stack([e, e]), tf.ones([3]), 0.0)


# ---- Cells.


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def basic(p: Any, x: Any, h: Any) -> Any:
    out = np.tanh(np.concatenate([x, h], 1) @ p["kernel"] + p["bias"])
    return out, out


def gru(p: Any, x: Any, h: Any) -> Any:
    gates = sigmoid(np.concatenate([x, h], 1) @ p["gates/kernel"] + p["gates/bias"])
    r, u = np.split(gates, 2, 1)
    c = np.tanh(np.concatenate([x, r * h], 1) @ p["candidate/kernel"] + p["candidate/bias"])
    out = u * h + (1 - u) * c
    return out, out


def lstm(p: Any, x: Any, state: Any) -> Any:
    c, h = state
    z = np.concatenate([x, h], 1) @ p["kernel"] + p["bias"]
    i, j, f, o = np.split(z, 4, 1)
    peep = [p.get(f"w_{k}_diag", 0.0) for k in "fio"]
    c = sigmoid(f + 1 + peep[0] * c) * c + sigmoid(i + peep[1] * c) * np.tanh(j)
    h = sigmoid(o + peep[2] * c) * np.tanh(c)
    h = h @ p["projection/kernel"] if "projection/kernel" in p else h
    return h, (c, h)


def normal(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
    return tf.constant(RNG.normal(size=shape) * 0.5, tf.float32)


CELLS: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "basic": (lambda: rc.BasicRNNCell(4), basic, "basic_rnn_cell"),
    "gru": (lambda: rc.GRUCell(4), gru, "gru_cell"),
    "lstm": (lambda: rc.BasicLSTMCell(4), lstm, "basic_lstm_cell"),
    "peepholes": (lambda: rc.LSTMCell(4, use_peepholes=True, initializer=normal), lstm,
                  "lstm_cell"),
    "projected": (lambda: rc.LSTMCell(5, num_proj=4, initializer=normal), lstm, "lstm_cell"),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_cells_along_time(name: str) -> None:
    make, reference, scope = CELLS[name]
    x, n = tf.placeholder(tf.float32, [None, 5, 3]), tf.placeholder(tf.int32, [None])
    cell = make()
    outputs, state = tf.nn.dynamic_rnn(cell, x, n, dtype=tf.float32)
    given, lengths = RNG.normal(size=(4, 5, 3)), np.array([5, 2, 0, 3])
    variables = tf.global_variables()
    assert all(v.name.startswith(f"rnn/{scope}/") for v in variables)
    out, last, values = run([outputs, state, variables], {x: given, n: lengths})
    p = {v.op.name.removeprefix(f"rnn/{scope}/"): a.astype(float)
         for v, a in zip(variables, values, strict=True)}  # fmt: skip
    is_lstm = isinstance(last, tuple)
    size = cell.state_size
    now = tuple(np.zeros((4, k)) for k in size) if is_lstm else np.zeros((4, size))
    want = np.zeros((4, 5, 4))
    for t in range(5):
        y, new = reference(p, given[:, t], now)
        alive = (t < lengths)[:, None]
        want[:, t] = np.where(alive, y, 0)
        now = tuple(np.where(alive, a, b) for a, b in zip(new, now, strict=True)) if is_lstm else (
            np.where(alive, new, now))
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-6)
    for a, b in zip(last if is_lstm else [last], now if is_lstm else [now], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_gradients_through_time() -> None:
    x = tf.placeholder(tf.float64, [2, 4, 3])
    outputs, _ = tf.nn.dynamic_rnn(rc.GRUCell(2, dtype=tf.float64), x, dtype=tf.float64)
    loss = tf.reduce_sum(outputs * outputs)
    kernel = tf.global_variables()[0]
    grad_x, grad_k = tf.gradients(loss, [x, kernel])
    given, eps = RNG.normal(size=(2, 4, 3)), 1e-6
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        gx, gk, k = sess.run([grad_x, grad_k, kernel], {x: given})

        def slope(direction: Any, feed: Any) -> float:
            up, down = (sess.run(loss, feed(s * eps * direction)) for s in (1, -1))
            return float((up - down) / (2 * eps))

        d = RNG.normal(size=given.shape)
        assert np.sum(gx * d) == pytest.approx(slope(d, lambda e: {x: given + e}), rel=1e-5)
        d = RNG.normal(size=k.shape)
        assert np.sum(gk * d) == pytest.approx(
            slope(d, lambda e: {x: given, kernel: k + e}), rel=1e-5)


def test_layers_of_cells_and_dropout() -> None:
    x = tf.placeholder(tf.float32, [None, 6, 3])
    keep = tf.placeholder_with_default(1.0, [])
    cells = [rc.DropoutWrapper(rc.BasicLSTMCell(4), output_keep_prob=keep) for _ in range(2)]
    cell = rc.MultiRNNCell(cells)
    outputs, state = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    names = [v.op.name for v in tf.trainable_variables()]
    assert names[2] == "rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel"
    assert isinstance(state[0], rc.LSTMStateTuple)
    given = RNG.normal(size=(8, 6, 3))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        full = sess.run([outputs, state[1].h], {x: given})
        np.testing.assert_array_equal(full[0][:, -1], full[1])
        half = sess.run(outputs, {x: given, keep: 0.5})
        assert 0.3 < np.mean(half == 0) < 0.7
        zeros = (half == 0).all((0, 2)) | ~(half == 0).any((0, 2))
        assert not zeros.any()  # other elements in each step
    with pytest.raises(ValueError, match="between 0 and 1"):
        rc.DropoutWrapper(rc.GRUCell(1), 1.5)
    with pytest.raises(ValueError, match="at least one cell"):
        rc.MultiRNNCell([])


def test_static_and_bidirectional() -> None:
    x = tf.placeholder(tf.float32, [None, 5, 3])
    cell = rc.BasicRNNCell(4)
    listed, last = tf.nn.static_rnn(cell, tf.unstack(x, 5, 1), dtype=tf.float32)
    whole, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    assert len(listed) == 5
    assert len(tf.trainable_variables()) == 2  # the second net uses the cell's variables
    n = tf.placeholder(tf.int32, [None])
    both, _ = tf.nn.bidirectional_dynamic_rnn(cell, cell, x, n, dtype=tf.float32)
    given, lengths = RNG.normal(size=(2, 5, 3)), [5, 3]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        a, h, b, (fw, bw) = sess.run([listed, last, whole, both], {x: given, n: lengths})
        np.testing.assert_array_equal(np.stack(a, 1), b)
        np.testing.assert_array_equal(h, b[:, -1])
        np.testing.assert_allclose(fw[0], b[0], rtol=1e-6)
        turned = given.copy()
        turned[0], turned[1, :3] = given[0, ::-1], given[1, 2::-1]
        want = sess.run(whole, {x: turned})
        np.testing.assert_allclose(bw[0], want[0, ::-1], rtol=1e-6)
        np.testing.assert_allclose(bw[1, :3], want[1, 2::-1], rtol=1e-6)
        assert not bw[1, 3:].any()


def test_what_no_recurrent_net_can_be() -> None:
    with pytest.raises(TypeError, match="must be an instance of RNNCell"):
        tf.nn.dynamic_rnn(tf.ones([1]), tf.ones([1, 2, 3]), dtype=tf.float32)
    with pytest.raises(ValueError, match="you must give a dtype"):
        tf.nn.dynamic_rnn(rc.GRUCell(2), tf.ones([1, 2, 3]))
    with pytest.raises(ValueError, match="a batch and a time axis"):
        tf.nn.dynamic_rnn(rc.GRUCell(2), tf.ones([3]), dtype=tf.float32)


# ---- TensorArray.


def test_tensor_arrays_in_loops() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    n = tf.shape(x)[0]
    rows = tf.TensorArray(tf.float32, n).unstack(x)

    def body(i: Any, total: Any, out: Any) -> Any:
        total = 0.5 * total + rows.read(i)
        return i + 1, total, out.write(i, total)

    start = (0, tf.zeros([3]), tf.TensorArray(tf.float32, n))
    _, last, out = tf.while_loop(lambda i, *_: i < n, body, start)
    stacked = out.stack()
    assert stacked.shape.as_list() == [None, 3]
    (grad,) = tf.gradients(tf.reduce_sum(stacked), [x])
    given = RNG.normal(size=(4, 3)).astype(np.float32)
    got, end, g = run([stacked, last, grad], {x: given})
    want = [given[0]]
    for row in given[1:]:
        want.append(0.5 * want[-1] + row)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(end, want[-1], rtol=1e-5)
    weights = [sum(0.5**k for k in range(4 - i)) for i in range(4)]
    np.testing.assert_allclose(g, np.repeat(weights, 3).reshape(4, 3), rtol=1e-6)


def test_tensor_arrays_outside_of_loops() -> None:
    array = tf.TensorArray(tf.float32, 3).write(0, [1.0, 2.0]).write(2, [5.0, 6.0])
    got = run([array.stack(), array.read(2), array.concat(), array.gather([2, 0]), array.size(),
               array.scatter([1], [[3.0, 4.0]]).stack()])  # fmt: skip
    np.testing.assert_array_equal(got[0], [[1, 2], [0, 0], [5, 6]])
    np.testing.assert_array_equal(got[1], [5, 6])
    np.testing.assert_array_equal(got[2], [1, 2, 0, 0, 5, 6])
    np.testing.assert_array_equal(got[3], [[5, 6], [1, 2]])
    assert got[4] == 3
    np.testing.assert_array_equal(got[5], [[1, 2], [3, 4], [5, 6]])
    for bad in (array.write(3, [0.0, 0.0]).stack(), array.read(-1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="out of range"):
            run(bad)
    with pytest.raises(ValueError, match="Inconsistent shapes"):
        array.write(1, [1.0])
    with pytest.raises(ValueError, match="nothing has been written"):
        tf.TensorArray(tf.float32, 3).stack()
    with pytest.raises(ValueError, match="cannot grow"):
        tf.TensorArray(tf.float32, 3, dynamic_size=True)
