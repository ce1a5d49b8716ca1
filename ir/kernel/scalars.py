"""The meaning of each scalar operation, on NumPy arrays: one table.

It is the meaning of the primitive of the same name, except that nothing fails: an integer divided
by 0 is itself and its remainder 0 (a `check` beside it reports the error).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import DType, dtype
from ..ops.base import REGISTRY
from ..ops.cast import Bitcast, Cast
from ..ops.compare import Compare
from ..ops.numeric import Array, fit, quiet, wide
from .expr import COMPARE, INDEX, UNARY

Fn = Callable[..., Any]


def _primitive(name: str) -> Fn:
    return REGISTRY[name]().eval


def _comparison(name: str) -> Fn:
    return Compare(op=name).eval


def _quotient(name: str) -> Fn:
    meaning = REGISTRY[name]().eval

    def apply(x: Any, y: Any) -> Any:
        x, y = np.asarray(x), np.asarray(y)
        if dtype(y.dtype).kind not in "iu":
            return meaning(x, y)
        zero = wide(y) == 0
        safe = np.where(zero, np.ones_like(y), y)
        out = meaning(x, safe)
        return np.where(zero, x if name == "div" else np.zeros_like(out), out)

    return apply


def _bits_of(x: Array) -> Array:
    return wide(x).astype(np.dtype(f"u{x.dtype.itemsize}"))


def _popcount(x: Any) -> Any:
    """The number of bits that are set, in the operand's type."""
    x = np.asarray(x)
    v = _bits_of(x)
    count = np.zeros(v.shape, np.int64)
    for n in range(dtype(x.dtype).bits):
        count += ((v >> v.dtype.type(n)) & v.dtype.type(1)).astype(np.int64)
    return count.astype(x.dtype)


def _mulhi(x: Any, y: Any) -> Any:
    """The upper half of the product of twice the width."""
    x, y = np.broadcast_arrays(np.asarray(x), np.asarray(y))
    t = dtype(x.dtype)
    product = np.asarray(x.astype(object) * y.astype(object), dtype=object)
    high = np.asarray(product >> t.bits, dtype=object) if product.size else product
    return high.astype(t.np)


@quiet
def _fma(a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded twice but to f32 or wider each time."""
    a, b, c = (np.asarray(v) for v in (a, b, c))
    return fit(wide(a) * wide(b) + wide(c), dtype(a.dtype))


@quiet
def _dot_bf16(acc: Any, a: Any, b: Any) -> Any:
    """acc + the products of the upper halves + those of the lower ones, rounded each time."""
    halves = [(np.asarray(x, np.uint32) & np.uint32(0xFFFF0000),
               np.asarray(x, np.uint32) << np.uint32(16)) for x in (a, b)]
    out = np.asarray(acc, np.float32)
    for x, y in zip(*halves, strict=True):
        out = _fma(np.asarray(x).view(np.float32), np.asarray(y).view(np.float32), out)
    return out


def _is_nan(x: Any) -> Any:
    return np.isnan(wide(np.asarray(x)))


def _index_safe(fn: Fn) -> Fn:
    """Operands may be Python ints: index values."""
    def apply(*args: Any) -> Any:
        return fn(*(np.asarray(a) for a in args))
    return apply


SCALAR_EVAL: dict[str, Callable[..., Any]] = {
    **{name: _index_safe(_primitive(name)) for name in sorted(UNARY - {"is_nan", "popcount"})},
    **{name: _index_safe(_primitive(name)) for name in
       ("add", "sub", "mul", "max", "min", "pow", "atan2", "and", "or", "xor", "shl", "shr")},
    **{name: _index_safe(_comparison(name)) for name in sorted(COMPARE)},
    "div": _quotient("div"),
    "rem": _quotient("rem"),
    "mulhi": _mulhi,
    "fma": _fma,
    "dot_bf16": _dot_bf16,
    "is_nan": _is_nan,
    "popcount": _popcount,
    "select": lambda c, a, b: np.where(c, a, b),
}


def convert(name: str, x: Any, to: DType) -> Any:
    """`cast` or `bitcast`; an index is an i64."""
    x = np.asarray(x)
    if to is INDEX:
        to = dtype("i64")
    if name == "bitcast":
        return x if x.dtype == to.np else Bitcast(dtype=to).eval(x)
    return Cast(dtype=to).eval(x)


COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


def identity(op: str, dt: DType) -> Any:
    """What a reduction of no elements is."""
    if op in ("max", "min"):
        return np.asarray(dt.min if op == "max" else dt.max, dt.np)
    return np.asarray(op in ("prod", "and")).astype(dt.np)


def combine(op: str, x: Array) -> Array:
    """All rows of x (at least one) by halving: with h = ⌈n/2⌉, row i takes in row i + h."""
    fn = SCALAR_EVAL[COMBINE[op]]
    while (n := len(x)) > 1:
        h = (n + 1) // 2
        x = np.concatenate([fn(x[: n - h], x[h:]), x[n - h : h]])
    return np.asarray(x[0])
