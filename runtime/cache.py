"""The compile cache: content-addressed files, private to their owner, verified before use.

A key is a dict of named parts, all strings; `name` groups keys that belong to one function, so that
`why_missed` can say which part changed. An entry is a header (magic, SHA-256 and length of the
payload) and the payload; it appears by rename, so readers in other processes see all or nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .errors import FailedPreconditionError

log = logging.getLogger("flowc.cache")

MAGIC = b"FLOWC\x00\x01\x00"
_HEADER = struct.Struct("<8s32sQ")
_REMEMBERED_KEYS = 8

Key = Mapping[str, str]


def default_directory(environ: Mapping[str, str] | None = None) -> Path:
    """`$FLOWC_CACHE_DIR`, else the platform's user cache directory + `/flowc`.

    The one function of the runtime that reads the environment.
    """
    environ = os.environ if environ is None else environ
    if environ.get("FLOWC_CACHE_DIR"):
        return Path(environ["FLOWC_CACHE_DIR"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "flowc"
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "flowc"


def open_default() -> Cache | None:
    """The cache in the default directory, or None, with a log line, when that cannot be used."""
    try:
        return Cache(default_directory())
    except (OSError, RuntimeError, FailedPreconditionError) as error:
        log.warning("no compile cache: %s", error)
        return None


def digest(key: Key) -> str:
    """SHA-256 (hex) of a key's parts, in any order."""
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


class Cache:
    """A directory of entries, at most `max_bytes` of them; the least recently used go first.

    Raises FailedPreconditionError when the directory is not the user's own or others may write to
    it, OSError when it cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str], max_bytes: int = 1 << 30) -> None:
        self.directory, self.max_bytes = Path(directory), max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None
        for path in (self.directory, self.directory / "entries", self.directory / "index"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(path)

    def get(self, key: Key) -> bytes | None:
        """The payload stored under `key`, or None. A corrupt entry is deleted and logged."""
        path = self._path(digest(key))
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(descriptor, "rb") as file:
                data = file.read()
        except OSError:
            return None
        payload = data[_HEADER.size :]
        reason = _damage(data, payload)
        if reason:
            log.warning("compile cache: deleted %s: %s", path, reason)
            self._delete(path)
            return None
        with suppress(OSError):
            os.utime(path)
        return payload

    def put(self, key: Key, payload: bytes) -> None:
        """Store `payload`. A full disk or the like is logged, never raised."""
        path = self._path(digest(key))
        header = _HEADER.pack(MAGIC, hashlib.sha256(payload).digest(), len(payload))
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_atomic(path, header + payload)
            self._remember(key)
            self._account(len(header) + len(payload))
        except OSError as error:
            log.warning("compile cache: cannot store %s: %s", path, error)

    def why_missed(self, key: Key) -> str:
        """One line: which parts of `key` differ from the nearest entry of the same `name`."""
        known = [k for k in self._known(key.get("name", "")) if k != dict(key)]
        if not known:
            return f"no entry named {key.get('name', '')!r} yet"
        nearest = min(known, key=lambda k: len(_differing(key, k)))
        return f"differs from the nearest entry in: {', '.join(_differing(key, nearest))}"

    def clear(self) -> None:
        """Delete every entry and the index."""
        for path, _ in list(self._entries()):
            self._delete(path)
        for path in (self.directory / "index").glob("*.json"):
            self._delete(path)
        self._bytes = 0

    def _path(self, name: str) -> Path:
        return self.directory / "entries" / name[:2] / name[2:]

    def _index(self, name: str) -> Path:
        return self.directory / "index" / (hashlib.sha256(name.encode()).hexdigest() + ".json")

    def _known(self, name: str) -> list[dict[str, str]]:
        try:
            found = json.loads(self._index(name).read_bytes())
        except (OSError, ValueError):
            return []
        if not isinstance(found, list):
            return []
        return [k for k in found if isinstance(k, dict)]

    def _remember(self, key: Key) -> None:
        """Concurrent writers may lose an index line: the index only serves `why_missed`."""
        name = key.get("name", "")
        known = [k for k in self._known(name) if k != dict(key)]
        lines = [*known[-_REMEMBERED_KEYS + 1 :], dict(key)]
        _write_atomic(self._index(name), json.dumps(lines).encode(), durable=False)

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in (self.directory / "entries").glob("??/*"):
            with suppress(OSError):
                yield path, path.stat()

    def _account(self, added: int) -> None:
        with self._lock:
            if self._bytes is not None and self._bytes + added <= self.max_bytes:
                self._bytes += added
                return
            entries = sorted(self._entries(), key=lambda e: e[1].st_mtime_ns)
            total = sum(info.st_size for _, info in entries)
            target = self.max_bytes * 9 // 10
            if total > self.max_bytes:
                for path, info in entries:
                    if total <= target:
                        break
                    self._delete(path)
                    total -= info.st_size
            self._bytes = total

    @staticmethod
    def _delete(path: Path) -> None:
        with suppress(OSError):
            path.unlink()


def _check_owner(path: Path) -> None:
    if not hasattr(os, "geteuid"):
        return
    info = os.stat(path)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise FailedPreconditionError(f"{path} is not a directory of this user")
    if info.st_mode & 0o022:
        raise FailedPreconditionError(f"{path} can be written to by other users")


def _damage(data: bytes, payload: bytes) -> str | None:
    if len(data) < _HEADER.size:
        return "truncated header"
    magic, sha, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        return "wrong magic"
    if length != len(payload):
        return f"{len(payload)} bytes where {length} were written"
    return None if hashlib.sha256(payload).digest() == sha else "wrong SHA-256"


def _differing(a: Key, b: Key) -> list[str]:
    return sorted(k for k in {*a, *b} if a.get(k) != b.get(k))


def _write_atomic(path: Path, data: bytes, durable: bool = True) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
