"""`tf.gfile`: files by TensorFlow's names and errors."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

from .errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    UnknownError,
)

F = TypeVar("F", bound=Callable[..., Any])


def _translated(f: F) -> F:
    """The function with the system's errors as those of `tf.errors`."""

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return f(*args, **kwargs)
        except FileNotFoundError as e:
            raise NotFoundError(f"{e.filename}; No such file or directory") from e
        except FileExistsError as e:
            raise AlreadyExistsError(f"{e.filename}; File exists") from e
        except PermissionError as e:
            raise PermissionDeniedError(f"{e.filename}; Permission denied") from e
        except (IsADirectoryError, NotADirectoryError) as e:
            raise FailedPreconditionError(f"{e.filename}; {e.strerror}") from e
        except OSError as e:
            raise UnknownError(f"{e.filename}; {e.strerror}") from e

    return call  # type: ignore[return-value]


class GFile:
    """A file, opened when it is first used. mode: r, w, a, r+, w+, a+, with or without b.

    Raises NotFoundError, PermissionDeniedError and the like where the system refuses.
    """

    def __init__(self, name: Any, mode: str = "r") -> None:
        if mode not in {m + b for m in ("r", "w", "a", "r+", "w+", "a+") for b in ("", "b")}:
            raise ValueError(f"Mode is not 'r' or 'w' or 'a' or 'r+' or 'w+' or 'a+': {mode!r}")
        self.name, self.mode = os.fspath(name), mode
        self._file: Any = None

    @property
    @_translated
    def file(self) -> Any:
        """The opened file."""
        if self._file is None:
            encoding = None if "b" in self.mode else "utf-8"
            self._file = open(self.name, self.mode, encoding=encoding)  # noqa: SIM115
        return self._file

    def read(self, n: int = -1) -> Any:
        return self.file.read(n)

    def readline(self) -> Any:
        return self.file.readline()

    def readlines(self) -> list[Any]:
        return list(self.file.readlines())

    def write(self, file_content: Any) -> None:
        self.file.write(file_content)

    def seek(self, offset: int, whence: int = 0) -> None:
        self.file.seek(offset, whence)

    def tell(self) -> int:
        return int(self.file.tell())

    def size(self) -> int:
        return int(Stat(self.name).st_size)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        elif self.mode.startswith("w"):
            self.file.close()
        self._file = None

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self._file.close()

    def __enter__(self) -> GFile:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.file)


FastGFile = Open = GFile


def Exists(filename: Any) -> bool:
    return os.path.exists(filename)


def IsDirectory(dirname: Any) -> bool:
    return os.path.isdir(dirname)


@_translated
def ListDirectory(dirname: Any) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(os.listdir(dirname))


def Glob(filename: Any) -> list[str]:
    """The paths that match a pattern (or one of several), sorted."""
    patterns = filename if isinstance(filename, (list, tuple)) else [filename]
    return sorted(p for pattern in patterns for p in glob.glob(os.fspath(pattern)))


@_translated
def MkDir(dirname: Any) -> None:
    os.mkdir(dirname)


@_translated
def MakeDirs(dirname: Any) -> None:
    """Make a folder and those above it; nothing where it is there."""
    os.makedirs(dirname, exist_ok=True)


@_translated
def Remove(filename: Any) -> None:
    os.remove(filename)


@_translated
def DeleteRecursively(dirname: Any) -> None:
    """Delete a folder with all that is in it."""
    shutil.rmtree(dirname)


@_translated
def Copy(oldpath: Any, newpath: Any, overwrite: bool = False) -> None:
    """Copy a file. AlreadyExistsError where there is one, unless it may be overwritten."""
    if not overwrite and os.path.exists(newpath):
        raise AlreadyExistsError(f"file already exists: {newpath}")
    shutil.copyfile(oldpath, newpath)


@_translated
def Rename(oldname: Any, newname: Any, overwrite: bool = False) -> None:
    """Rename a file. AlreadyExistsError where there is one, unless it may be overwritten."""
    if not overwrite and os.path.exists(newname):
        raise AlreadyExistsError(f"file already exists: {newname}")
    os.replace(oldname, newname)


@_translated
def Stat(filename: Any) -> os.stat_result:
    return os.stat(filename)


def Walk(top: Any, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, folders in it, files in it) for a folder and all below it."""
    return os.walk(top, topdown=in_order)
