"""Products of matrices and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowc.ir.core import Value
from flowc.ir.types import shape_text

from .. import dtypes as dt
from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .binary import pair
from .convert import Like, apply, convert, need, scope


def matmul(
    a: Like,
    b: Like,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The matrix product of the last two axes; the axes before broadcast.

    Narrow floats accumulate in float32. Raises ValueError where the inner sizes differ.
    """
    with scope(name, "MatMul") as s:
        x, y = pair(a, b, "MatMul")
        need(x, "fiuc", "a")
        return apply(
            "MatMul", [x, y], x.dtype, s,
            transpose_a=transpose_a or adjoint_a, transpose_b=transpose_b or adjoint_b,
        )  # fmt: skip


def batch_matmul(
    x: Like, y: Like, adj_x: bool = False, adj_y: bool = False, name: str | None = None
) -> Tensor:
    """`matmul` under its older name."""
    return matmul(x, y, adj_x, adj_y, name=name)


@expander("MatMul")
def _matmul(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
    if (a.ty.rank < 2 or b.ty.rank < 2) and not node.graph.array_api:
        raise x.fail(f"matmul needs tensors of rank 2 or more, not {a.type} and {b.type}")
    ta, tb = node.attrs["transpose_a"], node.attrs["transpose_b"]
    return product(x, a, b, ta, tb)


def product(x: Expansion, a: Value, b: Value, ta: bool = False, tb: bool = False) -> Value:
    """The matrix product with NumPy's rules for batches and vectors."""
    drop_a, drop_b = a.ty.rank == 1, b.ty.rank == 1
    ka = a.ty.rank - 1 - (ta and not drop_a)
    kb = b.ty.rank - 1 - (0 if drop_b else not tb)
    text = f"Dimensions must be equal: matrix sizes {_shapes(a, b)}"
    size = x.agree(a.ty.shape[ka], b.ty.shape[kb], text)
    a, b = _sized(x, a, ka, size), _sized(x, b, kb, size)
    batch_a, batch_b = a.ty.shape[: max(0, a.ty.rank - 2)], b.ty.shape[: max(0, b.ty.rank - 2)]
    if not batch_b and not (ta and batch_a):  # the rows of all batches at once
        return x.b.dot(a, b, contract=((ka,), (kb,)), batch=((), ()))  # type: ignore[no-any-return]
    lead = x.joined([batch_a, batch_b])
    n = len(lead)
    a, ka = _batched(x, a, lead, ka)
    b, kb = _batched(x, b, lead, kb)
    axes = tuple(range(n))
    return x.b.dot(a, b, contract=((ka,), (kb,)), batch=(axes, axes))  # type: ignore[no-any-return]


def _shapes(a: Value, b: Value) -> str:
    return f"{shape_text(a.ty.shape)} and {shape_text(b.ty.shape)}"


def _sized(x: Expansion, v: Value, axis: int, size: Any) -> Value:
    return x.conform(v, tuple(size if i == axis else d for i, d in enumerate(v.ty.shape)))


def _batched(x: Expansion, v: Value, lead: Any, axis: int) -> tuple[Value, int]:
    tail = v.ty.shape[-2:] if v.ty.rank > 1 else v.ty.shape
    shape = (*lead, *tail)
    return x.broadcast_to(v, shape), axis + len(shape) - v.ty.rank


def tensordot(a: Like, b: Like, axes: Any, name: str | None = None) -> Tensor:
    """The sum of products over axes: a number of last and first ones, or two lists."""
    with scope(name, "Tensordot") as s:
        x, y = pair(a, b, "Tensordot")
        need(x, "fiuc", "a")
        if isinstance(axes, int):
            n = len(x.shape)
            first, second = list(range(n - axes, n)), list(range(axes))
        else:
            first, second = (_axes(v) for v in axes)
        return apply("Tensordot", [x, y], x.dtype, s, first=first, second=second)


def _axes(v: Any) -> list[int]:
    return [int(i) for i in v] if isinstance(v, Sequence) else [int(v)]


@expander("Tensordot")
def _tensordot(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
    first = [x.axis(i, a.ty.rank) for i in node.attrs["first"]]
    second = [x.axis(i, b.ty.rank) for i in node.attrs["second"]]
    for i, j in zip(first, second, strict=True):
        size = x.agree(a.ty.shape[i], b.ty.shape[j], f"tensordot of {_shapes(a, b)}")
        a, b = _sized(x, a, i, size), _sized(x, b, j, size)
    return x.b.dot(a, b, contract=(tuple(first), tuple(second)), batch=((), ()))


def matvec(a: Like, b: Like, name: str | None = None) -> Tensor:
    """Matrix times vector."""
    x, y = pair(a, b, "MatVec")
    return apply("MatVec", [x, y], x.dtype, name)


@expander("MatVec")
def _matvec(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
    column = x.b.reshape(b, shape=(*b.ty.shape, 1))
    out = product(x, a, column)
    return x.b.reshape(out, shape=out.ty.shape[:-1])


def xw_plus_b(x: Like, weights: Like, biases: Like, name: str | None = None) -> Tensor:
    """x · weights + biases."""
    with scope(name, "xw_plus_b") as s:
        out = matmul(convert(x, name="x"), convert(weights, name="weights"))
        return apply("BiasAdd", [out, convert(biases, name="biases")], out.dtype, s, channels=-1)


def diag(diagonal: Like, name: str | None = None) -> Tensor:
    """A matrix with a vector as its diagonal, zero elsewhere."""
    with scope(name, "Diag") as s:
        t = convert(diagonal, name="diagonal")
        return apply("MatrixDiag", [t], t.dtype, s)


matrix_diag = diag


@expander("MatrixDiag")
def _matrix_diag(x: Expansion, node: Operation, a: Value) -> Any:
    b, n = x.b, a.ty.shape[-1]
    shape = (*a.ty.shape, n)
    rank = len(shape)
    wide = b.broadcast(a, shape=shape, dims=tuple(range(rank - 1)))
    return b.select(on_diagonal(x, shape, 0), wide, b.const(0, wide))


def on_diagonal(x: Expansion, shape: Any, offset: int) -> Value:
    """Whether column − row is the offset, for the last two axes of a shape."""
    rank = len(shape)
    rows = x.b.iota(dtype=_I32, shape=shape, axis=rank - 2)
    columns = x.b.iota(dtype=_I32, shape=shape, axis=rank - 1)
    return x.b.compare(x.b.sub(columns, rows), x.b.const(offset, rows), op="eq")  # type: ignore[no-any-return]


_I32 = dt.int32.element


def diag_part(input: Like, name: str | None = None) -> Tensor:
    """The diagonal of matrices."""
    with scope(name, "DiagPart") as s:
        t = convert(input, name="input")
        return apply("MatrixDiagPart", [t], t.dtype, s)


matrix_diag_part = diag_part


@expander("MatrixDiagPart")
def _diag_part(x: Expansion, node: Operation, a: Value) -> Any:
    b, (rows, columns) = x.b, a.ty.shape[-2:]
    if isinstance(rows, int) and isinstance(columns, int):
        n = min(rows, columns)
        lead = a.ty.shape[:-2]
        zero = (0,) * len(lead)
        a = b.slice(a, starts=(*zero, 0, 0), limits=(*lead, n, n), strides=(1,) * a.ty.rank)
    hit = on_diagonal(x, a.ty.shape, 0)
    return b.reduce(b.select(hit, a, b.const(0, a)), op="sum", axes=(a.ty.rank - 1,))


def trace(x: Like, name: str | None = None) -> Tensor:
    """The sum of the diagonal."""
    with scope(name, "Trace") as s:
        part = diag_part(x)
        return apply("Sum", [part], part.dtype, s, axes=(-1,), keep=False)


def matrix_band_part(
    input: Like, num_lower: int, num_upper: int, name: str | None = None
) -> Tensor:
    """Matrices with all zero but a band around the diagonal; −1 keeps a whole side."""
    with scope(name, "MatrixBandPart") as s:
        t = convert(input, name="input")
        lower, upper = int(num_lower), int(num_upper)
        return apply("MatrixBandPart", [t], t.dtype, s, lower=lower, upper=upper)


@expander("MatrixBandPart")
def _band(x: Expansion, node: Operation, a: Value) -> Any:
    b, rank = x.b, a.ty.rank
    rows = b.iota(dtype=_I32, shape=a.ty.shape, axis=rank - 2)
    columns = b.iota(dtype=_I32, shape=a.ty.shape, axis=rank - 1)
    offset, out = b.sub(columns, rows), a
    zero = b.const(0, a)
    if node.attrs["lower"] >= 0:
        keep = b.compare(offset, b.const(-node.attrs["lower"], offset), op="ge")
        out = b.select(keep, out, zero)
    if node.attrs["upper"] >= 0:
        keep = b.compare(offset, b.const(node.attrs["upper"], offset), op="le")
        out = b.select(keep, out, zero)
    return out
