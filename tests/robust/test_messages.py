"""What a user's mistake is told as: the class, the whole message, the user's own line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf
from robust.where import here

ONES = np.ones((2, 3), np.float32)


def fails(kind: type[BaseException], message: str, fn: Any, *args: Any) -> BaseException:
    """`fn` raises exactly this, not as a consequence of another error."""
    with pytest.raises(kind) as caught:
        fn(*args)
    assert type(caught.value) is kind
    assert str(caught.value) == message
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


def pair() -> tuple[Any, Any, str]:
    x, at = tf.placeholder(tf.float32, [None, 3], name="x"), here()
    return x, tf.placeholder(tf.float32, [None, 3], name="y"), at


# ---- shapes


def test_shapes_that_do_not_match_while_the_graph_is_built() -> None:
    a, b = tf.zeros([2, 3]), tf.zeros([2, 4])
    want = (
        "Incompatible shapes: [2,3] vs. [2,4] for 'sum' (op: 'Add') with input shapes: "
        "[(2, 3), (2, 4)] (at {})"
    )
    with pytest.raises(ValueError, match="Incompatible") as caught:
        tf.add(a, b, name="sum")
    assert str(caught.value) == want.format(f"{__file__}:{caught.tb.tb_lineno}")


def test_a_failed_operation_leaves_no_trace_in_the_graph() -> None:
    a, b = tf.zeros([2, 3]), tf.zeros([2, 4])
    before = len(tf.get_default_graph().nodes)
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        tf.matmul(a, b)
    assert len(tf.get_default_graph().nodes) == before
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(a + 1.0), ONES)


def test_shapes_that_do_not_match_when_it_runs() -> None:
    x, y, _ = pair()
    z, at = tf.add(x, y, name="sum"), here()
    with tf.Session() as sess:
        e: Any = fails(
            tf.errors.InvalidArgumentError,
            "Incompatible shapes: [x_0,3] vs. [y_0,3] in op sum: x_0 is 2 and y_0 is 4; "
            f"x:0 has shape [2,3]; y:0 has shape [4,3] (at {at})",
            sess.run, z, {x: ONES, y: np.ones((4, 3))},
        )
        assert e.loc == at
        assert list(e.shapes) == [(2, 3), (4, 3)]
        np.testing.assert_array_equal(sess.run(z, {x: ONES, y: ONES}), 2 * ONES)
        with pytest.raises(tf.errors.InvalidArgumentError, match="x_0 is 2 and y_0 is 5"):
            sess.run(z, {x: ONES, y: np.ones((5, 3))})  # on the fast path too


@pytest.mark.parametrize("shape", [(4,), (2, 5), (), (1, 2, 3)])
def test_a_value_of_a_shape_that_the_placeholder_excludes(shape: tuple[int, ...]) -> None:
    x, y, at = pair()
    with tf.Session() as sess:
        for _ in range(2):
            fails(
                ValueError,
                f"Cannot feed value of shape {shape!r} for Tensor 'x:0', which has shape "
                f"'(?, 3)' (at {at})",
                sess.run, x + y, {x: np.ones(shape, np.float32), y: ONES},
            )
            sess.run(x + y, {x: ONES, y: ONES})


# ---- feeds


@pytest.mark.parametrize(("value", "kind", "end"), [
    ([["a", "b", "c"]], ValueError, "could not convert string to float: 'a'"),
    (np.ones((2, 3), np.complex64), TypeError, "complex numbers have an imaginary part"),
    ([[1j, 0, 0]], TypeError, "complex numbers have an imaginary part"),
    ([[object(), 0, 0]], TypeError,
     "float() argument must be a string or a real number, not 'object'"),
])
def test_values_of_the_wrong_kind(value: Any, kind: type[BaseException], end: str) -> None:
    x, _, _ = pair()
    with tf.Session() as sess:
        message = f"Cannot feed Tensor 'x:0' of dtype float32: {end}"
        fails(kind, message, sess.run, x * 2.0, {x: value})


def test_integers_that_the_type_cannot_hold() -> None:
    i = tf.placeholder(tf.int32, [None], name="i")
    with tf.Session() as sess:
        fails(
            TypeError,
            "Cannot feed Tensor 'i:0' of dtype int32: Python integer 1099511627776 out of bounds "
            "for int32",
            sess.run, i + 1, {i: [2**40]},
        )


def test_a_tensor_is_no_value() -> None:
    x, y, _ = pair()
    with tf.Session() as sess:
        fails(
            TypeError,
            "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include "
            "Python scalars, strings, lists, numpy ndarrays, or TensorHandles.",
            sess.run, x, {x: y},
        )


def test_a_placeholder_that_is_not_fed() -> None:
    x, y, at = pair()
    with tf.Session() as sess:
        for _ in range(2):
            fails(
                tf.errors.InvalidArgumentError,
                "You must feed a value for placeholder tensor 'x' with dtype float32 and shape "
                f"(?, 3) (op x, at {at})",
                sess.run, x + y, {y: ONES},
            )


# ---- state


def test_a_variable_without_a_value() -> None:
    v, at = tf.Variable(ONES, name="v"), here()
    with tf.Session() as sess:
        for _ in range(2):
            fails(
                tf.errors.FailedPreconditionError,
                f"Attempting to use uninitialized value v (op v, at {at})",
                sess.run, v + 1.0,
            )
        sess.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(sess.run(v + 1.0), 2 * ONES)


def test_a_closed_session() -> None:
    x, _, _ = pair()
    sess = tf.Session()
    z = x * 2.0
    sess.run(z, {x: ONES})
    sess.close()
    for _ in range(2):
        fails(RuntimeError, "Attempted to use a closed Session.", sess.run, z, {x: ONES})


def test_an_empty_graph() -> None:
    with tf.Session() as sess:
        fails(
            RuntimeError,
            "The Session graph is empty.  Add operations to the graph before calling run().",
            sess.run, [],
        )


# ---- fetches


def test_a_fetch_from_another_graph() -> None:
    x, _, _ = pair()
    with tf.Graph().as_default():
        other = tf.constant(1.0, name="other")
    with tf.Session() as sess:
        fails(
            ValueError,
            "Fetch argument <tf.Tensor 'other:0' shape=() dtype=float32> cannot be interpreted as "
            'a Tensor. (Tensor("other:0", shape=(), dtype=float32) is not an element of this '
            "graph.)",
            sess.run, other,
        )
        fails(
            TypeError,
            'Cannot interpret feed_dict key as Tensor: Tensor("other:0", shape=(), dtype=float32) '
            "is not an element of this graph.",
            sess.run, x, {other: 1.0},
        )


@pytest.mark.parametrize(("fetch", "kind", "message"), [
    (None, TypeError, "Fetch argument None has invalid type <class 'NoneType'>"),
    (3, TypeError,
     "Fetch argument 3 has invalid type <class 'int'>, must be a string or Tensor. "
     "(Can not convert a int into a Tensor or a Operation.)"),
    ("nope", ValueError,
     "Fetch argument 'nope' cannot be interpreted as a Tensor. "
     "(The name 'nope' refers to an Operation not in the graph.)"),
    ("nope:0", ValueError,
     "Fetch argument 'nope:0' cannot be interpreted as a Tensor. "
     "(The name 'nope:0' refers to a Tensor which does not exist.)"),
])
def test_what_is_no_fetch(fetch: Any, kind: type[BaseException], message: str) -> None:
    pair()
    with tf.Session() as sess:
        fails(kind, message, sess.run, fetch)


# ---- errors of a run


def test_an_integer_division_by_zero() -> None:
    i = tf.placeholder(tf.int32, [None], name="i")
    j = tf.placeholder(tf.int32, [None], name="j")
    q, at = tf.floordiv(i, j, name="quotient"), here()
    a, zero = np.arange(40, dtype=np.int32), np.ones(40, np.int32)
    zero[37] = 0
    with tf.Session() as sess:
        for _ in range(2):
            fails(
                tf.errors.InvalidArgumentError,
                f"quotient: integer division by zero (op quotient, at {at})",
                sess.run, q, {i: a, j: zero},
            )
            np.testing.assert_array_equal(sess.run(q, {i: a, j: a + 3}), a // (a + 3))


@pytest.mark.parametrize("wrong", [5, -1, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range(wrong: int) -> None:
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    i = tf.placeholder(tf.int32, [None], name="i")
    g, at = tf.gather(tf.constant(table), i, name="rows"), here()
    with tf.Session() as sess:
        for _ in range(2):
            fails(
                tf.errors.InvalidArgumentError,
                f"rows: index {wrong} is out of range [0, 5) (op rows, at {at})",
                sess.run, g, {i: np.array([0, wrong, 4], np.int32)},
            )
            np.testing.assert_array_equal(sess.run(g, {i: [4, 0]}), table[[4, 0]])


def test_a_failed_update_leaves_the_session_usable() -> None:
    v = tf.Variable(np.zeros(3, np.int32), name="v")
    d = tf.placeholder(tf.int32, [3], name="d")
    step = v.assign_add(tf.floordiv(tf.constant([6, 6, 6]), d))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero"):
            sess.run(step, {d: [1, 0, 2]})
        sess.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(sess.run(step, {d: [1, 2, 3]}), [6, 3, 2])
