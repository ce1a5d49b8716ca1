"""Slicing: `x[…]`, `tf.slice`, `tf.strided_slice`, and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.dims import Dim
from flowc.ir.types import shape_text

from .. import dtypes as dt
from ..expand import Expansion
from ..registry import OPERATORS, expander, operator
from ..shapes import Dimension
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, scope, shape_tensor, static_ints

# An index of one axis: ("at", n) for x[n], ("at", None) for x[tensor], ("to", start, stop, step)
# for a slice, ("new",), ("rest",). Starts and stops may be ("input", i): the node's i-th tensor.


@operator("getitem")
def getitem(x: Like, key: Any) -> Tensor:
    """x[key]: integers, slices, `...`, `None`, scalar tensors; a bool tensor is a mask."""
    t = convert(x)
    if isinstance(key, Tensor) and key.dtype.is_bool:
        return OPERATORS["mask"](t, key)  # type: ignore[no-any-return]
    keys = list(key) if isinstance(key, tuple) else [key]
    inputs: list[Tensor] = [t]
    with scope(None, "strided_slice") as s:
        spec = [_index(k, inputs) for k in keys]
        return apply("StridedSlice", inputs, t.dtype, s, spec=spec)


def _index(k: Any, inputs: list[Tensor]) -> tuple[Any, ...]:
    if k is None:
        return ("new",)
    if k is Ellipsis:
        return ("rest",)
    if isinstance(k, slice):
        step = 1 if k.step is None else static_ints(k.step)[0]  # type: ignore[index]
        return ("to", _bound(k.start, inputs), _bound(k.stop, inputs), step)
    return ("at", _bound(k, inputs))


def _bound(k: Any, inputs: list[Tensor]) -> Any:
    if k is None or isinstance(k, Dimension):
        return None if k is None else int(k)
    if hasattr(k, "op"):
        inputs.append(convert(k))
        return ("input", len(inputs) - 1)
    if isinstance(k, (bool, float, str)) or (not np.isscalar(k) and np.ndim(k)):
        raise TypeError(
            "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar "
            f"tf.int32/tf.int64 tensors are valid indices, got {k!r}"
        )
    return int(k)


@expander("StridedSlice")
def _strided_slice(x: Expansion, node: Operation, a: Value, *bounds: Value) -> Any:
    spec = _expanded(x, node.attrs["spec"], a)
    work = _Slicing(x, a, bounds)
    for axis_spec in spec:
        work.add(axis_spec)
    return work.result()


def _expanded(x: Expansion, spec: list[Any], a: Value) -> list[Any]:
    """The spec with `...` written out."""
    used = sum(s[0] in ("at", "to") for s in spec)
    free = a.ty.rank - used
    if free < 0:
        raise x.fail(f"too many indices for {a.type}: {used}")
    whole = ("to", None, None, 1)
    if not any(s[0] == "rest" for s in spec):
        spec = [*spec, ("rest",)]
    if sum(s[0] == "rest" for s in spec) > 1:
        raise x.fail("Multiple ellipses in slice spec not allowed")
    out: list[Any] = []
    for s in spec:
        out += [whole] * free if s[0] == "rest" else [s]
    return out


class _Slicing:
    """One `x[…]`, axis by axis."""

    def __init__(self, x: Expansion, a: Value, bounds: tuple[Value, ...]) -> None:
        self.x, self.a, self.bounds = x, a, bounds
        self.axis = 0
        self.starts: list[Dim] = []
        self.limits: list[Dim] = []
        self.strides: list[int] = []
        self.flip: list[int] = []
        self.shape: list[Any] = []  # of the result: sizes, or an axis of the slice as ("axis", i)
        self.dynamic: dict[int, Value] = {}  # axis → the position that only the run knows

    def add(self, spec: Any) -> None:
        if spec[0] == "new":
            self.shape.append(1)
            return
        size = self.a.ty.shape[self.axis]
        if spec[0] == "at":
            self._point(self._known(spec[1]), size, spec[1])
        else:
            self._range(self._known(spec[1]), self._known(spec[2]), spec[3], size, spec)
            self.shape.append(("axis", self.axis))
        self.axis += 1

    def _known(self, bound: Any) -> Any:
        """A bound as a size, None where it is open, or the run's value."""
        if not isinstance(bound, tuple):
            return bound
        value = self.bounds[bound[1] - 1]
        found = self.x.known.get(value)
        return value if found is None else found.reshape(-1)[0]

    def _push(self, start: Dim, limit: Dim, stride: int = 1) -> None:
        self.starts.append(start)
        self.limits.append(limit)
        self.strides.append(stride)

    def _point(self, at: Any, size: Dim, bound: Any) -> None:
        text = f"slice index {at} of dimension {self.axis} out of bounds in {self.a.type}"
        if isinstance(at, Value):
            self.dynamic[self.axis] = at
            self._push(0, size)
        elif isinstance(at, int) and at < 0:
            self.x.at_least(size, -at, text)
            start = dims.add(size, at)
            self._push(start, dims.add(start, 1))
        else:
            self.x.at_least(size, dims.add(at, 1), text)
            self._push(at, dims.add(at, 1))

    def _range(self, start: Any, stop: Any, step: int, size: Dim, spec: Any) -> None:
        if isinstance(start, Value) or isinstance(stop, Value):
            raise self.x.fail(
                "the bounds of a slice must follow from constants and from shapes: use "
                "tf.slice with a constant size"
            )
        if step == 0:
            raise self.x.fail("strides must be non-zero")
        if step < 0:
            self._backwards(start, stop, step, size)
            return
        limit = size if stop is None else _clamped(stop, size)
        if start is None or start == 0:
            self._push(0, limit, step)
            return
        if isinstance(start, int) and start < 0:  # the last −start elements
            first = dims.maximum(dims.add(size, start), 0)
        elif stop is None:
            rest = dims.maximum(dims.add(size, dims.mul(start, -1)), 0)
            first = dims.add(size, dims.mul(rest, -1))
        else:
            first = dims.minimum(start, size)
        count = dims.maximum(dims.add(limit, dims.mul(first, -1)), 0)
        self._push(first if limit == size else dims.minimum(first, limit), limit, step)
        if limit != size and not isinstance(count, int):
            self.starts[-1] = dims.add(limit, dims.mul(count, -1))

    def _backwards(self, start: Any, stop: Any, step: int, size: Dim) -> None:
        """A slice with a negative step: the mirror image of one of the flipped axis."""
        self.flip.append(self.axis)
        last = dims.add(size, -1)
        begin = 0 if start is None else dims.add(last, dims.mul(_wrapped(start, size), -1))
        end = None if stop is None else dims.add(last, dims.mul(_wrapped(stop, size), -1))
        limit = size if end is None else dims.minimum(dims.maximum(end, 0), size)
        first = dims.minimum(dims.maximum(begin, 0), limit)
        self._push(first, limit, -step)

    def result(self) -> Value:
        b, a = self.x.b, self.a
        if self.flip:
            a = b.reverse(a, axes=tuple(self.flip))
        starts, limits = tuple(self.starts), tuple(self.limits)
        plain = all(s == 0 and t == 1 for s, t in zip(starts, self.strides, strict=True))
        if not plain or limits != a.ty.shape:
            a = b.slice(a, starts=starts, limits=limits, strides=tuple(self.strides))
        if self.dynamic:
            a = self._picked(a)
        shape = tuple(a.ty.shape[s[1]] if isinstance(s, tuple) else s for s in self.shape)
        return a if a.ty.shape == shape else b.reshape(a, shape=shape)

    def _picked(self, a: Value) -> Value:
        """One element along each axis whose position the run knows; a negative one counts back."""
        b, sizes = self.x.b, list(a.ty.shape)
        starts = []
        for axis in range(a.ty.rank):
            at = self.dynamic.get(axis)
            if at is None:
                starts.append(b.const(0, "i64"))
                continue
            at = b.cast(b.reshape(at, shape=()), dtype=_I64)
            size = b.dim_size(dim=sizes[axis], dtype=_I64)
            below = b.compare(at, b.const(0, at), op="lt")
            starts.append(b.select(below, b.add(at, size), at))
            sizes[axis] = 1
        return b.dynamic_slice(a, *starts, sizes=tuple(sizes))  # type: ignore[no-any-return]


