"""Loops as they are compiled: counted rounds, values in place, what is done before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.ir.plan import Copy, Launch, Loop, Program, Push, Step, walk_steps

NATIVE = True
TRIPS = [0, 1, 2, 7]
Body = Callable[..., Any]


def compiled(fetches: Any, feeds: dict[Any, Any], threads: int = 1) -> tuple[Any, Program]:
    """What a session gives, and the program that it ran."""
    config = tf.ConfigProto(intra_op_parallelism_threads=threads)
    graph = next(iter(feeds)).graph
    with tf.Session(graph=graph, config=config) as sess:
        got = sess.run(fetches, feeds)
        made = list(sess.graph.compiled.values())[-1][-1][1]
    return got, made.program


def body_of(p: Program) -> list[Step]:
    """All steps inside the program's loops."""
    loops = [s for s in walk_steps(p.steps) if isinstance(s, Loop)]
    assert loops
    return [x for s in loops for x in walk_steps((*s.test, *s.body))]


def kinds(p: Program) -> list[str]:
    return [type(s).__name__ for s in body_of(p)]


# ---- carried values


def carried(body: Body, trips: int, count: int) -> tuple[list[Any], Program]:
    """The values after the rounds, of inputs [i, i + 10, …]."""
    with tf.Graph().as_default():
        start = [np.arange(3, dtype=np.float32) + 10 * i for i in range(count)]
        feeds = {tf.placeholder(tf.float32, [3]): v for v in start}
        out = tf.while_loop(
            lambda i, *_: i < trips, lambda i, *v: (i + 1, *body(*v)), [tf.constant(0), *feeds]
        )
        got, program = compiled(out[1:], feeds)
    want = [v.astype(float) for v in start]
    for _ in range(trips):
        want = [np.asarray(v) for v in body(*want)]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    return got, program


@pytest.mark.parametrize("trips", TRIPS)
@pytest.mark.parametrize("body", [
    lambda a, b: (b, a),
    lambda a, b: (b, a + b),
    lambda a, b: (a + b, a),
    lambda a, b: (a - b, a * 0.5),
    lambda a, b: (a, a),
    lambda a, b: (b + 1.0, b + 1.0),
], ids=["swap", "fibonacci", "shift", "both", "same", "twice"])  # fmt: skip
def test_two_values_change_at_once(body: Body, trips: int) -> None:
    carried(body, trips, 2)


@pytest.mark.parametrize("trips", TRIPS)
def test_three_values_rotate(trips: int) -> None:
    carried(lambda a, b, c: (b, c, a), trips, 3)
    carried(lambda a, b, c: (a * 0.5 + c, a, b), trips, 3)


def test_values_read_where_they_are_written_stay_in_place() -> None:
    _, p = carried(lambda a, b: (a * 0.5 + b, b + 1.0), 7, 2)
    assert "Copy" not in kinds(p)


def test_a_value_read_elsewhere_is_copied() -> None:
    def body(a: Any) -> Any:
        return (a + (tf.reverse(a, [0]) if isinstance(a, tf.Tensor) else a[::-1]),)

    _, p = carried(body, 7, 1)
    assert kinds(p).count("Copy") == 1


# ---- counted loops


