"""The fast path: a compiled function as a CPython builtin (see `fastcall_ir`)."""

from __future__ import annotations

import ctypes
import importlib
import struct
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np

from . import fastcall_ir as ir
from .abi import E_CANCELLED
from .arrays import RECYCLE_BYTES, Array, Recycler, address
from .context import Context
from .executable import Executable
from .gate import Gate
from .native import native

FAST, CALLABLE = "flowc_fastcall", "flowc_callable"
_METH_FASTCALL = 0x0080
_REPORT = struct.Struct("=ii4q")
_ARRAY_API = {"new_from_descr": 94, "set_base": 282}
_P, _I64 = ctypes.c_void_p, ctypes.c_int64


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", _P),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


@cache
def _method(name: str) -> _MethodDef:
    """One for the process: the function is generic, its `self` differs."""
    address = native().callable if name == CALLABLE else native().fastcall
    method = _MethodDef(name.encode(), address, _METH_FASTCALL, None)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(method))
    return method


def builtin(name: str, holder: tuple[Any, ...]) -> Callable[..., Any]:
    """A builtin function of that `name` (FAST, CALLABLE) over what `holder`, its self, holds."""
    create = ctypes.PYFUNCTYPE(ctypes.py_object, _P, ctypes.py_object, _P)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    created: Callable[..., Any] = create(_at(_method(name)), holder, None)
    return created


@cache
def _array_api() -> dict[str, int]:
    """Addresses of NumPy's C functions; empty where its arrays do not look as expected."""
    if not _layout_is_known():
        return {}
    core = "numpy._core" if hasattr(np, "_core") else "numpy.core"
    umath = importlib.import_module(core + "._multiarray_umath")
    get = ctypes.PYFUNCTYPE(_P, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    table = ctypes.cast(get(umath._ARRAY_API, None), ctypes.POINTER(_P))
    return {name: table[index] or 0 for name, index in _ARRAY_API.items()}


def _layout_is_known() -> bool:
    """Compare NumPy's C structure with what Python says about a probe."""
    probe = np.zeros((3, 5), np.int16)
    fields = ir.ArrayFields.from_address(id(probe) + object.__basicsize__)
    dims = ctypes.cast(fields.dimensions or 0, ctypes.POINTER(ctypes.c_ssize_t))
    kind = _P.from_address(id(probe) + object.__basicsize__ - ctypes.sizeof(_P)).value
    return (
        fields.data == address(probe)
        and fields.nd == 2
        and (dims[0], dims[1]) == (3, 5)
        and fields.descr == id(probe.dtype)
        and kind == id(np.ndarray)
        and fields.flags & ir.FLAGS_NEEDED == ir.FLAGS_NEEDED
    )


class FastCall:
    """`fc(*arrays) -> list of outputs`, with state and context fixed.

    `state_arrays`: as of `Executable.call`; they stay where they are, and no input may overlap
    one that the function writes. `ctx`: used by one call at a time; a call that finds it busy
    takes the slow path with another context. `release_gil`: for functions that run for more than
    a few µs. `gate`: excludes other calls that have it. What the native check does not accept goes
    to `Executable.call`, which raises or converts. `native` is the bare builtin: outputs, `None`
    (take the slow path) or an error report.
    """

    def __init__(
        self,
        executable: Executable,
        state_arrays: Sequence[Array] = (),
        ctx: Context | None = None,
        *,
        release_gil: bool = True,
        gate: Gate | None = None,
    ) -> None:
        self.executable, self.ctx, self.gate = executable, ctx or Context(), gate
        self.state = list(executable._states(state_arrays))
        self._native = native()
        self.native: Callable[..., Any] | None = None
        if _array_api() and not executable.manifest.data_dims:
            self.native = _make(self, release_gil)

    def __call__(self, *arrays: Any) -> list[Array]:
        if self.native is not None:
            try:
                result = self.native(*arrays)
            except KeyboardInterrupt as interrupt:
                raise self.executable.interrupted(self.ctx, interrupt) from None
            if result.__class__ is list:
                return result
            if result is not None:
                self.fail(result)
        with self.gate or nullcontext():
            return self.executable.call(arrays, self.state, ctx=self.ctx)

    def fail(self, report: bytes) -> None:
        """Raise what an error report of `native` says."""
        code, op, *detail = _REPORT.unpack(report)
        if code == E_CANCELLED:
            self._native.interrupt_clear()
        cause, self.ctx.host_error = self.ctx.host_error, None
        self.executable.raise_error(code, op, detail, cause)


def _make(call: FastCall, release_gil: bool) -> Callable[..., Any]:
    executable, state, ctx = call.executable, call.state, call.ctx
    manifest = executable.manifest
    inputs = (ir.InputEntry * max(1, len(manifest.inputs)))()
    outputs = (ir.OutputEntry * max(1, len(manifest.outputs)))()
    keep: list[Any] = [executable, state, ctx, inputs, outputs, call.gate]
    for entry, spec in zip(inputs, manifest.inputs, strict=False):
        sizes = [-1 if isinstance(d, str) else d for d in spec.shape]
        template = (_I64 * (len(sizes) + 1))(*sizes)
        entry.descr, entry.rank, entry.dims = id(spec.dtype.numpy), len(sizes), _at(template)
        keep += [template, spec]
    for result, output in zip(outputs, manifest.outputs, strict=False):
        allocate = _allocator(executable.recycler, output.dtype.numpy)
        result.descr, result.rank = id(output.dtype.numpy), output.rank
        result.itemsize, result.allocate = output.dtype.itemsize, id(allocate)
        keep += [allocate, output]
    record = _record(executable, state, ctx, inputs, outputs, keep)
    record.release_gil = release_gil
    record.gate = call.gate.address if call.gate is not None else None
    return builtin(FAST, (bytes(record), keep))


def _record(
    executable: Executable,
    state: list[Array],
    ctx: Context,
    inputs: Any,
    outputs: Any,
    keep: list[Any],
) -> ir.Record:
    n, n_state = len(executable.manifest.inputs), len(state)
    buffers = (_P * (n + n_state + len(executable.manifest.outputs) + 1))()
    buffers[n : n + n_state] = [address(a) for a in state]
    dims = executable.new_dims()
    input_dims = (_I64 * (executable.input_rank + 1))()
    output_dims = (_I64 * (executable.output_rank + 1))()
    byte = np.dtype(np.uint8)
    keep += [buffers, dims, input_dims, output_dims, byte]
    return ir.Record(
        entry=executable.entry,
        bind=executable.address("bind"),
        workspace_size=executable.address("workspace_size"),
        output_shapes=executable.address("output_shapes"),
        ctx=ctx.address,
        buffers=_at(buffers),
        dims=_at(dims),
        input_dims=_at(input_dims),
        output_dims=_at(output_dims),
        inputs=_at(inputs),
        outputs=_at(outputs),
        n_inputs=n,
        n_outputs=len(executable.manifest.outputs),
        first_output=n + n_state,
        small_bytes=RECYCLE_BYTES,
        none=id(None),
        array_type=id(np.ndarray),
        byte_descr=id(byte),
        **_array_api(),
    )


def _at(value: Any) -> int:
    return ctypes.addressof(value)


def _allocator(recycler: Recycler, dtype: np.dtype[Any]) -> Callable[..., Array]:
    def allocate(*shape: int) -> Array:
        return recycler.take(shape, dtype)

    return allocate
