"""`tf.train.Saver`: variables to and from checkpoints.

A checkpoint `prefix` is the file `prefix.safetensors` (`flowc.runtime.checkpoint`): written whole
or not at all, with a checksum that `restore` verifies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowc.runtime import checkpoint

from ..dtypes import as_dtype
from ..errors import InvalidArgumentError, NotFoundError
from ..graph import GraphKeys, get_default_graph
from ..session import BaseSession
from ..tensor import Operation
from ..variables import global_variables
from .checkpoint_state import (
    checkpoint_exists,
    checkpoint_file,
    get_checkpoint_mtimes,
    latest_checkpoint,
    remove_checkpoint,
    update_checkpoint_state,
)
from .global_step import global_step as step_value


class Saver:
    """Saves variables to checkpoints and restores them.

    var_list: variables, or a dict name → variable; by default all global ones, when the saver is
    made (with defer_build: when it is first used). max_to_keep: how many checkpoints to keep, older
    ones are deleted; 0 or None keeps all. keep_checkpoint_every_n_hours: besides those, one each so
    many hours is kept for good. reshape: restore values of another shape with as many elements.
    pad_step_number: steps in file names have 8 digits. save_relative_paths: see
    `update_checkpoint_state`. Raises ValueError where nothing is to be saved (unless allow_empty)
    or two variables have one name, TypeError for what is no variable.
    """

    def __init__(
        self,
        var_list: Any = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        saver_def: Any = None,
        builder: Any = None,
        defer_build: bool = False,
        allow_empty: bool = False,
        write_version: Any = 2,
        pad_step_number: bool = False,
        save_relative_paths: bool = False,
        filename: str | None = None,
    ) -> None:
        if defer_build and var_list:
            raise ValueError("If `var_list` is provided then build cannot be deferred. Either set "
                             "defer_build=False or var_list=None.")
        self._given, self._reshape, self._allow_empty = var_list, reshape, allow_empty
        self._most, self._pad, self._relative = max_to_keep or 0, pad_step_number, \
            save_relative_paths
        self._hours = keep_checkpoint_every_n_hours
        self._next_kept = time.time() + keep_checkpoint_every_n_hours * 3600
        self._last: list[tuple[str, float]] = []
        self._doomed: list[tuple[str, float]] = []
        self._variables: dict[str, Any] | None = None
        if not defer_build:
            self.build()

    def build(self) -> None:
        """Settle which variables it saves."""
        if self._variables is not None:
            return
        given = self._given
        if given is None:
            extra = get_default_graph().root.get_collection(GraphKeys.SAVEABLE_OBJECTS)
            given = [*global_variables(), *extra]
        if not given and not self._allow_empty:
            raise ValueError("No variables to save")
        self._variables = _named(given)

    def _saved(self) -> dict[str, Any]:
        self.build()
        return self._variables or {}

    # Saving.

    def save(
        self,
        sess: Any,
        save_path: Any,
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
    ) -> str | None:
        """Write a checkpoint; its name: save_path, with "-step" appended where a step is given.

        Graphs are not written. Returns None where there are no variables. Raises TypeError for what
        is no session, ValueError for a missing folder or a name that collides with the state file,
        FailedPreconditionError for a variable without a value.
        """
        latest = latest_filename or "checkpoint"
        _check_names(sess, os.fspath(save_path), latest)
        prefix: str = os.fspath(save_path)
        if global_step is not None:
            whole = isinstance(global_step, (int, np.integer))
            step = int(global_step) if whole else step_value(sess, global_step)
            prefix += f"-{step:08d}" if self._pad else f"-{step}"
        variables = self._saved()
        if not variables:
            return None
        with sess._lock:
            values = {name: sess.store.value(v.op) for name, v in variables.items()}
        checkpoint.save(checkpoint_file(prefix), values)
        if write_state:
            self._record(prefix, os.path.dirname(prefix), latest)
        return prefix

    def _record(self, prefix: str, folder: str, latest: str) -> None:
        """Note the new checkpoint in the state file, and delete the one that falls out."""
        self._last = [e for e in self._last if e[0] != prefix] + [(prefix, time.time())]
        if self._most and len(self._last) > self._most:
            self._doomed.append(self._last.pop(0))
        kept = self._last if self._most else [(prefix, self._last[-1][1])]
        update_checkpoint_state(
            folder, prefix, [p for p, _ in kept], latest, [t for _, t in kept],
            self._next_kept - self._hours * 3600, self._relative,
        )  # fmt: skip
        if not self._most:
            self._last = []
        if self._doomed:
            path, when = self._doomed.pop(0)
            if when > self._next_kept:
                self._next_kept += self._hours * 3600
            else:
                remove_checkpoint(path)

    # Restoring.

    def restore(self, sess: Any, save_path: Any) -> None:
        """Give the variables the checkpoint's values: all of them, or none where it raises.

        Raises ValueError where save_path is None or no checkpoint, NotFoundError for a variable
        that it lacks, InvalidArgumentError for one of another shape or type, DataLossError for a
        damaged file.
        """
        if save_path is None:
            raise ValueError("Can't load save_path when it is None.")
        prefix: str = os.fspath(save_path)
        if not checkpoint_exists(prefix):
            raise ValueError(f"The passed save_path is not a valid checkpoint: {prefix}")
        variables = self._saved()
        found = checkpoint.load(checkpoint_file(prefix)) if variables else {}
        values = [(v.op, self._fitting(prefix, n, v.op, found)) for n, v in variables.items()]
        with sess._lock:
            for op, value in values:
                sess.store.load(op, value)

    def _fitting(self, prefix: str, name: str, op: Operation, found: Mapping[str, Any]) -> Any:
        value = found.get(name)
        where = str(op.loc) if op.loc else None
        if value is None:
            raise NotFoundError(f"Key {name} not found in checkpoint {prefix}", op=op.name,
                                loc=where)
        want, dtype = op.attrs["shape"].sizes, op.outputs[0].dtype
        if as_dtype(value.dtype) is not dtype:
            raise InvalidArgumentError(
                f"tensor_name = {name}; expected dtype {dtype.name} does not equal original dtype "
                f"{as_dtype(value.dtype).name} in checkpoint {prefix}", op=op.name, loc=where,
            )  # fmt: skip
        if self._reshape and value.size == int(np.prod(want)):
            return value.reshape(want)
        if value.shape != want:
            raise InvalidArgumentError(
                "Assign requires shapes of both tensors to match. "
                f"lhs shape= {list(want)} rhs shape= {list(value.shape)} "
                f"for {name} in checkpoint {prefix}", op=op.name, loc=where,
                shapes=[want, value.shape],
            )  # fmt: skip
        return value

    # The checkpoints that there are.

    @property
    def last_checkpoints(self) -> list[str]:
        """The checkpoints that are not deleted yet, oldest first."""
        return [p for p, _ in self._last]

    def set_last_checkpoints(self, last_checkpoints: list[str]) -> None:
        """Take these, oldest first, as the saver's own."""
        if not isinstance(last_checkpoints, list):
            raise TypeError("last_checkpoints must be a list of paths")
        self._last = [(p, np.inf) for p in last_checkpoints]

    def set_last_checkpoints_with_time(self, last_checkpoints_with_time: list[Any]) -> None:
        """Take these (path, seconds) pairs, oldest first, as the saver's own."""
        if not isinstance(last_checkpoints_with_time, list):
            raise TypeError("last_checkpoints_with_time must be a list of pairs")
        self._last = list(last_checkpoints_with_time)

    def recover_last_checkpoints(self, checkpoint_paths: Any) -> None:
        """Take those of these checkpoints that exist as the saver's own, after a restart."""
        paths = [p for p in checkpoint_paths if checkpoint_exists(p)]
        self._last = list(zip(paths, get_checkpoint_mtimes(paths), strict=True))


