"""Ops that look at shapes or move elements without computing."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.dims import Dim, Shape
from flowc.ir.types import shape_text

from .. import dtypes as dt
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import OPERATORS, expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, scope, shape_tensor, static_ints
from .reduce import one_of

# ---- Asking for shapes.


def shape(input: Like, name: str | None = None, out_type: Any = dt.int32) -> Tensor:
    """The sizes of a tensor, as a vector."""
    with scope(name, "Shape") as s:
        return apply("Shape", [convert(input, name="input")], dt.as_dtype(out_type), s)


def shape_n(input: Any, out_type: Any = dt.int32, name: str | None = None) -> list[Tensor]:
    """The shapes of several tensors."""
    return [shape(t, name, out_type) for t in input]


@expander("Shape", differentiable=False)
def _shape(x: Expansion, node: Operation, a: Value) -> Any:
    b, t = x.b, node.outputs[0].dtype.element
    sizes = a.ty.shape
    if all(isinstance(d, int) for d in sizes):
        out = x.constant(np.array(sizes, t.np))
    else:
        parts = [b.reshape(size_value(x, d, t), shape=(1,)) for d in sizes]
        out = b.concat(*parts, axis=0) if len(parts) > 1 else parts[0]
    x.known.set(out, list(sizes))
    return out


def size_value(x: Expansion, d: Dim, t: Any) -> Value:
    """A size as a scalar."""
    return x.b.const(d, t) if isinstance(d, int) else x.b.dim_size(dim=d, dtype=t)


def rank(input: Like, name: str | None = None) -> Tensor:
    """The number of axes."""
    with scope(name, "Rank") as s:
        return apply("Rank", [convert(input, name="input")], dt.int32, s)


@expander("Rank", differentiable=False)
def _rank(x: Expansion, node: Operation, a: Value) -> Any:
    return x.b.const(a.ty.rank, "i32")


def size(input: Like, name: str | None = None, out_type: Any = dt.int32) -> Tensor:
    """The number of elements."""
    with scope(name, "Size") as s:
        return apply("Size", [convert(input, name="input")], dt.as_dtype(out_type), s)


@expander("Size", differentiable=False)
def _size(x: Expansion, node: Operation, a: Value) -> Any:
    return size_value(x, a.ty.count, node.outputs[0].dtype.element)


# ---- The same elements in another shape.


def reshape(tensor: Like, shape: Any, name: str | None = None) -> Tensor:
    """The elements in row-major order in another shape; one size may be −1: what is left."""
    with scope(name, "Reshape") as s:
        t = convert(tensor, name="tensor")
        return apply("Reshape", [t, shape_tensor(shape)], t.dtype, s)


def _partial_reshape(x: Any, node: Operation, a: Value | None, to: Value | None) -> Any:
    if to is None:
        return None
    sizes = x.known.get(to)
    if sizes is None:
        return None
    out = [None if isinstance(d, int) and d < 0 else d for d in sizes.reshape(-1).tolist()]
    names = x.symbols_for(node, [None] * len(out))
    return [tuple(n if d is None else d for d, n in zip(out, names, strict=True))]


@expander("Reshape", partial=_partial_reshape)
def _reshape(x: Any, node: Operation, a: Value, to: Value) -> Any:
    sizes = completed(x, a, x.sizes(to))
    if x.scratch and dims.product(sizes) != a.ty.count:  # only the run knows that they are equal
        return x.leaf(a.ty.with_shape(sizes))
    return x.b.reshape(a, shape=dims.shape_substitute(sizes, x.b.merged))


def completed(x: Expansion, a: Value, sizes: Shape) -> Shape:
    """The target of a reshape with its −1 replaced."""
    unknown = [i for i, d in enumerate(sizes) if isinstance(d, int) and d < 0]
    if len(unknown) > 1 or any(sizes[i] != -1 for i in unknown):
        raise x.fail(f"only one input size may be -1, not {shape_text(sizes)}")
    total = a.ty.count
    rest = dims.product(tuple(d for i, d in enumerate(sizes) if i not in unknown))
    if not unknown:
        if rest != total:
            text = f"{a.type} cannot be reshaped to {shape_text(sizes)}"
            _agree_sizes(x, total, rest, text)
        return sizes
    if rest == 0:
        raise x.fail(f"cannot infer the missing size of {shape_text(sizes)}: others are 0")
    text = f"{a.type} cannot be reshaped to {shape_text(sizes)}"
    missing = x.divide(total, rest, text)
    return tuple(missing if i in unknown else d for i, d in enumerate(sizes))


def _agree_sizes(x: Expansion, total: Dim, rest: Dim, text: str) -> None:
    """Both element counts must be equal: [B, 4] to [2, 4] says that B is 2."""
    for left, right in ((total, rest), (rest, total)):
        for name in sorted(dims.symbols(left) - dims.symbols(right)):
            factor = dims.exact_div(left, dims.sym(name))
            if factor is None or name in dims.symbols(factor):
                continue
            value = dims.exact_div(right, factor)
            if value is not None:
                x.agree(dims.sym(name), value, text)
                return
    x.agree(total, rest, text)


def flatten_rows(inputs: Like, name: str | None = None) -> Tensor:
    """[N, …] as [N, everything else]."""
    with scope(name, "flatten") as s:
        t = convert(inputs)
        return apply("FlattenRows", [t], t.dtype, s)


@expander("FlattenRows")
def _flatten(x: Expansion, node: Operation, a: Value) -> Any:
    rows = a.ty.shape[0]
    return x.b.reshape(a, shape=(rows, dims.product(a.ty.shape[1:])))


def expand_dims(
    input: Like, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """A new axis of size 1 at `axis`."""
    where = one_of(axis, dim)
    if where is None:
        raise ValueError("Must specify an axis argument to tf.expand_dims()")
    ints = static_ints(where)
    if ints is None:
        raise ValueError("the axis of expand_dims must be a constant")
    with scope(name, "ExpandDims") as s:
        t = convert(input, name="input")
        return apply("ExpandDims", [t], t.dtype, s, axis=ints[0])


@expander("ExpandDims")
def _expand_dims(x: Expansion, node: Operation, a: Value) -> Any:
    axis = x.axis(node.attrs["axis"], a.ty.rank + 1)
    return x.b.reshape(a, shape=(*a.ty.shape[:axis], 1, *a.ty.shape[axis:]))


def squeeze(
    input: Like, axis: Any = None, name: str | None = None, squeeze_dims: Any = None
) -> Tensor:
    """Without the axes of size 1: those given, or all."""
    where = one_of(axis, squeeze_dims)
    axes = None if where is None else static_ints(where)
    with scope(name, "Squeeze") as s:
        t = convert(input, name="input")
        return apply("Squeeze", [t], t.dtype, s, axes=axes or None)


@expander("Squeeze")
def _squeeze(x: Expansion, node: Operation, a: Value) -> Any:
    sizes = a.ty.shape
    if node.attrs["axes"] is None:
        axes = tuple(i for i, d in enumerate(sizes) if d == 1)
    else:
        axes = x.axes(node.attrs["axes"], len(sizes))
        for i in axes:
            text = f"Can not squeeze dim[{i}] of {shape_text(sizes)}, expected a dimension of 1"
            x.agree(sizes[i], 1, text)
        a = x.conform(a, tuple(1 if i in axes else d for i, d in enumerate(sizes)))
    return x.b.reshape(a, shape=tuple(d for i, d in enumerate(a.ty.shape) if i not in axes))


def transpose(
    a: Like, perm: Any = None, name: str | None = "transpose", conjugate: bool = False
) -> Tensor:
    """The axes in another order; reversed by default."""
    order = None if perm is None else static_ints(perm)
    if perm is not None and order is None:
        raise ValueError("the permutation of a transpose must be constant")
    with scope(name, "transpose") as s:
        t = convert(a, name="a")
        return apply("Transpose", [t], t.dtype, s, perm=order)


def matrix_transpose(a: Like, name: str | None = "matrix_transpose") -> Tensor:
    """The last two axes exchanged."""
    t = convert(a)
    n = len(t.shape)
    return transpose(t, [*np.arange(n - 2).tolist(), n - 1, n - 2], name)


@expander("Transpose")
def _transpose(x: Expansion, node: Operation, a: Value) -> Any:
    n, perm = a.ty.rank, node.attrs["perm"]
    order = tuple(reversed(range(n))) if perm is None else tuple(x.axis(p, n) for p in perm)
    if sorted(order) != list(range(n)):
        raise x.fail(f"{list(order)} is no permutation of the {n} axes of {a.type}")
    return x.b.transpose(a, perm=order)


OPERATORS["transpose"] = transpose

# ---- Joining and repeating.


def concat(values: Any, axis: Any = None, name: str | None = "concat") -> Tensor:
    """Tensors joined along an axis. TensorFlow before 1.0 had the axis first: that works too."""
    if isinstance(values, (int, np.integer)) and isinstance(axis, (list, tuple)):
        values, axis = axis, values
    where = static_ints(axis)
    if where is None or len(where) != 1:
        raise ValueError("the axis of concat must be a constant")
    items = list(values) if isinstance(values, (list, tuple)) else [values]
    with scope(name, "concat") as s:
        tensors = same_type(items, "ConcatV2")
        if len(tensors) == 1:
            return apply("Identity", tensors, tensors[0].dtype, s)
        return apply("ConcatV2", tensors, tensors[0].dtype, s, axis=where[0])


def same_type(items: list[Any], op: str) -> list[Tensor]:
    """Tensors of one element type; numbers take that of the tensors."""
    known = next((v.dtype for v in items if isinstance(getattr(v, "dtype", None), dt.DType)), None)
    tensors = [convert(v, None if hasattr(v, "op") else known, f"values_{i}")
               for i, v in enumerate(items)]  # fmt: skip
    if len({t.dtype for t in tensors}) > 1:
        types = ", ".join(t.dtype.name for t in tensors)
        raise TypeError(f"Tensors in list passed to 'values' of {op!r} Op have types [{types}] "
                        "that don't all match.")
    return tensors


@expander("ConcatV2")
def _concat(x: Expansion, node: Operation, *values: Value) -> Any:
    axis = x.axis(node.attrs["axis"], values[0].ty.rank)
    shapes = [list(v.ty.shape) for v in values]
    if len({len(s) for s in shapes}) > 1:
        raise x.fail(f"concat of different ranks: {', '.join(str(v.type) for v in values)}")
    text = "concat: " + " vs. ".join(shape_text(v.ty.shape) for v in values)
    joined = list(shapes[0])
    for s in shapes[1:]:
        for i, d in enumerate(s):
            if i != axis:
                x.agree(joined[i], d, text)
                joined[i] = joined[i] if isinstance(joined[i], int) else d
    fitted = [
        x.conform(v, tuple(v.ty.shape[i] if i == axis else d for i, d in enumerate(joined)))
        for v in values
    ]
    return x.b.concat(*fitted, axis=axis)


def stack(values: Any, axis: int = 0, name: str | None = "stack") -> Tensor:
    """Tensors of one shape along a new axis."""
    items = list(values) if isinstance(values, (list, tuple)) else None
    if items is None:
        items = unstack(values)
    with scope(name, "stack") as s:
        tensors = same_type(items, "Pack")
        return apply("Pack", tensors, tensors[0].dtype, s, axis=axis)


pack = parallel_stack = stack


@expander("Pack")
def _pack(x: Expansion, node: Operation, *values: Value) -> Any:
    fitted = x.match(values, "stack")
    axis = x.axis(node.attrs["axis"], fitted[0].ty.rank + 1)
    sizes = fitted[0].ty.shape
    wide = (*sizes[:axis], 1, *sizes[axis:])
    rows = [x.b.reshape(v, shape=wide) for v in fitted]
    return x.b.concat(*rows, axis=axis) if len(rows) > 1 else rows[0]


def unstack(
    value: Like, num: int | None = None, axis: int = 0, name: str | None = "unstack"
) -> list[Tensor]:
    """The slices along an axis, which goes away."""
    with scope(name, "unstack") as s:
        t = convert(value, name="value")
        n = num if num is not None else t.shape.with_rank(len(t.shape))[axis].value
        if n is None:
            raise ValueError(f"Cannot infer num from shape {t.shape}")
        types = [t.dtype] * n
        return list(get_default_graph().create_op("Unpack", [t], types, s, axis=axis).outputs)


unpack = unstack


@expander("Unpack")
def _unpack(x: Expansion, node: Operation, a: Value) -> Any:
    axis = x.axis(node.attrs["axis"], a.ty.rank)
    n = len(node.outputs)
    x.agree(a.ty.shape[axis], n, f"cannot unstack {a.type} into {n} along axis {axis}")
    a = x.conform(a, tuple(n if i == axis else d for i, d in enumerate(a.ty.shape)))
    rest = tuple(d for i, d in enumerate(a.ty.shape) if i != axis)
    return tuple(x.b.reshape(cut_out(x, a, axis, i, i + 1), shape=rest) for i in range(n))


def cut_out(x: Expansion, a: Value, axis: int, start: Dim, limit: Dim) -> Value:
    """A slice along one axis."""
    n = a.ty.rank
    starts = tuple(start if i == axis else 0 for i in range(n))
    limits = tuple(limit if i == axis else d for i, d in enumerate(a.ty.shape))
    return x.b.slice(a, starts=starts, limits=limits, strides=(1,) * n)  # type: ignore[no-any-return]


def split(
    value: Any,
    num_or_size_splits: Any = None,
    axis: Any = 0,
    num: int | None = None,
    name: str | None = "split",
    split_dim: Any = None,
    num_split: Any = None,
) -> list[Tensor]:
    """Parts along an axis: a number of equal ones, or parts of given sizes (one may be −1).

    TensorFlow before 1.0 had (split_dim, num_split, value): its keywords work too.
    """
    if split_dim is not None:
        axis = split_dim
    if num_split is not None:
        num_or_size_splits = num_split
    elif isinstance(value, int) and isinstance(num_or_size_splits, int) and axis is not None:
        if isinstance(axis, Tensor):
            value, axis = axis, value
    where = static_ints(axis)
    parts = static_ints(num_or_size_splits)
    if where is None or parts is None:
        raise ValueError("the axis and the sizes of a split must be constant")
    single = np.ndim(0 if isinstance(num_or_size_splits, Tensor) else num_or_size_splits) == 0
    sizes = None if single else parts
    with scope(name, "split") as s:
        t = convert(value, name="value")
        types = [t.dtype] * (len(parts) if sizes is not None else parts[0])
        op = get_default_graph().create_op("Split", [t], types, s, axis=where[0], sizes=sizes)
        return list(op.outputs)


@expander("Split")
def _split(x: Expansion, node: Operation, a: Value) -> Any:
    axis = x.axis(node.attrs["axis"], a.ty.rank)
    total, n, sizes = a.ty.shape[axis], len(node.outputs), node.attrs["sizes"]
    if sizes is None:
        text = f"axis {axis} of {a.type} does not split into {n} equal parts"
        each = x.divide(total, n, text)
        parts: list[Dim] = [each] * n
    else:
        rest = dims.add(total, -sum(s for s in sizes if s >= 0))
        parts = [rest if s < 0 else s for s in sizes]
        text = f"sizes {sizes} do not add up to axis {axis} of {a.type}"
        x.agree(sum(parts[1:], parts[0]), total, text)
    out: list[Value] = []
    at: Dim = 0
    for d in parts:
        end = dims.add(at, d)
        out.append(cut_out(x, a, axis, at, end))
        at = end
    return tuple(out)


def tile(input: Like, multiples: Any, name: str | None = None) -> Tensor:
    """The tensor repeated along each axis."""
    with scope(name, "Tile") as s:
        t = convert(input, name="input")
        return apply("Tile", [t, shape_tensor(multiples, "multiples")], t.dtype, s)


@expander("Tile")
def _tile(x: Expansion, node: Operation, a: Value, multiples: Value) -> Any:
    times = x.sizes(multiples)
    if len(times) != a.ty.rank:
        raise x.fail(f"Expected multiples of {a.type} to have {a.ty.rank} elements: {list(times)}")
    wide: list[Dim] = []
    for n, d in zip(times, a.ty.shape, strict=True):
        wide += [n, d]
    out = x.b.broadcast(a, shape=tuple(wide), dims=tuple(range(1, 2 * a.ty.rank, 2)))
    sizes = tuple(dims.mul(n, d) for n, d in zip(times, a.ty.shape, strict=True))
    return x.b.reshape(out, shape=sizes)


def broadcast_to(input: Like, shape: Any, name: str | None = None) -> Tensor:
    """The tensor broadcast to a shape."""
    with scope(name, "BroadcastTo") as s:
        t = convert(input, name="input")
        return apply("BroadcastTo", [t, shape_tensor(shape)], t.dtype, s)


@expander("BroadcastTo")
def _broadcast_to(x: Expansion, node: Operation, a: Value, shape: Value) -> Any:
    sizes = x.sizes(shape)
    joined = x.joined([a.ty.shape, sizes])
    if len(joined) != len(sizes) or any(
        isinstance(s, int) and j != s for j, s in zip(joined, sizes, strict=True)
    ):
        raise x.fail(f"{a.type} does not broadcast to {shape_text(sizes)}")
    return x.broadcast_to(a, joined)


def reverse(tensor: Like, axis: Any, name: str | None = None) -> Tensor:
    """The elements along the axes in reverse."""
    axes = static_ints(axis)
    with scope(name, "ReverseV2") as s:
        t = convert(tensor, name="tensor")
        return apply("ReverseV2", [t], t.dtype, s, axes=axes)


reverse_v2 = reverse


@expander("ReverseV2")
def _reverse(x: Expansion, node: Operation, a: Value) -> Any:
    return x.b.reverse(a, axes=x.axes(node.attrs["axes"], a.ty.rank))


def meshgrid(*args: Any, indexing: str = "xy", name: str | None = "meshgrid") -> list[Tensor]:
    """Coordinate grids of vectors."""
    vectors = [reshape(v, [-1]) for v in args]
    n = len(vectors)
    with scope(name, "meshgrid"):
        sizes = [size(v) for v in vectors]
        if indexing == "xy" and n > 1:
            sizes[0], sizes[1] = sizes[1], sizes[0]
        to = apply("Pack", sizes, dt.int32, "shape", axis=0)
        out = []
        for i, v in enumerate(vectors):
            place = {0: 1, 1: 0}.get(i, i) if indexing == "xy" and n > 1 else i
            one = [1] * n
            one[place] = -1
            out.append(broadcast_to(reshape(v, one), to))
        return out
