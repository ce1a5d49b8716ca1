"""Graphs: names, scopes, collections, variables by name."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import flowc as tf


def test_names_are_tensorflows() -> None:
    a, b = tf.constant(1), tf.constant(2)
    assert [a.name, b.name, (a + b).name, (a + b).op.name] == ["Const:0", "Const_1:0", "add:0",
                                                               "add_1"]  # fmt: skip
    assert tf.add(a, b).name == "Add:0"
    assert (a * 2).op.inputs[1].name == "mul/y:0"
    v = tf.Variable(1.0)
    assert v.name == "Variable:0"
    assert v.initializer.name == "Variable/Assign"
    assert v.value().name == "Variable/read:0"
    assert tf.Variable(1.0).name == "Variable_1:0"
    x = tf.placeholder(tf.float32, name="probs")
    assert tf.identity(x, name="probs").name == "probs_1:0"
    assert tf.get_default_graph().get_tensor_by_name("probs_1:0").op.type == "Identity"
    assert tf.nn.softmax(x).op.type == "Softmax"
    assert tf.global_variables_initializer().name == "init"


def test_name_scopes() -> None:
    with tf.name_scope("outer") as outer:
        assert outer == "outer/"
        with tf.name_scope("inner"):
            assert tf.constant(1).name == "outer/inner/Const:0"
        with tf.name_scope("inner"):
            assert tf.constant(1).name == "outer/inner_1/Const:0"
    with tf.name_scope(outer):
        assert tf.constant(1).name == "outer/Const:0"
        with tf.name_scope(None):
            assert tf.constant(1).name == "Const:0"
    with tf.name_scope("outer"):
        assert tf.constant(1).name == "outer_1/Const:0"
    with pytest.raises(ValueError, match="not a valid scope name"):
        tf.constant(1, name="a b")


def test_lookups() -> None:
    c = tf.constant(1, name="c")
    g = tf.get_default_graph()
    assert g.get_operation_by_name("c") is c.op
    assert g.as_graph_element("c:0") is c
    with pytest.raises(KeyError):
        g.get_tensor_by_name("d:0")
    with pytest.raises(ValueError, match="output_index"):
        g.get_tensor_by_name("c")
    assert c.op in g.get_operations()
    assert c.op.get_attr("value") == 1
    assert (c + c).op.inputs[0].consumers()


def test_graphs_and_threads() -> None:
    g = tf.Graph()
    with g.as_default():
        c = tf.constant(1)
        assert tf.get_default_graph() is g
        seen = []
        thread = threading.Thread(target=lambda: seen.append(tf.get_default_graph()))
        thread.start()
        thread.join()
        assert seen[0] is not g
        with pytest.raises(AssertionError, match="nested"):
            tf.reset_default_graph()
    assert c.graph is g
    with pytest.raises(ValueError, match="same graph"):
        tf.identity(c)
    g.finalize()
    with g.as_default(), pytest.raises(RuntimeError, match="finalized"):
        tf.constant(2)


def test_tensors_as_python_values() -> None:
    t = tf.constant([1.0, 2.0])
    with pytest.raises(TypeError, match="Python `bool`"):
        bool(t == 1 or t)
    with pytest.raises(TypeError, match="iterable"):
        list(t)
    with pytest.raises(TypeError):
        float(t)
    assert {t: 1}[t] == 1
    assert str(t) == 'Tensor("Const:0", shape=(2,), dtype=float32)'


def test_devices_and_control_inputs() -> None:
    with tf.device("/gpu:0"):
        a = tf.constant(1)
        with tf.device("/job:ps"):
            b = tf.constant(1)
        with tf.device(None):
            c = tf.constant(1)
    assert a.device == "/device:GPU:0"
    assert b.device == "/device:GPU:0/job:ps"
    assert c.device == ""
    with tf.control_dependencies([a, b.op]):
        d = tf.constant(2)
        with tf.control_dependencies(None):
            e = tf.constant(3)
    assert d.op.control_inputs == [a.op, b.op]
    assert e.op.control_inputs == []


def test_collections() -> None:
    tf.add_to_collection("things", 1)
    tf.add_to_collection("things", 2)
    assert tf.get_collection("things") == [1, 2]
    assert tf.get_collection("none") == []
    with tf.variable_scope("a"):
        v = tf.get_variable("v", [1])
    tf.get_variable("w", [1])
    assert tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope="a") == [v]


def test_get_variable() -> None:
    with tf.variable_scope("layer"):
        w = tf.get_variable("w", [2, 3])
        with pytest.raises(ValueError, match="already exists"):
            tf.get_variable("w", [2, 3])
    with tf.variable_scope("layer", reuse=True) as scope:
        assert tf.get_variable("w", [2, 3]) is w
        with pytest.raises(ValueError, match="specified shape"):
            tf.get_variable("w", [3, 3])
        with pytest.raises(ValueError, match="does not exist"):
            tf.get_variable("u", [3])
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        assert tf.get_variable("w") is w
        u = tf.get_variable("u", [3], initializer=tf.constant_initializer(4.0))
    assert (w.name, u.name) == ("layer/w:0", "layer/u:0")
    assert w.initial_value.op.name.startswith("layer/w/Initializer/")
    with tf.variable_scope("layer"):
        tf.get_variable_scope().reuse_variables()
        assert tf.get_variable("w") is w
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(u).tolist() == [4, 4, 4]
        assert np.abs(sess.run(w)).max() <= np.sqrt(6 / 5)


def test_variable_scopes_inherit() -> None:
    def l2(v: object) -> tf.Tensor:
        return tf.nn.l2_loss(v)

    outer = tf.variable_scope("a", initializer=tf.ones_initializer(), regularizer=l2)
    with outer, tf.variable_scope("b"):
        v = tf.get_variable("v", [3])
    assert v.name == "a/b/v:0"
    names = []
    for _ in range(2):
        with tf.variable_scope(None, default_name="unit"):
            names.append(tf.get_variable("w", [1]).name)
    assert names == ["unit/w:0", "unit_1/w:0"]
    (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(loss) == 1.5


INITIALIZERS = {
    "zeros": (tf.zeros_initializer(), 0.0, 0.0),
    "ones": (tf.ones_initializer(), 1.0, 0.0),
    "constant": (tf.constant_initializer(3.0), 3.0, 0.0),
    "normal": (tf.random_normal_initializer(1.0, 2.0, seed=1), 1.0, 2.0),
    "uniform": (tf.random_uniform_initializer(-1.0, 1.0, seed=1), 0.0, 3**-0.5),
    "truncated": (tf.truncated_normal_initializer(stddev=2.0, seed=1), 0.0, 1.76),
    "glorot": (tf.glorot_uniform_initializer(seed=1), 0.0, (2 / 150) ** 0.5),
    "glorot normal": (tf.glorot_normal_initializer(seed=1), 0.0, (2 / 150) ** 0.5),
    "variance": (tf.variance_scaling_initializer(2.0, seed=1), 0.0, (2 / 50) ** 0.5),
    "orthogonal": (tf.orthogonal_initializer(seed=1), 0.0, 0.1),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers(name: str) -> None:
    initializer, mean, stddev = INITIALIZERS[name]
    v = tf.get_variable("v", [50, 100], initializer=initializer)
    with tf.Session() as sess:
        sess.run(v.initializer)
        value = sess.run(v)
    assert value.dtype == np.float32
    assert abs(value.mean() - mean) < 0.1 * max(stddev, 0.01)
    assert abs(value.std() - stddev) < 0.05 * max(stddev, 0.01)
    if name == "orthogonal":
        np.testing.assert_allclose(value @ value.T, np.eye(50), atol=1e-5)


def test_dtypes() -> None:
    assert tf.float32 == "float32" == tf.float32.name
    assert tf.as_dtype(np.float64) is tf.float64
    assert tf.as_dtype(float) is tf.float32
    assert repr(tf.int32) == "tf.int32"
    assert tf.constant(2**40).dtype == tf.int64
    assert tf.constant([True]).dtype == tf.bool
    assert tf.constant(np.float64(1)).dtype == tf.float64
    assert tf.int8.min == -128
    assert tf.float32.max == np.finfo(np.float32).max
    assert len({tf.float32, tf.float64, tf.as_dtype("float32")}) == 2


def test_tensor_shapes() -> None:
    s = tf.TensorShape([None, 3])
    assert str(s) == "(?, 3)"
    assert s.as_list() == [None, 3]
    assert s[0].value is None
    assert s[1] == 3
    assert int(s[1]) == 3
    assert s.is_compatible_with([2, 3])
    assert not s.is_compatible_with([2, 4])
    assert s.merge_with([2, None]).as_list() == [2, 3]
    assert s.concatenate([1]).as_list() == [None, 3, 1]
    assert tf.TensorShape(None).ndims is None
    assert tf.TensorShape([]) == ()
    x = tf.placeholder(tf.float32)
    x.set_shape([None, 2])
    assert (x + 1).shape.as_list() == [None, 2]
    with pytest.raises(ValueError, match="not compatible"):
        x.set_shape([None, 3])
