"""The compile cache of whole functions: what it keys on, and what it does with bad entries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.compiler import driver, stored
from flowc.compiler.options import Options
from flowc.ir.builder import Builder
from flowc.ir.core import Function, Loc
from flowc.ir.parser import parse_module
from flowc.ir.types import tensor
from flowc.runtime import HostCPU, jit

OPTIONS = Options(opt_level=0)
SOURCES = stored.sources
TEXT = """func @f(%x: f32[B,4]) -> (f32[B,4] {name="y"}) {
  %c: f32[4] = constant() {value=f32[4] [1.0,2.0,3.0,4.0]}
  %w: f32[B,4] = broadcast(%c) {shape=[B,4], dims=[1]}
  %y: f32[B,4] = mul(%x, %w)
  return %y
}
"""
X = np.ones((2, 4), np.float32)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FLOWC_CACHE", "1")
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(stored, "sources", lambda: stored._at_import)  # whoever edits meanwhile
    stored.default_cache.cache_clear()
    yield
    stored.default_cache.cache_clear()


def function(text: str = TEXT) -> Function:
    return next(iter(parse_module(text).functions.values()))


def compiled(f: Function, options: Options = OPTIONS) -> Any:
    return stored.compile_function(f, options, driver.compile_program)


def is_stored(f: Function, options: Options = OPTIONS) -> bool:
    return isinstance(compiled(f, options), stored.Stored)


def key(f: Function, options: Options = OPTIONS) -> dict[str, str]:
    return stored.function_key(f, options)[0]


def entries(tmp_path: Path) -> list[Path]:
    """Files of functions: those of modules are ELF objects alone."""
    found = [p for p in (tmp_path / "cache" / "entries").rglob("*") if p.is_file()]
    return [p for p in found if b'{"manifest"' in p.read_bytes()[:100]]


def test_the_second_time_nothing_is_compiled() -> None:
    first = compiled(function())
    assert isinstance(first, driver.Compiled)
    second = compiled(function())
    assert isinstance(second, stored.Stored)
    (got,) = second.bind()(X)
    np.testing.assert_array_equal(got, [[1, 2, 3, 4]] * 2)
    assert second.manifest == first.manifest
    assert "llvm, code" not in second.timings.seconds
    assert second.as_text("plan") == first.as_text("plan")  # compiles it after all


@pytest.mark.parametrize(
    ("old", "new"),
    [("2.0", "2.5"), ("mul(", "add("), ("f32", "f64"), ("dims=[1]", "dims=[ 1]"), ("@f", "@g"),
     ("B", "C"), ('"y"', '"z"'), ("%x: f32[B,4]", '%x: f32[B,4] {name="q"}')],
)
def test_another_function_is_another_key(old: str, new: str) -> None:
    same = "".join(TEXT.split()) == "".join(TEXT.replace(old, new).split())
    assert (key(function()) == key(function(TEXT.replace(old, new)))) == same


def test_attributes_and_lines_count() -> None:
    f = function("func @f(%x: f32[4,4]) -> (f32[4]) {\n  %y: f32[4] = reduce(%x)"
                 ' {op=sum, axes=[0]} loc("a.py":1)\n  return %y\n}\n')
    assert key(f) == key(f)
    i = f.instrs[0]
    for changed in (replace_op(i, axes=(1,)), replace_op(i, op="max"), with_line(i, 2)):
        assert key(f.replace(instrs=(changed,))) != key(f)


def replace_op(i: Any, **attrs: Any) -> Any:
    return type(i)(replace(i.op, **attrs), i.operands, i.results, i.loc, i.source)


def with_line(i: Any, line: int) -> Any:
    return type(i)(i.op, i.operands, i.results, Loc("a.py", line), i.source)


def large(last: float) -> Function:
    """x + a constant of 2 MiB, whose last element alone differs."""
    b = Builder("large")
    x = b.param(tensor("f32", 524288), "x")
    value = np.arange(524288, dtype=np.float32)
    value[-1] = last
    return b.finish([b.add(x, b.const(value, x))])


def test_options_machine_and_sources_count(monkeypatch: pytest.MonkeyPatch) -> None:
    f, here = function(), jit.host_cpu()
    usual = key(f)
    for changed in (Options(opt_level=2), Options(opt_level=0, cpu="x86-64-v3"),
                    Options(opt_level=0, features="-fma")):
        assert key(f, changed) != usual
    monkeypatch.setattr(jit, "host_cpu", lambda: HostCPU(here.triple, here.name, "+sse2"))
    assert key(f) != usual
    monkeypatch.setattr(jit, "host_cpu", lambda: here)
    assert key(f) == usual
    monkeypatch.setattr(stored, "_at_import", "other")
    assert key(f) != usual


def test_sources_are_all_files_of_the_compiler(tmp_path: Path) -> None:
    for name in stored.SOURCES:
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a.py").write_text("x = 1\n")
    before = SOURCES(tmp_path)
    assert SOURCES(tmp_path) == before
    file = tmp_path / "ir" / "sub" / "a.py"
    os.utime(file, ns=(1, 1))
    touched = SOURCES(tmp_path)
    file.write_text("x = 12\n")
    os.utime(file, ns=(1, 1))
    assert len({before, touched, SOURCES(tmp_path)}) == 3


def test_code_of_changed_sources_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "sources", lambda: "changed since flowc was imported")
    compiled(function())
    assert not is_stored(function())


def test_watched_or_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(function())
    assert is_stored(function())
    for options in (replace(OPTIONS, verify=True), replace(OPTIONS, rewrite_limit=3),
                    replace(OPTIONS, time_passes=True)):
        compiled(function(), options)
        assert not is_stored(function(), options)
    monkeypatch.setenv("FLOWC_CACHE", "0")
    stored.default_cache.cache_clear()
    assert not is_stored(function())


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "json", "constants"])
def test_a_damaged_entry_is_compiled_again(how: str, tmp_path: Path) -> None:
    compiled(function())
    (path,) = entries(tmp_path)
    data = path.read_bytes()
    where = stored.default_cache()
    assert where is not None
    if how == "json":  # whole by its checksum, but no entry
        where.put(key(function()), b"\x09" + bytes(7) + b"{nonsense")
    elif how == "constants":
        where.put(key(function()), b"\x1f" + bytes(7) + b'{"constants":{"a":"b"},"manifest":1')
    else:
        bad = {"flip": data[:-9] + b"\xff" * 9, "cut": data[:-100], "empty": b""}[how]
        path.write_bytes(bad)
    again = compiled(function())
    assert isinstance(again, driver.Compiled)
    np.testing.assert_array_equal(again.bind()(X)[0], [[1, 2, 3, 4]] * 2)
    assert is_stored(function())


def test_large_constants_come_from_the_function_at_hand() -> None:
    assert isinstance(compiled(large(1.0)), driver.Compiled)
    again, other = compiled(large(1.0)), compiled(large(7.0))
    assert isinstance(again, stored.Stored)
    assert not isinstance(other, stored.Stored)
    zeros = np.zeros(524288, np.float32)
    assert again.bind()(zeros)[0][-1] == 1.0
    assert other.bind()(zeros)[0][-1] == 7.0


def test_functions_that_call_python_are_not_stored() -> None:
    for n in (1.0, 2.0):
        with tf.Graph().as_default(), tf.Session() as sess:
            y = tf.py_func(lambda x, n=n: x + np.float32(n), [tf.constant([1.0])], tf.float32)
            y.set_shape([1])
            np.testing.assert_array_equal(sess.run(y), [1.0 + n])


PROGRAM = f"""
import numpy as np
from flowc.compiler import driver, stored
from flowc.compiler.options import Options
from flowc.ir.parser import parse_module
stored._at_import, stored.sources = "these", lambda: "these"  # whoever edits meanwhile
f = next(iter(parse_module({TEXT!r}).functions.values()))
c = stored.compile_function(f, Options(opt_level=0), driver.compile_program)
assert (c.bind()(np.ones((2, 4), np.float32))[0] == [1, 2, 3, 4]).all()
print(type(c).__name__)
"""


def test_two_processes_at_once() -> None:
    command = [sys.executable, "-c", PROGRAM]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {p.communicate(timeout=120)[0].strip() for p in both} <= {"Compiled", "Stored"}
    assert all(p.returncode == 0 for p in both)
    after = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert after.stdout.strip() == "Stored"


def test_what_variables_start_from_is_copied() -> None:
    """Arrays and small fills are no kernels: code for each of hundreds would take seconds."""
    value = np.arange(8192, dtype=np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        v, z = tf.Variable(value), tf.Variable(tf.zeros([4, 5], tf.int32))
        w, one = tf.Variable(value), tf.Variable(1.0)
        big = tf.Variable(tf.ones([200, 200]))
        init = tf.global_variables_initializer()
        for _ in range(2):
            sess.run(init)
            got = sess.run([v, w, z, one, big])
            np.testing.assert_array_equal(got[0], value)
            np.testing.assert_array_equal(got[1], value)
            np.testing.assert_array_equal(got[2], np.zeros((4, 5), np.int32))
            assert got[3] == 1
            np.testing.assert_array_equal(got[4], np.ones((200, 200)))
            sess.run([tf.assign(v, value * 2), tf.assign(one, 3.0)])
            assert sess.run(one) == 3
        assert sess.cost_analysis(init).kernels == 1  # the large one


def test_statistics() -> None:
    made = driver.compile_program(function(), OPTIONS)
    seen = made.statistics()
    assert 0 < seen.llvm_seconds < seen.seconds
    assert seen.kernels == 1
    assert seen.distinct_kernels >= 1
    assert seen.code_bytes == len(made.object)
    assert seen.peak_bytes > 1 << 20
    assert made.timings.total() == pytest.approx(seen.seconds)


def test_the_parts_make_up_the_time() -> None:
    made = driver.compile_program(function(), OPTIONS)
    lines = made.timings.table().splitlines()
    assert lines[-2].startswith("not accounted for")
    assert lines[-1].startswith("total")
