"""What compiled code calls out to: `print`, `assert_` and `host_call` in this process.

A plan's host calls get addresses of buffers and sizes; the op's own `eval` says what they do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from flowc.backends.cpu.host import entry_symbols, host_calls
from flowc.ir import dims
from flowc.ir.kernel.form import Buffer
from flowc.ir.ops.base import REGISTRY, EvalError
from flowc.ir.plan import HostCall, Program
from flowc.runtime.errors import InvalidArgumentError, UnknownError

Function = Callable[[int, int], int]


def host_functions(p: Program) -> list[Function]:
    """The functions behind a program's host calls, in the order of their ids."""
    symbols = entry_symbols(p)
    return [_function(call, symbols) for call in host_calls(p)]


def _function(call: HostCall, symbols: list[str]) -> Function:
    """Called with the addresses of the buffers' addresses and of the sizes."""
    op: Any = REGISTRY[call.name](**call.attrs)
    n, every = len(call.inputs), (*call.inputs, *call.outputs)

    def run(buffers: int, sizes: int) -> int:
        env: dict[str, dims.Dim] = {}
        if symbols:
            values = (ctypes.c_int64 * len(symbols)).from_address(sizes)
            env = dict(zip(symbols, values, strict=True))
        arrays: list[Any] = []
        if every:
            places = (ctypes.c_void_p * len(every)).from_address(buffers)
            arrays = [_array(b, at, env) for b, at in zip(every, places, strict=True)]
        try:
            results = op.eval(*(a.copy() for a in arrays[:n]))
        except EvalError as e:
            kind = InvalidArgumentError if e.code == 4 else UnknownError
            raise kind(str(e)) from e
        for target, value in zip(arrays[n:], results, strict=True):
            target[...] = value
        return 0

    return run


def _array(b: Buffer, at: int | None, env: dict[str, dims.Dim]) -> Any:
    """The array that lies at an address."""
    shape: Any = dims.shape_substitute(b.shape, env)
    nbytes = prod(shape) * b.dtype.np.itemsize
    if not nbytes:
        return np.empty(shape, b.dtype.np)
    memory = (ctypes.c_char * nbytes).from_address(at or 0)
    return np.ndarray(shape, b.dtype.np, memory)