def rows(make: Callable[[Any, Any], Any], trips: int, size: int) -> tuple[Any, Program]:
    """The sum over the rounds of what `make` reads of x [size, 3] at the counter."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [size, 3])
        out = tf.while_loop(
            lambda i, _: i < trips, lambda i, s: (i + 1, 0.5 * s + make(x, i)),
            [tf.constant(0), tf.zeros([3])],
        )[1]
        given = np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32)
        return compiled(out, {x: given})


def row_sum(trips: int, size: int) -> Any:
    given = np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32)
    s = np.zeros(3)
    for i in range(trips):
        s = 0.5 * s + given[i]
    return s


@pytest.mark.parametrize("trips", [2, 7])
@pytest.mark.parametrize("make", [
    lambda x, i: tf.gather(x, i),
    lambda x, i: x[i],
    lambda x, i: tf.gather(x, tf.cast(i, tf.int64)),
    lambda x, i: tf.reshape(tf.gather(x, [i]), [3]),
], ids=["gather", "index", "wider", "vector"])  # fmt: skip
def test_rows_at_the_counter_are_elements(make: Any, trips: int) -> None:
    got, p = rows(make, trips, trips)
    np.testing.assert_allclose(got, row_sum(trips, trips), rtol=1e-5)
    (loop,) = [s for s in p.steps if isinstance(s, Loop)]
    assert loop.pred is None
    assert (loop.count, len(loop.xs)) == (trips, 1)
    assert len(body_of(p)) == 1, "only the sum is left in a round"


@pytest.mark.parametrize(("trips", "size"), [(3, 7), (0, 4)])
def test_other_rows_are_gathered(trips: int, size: int) -> None:
    got, p = rows(lambda x, i: tf.gather(x, i), trips, size)
    np.testing.assert_allclose(got, row_sum(trips, size), rtol=1e-5)
    assert all(not s.xs for s in p.steps if isinstance(s, Loop))


def test_rows_beyond_the_array_are_errors() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        rows(lambda x, i: tf.gather(x, i), 5, 4)


def test_a_narrower_counter_is_not_the_row() -> None:
    got, p = rows(lambda x, i: tf.gather(x, tf.cast(tf.cast(i, tf.int8), tf.int32)), 7, 7)
    np.testing.assert_allclose(got, row_sum(7, 7), rtol=1e-5)
    assert all(not s.xs for s in p.steps if isinstance(s, Loop))


def test_a_sequence_of_unknown_length() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 3])
        n = tf.shape(x)[0]
        out = tf.while_loop(
            lambda i, _: i < n, lambda i, s: (i + 1, tf.tanh(s + tf.gather(x, i))),
            [tf.constant(0), tf.zeros([3])],
        )[1]
        (slope,) = tf.gradients(tf.reduce_sum(out), [x])
        with tf.Session() as sess:
            for size in TRIPS:
                given = np.random.default_rng(size).standard_normal((size, 3)).astype(np.float32)
                got, g = sess.run([out, slope], {x: given})
                s, states = np.zeros(3), []
                for row in given:
                    s = np.tanh(s + row)
                    states.append(s)
                want, back = np.zeros((size, 3)), np.ones(3)
                for t in reversed(range(size)):
                    back = back * (1 - states[t] ** 2)
                    want[t] = back
                np.testing.assert_allclose(got, s, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(g, want, rtol=1e-4, atol=1e-6)


def test_a_fed_number_of_rounds() -> None:
    """What is fed decides, not what would be in its place."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4])
        n = tf.shape(x)[0]
        out = tf.while_loop(
            lambda i, _: i < n, lambda i, s: (i + 1, s + tf.square(tf.gather(x, i))),
            [tf.constant(0), tf.zeros([])],
        )[1]
        (slope,) = tf.gradients(out, [x])
        with tf.Session() as sess:
            given = np.arange(1, 5, dtype=np.float32)
            np.testing.assert_allclose(sess.run(slope, {x: given}), 2 * given)
            got = sess.run([out, slope], {x: given, n: 2})
            assert got[0] == 5
            np.testing.assert_allclose(got[1], [2, 4, 0, 0])


def squares(trips: int, size: int, read: bool = False) -> tuple[Any, Any, Any]:
    """(array, gradient, x): a TensorArray of tanh(x[i] + last), written in a loop."""
    x = tf.placeholder(tf.float32, [trips, 3])

    def body(i: Any, last: Any, array: Any) -> Any:
        new = tf.tanh(tf.gather(x, i) + last)
        array = array.write(i, new)
        return i + 1, array.read(i) if read else new, array

    array = tf.TensorArray(tf.float32, size, element_shape=[3])
    array = tf.while_loop(
        lambda i, *_: i < trips, body, [tf.constant(0), tf.zeros([3]), array]
    )[2].stack()
    weight = tf.reshape(tf.range(1.0, 3 * size + 1), [size, 3])
    return array, tf.gradients(tf.reduce_sum(array * weight), [x])[0], x


@pytest.mark.parametrize(("trips", "size", "read"), [
    (1, 1, False), (7, 7, False), (5, 7, False), (7, 7, True),
])  # fmt: skip
def test_rows_written_at_the_counter(trips: int, size: int, read: bool) -> None:
    with tf.Graph().as_default():
        array, slope, x = squares(trips, size, read)
        given = np.random.default_rng(trips).standard_normal((trips, 3)).astype(np.float32)
        got, _ = compiled([array, slope], {x: given})
        _, p = compiled(array, {x: given})
    want, last = np.zeros((size, 3)), np.zeros(3)
    for t, row in enumerate(given):
        want[t] = last = np.tanh(row + last)
    weight, back = np.arange(1.0, 3 * size + 1).reshape(size, 3), np.zeros(3)
    slopes = np.zeros((trips, 3))
    for t in reversed(range(trips)):
        slopes[t] = back = (weight[t] + back) * (1 - want[t] ** 2)
    np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], slopes, rtol=1e-4, atol=1e-5)
    shapes = [b.shape for s in body_of(p) if isinstance(s, Launch) for b in s.kernel.outputs]
    assert size == 1 or ((size, 3) in shapes) == (trips != size or read)


