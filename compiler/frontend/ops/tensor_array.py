"""`tf.TensorArray`: an array of tensors that loops write; it is one buffer, [size, ...]."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from .. import dtypes as dt
from ..dtypes import as_dtype
from ..expand import Expansion
from ..registry import CONVERTERS, expander
from ..shapes import TensorShape, as_shape
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, scope
from .creation import zeros
from .selecting import gather
from .shape import concat, reshape
from .shape import shape as shape_of
from .state import no_op


class TensorArray:
    """`size` tensors of one shape; writing returns the array that further uses must take.

    element_shape: of the elements, by default that of the first one written. A loop that is the
    first to write needs elements of a static shape. Elements that were not written are 0. An index
    out of range is an error of the run. Arrays do not grow: dynamic_size is refused.
    """

    def __init__(
        self, dtype: Any, size: Any = None, dynamic_size: bool | None = None,
        clear_after_read: bool | None = None, tensor_array_name: str | None = None,
        handle: Any = None, flow: Any = None, infer_shape: bool = True, element_shape: Any = None,
        colocate_with_first_write_call: bool = True, name: str | None = None,
    ) -> None:  # fmt: skip
        if dynamic_size:
            raise ValueError("a TensorArray cannot grow: give it the size that it will need")
        if size is None and flow is None:
            raise ValueError("Size must be provided if handle is not provided")
        self.dtype = as_dtype(dtype)
        self._given, self._buffer = size, None if flow is None else convert(flow, self.dtype)
        self._element = [as_shape(element_shape)]  # what all versions of the array know
        if self._buffer is None and self._element[0].is_fully_defined():
            self._buffer = self.allocated()

    def allocated(self) -> Tensor:
        """A buffer of zeros. ValueError where the elements' shape is not known."""
        element = self._element[0]
        if not element.is_fully_defined():
            raise ValueError(
                f"the elements of a TensorArray that a loop writes first need a static shape, not "
                f"{element}: give element_shape, or write one element before the loop"
            )
        return self._zeros(element.as_list())

    def _zeros(self, element: Any) -> Tensor:
        if isinstance(self._given, int) and isinstance(element, list):
            return zeros([self._given, *element], self.dtype)
        lead = reshape(convert(self._given), [1])
        return zeros(concat([lead, convert(element, lead.dtype)], 0) if element != [] else lead,
                     self.dtype)

    def with_buffer(self, buffer: Any) -> TensorArray:
        """The array after a write or a round of a loop."""
        out = TensorArray.__new__(TensorArray)
        out.__dict__.update(self.__dict__)
        out._buffer = buffer
        return out

    @property
    def is_pending(self) -> bool:
        """Whether nothing has been written, so that there is no buffer."""
        return self._buffer is None

    @property
    def buffer(self) -> Tensor:
        """All elements. ValueError where none was written."""
        if self._buffer is None:
            raise ValueError("nothing has been written to the TensorArray")
        return self._buffer

    flow = handle = buffer

    def _learn(self, shape: TensorShape) -> None:
        known = self._element[0]
        if not known.is_compatible_with(shape):
            raise ValueError(f"Inconsistent shapes: saw {shape} but expected {known}")
        self._element[0] = known.merge_with(shape)

    def _shaped(self, t: Tensor, lead: list[Any]) -> Tensor:
        element = self._element[0]
        if element.ndims is not None:
            t.set_shape(TensorShape(lead).concatenate(element))
        return t

    def write(self, index: Like, value: Like, name: str | None = None) -> TensorArray:
        """The array with an element set."""
        with scope(name, "TensorArrayWrite") as s:
            v = convert(value, self.dtype, "value")
            self._learn(v.shape)
            buffer = self._buffer
            if buffer is None:
                sizes = v.shape.as_list() if v.shape.is_fully_defined() else shape_of(v)
                buffer = self._zeros(sizes)
            at = convert(index, name="index")
            return self.with_buffer(apply("TensorArrayWrite", [buffer, at, v], self.dtype, s))

    def read(self, index: Like, name: str | None = None) -> Tensor:
        """An element."""
        with scope(name, "TensorArrayRead") as s:
            at = convert(index, name="index")
            out = apply("TensorArrayRead", [self.buffer, at], self.dtype, s)
            return self._shaped(out, [])

    def stack(self, name: str | None = None) -> Tensor:
        """All elements: [size, ...]."""
        with scope(name, "TensorArrayStack") as s:
            out = apply("Identity", [self.buffer], self.dtype, s)
            return self._shaped(out, [self._given if isinstance(self._given, int) else None])

    def gather(self, indices: Like, name: str | None = None) -> Tensor:
        """Elements at indices, stacked."""
        return gather(self.buffer, indices, name=name)

    def concat(self, name: str | None = None) -> Tensor:
        """All elements one after the other along their first axis."""
        all_ = self.stack()
        sizes = shape_of(all_)
        return reshape(all_, concat([[-1], sizes[2:]], 0), name=name)

    def unstack(self, value: Like, name: str | None = None) -> TensorArray:
        """The array of the rows of a tensor."""
        v = convert(value, self.dtype)
        if v.shape.ndims is not None:
            self._learn(v.shape[1:])
        out = self.with_buffer(v)
        out._given = v.shape[0].value if v.shape.ndims else self._given
        out._given = self._given if out._given is None else out._given
        return out

    def scatter(self, indices: Like, value: Like, name: str | None = None) -> TensorArray:
        """The array with the elements at indices set to the rows of a tensor."""
        with scope(name, "TensorArrayScatter") as s:
            v, at = convert(value, self.dtype), convert(indices, name="indices")
            self._learn(v.shape[1:])
            buffer = self._zeros(self._element[0].as_list()) if self.is_pending else self.buffer
            return self.with_buffer(apply("TensorArrayScatter", [buffer, at, v], self.dtype, s))

    def size(self, name: str | None = None) -> Tensor:
        """How many elements it has."""
        if self._buffer is None:
            return convert(self._given, dt.int32)
        return shape_of(self.buffer)[0]

    def identity(self) -> TensorArray:
        return self

    def grad(self, source: Any, flow: Any = None, name: Any = None) -> TensorArray:
        raise NotImplementedError("gradients of a TensorArray follow from those of its elements")

    def close(self, name: str | None = None) -> Operation:
        return no_op(name)


