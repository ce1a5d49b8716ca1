"""Checkpoints: every dtype, damage, and death while saving."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.runtime import checkpoint
from flowc.runtime.dtypes import DTYPES
from flowc.runtime.errors import DataLossError, InvalidArgumentError, NotFoundError


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_every_dtype(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    kind = DTYPES[name].numpy
    a = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(kind)
    checkpoint.save(tmp_path / "c", {"a/b:0": a}, {"step": "7"})
    loaded = checkpoint.load(tmp_path / "c")["a/b:0"]
    assert (loaded.dtype, loaded.shape) == (kind, shape)
    assert loaded.tobytes() == a.tobytes()
    assert loaded.flags.writeable
    assert checkpoint.load_metadata(tmp_path / "c") == {"step": "7"}


def test_strided_and_swapped_arrays(tmp_path: Path) -> None:
    a = np.arange(12, dtype=">f8").reshape(3, 4).T
    checkpoint.save(tmp_path / "c", {"a": a})
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "c")["a"], a)


def test_other_programs_read_it_and_write_ours(tmp_path: Path) -> None:
    a = np.arange(4, dtype=np.float32)
    checkpoint.save(tmp_path / "c", {"a": a})
    np.testing.assert_array_equal(safetensors.numpy.load_file(tmp_path / "c")["a"], a)
    safetensors.numpy.save_file({"a": a}, tmp_path / "d")
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "d")["a"], a)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no flowc dtype"):
        checkpoint.save(tmp_path / "c", {"a": np.array(["text"])})
    with pytest.raises(InvalidArgumentError, match="are taken"):
        checkpoint.save(tmp_path / "c", {}, {"flowc.sha256": "x"})
    assert list(tmp_path.iterdir()) == []


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        checkpoint.load(tmp_path / "none")


def test_damage(tmp_path: Path) -> None:
    path = tmp_path / "c"
    checkpoint.save(path, {"a": np.arange(100, dtype=np.float32), "b": np.ones(3, np.int8)})
    good = path.read_bytes()
    for cut in (0, 1, 7, 8, 20, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(DataLossError, match="corrupt or truncated") as caught:
            checkpoint.load(path)
        assert str(path) in str(caught.value)
    path.write_bytes(good[:-5] + b"\x55" + good[-4:])
    with pytest.raises(DataLossError, match="SHA-256"):
        checkpoint.load(path)
    path.write_bytes(good.replace(b'"F32"', b'"I32"'))
    with pytest.raises(DataLossError, match="SHA-256"):
        checkpoint.load(path)
    path.write_bytes(good.replace(b'"F32"', b'"X32"'))
    with pytest.raises(DataLossError):
        checkpoint.load(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 400))
def test_fuzzed_files_raise_only_data_loss(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "c"
    checkpoint.save(path, {"a": np.arange(10, dtype=np.float32), "q": np.ones(3, np.complex128)})
    data = path.read_bytes()
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    with contextlib.suppress(DataLossError):
        checkpoint.load(path)


@pytest.mark.parametrize("raw", ['{"a": "nope"}', "[]", "{", '{"a": "c128"}', '{"a": 3}'])
def test_malformed_notes(tmp_path: Path, raw: str) -> None:
    header = {
        "__metadata__": {"flowc.raw": raw},
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / "c").write_bytes(struct.pack("<Q", len(text)) + text + b"abc")
    with pytest.raises(DataLossError):
        checkpoint.load(tmp_path / "c")


WRITER = """
import sys
import numpy as np
from flowc.runtime import checkpoint
step = 0
while True:
    a = np.full(200_000, step, np.float32)
    checkpoint.save(sys.argv[1], {"a": a, "step": np.int64(step)})
    if step == 0:
        print("ready", flush=True)
    step += 1
"""


def test_killed_while_saving(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    chance = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
        loaded = checkpoint.load(path)
        assert (loaded["a"] == loaded["step"]).all()
    checkpoint.save(path, {"a": np.zeros(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["model.ckpt"]
