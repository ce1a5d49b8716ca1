"""String tensors: the few ops that they go through are evaluated in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .build import unfed
from .errors import UnimplementedError
from .tensor import Operation, Tensor


def host_value(
    tensor: Tensor, feeds: Mapping[Tensor, Any], is_initialized: Callable[[Operation], bool]
) -> Any:
    """The value of a string tensor: `bytes` for a scalar, else an object array of them.

    is_initialized: whether a variable has a value.

    Raises UnimplementedError for an op that strings cannot go through.
    """
    while tensor not in feeds:
        op = tensor.op
        if op.type == "Const":
            return _scalar(op.attrs["value"])
        if op.type == "ReportUninitialized":
            missing = [v for v in op.attrs["variables"] if not is_initialized(v)]
            out = np.empty(len(missing), dtype=object)
            out[:] = [v.name.encode() for v in missing]
            return out
        if op.type == "Placeholder":
            raise unfed(op)
        if op.type not in ("Identity", "PlaceholderWithDefault"):
            where = str(op.loc) if op.loc else None
            raise UnimplementedError(f"{op.type} of strings", op=op.name, loc=where)
        tensor = op.inputs[0]
    return _scalar(feeds[tensor])


def _scalar(array: Any) -> Any:
    return array if array.ndim else array[()]