def _named(given: Any) -> dict[str, Any]:
    pairs = given.items() if isinstance(given, Mapping) else ((None, v) for v in given)
    out: dict[str, Any] = {}
    for name, v in pairs:
        op = getattr(v, "op", None)
        if op is None or op.type != "VariableV2":
            raise TypeError(f"Variable to save is not a Variable: {v}")
        name = op.name if name is None else name
        if name in out:
            raise ValueError(f"At least two variables have the same name: {name}")
        if op.attrs["shape"].sizes is None:
            raise ValueError(f"variable {name} has no static shape")
        out[name] = v
    return out


def _check_names(sess: Any, path: str, latest: str) -> None:
    if not isinstance(sess, BaseSession):
        raise TypeError(f"'sess' must be a Session; {sess}")
    if os.path.split(latest)[0]:
        raise ValueError("'latest_filename' must not contain path components")
    folder, name = os.path.split(path)
    if name == latest:
        raise ValueError(f"'latest_filename' collides with 'save_path': '{latest}' and '{path}'")
    if folder and not os.path.isdir(folder):
        raise ValueError(f"Parent directory of {path} doesn't exist, can't save.")


# ---- Reading without a graph.


class CheckpointReader:
    """The variables in a checkpoint."""

    def __init__(self, filepattern: Any) -> None:
        prefix = os.fspath(filepattern)
        self._values = checkpoint.load(checkpoint_file(prefix))

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        return {name: list(v.shape) for name, v in self._values.items()}

    def get_variable_to_dtype_map(self) -> dict[str, Any]:
        return {name: as_dtype(v.dtype) for name, v in self._values.items()}

    def has_tensor(self, tensor_str: str) -> bool:
        return tensor_str in self._values

    def get_tensor(self, tensor_str: str) -> Any:
        """A variable's value. NotFoundError for an unknown name."""
        if tensor_str not in self._values:
            raise NotFoundError(f"Key {tensor_str} not found in checkpoint")
        return self._values[tensor_str]


NewCheckpointReader = CheckpointReader


def load_checkpoint(ckpt_dir_or_file: Any) -> CheckpointReader:
    """The reader of a checkpoint, or of the latest one of a folder. ValueError where none is."""
    path = os.fspath(ckpt_dir_or_file)
    prefix = latest_checkpoint(path) if os.path.isdir(path) else path
    if prefix is None:
        raise ValueError(f"Couldn't find 'checkpoint' file or checkpoints in {path}")
    return CheckpointReader(prefix)


def load_variable(ckpt_dir_or_file: Any, name: str) -> Any:
    """One variable's value in a checkpoint; "name:0" is the same as "name"."""
    return load_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


def list_variables(ckpt_dir_or_file: Any) -> list[tuple[str, list[int]]]:
    """Names and shapes of the variables in a checkpoint, by name."""
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


__all__ = [
    "CheckpointReader", "NewCheckpointReader", "Saver", "list_variables",
    "load_checkpoint", "load_variable",
]  # fmt: skip
