"""Functions print and parse back: exactly, quickly, and whatever the text is, without harm."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.ir import dims, parser, printer, verifier
from flowc.ir.builder import Builder
from flowc.ir.core import Function, IRError, Loc, Module, Param
from flowc.ir.dtypes import ALL, dtype
from flowc.ir.literal import Literal
from flowc.ir.types import tensor

from .ir_doc import DOCUMENT, examples

B = dims.sym("B")
TEXTS = [e.text for e in examples(DOCUMENT.read_text(encoding="utf-8")) if e.kind == "flow"]


def constant_function(*arrays: np.ndarray) -> Module:
    b = Builder()
    b_consts = [b.constant(value=Literal(a)) for a in arrays]
    return Module.of([b.finish(b_consts)])


def literals(m: Module) -> list[Literal]:
    return [i.op.value for i in m.main.instrs]  # type: ignore[attr-defined]


def round_trip(m: Module) -> Module:
    text = printer.print_module(m)
    again = parser.parse_module(text)
    assert printer.print_module(again) == text
    return again


@pytest.mark.parametrize("name", [t.name for t in ALL])
def test_constants_are_exact(name: str) -> None:
    """Random bits of every type, NaNs of all kinds included, come back bit for bit."""
    t = dtype(name)
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 256, (40, t.np.itemsize), dtype=np.uint8)
    if t.bits == 4 or t.is_bool:
        array = rng.integers(0, 2 if t.is_bool else 7, 40).astype(t.np)
    else:
        array = raw.reshape(-1).view(t.np)
    extra = [array[:0].reshape(0, 3), array[0], array.reshape(2, 4, 5), np.tile(array[:1], 300)]
    for a in (array, *extra):
        (back,) = literals(round_trip(constant_function(a)))
        assert back == Literal(a)


@settings(max_examples=200)
@given(st.floats(width=32) | st.floats(width=16), st.sampled_from(["f16", "bf16", "f32", "f64"]))
def test_floats_are_exact(x: float, name: str) -> None:
    with np.errstate(all="ignore"):
        a = np.asarray(x).astype(dtype(name).np)
    assert literals(round_trip(constant_function(a)))[0] == Literal(a)


def test_special_floats() -> None:
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FC12345, 0x80000000, 0xFF800000],
                    np.uint32)
    text = printer.print_module(constant_function(bits.view(np.float32)))
    assert ("[nan,nan(0xffc00000),nan(0x7f800001),nan(0x7fc12345),-0.0,-inf]") in text


def test_large_constants_are_named_and_follow() -> None:
    a = np.arange(300, dtype=np.float32)
    m = constant_function(a, a, np.arange(301, dtype=np.int64))
    text = printer.print_module(m)
    assert text.count("\nblob @blob:") == 2
    assert [x.array.tolist() for x in literals(round_trip(m))] == [
        a.tolist(), a.tolist(), list(range(301))]
    bare = printer.print_module(m, blobs=False)
    assert printer.print_module(parser.parse_module(bare, blobs=printer.blobs_of(m))) == text
    with pytest.raises(parser.ParseError, match="no bytes are given for @blob:"):
        parser.parse_module(bare)


@pytest.mark.parametrize("size", [10, 300, 100_000])
def test_save_and_load(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(size).astype(ml_dtypes.bfloat16)
    m = constant_function(a, rng.standard_normal(7))
    path = tmp_path / "m.flow"
    for _ in range(2):
        printer.save(m, path)
        again = parser.load(path)
        assert literals(again) == literals(m)
    assert not list(tmp_path.glob("*.tmp"))
    assert len(list(tmp_path.iterdir())) == (2 if size > 40_000 else 1)


def test_damaged_files(tmp_path: Path) -> None:
    m = constant_function(np.random.default_rng(0).standard_normal(20_000))
    path = tmp_path / "m.flow"
    printer.save(m, path)
    (side,) = tmp_path.glob("*.safetensors")
    data = side.read_bytes()
    side.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(parser.ParseError, match="do not have its hash"):
        parser.load(path)
    side.write_bytes(data[:100])
    with pytest.raises(parser.ParseError, match="cannot read"):
        parser.load(path)
    text = path.read_text().replace(side.name, "../" + side.name)
    path.write_text(text)
    with pytest.raises(parser.ParseError, match="has no folder"):
        parser.load(path)
    path.write_bytes(b"func \xff")
    with pytest.raises(parser.ParseError, match="not UTF-8"):
        parser.load(path)


def sample() -> Function:
    b = Builder()
    x = b.param(tensor("f32", B, 3), "x/y", Param("x/y:0", loc=Loc('a "b".py', 3)))
    w = b.param(tensor("f32", B, 3), "", Param("w", "state", 1))
    with b.at(Loc("train.py", 7), "Äpfel"):
        y = b.add(x, w)
        y.name = "1x y"
        z = b.reduce(y, op="sum", axes=(1,))
        z.name = "x/y"
    b.agree(dims.sym("N"), B, "differ\n")
    return b.finish([z, y], ["probs:0"])


def test_names_locations_guards() -> None:
    f = sample()
    again = round_trip(Module.of([f])).main
    assert again.infos == f.infos
    assert again.guards == f.guards
    assert again.result_names == f.result_names
    assert [(i.loc, i.source, i.op) for i in again.instrs] == [
        (i.loc, i.source, i.op) for i in f.instrs]
    text = printer.print_function(f, locs=False)
    assert "loc(" not in text
    assert "%x/y_1: f32[N] = reduce(%_1x_y)" in text


def test_a_long_chain_is_quick_and_flat() -> None:
    b = Builder()
    x = b.param(tensor("f32", B), "x")
    for _ in range(50_000):
        x = b.neg(x)
    f = b.finish([x])
    start = time.process_time()
    text = printer.print_function(f)
    again = parser.parse_function(text)
    verifier.verify(again)
    assert time.process_time() - start < 20
    assert printer.print_function(again) == text


# ---- bad text

@settings(max_examples=300)
@given(st.sampled_from(TEXTS), st.data())
def test_mutants_are_read_or_refused(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 6))
        put = data.draw(st.sampled_from(
            ["", "(", ")", "[", "]", "{", "}", "%", "%x", "@", '"', "9" * 50, "-1", "B", "f32[",
             "func @f", "none", "nan", "; ", "\n", "é", "\0", "²", "/", "=", "i32", "0"]))
        text = text[:at] + put + text[at + cut :]
    with contextlib.suppress(parser.ParseError):
        m = parser.parse_module(text)
        with contextlib.suppress(IRError):
            verifier.verify(m)
        printer.print_module(m)


@settings(max_examples=100)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    with contextlib.suppress(parser.ParseError):
        parser.parse_module(text)


HEAD = "func @f(%x: f32[B]) -> (f32[B]) {\n  "


@pytest.mark.parametrize("text", [
    "(" * 10_000, "func @f(" * 1000, HEAD + "%y: f32[" + "(" * 200 + "B",
    HEAD + "%y: f32[" + ",".join(["A+B+C+D+E"] * 32) + "] = neg(%x)",
    HEAD + "%y: f32[] = cond(%x) {then=" * 500,
    HEAD + "%y: i32[9] = constant() {value=i32[1000000,1000000] splat 1}",
    HEAD + "%y: i32[9] = constant() {value=i32[0,99999999999999999] []}",
    HEAD + "%y: i32[9] = constant() {value=i32[" + ",".join("1" * 60) + "] " + "[" * 60,
    HEAD + "%y: i32[] = constant() {value=i32[] " + "9" * 5000 + "}",
    HEAD + "%y: f32[] = constant() {value=f32[] 1e99999}",
    HEAD + "%y: f32[] = constant() {value=f32[] nan(0x1)}",
    HEAD + "%y: f32[] = reduce(%x) {op=" + '"' * 99, 'blobs "x"\n' + HEAD, "blob @blob:12",
])
def test_bombs(text: str) -> None:
    start = time.process_time()
    with pytest.raises(parser.ParseError):
        parser.parse_module(text)
    assert time.process_time() - start < 5


def test_an_error_shows_the_place() -> None:
    with pytest.raises(parser.ParseError) as e:
        parser.parse_module(HEAD + "%y: f32[B] = neg(%z)\n}", "m.flow")
    assert (e.value.line, e.value.column) == (2, 20)
    assert str(e.value) == (
        "m.flow:2:20: %z is not defined before its use\n"
        "    %y: f32[B] = neg(%z)\n"
        "                     ^")
