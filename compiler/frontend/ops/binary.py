"""Elementwise ops of two tensors, with NumPy's broadcasting and no promotion of types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value

from .. import dtypes as dt
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import OPERATORS, expander, operator
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert_pair, need, scope


def pair(x: Like, y: Like, op: str) -> tuple[Tensor, Tensor]:
    """Two operands of one element type."""
    if get_default_graph().array_api:
        return OPERATORS["promote"](x, y, op)  # type: ignore[no-any-return]
    return convert_pair(x, y, op, None)


def binary(
    op: str, default: str, kinds: str, x: Like, y: Like, name: str | None, out: Any = None
) -> Tensor:
    """A binary op's node; `out` is the result's dtype where it is not the operands'."""
    with scope(name, default) as s:
        a, b = pair(x, y, op)
        need(a, kinds)
        return apply(op, [a, b], out or a.dtype, s)


def simple(op: str, primitive: str, **options: Any) -> None:
    """An op that is one primitive of broadcast operands."""

    @expander(op, **options)
    def _expand(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
        a, b = x.broadcast(a, b)
        return getattr(x.b, primitive)(a, b)


NUMBERS = "fiuc"
for _op, _primitive in (
    ("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("RealDiv", "div"), ("TruncateDiv", "div"),
    ("TruncateMod", "rem"), ("Maximum", "max"), ("Minimum", "min"), ("Pow", "pow"),
    ("Atan2", "atan2"), ("LogicalAnd", "and"), ("LogicalOr", "or"), ("LogicalXor", "xor"),
    ("BitwiseAnd", "and"), ("BitwiseOr", "or"), ("BitwiseXor", "xor"), ("LeftShift", "shl"),
    ("RightShift", "shr"),
):  # fmt: skip
    simple(_op, _primitive)


def add(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x + y; integers wrap."""
    return binary("Add", "Add", NUMBERS, x, y, name)


def subtract(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x − y; integers wrap."""
    return binary("Sub", "Sub", NUMBERS, x, y, name)


def multiply(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x · y; integers wrap."""
    return binary("Mul", "Mul", NUMBERS, x, y, name)


_TRUE = {"int8": dt.float32, "uint8": dt.float32, "int16": dt.float32, "uint16": dt.float32,
         "int4": dt.float32, "uint4": dt.float32, "int32": dt.float64, "int64": dt.float64,
         "uint32": dt.float64, "uint64": dt.float64}  # fmt: skip


def truediv(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x / y as Python 3 has it: integers of 32 bits and more become float64, others float32."""
    with scope(name, "truediv") as s:
        a, b = pair(x, y, "RealDiv")
        wide = _TRUE.get(a.dtype.name)
        if wide is not None:
            a, b = (apply("Cast", [v], wide, "Cast") for v in (a, b))
        need(a, "fc")
        return apply("RealDiv", [a, b], a.dtype, s)


def divide(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x / y as Python 3 has it."""
    return truediv(x, y, name)


def div(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x / y as Python 2 has it: integers are floor-divided."""
    with scope(name, "div") as s:
        a, b = pair(x, y, "Div")
        return apply("FloorDiv" if a.dtype.is_integer else "RealDiv", [a, b], a.dtype, s)


def realdiv(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x / y of floats."""
    return binary("RealDiv", "RealDiv", "fc", x, y, name)


def floordiv(x: Like, y: Like, name: str | None = None) -> Tensor:
    """⌊x / y⌋."""
    return binary("FloorDiv", "floordiv", "fiu", x, y, name)


def truncatediv(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x / y of integers, towards zero."""
    return binary("TruncateDiv", "TruncateDiv", "iu", x, y, name)


def floormod(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x − ⌊x / y⌋ · y, of y's sign."""
    return binary("FloorMod", "FloorMod", "fiu", x, y, name)


def truncatemod(x: Like, y: Like, name: str | None = None) -> Tensor:
    """C's remainder, of x's sign."""
    return binary("TruncateMod", "TruncateMod", "fiu", x, y, name)


def pow(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x to the power of y."""
    return binary("Pow", "Pow", "fiu", x, y, name)


def maximum(x: Like, y: Like, name: str | None = None) -> Tensor:
    """The greater of x and y; NaN where either is NaN."""
    return binary("Maximum", "Maximum", "fiu", x, y, name)


def minimum(x: Like, y: Like, name: str | None = None) -> Tensor:
    """The lesser of x and y; NaN where either is NaN."""
    return binary("Minimum", "Minimum", "fiu", x, y, name)


def squared_difference(x: Like, y: Like, name: str | None = None) -> Tensor:
    """(x − y)²."""
    return binary("SquaredDifference", "SquaredDifference", NUMBERS, x, y, name)


def atan2(y: Like, x: Like, name: str | None = None) -> Tensor:
    """The angle of the point (x, y)."""
    return binary("Atan2", "Atan2", "f", y, x, name)


@expander("SquaredDifference")
def _squared_difference(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
    d = x.b.sub(*x.broadcast(a, b))
    return x.b.mul(d, d)


@expander("FloorDiv")
def _floordiv(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
    known = _known(x, a, b, dims.floordiv)
    a, b = x.broadcast(a, b)
    q = x.b.div(a, b)
    if a.ty.dtype.is_float:
        return x.b.floor(q)
    if a.ty.dtype.kind == "i":
        q = x.b.select(_crosses(x, x.b.rem(a, b), b), x.b.sub(q, x.b.const(1, q)), q)
    if known is not None:
        x.known.set(q, known)
    return q


@expander("FloorMod")
def _floormod(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
    known = _known(x, a, b, dims.mod)
    a, b = x.broadcast(a, b)
    r = x.b.rem(a, b)
    if a.ty.dtype.kind != "u":
        r = x.b.select(_crosses(x, r, b), x.b.add(r, b), r)
    if known is not None:
        x.known.set(r, known)
    return r


def _crosses(x: Expansion, r: Value, b: Value) -> Any:
    """Whether truncation and floor differ: a remainder that has not the divisor's sign."""
    zero = x.b.const(0, r)
    inexact = x.b.compare(r, zero, op="ne")
    signs = getattr(x.b, "xor")(x.b.compare(r, zero, op="lt"), x.b.compare(b, zero, op="lt"))  # noqa: B009
    return getattr(x.b, "and")(inexact, signs)


def _known(x: Expansion, a: Value, b: Value, f: Callable[[Any, Any], Any]) -> Any:
    if not a.ty.dtype.is_int:
        return None
    left, right = x.known.get(a), x.known.get(b)
    if left is None or right is None or any(v == 0 for v in right.flat):
        return None
    left, right = np.broadcast_arrays(left, right)
    out = np.empty(left.shape, dtype=object)
    for i in np.ndindex(left.shape):
        out[i] = f(left[i], right[i])
    return out


# ---- Comparison and logic.


def _comparison(op: str, how: str) -> None:
    @expander(op, differentiable=False)
    def _expand(x: Expansion, node: Operation, a: Value, b: Value) -> Any:
        a, b = x.broadcast(a, b)
        return x.b.compare(a, b, op=how)


for _op, _how in (
    ("Equal", "eq"), ("NotEqual", "ne"), ("Less", "lt"), ("LessEqual", "le"), ("Greater", "gt"),
    ("GreaterEqual", "ge"),
):  # fmt: skip
    _comparison(_op, _how)


def equal(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x = y, as bools."""
    return binary("Equal", "Equal", "fiubc", x, y, name, dt.bool_)


def not_equal(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x ≠ y, as bools."""
    return binary("NotEqual", "NotEqual", "fiubc", x, y, name, dt.bool_)


def less(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x < y, as bools."""
    return binary("Less", "Less", "fiu", x, y, name, dt.bool_)


def less_equal(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x ≤ y, as bools."""
    return binary("LessEqual", "LessEqual", "fiu", x, y, name, dt.bool_)


def greater(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x > y, as bools."""
    return binary("Greater", "Greater", "fiu", x, y, name, dt.bool_)


def greater_equal(x: Like, y: Like, name: str | None = None) -> Tensor:
    """x ≥ y, as bools."""
    return binary("GreaterEqual", "GreaterEqual", "fiu", x, y, name, dt.bool_)


def logical_and(x: Like, y: Like, name: str | None = None) -> Tensor:
    """Whether both are true."""
    return binary("LogicalAnd", "LogicalAnd", "b", x, y, name)


def logical_or(x: Like, y: Like, name: str | None = None) -> Tensor:
    """Whether either is true."""
    return binary("LogicalOr", "LogicalOr", "b", x, y, name)


def logical_xor(x: Like, y: Like, name: str | None = "LogicalXor") -> Tensor:
    """Whether one of them is true."""
    return binary("LogicalXor", "LogicalXor", "b", x, y, name)


# ---- Operators.


def _operator(name: str, op: str, kinds: str, out: Any = None) -> None:
    operator(name)(lambda x, y: binary(op, name, kinds, x, y, None, out))


_operator("add", "Add", NUMBERS)
_operator("sub", "Sub", NUMBERS)
_operator("mul", "Mul", NUMBERS)
_operator("floordiv", "FloorDiv", "fiu")
_operator("mod", "FloorMod", "fiu")
_operator("pow", "Pow", "fiu")
operator("truediv")(truediv)
operator("lt")(less)
operator("le")(less_equal)
operator("gt")(greater)
operator("ge")(greater_equal)


def _logic(name: str, word: str) -> None:
    def apply_logic(x: Like, y: Like) -> Tensor:
        t = next(v.dtype for v in (x, y) if hasattr(v, "dtype") and isinstance(v.dtype, dt.DType))
        kind = "Bitwise" if t.is_integer else "Logical"
        return binary(f"{kind}{word}", name, "biu", x, y, None)

    operator(name)(apply_logic)


for _name, _word in (("and", "And"), ("or", "Or"), ("xor", "Xor")):
    _logic(_name, _word)


@operator("matmul")
def _matmul(x: Like, y: Like) -> Tensor:
    with scope(None, "matmul") as s:
        a, b = pair(x, y, "MatMul")
        return apply("MatMul", [a, b], a.dtype, s, transpose_a=False, transpose_b=False)
