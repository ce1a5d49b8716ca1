"""Checkpoints: named arrays in one safetensors file, replaced atomically, verified when read.

The file's metadata holds a SHA-256 over names, dtypes, shapes and bytes, and the dtypes that
safetensors lacks (`i4 u4 c64 c128`: stored as u8 with one more dimension). A process killed at any
moment leaves the old file or the new one.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from . import dtypes
from .arrays import Array, empty
from .errors import DataLossError, FlowcError, InvalidArgumentError, NotFoundError

_DIGEST, _RAW = "flowc.sha256", "flowc.raw"
_RAW_TYPES = frozenset({"i4", "u4", "c64", "c128"})
_STORED = {
    "BOOL": "bool", "U8": "u8", "I8": "i8", "U16": "u16", "I16": "i16", "U32": "u32", "I32": "i32",
    "U64": "u64", "I64": "i64", "F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64",
    "F8_E4M3": "f8e4m3fn", "F8_E5M2": "f8e5m2",
}  # fmt: skip

_deserialize: Any = safetensors.deserialize


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors` to `path`, atomically and durably.

    `metadata`: the caller's own strings; names starting with "flowc." are taken. Raises
    InvalidArgumentError for a dtype that flowc lacks, OSError when the disk refuses.
    """
    target = Path(path)
    dense = {name: _dense(value) for name, value in tensors.items()}
    raw = {n: dtypes.from_numpy(a.dtype).name for n, a in dense.items()}
    raw = {n: t for n, t in raw.items() if t in _RAW_TYPES}
    notes = dict(metadata or {})
    if any(key.startswith("flowc.") for key in notes):
        raise InvalidArgumentError('metadata names starting with "flowc." are taken')
    notes |= {_DIGEST: tensor_digest(dense), _RAW: json.dumps(raw)}
    stored = {n: _as_bytes(a) if n in raw else a for n, a in dense.items()}
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:  # the library's own temporary would outlive a kill
            file.write(safetensors.numpy.save(stored, metadata=notes))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def load(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Array]:
    """The arrays in `path`, 64-byte aligned and writable.

    A file without flowc's SHA-256 (written by another program) is read unverified. Raises
    NotFoundError for a missing file and DataLossError, with the reason, for a damaged one.
    """
    tensors, notes = _read(Path(path))
    if verify and _DIGEST in notes and tensor_digest(tensors) != notes[_DIGEST]:
        raise DataLossError(f"{os.fspath(path)}: SHA-256 of the tensors does not match")
    return tensors


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings given to `save`. Errors as of `load`, whose verification it skips."""
    return {k: v for k, v in _read(Path(path))[1].items() if not k.startswith("flowc.")}


def tensor_digest(tensors: Mapping[str, Array]) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of each tensor, in the order of names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        head = [name, dtypes.from_numpy(value.dtype).name, list(value.shape)]
        sha.update(json.dumps(head).encode())
        sha.update(_as_bytes(value).data)
    return sha.hexdigest()


def _dense(value: Any) -> Array:
    array = np.asarray(value)
    dtypes.from_numpy(array.dtype.newbyteorder("="))
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native).reshape(array.shape)


def _as_bytes(array: Array) -> Array:
    """u8[..., itemsize], a view."""
    return array.reshape(*array.shape, 1).view(np.uint8)


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"no checkpoint {path}") from None
    try:
        # The library checks header, offsets and sizes; it gives no metadata from bytes.
        pieces = _deserialize(data)
        (length,) = struct.unpack_from("<Q", data)
        notes: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        raw = json.loads(notes.get(_RAW, "{}"))
        return {name: _array(piece, raw.get(name)) for name, piece in pieces}, notes
    except FlowcError as error:
        raise DataLossError(f"{path}: {error}") from error
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, struct.error) as error:
        raise DataLossError(f"{path}: corrupt or truncated: {error}") from error
    except AttributeError as error:
        raise DataLossError(f"{path}: malformed metadata: {error}") from error


def _array(piece: Mapping[str, Any], logical: str | None) -> Array:
    shape = tuple(piece["shape"])
    if logical is None and piece["dtype"] not in _STORED:
        raise DataLossError(f"dtype {piece['dtype']} is not one of flowc's")
    kind = dtypes.dtype(logical or _STORED[piece["dtype"]])
    source = np.frombuffer(piece["data"], kind.numpy)
    result = empty(shape if logical is None else shape[:-1], kind.numpy)
    result[...] = source.reshape(result.shape)
    return result


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some file systems cannot sync a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Delete temporary files of this checkpoint whose writers are gone."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        pid = path.name.split(".")[-3]
        if pid.isdigit() and not _alive(int(pid)):
            with suppress(OSError):
                path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