_I64 = dt.int64.element


def _wrapped(at: Any, size: Dim) -> Dim:
    return dims.add(size, at) if isinstance(at, int) and at < 0 else at


def _clamped(stop: Any, size: Dim) -> Dim:
    """The end of a slice within 0 and the size."""
    if isinstance(stop, int) and stop < 0:
        return dims.maximum(dims.add(size, stop), 0)
    return dims.minimum(stop, size)


def strided_slice(
    input_: Like,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """x[begin:end:strides] of each axis; bits of the masks leave ends open, or drop an axis."""
    first, last = static_ints(begin), static_ints(end)
    steps = None if strides is None else static_ints(strides)
    if first is None or last is None:
        raise ValueError("begin and end of a strided_slice must be constant")
    steps = steps or [1] * len(first)
    keys: list[Any] = []
    for i, (b, e, s) in enumerate(zip(first, last, steps, strict=True)):
        if ellipsis_mask >> i & 1:
            keys.append(Ellipsis)
        elif new_axis_mask >> i & 1:
            keys.append(None)
        elif shrink_axis_mask >> i & 1:
            keys.append(b)
        else:
            start, stop = begin_mask >> i & 1, end_mask >> i & 1
            keys.append(slice(None if start else b, None if stop else e, s))
    return getitem(input_, tuple(keys))


def slice_(input_: Like, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """The window that starts at begin, of a size; −1 is all that is left."""
    with scope(name, "Slice") as s:
        t = convert(input_, name="input")
        return apply("Slice", [t, shape_tensor(begin, "begin"), shape_tensor(size, "size")],
                     t.dtype, s)  # fmt: skip


@expander("Slice")
def _slice(x: Expansion, node: Operation, a: Value, begin: Value, size: Value) -> Any:
    b, n = x.b, a.ty.rank
    sizes, first = x.sizes(size), x.known.get(begin)
    if len(sizes) != n:
        raise x.fail(f"begin and size must have {n} elements for {a.type}")
    if first is None:
        if any(isinstance(d, int) and d < 0 for d in sizes):
            raise x.fail("a size of -1 needs a begin that follows from constants and shapes")
        at = b.cast(begin, dtype=_I64)
        starts = [b.reshape(b.slice(at, starts=(i,), limits=(i + 1,), strides=(1,)), shape=())
                  for i in range(n)]  # fmt: skip
        return b.dynamic_slice(a, *starts, sizes=sizes)
    lo = tuple(first.reshape(-1).tolist())
    text = f"Slice [{shape_text(lo)}, {shape_text(sizes)}] of {a.type} is out of bounds"
    hi = []
    for d, start, count in zip(a.ty.shape, lo, sizes, strict=True):
        end = d if isinstance(count, int) and count == -1 else dims.add(start, count)
        x.at_least(d, end if end != d else start, text)
        hi.append(end)
    return b.slice(a, starts=lo, limits=tuple(hi), strides=(1,) * n)


# ---- Padding.


def pad(
    tensor: Like,
    paddings: Any,
    mode: str = "CONSTANT",
    name: str | None = None,
    constant_values: Any = 0,
) -> Tensor:
    """More elements before and after each axis: a constant, or a mirror image
    ("REFLECT" without the edge, "SYMMETRIC" with it)."""
    kind = mode.upper()
    if kind not in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        raise ValueError(f"Unknown padding mode: {mode}")
    with scope(name, "Pad") as s:
        t = convert(tensor, name="tensor")
        value = convert(constant_values, t.dtype, "constant_values")
        inputs = [t, convert(paddings, name="paddings"), value]
        return apply("Pad", inputs, t.dtype, s, mode=kind)


@expander("Pad")
def _pad(x: Expansion, node: Operation, a: Value, paddings: Value, value: Value) -> Any:
    flat, n = x.sizes(paddings), a.ty.rank
    if len(flat) != 2 * n:
        raise x.fail(f"paddings must be [{n}, 2] for {a.type}")
    lo, hi = flat[0::2], flat[1::2]
    if node.attrs["mode"] == "CONSTANT":
        return x.b.pad(a, value, lo=lo, hi=hi, interior=(0,) * n)
    edge = node.attrs["mode"] == "SYMMETRIC"
    for axis in range(n):
        a = _mirrored(x, a, axis, lo[axis], hi[axis], edge)
    return a


def _mirrored(x: Expansion, a: Value, axis: int, lo: Dim, hi: Dim, edge: bool) -> Value:
    size = a.ty.shape[axis]
    skip = 0 if edge else 1
    parts = []
    if lo != 0:
        x.at_least(size, dims.add(lo, skip), f"padding of {lo} is too large for {a.type}")
        parts.append(_flipped(x, a, axis, skip, dims.add(lo, skip)))
    parts.append(a)
    if hi != 0:
        x.at_least(size, dims.add(hi, skip), f"padding of {hi} is too large for {a.type}")
        end = dims.add(size, -skip)
        parts.append(_flipped(x, a, axis, dims.add(end, dims.mul(hi, -1)), end))
    return x.b.concat(*parts, axis=axis) if len(parts) > 1 else a


def _flipped(x: Expansion, a: Value, axis: int, start: Dim, limit: Dim) -> Value:
    starts = tuple(start if i == axis else 0 for i in range(a.ty.rank))
    limits = tuple(limit if i == axis else d for i, d in enumerate(a.ty.shape))
    part = x.b.slice(a, starts=starts, limits=limits, strides=(1,) * a.ty.rank)
    return x.b.reverse(part, axes=(axis,))  # type: ignore[no-any-return]


def sequence_mask(
    lengths: Like, maxlen: Any = None, dtype: Any = dt.bool_, name: str | None = None
) -> Tensor:
    """True at the first lengths[i] of maxlen positions."""
    if maxlen is None:
        raise ValueError("sequence_mask needs maxlen: sizes may not depend on data")
    with scope(name, "SequenceMask") as s:
        n = convert(lengths, name="lengths")
        inputs = [n, convert(maxlen, name="maxlen")]
        return apply("SequenceMask", inputs, dt.as_dtype(dtype), s)


@expander("SequenceMask", differentiable=False)
def _sequence_mask(x: Expansion, node: Operation, n: Value, most: Value) -> Any:
    shape = (*n.ty.shape, x.sizes(most)[0])
    index = x.b.iota(dtype=n.ty.dtype, shape=shape, axis=len(shape) - 1)
    wide = x.b.broadcast(n, shape=shape, dims=tuple(range(n.ty.rank)))
    out = x.b.compare(index, wide, op="lt")
    t = node.outputs[0].dtype.element
    return out if t.is_bool else x.b.cast(out, dtype=t)