def _convert(value: TensorArray, dtype: Any, name: str | None) -> Tensor:
    return value.buffer


CONVERTERS.append((TensorArray, _convert))


def _checked(x: Expansion, buffer: Value, index: Value) -> Value:
    """The index, which must lie in the buffer: read from 0, 1, 2 … where it must lie too."""
    b, n = x.b, buffer.ty.shape[0]
    places = b.iota(dtype=dt.int64.element, shape=(n,), axis=0)
    at = b.reshape(b.cast(index, dtype=dt.int64.element), shape=(1,))
    return b.reshape(b.gather(places, at, batch=0, bounds="check"), shape=())  # type: ignore[no-any-return]


@expander("TensorArrayWrite")
def _write(x: Expansion, node: Operation, buffer: Value, index: Value, v: Value) -> Any:
    b, element = x.b, buffer.ty.shape[1:]
    if len(element) != v.ty.rank:
        raise x.fail(f"an element of {buffer.type} cannot be {v.type}")
    for have, want in zip(v.ty.shape, element, strict=True):
        x.agree(want, have, f"an element of {buffer.type} cannot be {v.type}")
    v = x.conform(v, element)
    zero = b.const(0, dt.int64.element)
    row = b.reshape(v, shape=(1, *v.ty.shape))
    starts = [_checked(x, buffer, index), *(zero for _ in v.ty.shape)]
    return b.dynamic_update_slice(buffer, row, *starts)


@expander("TensorArrayRead")
def _read(x: Expansion, node: Operation, buffer: Value, index: Value) -> Any:
    at = x.b.reshape(index, shape=(1,))
    return x.b.gather(buffer, at, batch=0, bounds="check")


@expander("TensorArrayScatter")
def _scatter(x: Expansion, node: Operation, buffer: Value, at: Value, v: Value) -> Any:
    at = x.b.reshape(at, shape=(*at.ty.shape, 1))
    return x.b.scatter(buffer, at, v, op="set", batch=0, bounds="check")
