"""The file `checkpoint` beside checkpoints: which there are, and which is the latest.

Its text is that of TensorFlow's CheckpointState message.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("flowc")
SUFFIX = ".safetensors"
_LINE = re.compile(r"\s*(\w+)\s*:\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[-+.\w]+)\s*")


@dataclass
class CheckpointState:
    """What the file `checkpoint` says; times are seconds since 1970."""

    model_checkpoint_path: str = ""
    all_model_checkpoint_paths: list[str] = field(default_factory=list)
    all_model_checkpoint_timestamps: list[float] = field(default_factory=list)
    last_preserved_timestamp: float = 0.0


def checkpoint_file(prefix: str) -> str:
    """The file that holds the checkpoint called `prefix`."""
    return prefix if prefix.endswith(SUFFIX) else prefix + SUFFIX


def checkpoint_exists(checkpoint_prefix: Any) -> bool:
    """Whether there is a checkpoint of this name."""
    return os.path.isfile(checkpoint_file(os.fspath(checkpoint_prefix)))


def get_checkpoint_mtimes(checkpoint_prefixes: Sequence[str]) -> list[float]:
    """When the checkpoints were written; those that do not exist are left out."""
    return [
        os.stat(checkpoint_file(p)).st_mtime for p in checkpoint_prefixes if checkpoint_exists(p)
    ]


def remove_checkpoint(checkpoint_prefix: str, *ignored: Any, **also: Any) -> None:
    """Delete a checkpoint's file, if there is one."""
    with suppress(FileNotFoundError):
        os.unlink(checkpoint_file(checkpoint_prefix))


def update_checkpoint_state(
    save_dir: str,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: Sequence[str] | None = None,
    latest_filename: str | None = None,
    all_model_checkpoint_timestamps: Sequence[float] | None = None,
    last_preserved_timestamp: float | None = None,
    save_relative_paths: bool = False,
) -> None:
    """Write the state file of a folder, atomically.

    Paths are kept absolute; relative ones, or all with save_relative_paths, relative to the folder.
    """
    paths = list(all_model_checkpoint_paths or ())
    if model_checkpoint_path not in paths:
        paths.append(model_checkpoint_path)
    relative = save_relative_paths or not os.path.isabs(save_dir)

    def shown(path: str) -> str:
        inside = relative and os.path.isabs(path) == os.path.isabs(save_dir)
        return _quoted(os.path.relpath(path, save_dir or ".") if inside else path)

    lines = [f"model_checkpoint_path: {shown(model_checkpoint_path)}"]
    lines += [f"all_model_checkpoint_paths: {shown(p)}" for p in paths]
    times = list(all_model_checkpoint_timestamps or ())
    lines += [f"all_model_checkpoint_timestamps: {t!r}" for t in times]
    if last_preserved_timestamp is not None:
        lines.append(f"last_preserved_timestamp: {last_preserved_timestamp!r}")
    _replace(os.path.join(save_dir, latest_filename or "checkpoint"), "\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _replace(path: str, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def get_checkpoint_state(
    checkpoint_dir: Any, latest_filename: str | None = None
) -> CheckpointState | None:
    """What the state file of a folder says; None where there is none, or it is not to be read."""
    folder = os.fspath(checkpoint_dir)
    path = os.path.join(folder, latest_filename or "checkpoint")
    try:
        with open(path, encoding="utf-8") as file:
            state = _parsed(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SyntaxError) as e:
        log.warning("%s: %s", path, e)
        return None
    if not state.model_checkpoint_path:
        log.warning("%s: names no checkpoint", path)
        return None
    state.model_checkpoint_path = os.path.join(folder, state.model_checkpoint_path)
    paths = state.all_model_checkpoint_paths
    state.all_model_checkpoint_paths = [os.path.join(folder, p) for p in paths]
    return state


def _parsed(text: str) -> CheckpointState:
    state, at = CheckpointState(), 0
    while at < len(text):
        found = _LINE.match(text, at)
        if found is None:
            raise ValueError(f"not a checkpoint state at {text[at : at + 40]!r}")
        name, given = found.groups()
        old = getattr(state, name, None)
        if old is None:
            raise ValueError(f"unknown field {name!r}")
        value = ast.literal_eval(given) if given[0] in "\"'" else float(given)
        if isinstance(value, str) != name.endswith(("_path", "_paths")):
            raise ValueError(f"{name} is not {given}")
        if isinstance(old, list):
            old.append(value)
        else:
            setattr(state, name, value)
        at = found.end()
    return state


def latest_checkpoint(checkpoint_dir: Any, latest_filename: str | None = None) -> str | None:
    """The name of the folder's latest checkpoint, or None."""
    state = get_checkpoint_state(checkpoint_dir, latest_filename)
    if state is None:
        return None
    if not checkpoint_exists(state.model_checkpoint_path):
        log.error("Couldn't match files for checkpoint %s", state.model_checkpoint_path)
        return None
    return state.model_checkpoint_path
