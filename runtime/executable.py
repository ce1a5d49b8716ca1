"""Calling a compiled function from Python: the generic path, with every check."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from . import errors
from .abi import BY_CODE, E_CANCELLED, E_CHECK, E_HOST, E_MEMORY
from .arrays import Array, Recycler, address, aligned_copy
from .context import Context
from .errors import FailedPreconditionError, FlowcError, InvalidArgumentError, format_shape
from .host_ir import RETRY
from .jit import Library
from .manifest import Manifest, OpRecord, TensorSpec, same_static
from .native import native

_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class Executable:
    """A function of a loaded library. Thread-safe; it holds the library.

    `manifest`: see `Manifest`; `name`: the symbol. Outputs of 64 KiB and more come from
    `recycler`. Raises NotFoundError when the library lacks a symbol of the function.
    """

    def __init__(
        self,
        manifest: Manifest | Mapping[str, Any] | str | bytes,
        library: Library,
        name: str | None = None,
        recycler: Recycler | None = None,
    ) -> None:
        self.manifest = Manifest.parse(manifest)
        self.library, self.name = library, name or self.manifest.name
        self.recycler = recycler or Recycler()
        self.entry = library.address(self.name)
        self._native = native()
        self._native.watch_interrupts()
        self._serial = Context()
        self._bind = self._function("bind", _I32, _P, _P)
        self._workspace_size = self._function("workspace_size", _I64, _P, _I32)
        self._output_shapes = self._function("output_shapes", None, _P, _P)
        self.input_rank = sum(len(t.shape) for t in self.manifest.inputs)
        self.output_rank = sum(t.rank for t in self.manifest.outputs)
        m = self.manifest
        self._n_buffers = len(m.inputs) + len(m.state) + len(m.outputs)

    def address(self, suffix: str) -> int:
        """The address of NAME_suffix."""
        return self.library.address(f"{self.name}_{suffix}")

    def call(
        self,
        inputs: Sequence[Any],
        state: Sequence[Array] = (),
        out: Sequence[Array | None] | None = None,
        ctx: Context | None = None,
    ) -> list[Array]:
        """Run once; the outputs, in the manifest's order.

        `inputs`: arrays (or what `np.asarray` takes) of exactly the declared dtypes; strided or
        unaligned ones are copied. `state`: C-contiguous arrays, updated in place. `out`: arrays to
        fill, of the output's dtype and shape (None: a fresh one). `ctx`: threads, host calls;
        serial by default; when it is in use, the run gets another like it.

        Raises InvalidArgumentError for arguments that do not fit, with the input's name, line,
        declared and actual shape; the error of a failed op with its name and line;
        KeyboardInterrupt after Ctrl-C on the main thread; CancelledError after `ctx.cancel()`.
        """
        arrays = self._inputs(inputs)
        states = self._states(state)
        self._part_from_state(arrays, states)
        dims = self._bound_dims(arrays)
        targets = self._targets(self.output_shapes(dims), out, arrays + states)
        mine = (ctx or self._serial).acquire()
        try:
            buffers = (_P * self._n_buffers)(*map(address, arrays + states + targets))
            self._run(mine, buffers, dims)
        finally:
            mine.release()
        return self._results(targets, dims, out)

    def output_shapes(self, dims: Any) -> list[tuple[int, ...]]:
        """Shapes of the outputs for filled `dims` (a ctypes array of int64)."""
        flat = (_I64 * (self.output_rank + 1))()
        self._output_shapes(dims, flat)
        shapes, at = [], 0
        for spec in self.manifest.outputs:
            shapes.append(tuple(flat[at : at + spec.rank]))
            at += spec.rank
        return shapes

    def workspace_size(self, dims: Any, workers: int) -> int:
        """Bytes of workspace. Raises InvalidArgumentError when that overflows."""
        size: int = self._workspace_size(dims, workers)
        if size < 0 or size > 1 << 60:
            raise InvalidArgumentError(f"{self.name}: the workspace's size overflows")
        return size

    def new_dims(self) -> Any:
        """Room for `dims`."""
        return (_I64 * (len(self.manifest.dims) + 1))()

    def raise_error(
        self, code: int, op: int, detail: Sequence[int], cause: BaseException | None = None
    ) -> NoReturn:
        """Raise what a failed run reported, with the op's name and line."""
        known = BY_CODE.get(code)
        if isinstance(cause, FlowcError) or not isinstance(cause, Exception | None):
            raise cause
        record = (self.manifest.ops or {}).get(op) or OpRecord(op, "")
        values = {f"d{i}": value for i, value in enumerate(detail)}
        template = known.template if known else f"unknown error code {code}"
        message = record.message or template.format(**values)
        if code == E_CHECK and 1 <= detail[0] <= len(self.manifest.checks):
            message = self.manifest.checks[detail[0] - 1].message
        if code == E_HOST and cause is not None:
            message = f"{message}: {cause!r}"
        if code == E_CANCELLED:
            message += self._undefined()
        kind = getattr(errors, known.error if known else "UnknownError")
        raise kind(f"{self.name}: {message}", op=record.op or None, loc=record.loc) from cause

    def interrupted(self, ctx: Context, interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
        """What to raise for a Ctrl-C around a run: it names the variables that are undefined."""
        undefined = self._undefined()
        if ctx.error()[0] == E_CANCELLED and undefined:
            return KeyboardInterrupt(f"{self.name}: cancelled{undefined}")
        return interrupt

    def _function(self, suffix: str, result: type | None, *args: type) -> Any:
        return ctypes.CFUNCTYPE(result, *args)(self.address(suffix))

    def _inputs(self, inputs: Sequence[Any]) -> list[Array]:
        specs = self.manifest.inputs
        if len(inputs) != len(specs):
            raise InvalidArgumentError(
                f"{self.name} takes {len(specs)} inputs, {len(inputs)} were given"
            )
        return [self._input(s, value) for s, value in zip(specs, inputs, strict=True)]

    def _input(self, spec: TensorSpec, value: Any) -> Array:
        array = _as_array(spec, value)
        if array.dtype != spec.dtype.numpy and array.dtype.newbyteorder("=") != spec.dtype.numpy:
            raise InvalidArgumentError(f"input {spec}: given dtype {array.dtype}", loc=spec.loc)
        if not same_static(spec.shape, array.shape):
            raise InvalidArgumentError(
                f"input {spec}: given shape {format_shape(array.shape)}",
                loc=spec.loc,
                shapes=[spec.shape, array.shape],
            )
        if array.dtype != spec.dtype.numpy or not _is_dense(array):
            return aligned_copy(array)
        return array

    def _states(self, state: Sequence[Array]) -> list[Array]:
        specs = self.manifest.state
        if len(state) != len(specs):
            raise InvalidArgumentError(
                f"{self.name} has {len(specs)} state buffers, {len(state)} were given"
            )
        for spec, array in zip(specs, state, strict=True):
            if array.dtype != spec.dtype.numpy or not same_static(spec.shape, array.shape):
                given = f"{array.dtype}{format_shape(array.shape)}"
                raise InvalidArgumentError(f"state {spec}: given {given}", loc=spec.loc)
            if not _is_dense(array) or not (spec.mode == "r" or array.flags.writeable):
                raise FailedPreconditionError(
                    f"state {spec}: needs a C-contiguous, aligned, writable array", loc=spec.loc
                )
        return list(state)

    def _part_from_state(self, arrays: list[Array], states: list[Array]) -> None:
        """Copy inputs that overlap state which the function writes."""
        for spec, buffer in zip(self.manifest.state, states, strict=True):
            if spec.mode == "r":
                continue
            for i, array in enumerate(arrays):
                if np.may_share_memory(array, buffer):
                    arrays[i] = aligned_copy(array)

    def _bound_dims(self, arrays: list[Array]) -> Any:
        dims = self.new_dims()
        flat = (_I64 * (self.input_rank + 1))(*(d for a in arrays for d in a.shape))
        failed = self._bind(flat, dims)
        if failed:
            self._raise_check(failed, arrays)
        return dims

    def _raise_check(self, index: int, arrays: list[Array]) -> NoReturn:
        checks = self.manifest.checks
        known = checks[index - 1] if index <= len(checks) else None
        given = "".join(
            f"\n  input {spec}: given shape {format_shape(array.shape)}"
            for spec, array in zip(self.manifest.inputs, arrays, strict=True)
        )
        message = known.message if known else f"check {index} failed"
        raise InvalidArgumentError(
            f"{self.name}: {message}{given}",
            loc=known.loc if known else None,
            shapes=[a.shape for a in arrays],
        )

    def _targets(
        self,
        shapes: list[tuple[int, ...]],
        out: Sequence[Array | None] | None,
        others: list[Array],
    ) -> list[Array]:
        """The arrays to compute into: those given where they serve, else fresh ones."""
        specs = self.manifest.outputs
        given = list(out) if out is not None else [None] * len(specs)
        if len(given) != len(specs):
            raise InvalidArgumentError(
                f"{self.name} has {len(specs)} outputs, {len(given)} were given"
            )
        targets: list[Array] = []
        for spec, shape, array in zip(specs, shapes, given, strict=True):
            if array is not None:
                _check_out(spec.name, spec.dtype.numpy, shape, array, self.manifest.data_dims)
            if array is None or not self._serves(array, shape, others + targets):
                array = self.recycler.take(shape, spec.dtype.numpy)
            targets.append(array)
        return targets

    @staticmethod
    def _serves(array: Array, shape: tuple[int, ...], others: list[Array]) -> bool:
        return (  # compiled code takes addresses that are aligned to an element
            _is_dense(array)
            and array.shape == shape
            and not any(np.may_share_memory(array, other) for other in others)
        )

    def _run(self, ctx: Context, buffers: Any, dims: Any) -> None:
        library = self._native
        try:
            workspace = ctx.workspace(self.workspace_size(dims, ctx.struct.base.workers))
        except MemoryError:
            self.raise_error(E_MEMORY, -1, (0, 0, 0, 0))
        ctx.host_error = None
        library.watch_interrupts()
        try:
            # Between two rounds the interpreter delivers the signal that made the run refuse.
            while (code := library.run(ctx.address, self.entry, buffers, dims, workspace)) == RETRY:
                library.interrupt_clear()
        except KeyboardInterrupt as interrupt:
            raise self.interrupted(ctx, interrupt) from None
        if code:
            cause, ctx.host_error = ctx.host_error, None
            self.raise_error(*ctx.error(), cause=cause)

    def _undefined(self) -> str:
        written = [t.name for t in self.manifest.state if t.mode != "r"]
        if not written or self.manifest.atomic_state:
            return ""
        return f"; these variables may be partly updated: {', '.join(written)}"

    def _results(
        self, targets: list[Array], dims: Any, out: Sequence[Array | None] | None
    ) -> list[Array]:
        """Cut outputs to the sizes that the run told; fill the given arrays that did not serve."""
        if self.manifest.data_dims:
            shapes = self.output_shapes(dims)
            targets = [_cut(a, shape) for a, shape in zip(targets, shapes, strict=True)]
        if out is None:
            return targets
        results = []
        for target, array in zip(targets, out, strict=True):
            if array is None or array is target:
                results.append(target)
                continue
            if array.shape != target.shape:
                raise InvalidArgumentError(
                    f"{self.name}: the result has shape {format_shape(target.shape)}, the array "
                    f"given for it {format_shape(array.shape)}",
                    shapes=[target.shape, array.shape],
                )
            array[...] = target
            results.append(array)
        return results


def _as_array(spec: TensorSpec, value: Any) -> Array:
    if type(value) is np.ndarray:
        return value
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise InvalidArgumentError(f"input {spec}: not an array: {error}", loc=spec.loc) from error


def _is_dense(array: Array) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _check_out(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], array: Array, cut: bool
) -> None:
    if array.dtype != dtype or not array.flags.writeable or not (cut or array.shape == shape):
        raise InvalidArgumentError(
            f"output '{name}' is {dtype}{format_shape(shape)}; the array given for it is "
            f"{array.dtype}{format_shape(array.shape)}"
            + ("" if array.flags.writeable else " and read-only"),
            shapes=[shape, array.shape],
        )


def _cut(array: Array, shape: tuple[int, ...]) -> Array:
    """The first elements of a buffer that was sized by a bound."""
    if array.shape == shape:
        return array
    count = int(np.prod(shape, dtype=np.int64))
    if count > array.size:
        raise errors.InternalError(f"a result of shape {format_shape(shape)} exceeds its bound")
    return array.reshape(-1)[:count].reshape(shape)
