"""Results whose size only the data tells: `tf.boolean_mask`, `tf.unique`."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowc.ir.core import Value
from flowc.ir.ops.data_sized import unique as distinct

from .. import dtypes as dt
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander, operator
from ..tensor import Operation, Tensor
from .convert import Like, convert, need, scope
from .selecting import gather, where
from .shape import concat, reshape
from .shape import shape as shape_of


def boolean_mask(
    tensor: Like, mask: Like, name: str | None = "boolean_mask", axis: int | None = None
) -> Tensor:
    """The elements (or slices) of the tensor where the mask is true.

    mask: of the sizes of the tensor's axes from `axis` on. Raises ValueError for a scalar mask or
    one of another shape.
    """
    with scope(name, "boolean_mask"):
        t, m = convert(tensor, name="tensor"), convert(mask, name="mask")
        need(m, "b", "mask")
        rank, at = m.shape.ndims, axis or 0
        if rank == 0:
            raise ValueError("mask cannot be scalar.")
        if rank is None or t.shape.ndims is None:
            raise ValueError("Number of mask dimensions must be specified, even if some dimensions "
                             "are None.")
        if not t.shape[at : at + rank].is_compatible_with(m.shape):
            raise ValueError(f"Shapes {t.shape[at : at + rank]} and {m.shape} are incompatible")
        if rank > 1:
            sizes = shape_of(t)
            shape = concat([sizes[:at], [-1], sizes[at + rank :]], 0)
            t, m = reshape(t, shape), reshape(m, [-1])
        places = reshape(where(m), [-1])
        return gather(t, places, axis=at)


@operator("mask")
def _masked(tensor: Tensor, mask: Tensor) -> Tensor:
    return boolean_mask(tensor, mask)


class Unique(NamedTuple):
    """y: the distinct elements; idx: for each element, where in y it is."""

    y: Tensor
    idx: Tensor


def unique(x: Like, out_idx: Any = dt.int32, name: str | None = None) -> Unique:
    """The distinct elements of a vector in order of first occurrence, and each element's index."""
    with scope(name, "Unique") as s:
        t = convert(x, name="x")
        need(t, "fiub", "x")
        index = dt.as_dtype(out_idx)
        op = get_default_graph().create_op("Unique", [t], [t.dtype, index], s)
        return Unique(*op.outputs)


@expander("Unique", differentiable=False)
def _unique(x: Expansion, node: Operation, a: Value) -> Any:
    if a.ty.rank != 1:
        raise x.fail(f"unique expects a 1D vector, got {a.type}")
    values, index, _ = distinct(x.b, a)
    return values, x.b.cast(index, dtype=node.outputs[1].dtype.element)