def test_an_array_that_its_loop_reads() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [5])
        array = tf.TensorArray(tf.float32, 5, element_shape=[])
        array = tf.while_loop(
            lambda i, _: i < 5,
            lambda i, a: (i + 1, a.write(i, tf.gather(x, i) + a.read(tf.maximum(i - 1, 0)))),
            [tf.constant(0), array.write(0, 3.0)],
        )[1]
        got, _ = compiled(array.stack(), {x: np.ones(5, np.float32)})
    np.testing.assert_array_equal(got, [4, 5, 6, 7, 8])


def test_an_array_that_goes_on_after_its_loop() -> None:
    """Two loops write one array: rows of the first are left by the second."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4])
        array = tf.TensorArray(tf.float32, 4, element_shape=[])
        for n in (4, 2):
            array = tf.while_loop(
                lambda i, _, n=n: i < n,
                lambda i, a, n=n: (i + 1, a.write(i, tf.gather(x, i) * float(n))),
                [tf.constant(0), array],
            )[1]
        got, _ = compiled(array.stack(), {x: np.arange(4, dtype=np.float32)})
    np.testing.assert_array_equal(got, [0, 2, 8, 12])


# ---- what is done before a loop


def test_a_kernel_that_is_the_same_in_all_rounds_runs_once() -> None:
    with tf.Graph().as_default():
        a, w = tf.placeholder(tf.float32, [4, 8]), tf.placeholder(tf.float32, [8, 8])
        out = tf.while_loop(
            lambda i, _: i < 5,
            lambda i, s: (i + 1, tf.tanh(tf.matmul(s, tf.matmul(w, w)))), [tf.constant(0), a],
        )[1]
        rng = np.random.default_rng(1)
        given = {a: rng.standard_normal((4, 8)).astype(np.float32),
                 w: rng.standard_normal((8, 8)).astype(np.float32) / 4}
        got, p = compiled(out, given)
    want = given[a].astype(float)
    for _ in range(5):
        want = np.tanh(want @ (given[w].astype(float) @ given[w]))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    shapes = [s.kernel.outputs[0].shape for s in body_of(p) if isinstance(s, Launch)]
    assert (8, 8) not in shapes


def test_a_check_is_not_made_before_a_loop_of_no_rounds() -> None:
    with tf.Graph().as_default():
        x, y = tf.placeholder(tf.float32, [4, 4]), tf.placeholder(tf.float32, [None])
        at, n = tf.placeholder(tf.int32, [3]), tf.shape(y)[0]
        out = tf.while_loop(
            lambda i, _: i < n,
            lambda i, s: (i + 1, s + tf.matmul(tf.gather(x, at), x)),
            [tf.constant(0), tf.zeros([3, 4])],
        )[1]
        with tf.Session() as sess:
            ones = np.ones([4, 4], np.float32)
            assert sess.run(out, {x: ones, y: np.ones(0), at: [0, 9, 1]})[0, 0] == 0
            assert sess.run(out, {x: ones, y: np.ones(3), at: [0, 3, 1]})[0, 0] == 12
            with pytest.raises(tf.errors.InvalidArgumentError):
                sess.run(out, {x: ones, y: np.ones(1), at: [0, 9, 1]})


def powers(batch: int | None, n: int, trips: int, inner: int = 0) -> tuple[Any, Any, Any]:
    """x @ w, over and over, in one loop or in two nested ones: (fetch, x, w)."""
    x, w = tf.placeholder(tf.float32, [batch, n]), tf.placeholder(tf.float32, [n, n])

    def body(i: Any, h: Any) -> Any:
        if not inner:
            return i + 1, tf.matmul(h, w)
        return i + 1, tf.while_loop(
            lambda j, _: j < inner, lambda j, v: (j + 1, tf.matmul(v, w)), [tf.constant(0), h]
        )[1]

    return tf.while_loop(lambda i, _: i < trips, body, [tf.constant(0), x])[1], x, w


@pytest.mark.parametrize("inner", [0, 3])
@pytest.mark.parametrize(("batch", "n"), [(32, 96), (7, 100), (1, 64), (33, 17)])
def test_packing_is_done_once(batch: int, n: int, inner: int) -> None:
    with tf.Graph().as_default():
        out, x, w = powers(batch, n, 4, inner)
        rng = np.random.default_rng(n)
        given = {x: rng.standard_normal((batch, n)).astype(np.float32),
                 w: (rng.standard_normal((n, n)) / np.sqrt(n)).astype(np.float32)}
        got, p = compiled(out, given)
    want = given[x].astype(float)
    for _ in range(4 * max(inner, 1)):
        want = want @ given[w]
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    inside = [s.kernel.name for s in body_of(p) if isinstance(s, Launch)]
    assert not any(name.endswith("_pack") for name in inside)
    if batch > 1:
        assert any(isinstance(s, Launch) and s.kernel.name.endswith("_pack") for s in p.steps)


@pytest.mark.parametrize("inner", [0, 2])
def test_packing_of_a_batch_of_any_size(inner: int) -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        out, x, w = powers(None, 48, 3, inner)
        rng = np.random.default_rng(2)
        m = (rng.standard_normal((48, 48)) / 7).astype(np.float32)
        for batch in (0, 1, 3, 5, 64, 200):
            h = rng.standard_normal((batch, 48)).astype(np.float32)
            got = sess.run(out, {x: h, w: m})
            want = h.astype(float)
            for _ in range(3 * max(inner, 1)):
                want = want @ m
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_a_weight_that_a_round_changes_is_packed_in_each() -> None:
    with tf.Graph().as_default():
        x, w = tf.placeholder(tf.float32, [32, 64]), tf.placeholder(tf.float32, [64, 64])
        out = tf.while_loop(
            lambda i, *_: i < 3,
            lambda i, h, m: (i + 1, tf.matmul(h, m, transpose_b=True), m * 0.5),
            [tf.constant(0), x, w],
        )[1]
        rng = np.random.default_rng(3)
        given = {x: rng.standard_normal((32, 64)).astype(np.float32),
                 w: (rng.standard_normal((64, 64)) / 8).astype(np.float32)}
        got, _ = compiled(out, given)
    h, m = given[x].astype(float), given[w].astype(float)
    for _ in range(3):
        h, m = h @ m.T, m * 0.5
    np.testing.assert_allclose(got, h, rtol=1e-4, atol=1e-5)


# ---- recurrent nets


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def lstm(x: Any, w: Any, u: Any, b: Any) -> Any:
    """The last state of an LSTM on x [time, batch, inputs], as a while loop."""
    time, size = tf.shape(x)[0], int(u.shape[0])
    batch = tf.shape(x)[1]
    xs = tf.reshape(
        tf.matmul(tf.reshape(x, [-1, int(x.shape[2])]), w) + b, [time, batch, 4 * size]
    )

    def body(t: Any, h: Any, c: Any) -> Any:
        i, f, g, o = tf.split(tf.gather(xs, t) + tf.matmul(h, u), 4, 1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return t + 1, tf.sigmoid(o) * tf.tanh(c), c

    zero = tf.zeros([batch, size])
    return tf.while_loop(
        lambda t, *_: t < time, body, [tf.constant(0), zero, zero],
        shape_invariants=[tf.TensorShape([])] + [tf.TensorShape([None, size])] * 2,
    )[1]


def by_numpy(x: Any, w: Any, u: Any, b: Any) -> tuple[Any, list[Any]]:
    """The state, and the gradients of the sum of its squares, in f64."""
    h = c = np.zeros((x.shape[1], u.shape[0]))
    tape = []
    for row in x:
        i, f, g, o = np.split(row @ w + h @ u + b, 4, 1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        new = f * c + i * g
        tape.append((row, h, c, new, i, f, g, o))
        c, h = new, o * np.tanh(new)
    dh, dc = 2 * h, np.zeros_like(h)
    dx, dw, du, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(u), np.zeros_like(b)
    for t, (row, before, old, new, i, f, g, o) in reversed(list(enumerate(tape))):
        tc = np.tanh(new)
        dc = dc + dh * o * (1 - tc * tc)
        dz = np.concatenate([
            dc * g * i * (1 - i), dc * old * f * (1 - f), dc * i * (1 - g * g),
            dh * tc * o * (1 - o),
        ], 1)  # fmt: skip
        dw, du, db = dw + row.T @ dz, du + before.T @ dz, db + dz.sum(0)
        dx[t], dh, dc = dz @ w.T, dz @ u.T, dc * f
    return h, [dx, dw, du, db]


def arguments(time: int, batch: int, inputs: int, size: int) -> list[Any]:
    rng = np.random.default_rng(time + batch + size)
    shapes = [(inputs, 4 * size), (size, 4 * size), (4 * size,)]
    out = [rng.standard_normal((time, batch, inputs))]
    out += [rng.uniform(-1, 1, s) / np.sqrt(size) for s in shapes]
    return [v.astype(np.float32) for v in out]


@pytest.mark.parametrize("shape", [
    (1, 1, 3, 5), (7, 7, 20, 100), (7, 1, 16, 64), (3, 128, 8, 32), (5, 33, 40, 17),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_lstm_and_its_gradient(shape: tuple[int, int, int, int], known: bool) -> None:
    given = arguments(*shape)
    time, batch, inputs, _ = shape
    with tf.Graph().as_default():
        first = [time, batch, inputs] if known else [None, None, inputs]
        feeds = [tf.placeholder(tf.float32, first)]
        feeds += [tf.placeholder(tf.float32, v.shape) for v in given[1:]]
        h = lstm(*feeds)
        slopes = tf.gradients(tf.reduce_sum(h * h), feeds)
        results = [
            compiled([h, *slopes], dict(zip(feeds, given, strict=True)), n)[0] for n in (1, 2, 3)
        ]
    state, want = by_numpy(*(v.astype(float) for v in given))
    for got, expected in zip(results[0], [state, *want], strict=True):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5 * scale)
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


def test_lstm_keeps_nothing_that_it_need_not() -> None:
    """Values go into the rows of stacks from the kernels; the weight's gradient is one product."""
    given = arguments(6, 16, 32, 32)
    with tf.Graph().as_default():
        feeds = [tf.placeholder(tf.float32, v.shape) for v in given]
        slopes = tf.gradients(tf.reduce_sum(lstm(*feeds)), feeds[1:])
        _, p = compiled(slopes, dict(zip(feeds, given, strict=True)))
    forward, reverse = [s for s in p.steps if isinstance(s, Loop)]
    assert forward.pred is None
    assert reverse.reverse
    pushes = [s for s in forward.body if isinstance(s, Push)]
    assert len(pushes) <= 2, "the old states, no more"
    assert not [s for s in body_of(p) if isinstance(s, Copy)]
    assert not [s for s in reverse.body if isinstance(s, Push)]
    made = [s.kernel.outputs[0].shape for s in reverse.body if isinstance(s, Launch)]
    assert (32, 128) not in made, "no product as large as the weight in a round"


