"""Rules of operations that only say where each element comes from."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value
from flowc.ir.ops.base import REGISTRY
from flowc.ir.ops.binary import Binary
from flowc.ir.ops.unary import Unary

from ..rewrite import Replacement, Rewriter, rule

ELEMENTWISE = tuple(
    name for name, cls in REGISTRY.items()
    if issubclass(cls, Unary | Binary) or name in ("compare", "select", "cast", "bitcast")
)


@rule("splat-constant", "constant")
def splat_constant(b: Rewriter, op: Any) -> Replacement:
    """A constant of one value is a broadcast scalar: it needs no data."""
    t = op.value.type
    if not t.rank or op.value.splat is None:
        return None
    return lambda: b.broadcast(b.const(op.value.splat, t.dtype), shape=t.shape, dims=())


@rule("same-shape", "reshape", "broadcast")
def same_shape(b: Rewriter, op: Any, x: Value) -> Replacement:
    return x if x.ty.shape == op.shape else None


@rule("reshape-of-reshape", "reshape")
def reshape_of_reshape(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "reshape")
    return (lambda: b.reshape(made.operands[0], shape=op.shape)) if made else None


@rule("reshape-of-splat", "reshape")
def reshape_of_splat(b: Rewriter, op: Any, x: Value) -> Replacement:
    """A broadcast scalar (or array of one element) has every shape."""
    made = b.made(x, "broadcast")
    if made is None or any(d != 1 for d in made.operands[0].ty.shape):
        return None
    return lambda: b.broadcast(b.reshape(made.operands[0], shape=()), shape=op.shape, dims=())


@rule("broadcast-of-broadcast", "broadcast")
def broadcast_of_broadcast(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "broadcast")
    if made is None:
        return None
    inner: Any = made.op
    at = tuple(op.dims[a] for a in inner.dims)
    return lambda: b.broadcast(made.operands[0], shape=op.shape, dims=at)


@rule("same-order", "transpose")
def same_order(b: Rewriter, op: Any, x: Value) -> Replacement:
    return x if op.perm == tuple(range(len(op.perm))) else None


@rule("transpose-of-transpose", "transpose")
def transpose_of_transpose(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "transpose")
    if made is None:
        return None
    inner: Any = made.op
    perm = tuple(inner.perm[a] for a in op.perm)
    return lambda: b.transpose(made.operands[0], perm=perm)


@rule("transpose-of-ones", "transpose")
def transpose_of_ones(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Moving axes of size 1 moves no element."""
    long = [a for a in op.perm if x.ty.shape[a] != 1]
    if long != sorted(long):
        return None
    return lambda: b.reshape(x, shape=tuple(x.ty.shape[a] for a in op.perm))


@rule("transpose-of-broadcast", "transpose")
def transpose_of_broadcast(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Broadcast afterwards: the smaller array is transposed, if any."""
    made = b.made(x, "broadcast")
    if made is None:
        return None
    inner: Any = made.op
    source, back = made.operands[0], op.inverse
    at = [back[a] for a in inner.dims]
    order = tuple(sorted(range(len(at)), key=at.__getitem__))
    shape = tuple(x.ty.shape[a] for a in op.perm)

    def build() -> Any:
        moved = b.transpose(source, perm=order) if order else source
        return b.broadcast(moved, shape=shape, dims=tuple(at[i] for i in order))

    return build


@rule("reverse-of-reverse", "reverse")
def reverse_of_reverse(b: Rewriter, op: Any, x: Value) -> Replacement:
    made = b.made(x, "reverse")
    if made is None:
        return None
    inner: Any = made.op
    axes = tuple(sorted(set(inner.axes) ^ set(op.axes)))
    return lambda: b.reverse(made.operands[0], axes=axes) if axes else made.operands[0]


@rule("reverse-without-effect", "reverse")
def reverse_without_effect(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Axes of one element, and axes along which x is repeated."""
    made = b.made(x, "broadcast")
    inner: Any = made.op if made else None
    axes = tuple(
        a for a in op.axes
        if x.ty.shape[a] != 1 and (inner is None or a in inner.dims)
    )
    if axes == op.axes:
        return None
    return (lambda: b.reverse(x, axes=axes)) if axes else x


@rule("compute-before-broadcast", *ELEMENTWISE)
def before_broadcast(b: Rewriter, op: Any, *xs: Value) -> Replacement:
    """Elementwise on operands that are all repeated in one way: once for each that is different.

    Not integer division: repeated no times, a division by zero is no error.
    """
    if op.name in ("div", "rem") and not xs[0].ty.dtype.is_float:
        return None
    wide: tuple[int, ...] = ()
    for x in xs:
        made = b.made(x, "broadcast")
        if made is None:
            return None
        inner: Any = made.op
        if inner.dims and wide and wide != inner.dims:
            return None
        wide = wide or inner.dims
    whole = xs[0].ty.shape
    shape = tuple(whole[a] for a in wide)

    def build() -> Any:
        small = [b.made(x, "broadcast").operands[0] for x in xs]  # type: ignore[union-attr]
        small = [s if s.ty.rank else b.broadcast(s, shape=shape, dims=()) for s in small]
        return b.broadcast(b.emit(op, *small), shape=whole, dims=wide)

    return build


@rule("window-before-broadcast", "reduce_window")
def window_before_broadcast(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Windows of one element along axes that only repeat: the others are reduced once for all.

    So the number of elements that a padded mean divides by is counted once for a batch.
    """
    made = b.made(x, "broadcast")
    if made is None:
        return None
    inner: Any = made.op
    one = (1, 1, (0, 0))
    keep = [
        a for a in range(x.ty.rank)
        if a in inner.dims or (op.window[a], op.strides[a], op.pads[a]) != one
    ]
    if len(keep) == x.ty.rank:
        return None

    def only(values: Any) -> Any:
        return tuple(values[a] for a in keep)

    def build() -> Any:
        at = tuple(keep.index(a) for a in inner.dims)
        small = b.broadcast(made.operands[0], shape=only(x.ty.shape), dims=at)
        small = b.reduce_window(
            small, op=op.op, window=only(op.window), strides=only(op.strides), pads=only(op.pads),
            dilation=only(op.dilation) if op.dilation else (),
        ) if keep else small
        shape = op.infer(x.ty).shape
        return b.broadcast(small, shape=shape, dims=tuple(keep))

    return build
