"""The compile cache: privacy, damage, eviction, processes, reasons of misses."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.runtime import Cache, cache
from flowc.runtime.errors import FailedPreconditionError

KEY = {"name": "f", "source": "1", "target": "x86", "options": "-O2"}


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "flowc")


def entry(store: Cache) -> Path:
    (path,) = (p for p in (store.directory / "entries").glob("??/*"))
    return path


def test_round_trip(store: Cache) -> None:
    assert store.get(KEY) is None
    for payload in (b"", b"x", bytes(100_000)):
        store.put(KEY, payload)
        assert store.get(KEY) == payload
        assert store.get(dict(reversed(list(KEY.items())))) == payload
    assert not list(store.directory.rglob(".tmp-*"))


@pytest.mark.parametrize("damage", ["flip", "truncate", "grow", "empty", "header", "magic"])
def test_damage_is_seen_deleted_and_logged(
    store: Cache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(KEY, b"payload" * 10)
    path = entry(store)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    data = {
        "truncate": data[:-1],
        "grow": data + b"x",
        "empty": bytearray(),
        "header": data[:20],
        "magic": b"GARBAGE!" + data[8:],
    }.get(damage, data)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "flowc.cache"):
        assert store.get(KEY) is None
    assert not path.exists()
    assert "deleted" in caplog.text


def test_why_missed(store: Cache) -> None:
    assert store.why_missed(KEY) == "no entry named 'f' yet"
    store.put(KEY, b"x")
    store.put(KEY | {"source": "2", "target": "arm"}, b"x")
    other = KEY | {"options": "-O0", "target": "riscv"}
    assert store.why_missed(other) == "differs from the nearest entry in: options, target"
    assert store.why_missed(KEY | {"new": "part"}).endswith("in: new")
    for path in (store.directory / "index").glob("*"):
        path.write_bytes(b'{"not": "a list"')
    assert store.why_missed(other) == "no entry named 'f' yet"


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = Cache(tmp_path / "c", max_bytes=10_000)
    keys = [KEY | {"source": str(i)} for i in range(12)]
    for i, key in enumerate(keys):
        store.put(key, bytes(1000))
        os.utime(store._path(cache.digest(key)), (i, i))
        if i > 0:
            assert store.get(keys[0]) is not None
    held = [key["source"] for key in keys if store.get(key) is not None]
    assert held[0] == "0"
    assert held[-1] == "11"
    assert 5 <= len(held) <= 10


def test_clear(store: Cache) -> None:
    store.put(KEY, b"x")
    store.clear()
    assert store.get(KEY) is None
    assert "no entry" in store.why_missed(KEY)


def test_directories_that_others_can_write_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(FailedPreconditionError, match="other users"):
        Cache(folder)
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(folder))
    assert cache.open_default() is None
    assert "no compile cache" in caplog.text
    folder.chmod(0o700)
    assert cache.open_default() is not None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(FailedPreconditionError, match="of this user"):
        Cache(folder)


def test_made_directories_are_private(store: Cache) -> None:
    store.put(KEY, b"x")
    for path in (store.directory, entry(store).parent):
        assert path.stat().st_mode & 0o077 == 0


def test_a_link_in_place_of_an_entry_is_not_followed(store: Cache, tmp_path: Path) -> None:
    store.put(KEY, b"x")
    path = entry(store)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.get(KEY) is None


def test_an_unwritable_cache_is_logged(store: Cache, caplog: pytest.LogCaptureFixture) -> None:
    (store.directory / "entries" / cache.digest(KEY)[:2]).write_bytes(b"in the way")
    store.put(KEY, b"x")
    assert "cannot store" in caplog.text


def test_default_directory() -> None:
    home = Path.home()
    assert cache.default_directory({"FLOWC_CACHE_DIR": "/a/b"}) == Path("/a/b")
    if sys.platform.startswith("linux"):
        assert cache.default_directory({"XDG_CACHE_HOME": "/x"}) == Path("/x/flowc")
        assert cache.default_directory({"XDG_CACHE_HOME": "rel"}) == home / ".cache" / "flowc"


def test_processes_share_it(store: Cache) -> None:
    text = """
import sys
from flowc.runtime import Cache
store = Cache(sys.argv[1], max_bytes=200_000)
for i in range(150):
    key = {"name": "f", "source": str(i % 10)}
    found = store.get(key)
    assert found is None or found == bytes([i % 10]) * 30_000, i
    store.put(key, bytes([i % 10]) * 30_000)
"""
    command = [sys.executable, "-c", text, str(store.directory)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        _, errors = worker.communicate(timeout=100)
        assert worker.returncode == 0, errors
        assert "corrupt" not in errors
        assert "deleted" not in errors


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_an_entry(data: bytes) -> None:
    assert cache._damage(data, data[48:]) is not None
