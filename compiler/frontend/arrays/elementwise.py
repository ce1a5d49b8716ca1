"""The array API's elementwise functions, and those about types."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from functools import reduce as fold
from typing import Any

import numpy as np

from .. import dtypes as dt
from ..dtypes import DType, as_dtype
from ..ops import binary as _b
from ..ops import creation as _c
from ..ops import selecting as _s
from ..ops import unary as _u
from ..tensor import Tensor
from .promotion import as_type, promote, strong
from .promotion import result_type as _pair_type

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "astype", "atan", "atan2", "atanh",
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "can_cast", "ceil", "clip", "cos", "cosh", "divide", "equal", "exp", "expm1",
    "finfo", "floor", "floor_divide", "greater", "greater_equal", "hypot", "iinfo", "isdtype",
    "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "log2", "log10",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum",
    "multiply", "negative", "not_equal", "positive", "pow", "reciprocal", "remainder",
    "result_type", "round", "sign", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh",
    "trunc",
]  # fmt: skip

# ---- Elementwise: the standard's names over the operations there are.

acos, acosh, asin, asinh, atan, atanh = _u.acos, _u.acosh, _u.asin, _u.asinh, _u.atan, _u.atanh
cos, cosh, sin, sinh, tan, tanh = _u.cos, _u.cosh, _u.sin, _u.sinh, _u.tan, _u.tanh
exp, expm1, log, log1p, sqrt = _u.exp, _u.expm1, _u.log, _u.log1p, _u.sqrt
abs, negative, sign, square, reciprocal = _u.abs, _u.negative, _u.sign, _u.square, _u.reciprocal
logical_not, bitwise_invert = _u.logical_not, _u.invert
add, subtract, multiply, divide, pow = _b.add, _b.subtract, _b.multiply, _b.divide, _b.pow
floor_divide, remainder, atan2 = _b.floordiv, _b.floormod, _b.atan2
maximum, minimum = _b.maximum, _b.minimum
equal, not_equal, less, less_equal = _b.equal, _b.not_equal, _b.less, _b.less_equal
greater, greater_equal = _b.greater, _b.greater_equal
logical_and, logical_or, logical_xor = _b.logical_and, _b.logical_or, _b.logical_xor


def _of_integers(f: Callable[[Any], Tensor], integers: Callable[[Any], Tensor]) -> Any:
    """A function of floats that has a meaning for integers too."""

    def apply(x: Any) -> Tensor:
        x = strong(x)
        return f(x) if x.dtype.is_floating or x.dtype.is_complex else integers(x)

    apply.__name__ = f.__name__
    apply.__doc__ = f.__doc__
    return apply


def _same(x: Tensor) -> Tensor:
    return x


def _never(x: Tensor) -> Tensor:
    return _c.zeros_like(x, dt.bool_)


def _always(x: Tensor) -> Tensor:
    return _c.ones_like(x, dt.bool_)


def _toward_zero(x: Any) -> Tensor:
    """The integer part."""
    return _b.multiply(_u.sign(x), _u.floor(_u.abs(x)))


floor, ceil = _of_integers(_u.floor, _same), _of_integers(_u.ceil, _same)
round, trunc = _of_integers(_u.rint, _same), _of_integers(_toward_zero, _same)
isnan, isinf = _of_integers(_u.is_nan, _never), _of_integers(_u.is_inf, _never)
isfinite = _of_integers(_u.is_finite, _always)


def positive(x: Any) -> Tensor:
    """x."""
    return strong(x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2."""
    return _b.multiply(_u.log(x), 1 / math.log(2))


def log10(x: Any) -> Tensor:
    """The logarithm to base 10."""
    return _b.multiply(_u.log(x), 1 / math.log(10))


def logaddexp(x1: Any, x2: Any) -> Tensor:
    """log(exp(x1) + exp(x2)), without overflow."""
    a, b = promote(x1, x2, "logaddexp")
    greatest = _b.maximum(a, b)
    difference = _u.negative(_u.abs(_b.subtract(a, b)))
    sum_ = _b.add(greatest, _u.log1p(_u.exp(difference)))
    return _s.where(_b.equal(a, b), _b.add(a, math.log(2)), sum_)


def hypot(x1: Any, x2: Any) -> Tensor:
    """√(x1² + x2²)."""
    a, b = promote(x1, x2, "hypot")
    a, b = _u.abs(a), _u.abs(b)
    big, small = _b.maximum(a, b), _b.minimum(a, b)
    ratio = _b.divide(small, _s.where(_b.equal(big, 0), _c.ones_like(big), big))
    return _b.multiply(big, _u.sqrt(_b.add(_u.square(ratio), 1)))


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """x brought into [min, max]."""
    out = strong(x)
    if min is not None:
        out = _b.maximum(out, as_type(min, out.dtype))
    if max is not None:
        out = _b.minimum(out, as_type(max, out.dtype))
    return out


def _bits(word: str, kinds: str = "biu") -> Callable[[Any, Any], Tensor]:
    def apply(x1: Any, x2: Any) -> Tensor:
        a, b = promote(x1, x2, word)
        op = f"Logical{word}" if a.dtype.is_bool else f"Bitwise{word}"
        return _b.binary(op, word, kinds, a, b, None)

    return apply


bitwise_and, bitwise_or, bitwise_xor = _bits("And"), _bits("Or"), _bits("Xor")


def bitwise_left_shift(x1: Any, x2: Any) -> Tensor:
    """x1 · 2^x2; zero for shifts of the width and more."""
    return _b.binary("LeftShift", "lshift", "iu", x1, x2, None)


def bitwise_right_shift(x1: Any, x2: Any) -> Tensor:
    """⌊x1 / 2^x2⌋."""
    return _b.binary("RightShift", "rshift", "iu", x1, x2, None)


# ---- Types.


def astype(x: Any, dtype: Any, /, *, copy: Any = True, device: Any = None) -> Tensor:
    """The elements as another type."""
    return _u.cast(x, dtype)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The type that arrays and types promote to. TypeError where the standard has none."""
    return fold(_pair_type, [t if isinstance(t, DType) else strong(t).dtype
                             for t in arrays_and_dtypes])  # fmt: skip


def can_cast(from_: Any, to: DType, /) -> Any:
    """Whether promotion leads from one type to the other."""
    source = from_ if isinstance(from_, DType) else strong(from_).dtype
    try:
        return _pair_type(source, to) is to
    except TypeError:
        return False


def finfo(type: Any, /) -> Any:
    """The limits of a floating-point type."""
    return np.finfo((as_dtype(type) if not isinstance(type, Tensor) else type.dtype).np)


def iinfo(type: Any, /) -> Any:
    """The limits of an integer type."""
    return np.iinfo((as_dtype(type) if not isinstance(type, Tensor) else type.dtype).np)


_KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu",
    "real floating": "f", "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


def isdtype(dtype: DType, kind: Any) -> Any:
    """Whether a type is another, or of a kind, or of one of several."""
    if isinstance(kind, tuple):
        return builtins.any(isdtype(dtype, k) for k in kind)
    return dtype.element.kind in _KINDS[kind] if isinstance(kind, str) else dtype is kind
