"""The state of a session: values of variables, steps of random ops, what is initialized."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import numpy as np

from flowc.runtime.arrays import empty, zeros

from .errors import FailedPreconditionError
from .tensor import Operation

Array = np.ndarray[Any, np.dtype[Any]]


class Store:
    """One 64-byte aligned array a variable, never moved: compiled functions update it in place."""

    def __init__(self) -> None:
        self.arrays: dict[Operation, Array] = {}
        self.initialized: set[Operation] = set()

    def array(self, op: Operation) -> Array:
        """The storage of a variable, or of a random op's step or a variable's "is initialized"."""
        found = self.arrays.get(op)
        if found is None:
            found = self.arrays[op] = self._make(op)
        return found

    def _make(self, op: Operation) -> Array:
        shape = op.attrs.get("shape")
        if op.type == "IsVariableInitialized":
            array = empty((), np.dtype(bool))
            array[()] = op.inputs[0].op in self.initialized
        elif shape is None or op.type != "VariableV2":
            array = empty((), np.dtype(np.uint64))
            # an op without a seed draws anew in each session
            array[()] = 0 if op.attrs.get("seeded", True) else secrets.randbits(62)
        else:
            array = zeros(tuple(shape.sizes), op.outputs[0].dtype.np)
        return array

    def is_initialized(self, op: Operation) -> bool:
        return op in self.initialized

    def mark(self, ops: Iterable[Operation]) -> None:
        """These variables have values now."""
        new = {o for o in ops if o.type == "VariableV2"} - self.initialized
        if new:
            self.initialized |= new
            for op, array in self.arrays.items():
                if op.type == "IsVariableInitialized" and op.inputs[0].op in new:
                    array[()] = True

    def value(self, op: Operation) -> Array:
        """A copy of a variable's value. FailedPreconditionError where it has none."""
        if op not in self.initialized:
            raise FailedPreconditionError(
                f"Attempting to use uninitialized value {op.name}",
                op=op.name,
                loc=str(op.loc) if op.loc else None,
            )
        copied: np.ndarray[Any, Any] = self.array(op).copy()
        return copied

    def load(self, op: Operation, value: Any) -> None:
        """Set a variable's value; ValueError for another shape."""
        array = self.array(op)
        given = np.asarray(value, dtype=array.dtype)
        if given.shape != array.shape:
            raise ValueError(
                f"Variable {op.name} has shape {array.shape}, the given value {given.shape}"
            )
        array[...] = given
        self.mark([op])

    def clear(self) -> None:
        self.arrays.clear()
        self.initialized.clear()