def test_second_derivative_of_a_counted_loop() -> None:
    with tf.Graph().as_default():
        x, w = tf.placeholder(tf.float64, [4, 2, 3]), tf.placeholder(tf.float64, [3, 3])
        h = tf.while_loop(
            lambda t, _: t < 4,
            lambda t, s: (t + 1, tf.tanh(tf.gather(x, t) + tf.matmul(s, w))),
            [tf.constant(0), tf.zeros([2, 3], tf.float64)],
        )[1]
        (first,) = tf.gradients(tf.reduce_sum(h * h), [w])
        seconds = tf.gradients(tf.reduce_sum(tf.sin(first)), [w, x])
        rng = np.random.default_rng(4)
        xs, m = rng.standard_normal((4, 2, 3)), rng.standard_normal((3, 3)) / 2
        total = tf.reduce_sum(tf.sin(first))
        with tf.Session() as sess:
            got = sess.run(seconds, {x: xs, w: m})
            for n, (array, slope) in enumerate(zip([m, xs], got, strict=True)):
                want = np.zeros(array.shape)
                for at in np.ndindex(array.shape):
                    ends = []
                    for d in (1e-6, -1e-6):
                        moved = [m.copy(), xs.copy()]
                        moved[n][at] += d
                        ends.append(sess.run(total, {w: moved[0], x: moved[1]}))
                    want[at] = (ends[0] - ends[1]) / 2e-6
                np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-7)
