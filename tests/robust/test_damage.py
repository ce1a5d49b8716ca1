"""Damaged files: truncations and random bytes give the documented errors, in a process apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowc as tf
from flowc.compiler import artifact, driver, linker
from flowc.ir import ops
from flowc.ir.parser import ParseError, parse_module
from flowc.runtime import checkpoint
from flowc.runtime.errors import DataLossError
from flowc.runtime.manifest import Manifest

assert ops

TEXT = """func @f(%x: f32[6,8], %i: i32[4,1]) -> (f32[] {name="loss"}, f32[4,8])
  guard 6 == 6 "six rows" loc("a.py":3) {
  %c: f32[2] = constant() {value=f32[2] [1.0, -0.125]}
  %t: f32[6,8] = tanh(%x) loc("a.py":4, "t")
  %l: f32[] = reduce(%t) {op=sum, axes=[0,1]}
  %g: f32[4,8] = gather(%x, %i) {batch=0, bounds=check}
  return %l, %g
}
"""

READ = """
import json, random, sys
import numpy as np
from flowc.compiler import loading
from flowc.runtime import checkpoint
from flowc.runtime.errors import FlowcError
kind, path, target = sys.argv[1:]
data = open(path, "rb").read()
rng = random.Random(1)
def variants():
    for n in sorted({0, 1, 7, 8, 9, 63, 64, *(rng.randrange(len(data)) for _ in range(40))}):
        yield data[:n]
    yield data + b"x"
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 4, 64])):
            at = rng.randrange(min(len(data), rng.choice([64, 4096, len(data)])))
            changed[at] = rng.randrange(256)
        if bytes(changed) != data:
            yield bytes(changed)
counts = {}
for damaged in variants():
    with open(target, "wb") as f:
        f.write(damaged)
    try:
        loading.load(target) if kind == "library" else checkpoint.load(target)
        name = "accepted"
    except FlowcError as error:
        name = type(error).__name__
    counts[name] = counts.get(name, 0) + 1
print(json.dumps(counts))
"""


def read_damaged(kind: str, path: Path) -> dict[str, int]:
    """How often each error came; the reader's process has to live."""
    target = path.with_name("damaged" + path.suffix)
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, str(path), str(target)],
        capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_damaged_libraries(tmp_path: Path) -> None:
    if not linker.has_zig() and not any(
        (Path(p) / "cc").exists() for p in ("/usr/bin", "/usr/local/bin", "/bin")
    ):
        pytest.skip("no linker")
    f = parse_module(TEXT).functions["f"]
    path = tmp_path / "f.so"
    artifact.write(driver.compile_program(f), path)
    found = read_damaged("library", path)
    assert set(found) <= {"DataLossError", "FailedPreconditionError", "NotFoundError"}, found
    assert found["DataLossError"] > 90


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    rng = np.random.default_rng(0)
    checkpoint.save(path, {"v": rng.standard_normal((31, 7)), "n": np.arange(9)}, {"step": "3"})
    found = read_damaged("checkpoint", path)
    # outside of tensors lie strings of the caller, which the digest does not cover
    assert set(found) <= {"DataLossError", "accepted"}, found
    assert found["DataLossError"] > 80


def test_damaged_text() -> None:
    rng = np.random.default_rng(0)
    pieces = ["%", "(", "]", "{", "=", "0", "-1", "f32[", "B*", "return", "\0", "\u2603", '"', "e9"]
    errors = right = 0
    for n in range(400):
        at = int(rng.integers(len(TEXT)))
        cut = at + int(rng.integers(0, 6))
        text = TEXT[:at] if n % 4 == 0 else TEXT[:at] + pieces[n % len(pieces)] + TEXT[cut:]
        try:
            parse_module(text)
        except ParseError as error:
            errors += str(error).startswith("<text>:")
        else:
            right += 1
    assert errors + right == 400
    assert errors > 300


def test_the_place_of_an_error_in_text() -> None:
    with pytest.raises(ParseError) as caught:
        parse_module(TEXT.replace("tanh(%x)", "tanh(%y)"))
    assert "<text>:4:23: %y is not defined before its use" in str(caught.value)


def test_a_damaged_cache_entry_costs_a_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLOWC_CACHE", "1")
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path / "cache"))
    driver.default_cache.cache_clear()

    def run() -> Any:
        tf.reset_default_graph()
        x = tf.placeholder(tf.float32, [None])
        with tf.Session() as sess:
            return sess.run(tf.tanh(x) * 3.0, {x: [0.5, -2.0]})

    want = 3 * np.tanh([0.5, -2.0])
    try:
        np.testing.assert_allclose(run(), want, rtol=1e-6)
        entries = [p for p in (tmp_path / "cache" / "entries").rglob("*") if p.is_file()]
        assert entries
        again = 0  # the others are the runtime's own, which a process makes once
        for path in entries:
            whole = path.read_bytes()
            for data in (whole[:-9], b"", whole[:60] + b"\xff" * 64 + whole[124:], whole[::-1]):
                path.write_bytes(data)
                before = len(caplog.records)
                np.testing.assert_allclose(run(), want, rtol=1e-6)
                told = [r.message for r in caplog.records[before:]]
                if path.read_bytes() == whole:  # it was read, found damaged, and made anew
                    assert any(m.startswith(f"compile cache: deleted {path}: ") for m in told)
                    again += 1
        assert again == 4
    finally:
        driver.default_cache.cache_clear()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"abi": 1}', b"\xff\xfe"])
def test_manifests_that_are_none(text: Any) -> None:
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError)):
        Manifest.parse(text)


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(tf.errors.NotFoundError) as caught:
        checkpoint.load(tmp_path / "none")
    assert str(caught.value) == f"no checkpoint {tmp_path / 'none'}"
    (tmp_path / "short").write_bytes(b"\x05")
    with pytest.raises(DataLossError) as lost:
        checkpoint.load(tmp_path / "short")
    assert str(lost.value).startswith(f"{tmp_path / 'short'}: corrupt or truncated: ")
