"""Random junk at public entry points gives documented errors, and never ends the process."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowc as tf
from flowc.ir import ops
from flowc.ir.ops.base import REGISTRY
from flowc.ir.parser import ParseError, parse_module
from flowc.runtime import Cache, checkpoint
from flowc.runtime.abi import ABI_VERSION
from flowc.runtime.errors import FlowcError
from flowc.runtime.manifest import Manifest

assert ops
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
RUN_ERRORS = (FlowcError, ValueError, TypeError, RuntimeError)


class _Model:
    """A graph with a bit of everything."""

    def __init__(self) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.x = tf.placeholder(tf.float32, [None, 3], name="x")
            self.i = tf.placeholder(tf.int32, [None], name="i")
            self.s = tf.placeholder(tf.float64, [], name="s")
            self.b = tf.placeholder(tf.bool, None, name="b")
            self.v = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3), name="v")
            self.w = tf.Variable(1.0, name="w")
            self.rows = tf.gather(self.v, self.i, name="rows")
            self.sum = tf.reduce_sum(self.x * 2.0, name="sum")
            self.quotient = tf.floordiv(100, self.i, name="quotient")
            self.add = self.v.assign_add(self.x)
            self.not_b = tf.logical_not(self.b)


MODEL = _Model()


@functools.cache
def session() -> tf.Session:
    """The one session of all examples."""
    made = tf.Session(graph=MODEL.graph)
    made.run(MODEL.v.initializer)
    return made


ELEMENTS = st.sampled_from([
    MODEL.x, MODEL.i, MODEL.s, MODEL.b, MODEL.v, MODEL.w, MODEL.rows, MODEL.sum, MODEL.quotient,
    MODEL.add, MODEL.not_b, MODEL.v.initializer, "x:0", "x", "rows:0", "rows:1", "v", "", ":",
    "a:b",
])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.binary(max_size=5), st.complex_numbers(), st.just(object()), st.just(1j), ELEMENTS,
)
DTYPES = st.sampled_from(
    ["f2", "f4", "f8", ">f4", "i1", "i4", "u8", ">i8", "?", "c8", "O", "S3", "M8[s]"]
)


@st.composite
def arrays(draw: Any) -> Any:
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    return np.zeros(shape, draw(DTYPES))


FETCHES = st.recursive(
    st.one_of(ELEMENTS, SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=2), inner)
    ),
    max_leaves=4,
)
VALUES = st.one_of(
    arrays(), SCALARS, st.lists(SCALARS, max_size=3), st.lists(st.lists(st.floats()))
)


@FEW
@given(FETCHES, st.one_of(st.none(), SCALARS, st.lists(st.tuples(ELEMENTS, VALUES), max_size=3)))
def test_session_run(fetches: Any, feeds: Any) -> None:
    if isinstance(feeds, list):
        feeds = dict(feeds)
    told = "fine"
    try:
        session().run(fetches, feeds)
    except RUN_ERRORS as error:
        told = str(error)
    assert told
    got = session().run(MODEL.sum, {MODEL.x: np.ones((2, 3))})
    assert got == 12


@FEW
@given(st.one_of(st.text(), st.lists(
    st.one_of(
        st.sampled_from(["func", "@f", "(", ")", "%x", ":", "f32", "[", "]", "{", "}", "return",
                         "->", "=", ",", "constant", "value", "loc", "guard", "==",
                         "B", "0", '"', "\n"]),
        st.sampled_from(sorted(REGISTRY)), st.integers().map(str), st.text(max_size=3),
    ), max_size=60,
).map(" ".join)))
def test_the_parser(text: str) -> None:
    with pytest.raises(ParseError):
        parse_module(text)


@pytest.mark.parametrize("text", [
    "func " * 10_000, "func @f(" + "%x: f32[" * 5_000, "(" * 100_000, "func @f(%x: f32["
    + "(" * 50_000, "func @f(%x: f32[" + "9" * 10_000 + "]) -> () { return }",
    "func @f(%x: f32[" + "B*" * 20_000 + "B]) -> () { return ",
])
def test_the_parser_on_deep_and_long_text(text: str) -> None:
    with pytest.raises(ParseError):
        parse_module(text)


@FEW
@given(st.one_of(
    st.binary(max_size=200),
    st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=100)).map(
        lambda t: t[0].to_bytes(8, "little") + t[1]
    ),
    st.text(max_size=80).map(lambda t: len(t.encode()).to_bytes(8, "little") + t.encode()),
))
def test_checkpoints(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        path.write_bytes(data)
        for read in (checkpoint.load, checkpoint.load_metadata):
            told = str(path)
            try:
                read(path)
            except FlowcError as error:
                told = str(error)
            assert str(path) in told


@FEW
@given(
    st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4), st.binary(),
    st.binary(),
)
def test_the_cache(key: dict[str, str], payload: bytes, other: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "cache")
        assert cache.get(key) is None
        cache.put(key, payload)
        assert cache.get(key) == payload
        assert isinstance(cache.why_missed(key), str)
        (entry,) = [p for p in (Path(folder) / "cache" / "entries").rglob("*") if p.is_file()]
        if other != entry.read_bytes():
            entry.write_bytes(other)
            assert cache.get(key) is None
            assert not entry.exists()


KEYS = st.one_of(st.text(max_size=3), st.sampled_from(
    ["abi", "name", "inputs", "outputs", "state", "dims", "checks", "ops", "dtype", "shape"]
))


def _nested(inner: Any) -> Any:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=6))


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
JSON = st.recursive(LEAVES, _nested, max_leaves=12)


@FEW
@given(st.one_of(JSON, st.text(), st.binary()))
def test_manifests(source: Any) -> None:
    tries = [source]
    if isinstance(source, dict):
        tries.append({"name": "f", "inputs": [], "outputs": [], **source, "abi": ABI_VERSION})
    for s in tries:
        told = "fine"
        try:
            Manifest.parse(s)
        except FlowcError as error:
            told = str(error)
        assert told


@pytest.mark.parametrize(
    "key", ["inputs", "outputs", "ops", "checks", "dims", "kernels", "host_calls"]
)
@pytest.mark.parametrize("value", [None, 1, "x", [None], [1], [{}], {"a": 1}, [["a"]]])
def test_manifests_with_one_wrong_part(key: str, value: Any) -> None:
    good = {"abi": ABI_VERSION, "name": "f", "inputs": [], "outputs": []}
    with contextlib.suppress(FlowcError):
        Manifest.parse({**good, key: value})
