"""Elementwise operations of two operands of equal type."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..core import Op, Value
from ..dtypes import dtype
from ..kernel import expr as ex
from ..types import TensorType
from . import numeric
from .base import EvalError, need, primitive, same_dtype, same_shape
from .numeric import Array, fit, quiet, unsigned, wide


class Binary(Op):
    """Base: both operands and the result have one type; operands are broadcast beforehand."""

    kinds: ClassVar[str] = "fiu"

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        same_dtype(x, y)
        same_shape(x, y)
        need(x, self.kinds)
        return x

    @quiet
    def eval(self, x: Any, y: Any) -> Any:
        return fit(self.meaning(wide(x), wide(y)), dtype(x.dtype))

    def meaning(self, x: Array, y: Array) -> Any:
        """The result on arrays of the type that arithmetic is done in."""
        raise NotImplementedError

    def lower(self, k: Any, x: Any, y: Any) -> Any:
        return k.elementwise(x.type, lambda a, b: ex.binary(self.name, a, b), x, y)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return None, None


@primitive
class Add(Binary):
    """x + y; integers wrap."""

    name = "add"
    kinds = "fiuc"

    def meaning(self, x: Array, y: Array) -> Any:
        return x + y

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return gs[0], gs[0]


@primitive
class Sub(Binary):
    """x − y; integers wrap."""

    name = "sub"
    kinds = "fiuc"

    def meaning(self, x: Array, y: Array) -> Any:
        return x - y

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        return gs[0], b.neg(gs[0]) if needed[1] else None


@primitive
class Mul(Binary):
    """x · y; integers wrap."""

    name = "mul"
    kinds = "fiuc"

    def meaning(self, x: Array, y: Array) -> Any:
        return x * y

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        (x, y), (g,) = operands, gs
        _real(x)
        return b.mul(g, y) if needed[0] else None, b.mul(g, x) if needed[1] else None


def _real(x: Value) -> None:
    if x.ty.dtype.is_complex:  # it would take conjugates
        raise NotImplementedError("products and quotients of complex numbers have no gradient")


def _checked(y: Array) -> Array:
    if not np.all(y):
        raise EvalError(1)
    return y


class _Quotient(Binary):
    def lower(self, k: Any, x: Any, y: Any) -> Any:
        def element(a: Any, c: Any) -> Any:
            value = ex.binary(self.name, a, c)
            if x.dtype.kind not in "iu":
                return value
            return k.check(value, ex.compare("ne", c, 0), 1)
        return k.elementwise(x.type, element, x, y)


@primitive
class Div(_Quotient):
    """x / y. Integers truncate toward zero and wrap (INT_MIN / −1 = INT_MIN); by 0 is error 1."""

    name = "div"
    kinds = "fiuc"

    def meaning(self, x: Array, y: Array) -> Any:
        if x.dtype.kind not in "iu":
            return x / y
        q = x // _checked(y)
        up = (np.fmod(x, y) != 0) & ((x < 0) != (y < 0))
        return np.where(up, q + x.dtype.type(1), q)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        _real(operands[0])
        gx = b.div(gs[0], operands[1])
        return gx, b.neg(b.mul(gx, results[0])) if needed[1] else None


@primitive
class Rem(_Quotient):
    """x − trunc(x/y)·y, of x's sign, exact: C's fmod and %. Integers by 0: error 1."""

    name = "rem"

    def meaning(self, x: Array, y: Array) -> Any:
        return np.fmod(x, y if x.dtype.kind == "f" else _checked(y))

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x, y), (g,) = operands, gs
        whole = b.round(b.div(b.sub(x, results[0]), y))
        return g, b.neg(b.mul(g, whole))


@primitive
class Max(Binary):
    """The greater of x and y; NaN where either is NaN, +0 above −0. Ties: the gradient is x's."""

    name = "max"

    def meaning(self, x: Array, y: Array) -> Any:
        return numeric.maximum(x, y)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return _pick(b, b.compare(*operands, op="ge"), gs[0])


@primitive
class Min(Binary):
    """The lesser of x and y; NaN where either is NaN, −0 below +0. Ties: the gradient is x's."""

    name = "min"

    def meaning(self, x: Array, y: Array) -> Any:
        return numeric.minimum(x, y)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return _pick(b, b.compare(*operands, op="le"), gs[0])


def _pick(b: Any, first: Value, g: Value) -> tuple[Value, Value]:
    """g to the first operand where `first`, else to the second."""
    zero = b.const(0, g)
    return b.select(first, g, zero), b.select(first, zero, g)


@primitive
class Pow(Binary):
    """xʸ. Floats: C's pow (C17 F.10.4.4). Integers wrap; a negative exponent gives 0, but ±1 of ±1.

    The gradient towards y is 0 where x ≤ 0; that towards x is 0 at 0⁰.
    """

    name = "pow"

    @quiet
    def eval(self, x: Any, y: Any) -> Any:
        t = dtype(x.dtype)
        if t.is_float:
            return fit(np.power(numeric.double(x), numeric.double(y)), t)
        return fit(_int_power(wide(x), wide(y)), t)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        return self.grad_needed(b, operands, results, gs, (True, True))

    def grad_needed(
        self, b: Any, operands: Any, results: Any, gs: Any, needed: tuple[bool, ...]
    ) -> tuple[Value | None, ...]:
        (x, y), (r,), (g,) = operands, results, gs
        zero, one = b.const(0, x), b.const(1, x)
        gx = gy = None
        if needed[0]:
            corner = getattr(b, "and")(b.compare(x, zero, op="eq"), b.compare(y, zero, op="eq"))
            base = b.select(corner, one, x)
            gx = b.mul(g, b.mul(y, b.pow(base, b.sub(y, one))))
        if needed[1]:
            positive = b.compare(x, zero, op="gt")
            log = b.log(b.select(positive, x, one))
            gy = b.select(positive, b.mul(g, b.mul(r, log)), zero)
        return gx, gy

    def lower(self, k: Any, x: Any, y: Any) -> Any:
        if x.dtype.is_float:
            return super().lower(k, x, y)
        return k.elementwise(x.type, _int_power_expr, x, y)


def _int_power(x: Array, y: Array) -> Array:
    """By squaring, wrapping."""
    one = x.dtype.type(1)
    out, base, e = np.full_like(x, one), x.copy(), unsigned(y)
    while np.any(e):
        out = np.where(e & e.dtype.type(1), out * base, out)
        base = base * base
        e = e >> e.dtype.type(1)
    if x.dtype.kind == "u":
        return out
    small = np.where((x == 1) | (x == -1), np.where(y & one, x, one), x.dtype.type(0))
    return np.where(y < 0, small, out)


def _int_power_expr(x: Any, y: Any) -> Any:
    """The same without a loop: the product, as a balanced tree, of x^(2^n) for the bits n of y."""
    dt = x.dtype
    one, zero = ex.const(1, dt), ex.const(0, dt)
    factors, square = [], x
    for n in range(dt.bits - (dt.kind == "i")):
        bit = ex.binary("and", ex.binary("shr", y, n), one)
        factors.append(ex.select(ex.compare("ne", bit, zero), square, one))
        square = square * square
    while len(factors) > 1:
        pairs = zip(factors[::2], [*factors[1::2], one], strict=False)
        factors = [a if c is one else a * c for a, c in pairs]
    if dt.kind == "u":
        return factors[0]
    odd = ex.compare("ne", ex.binary("and", y, one), zero)
    unit = x.eq(1) | x.eq(-1)
    small = ex.select(unit, ex.select(odd, x, one), zero)
    return ex.select(y < 0, small, factors[0])


@primitive
class Atan2(Binary):
    """The angle of the point (y, x), x being the *first* operand as in C's atan2; in [−π, π]."""

    name = "atan2"
    kinds = "f"

    @quiet
    def eval(self, x: Any, y: Any) -> Any:
        return fit(np.arctan2(numeric.double(x), numeric.double(y)), dtype(x.dtype))

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[Value | None, ...]:
        (x, y), (g,) = operands, gs
        scaled = b.div(g, b.add(b.mul(x, x), b.mul(y, y)))
        return b.mul(scaled, y), b.neg(b.mul(scaled, x))


# ---- bits: of integers, and logic of bools

@primitive
class And(Binary):
    """Bitwise and; logical of bools."""

    name = "and"
    kinds = "biu"

    def meaning(self, x: Array, y: Array) -> Any:
        return x & y


@primitive
class Or(Binary):
    """Bitwise or; logical of bools."""

    name = "or"
    kinds = "biu"

    def meaning(self, x: Array, y: Array) -> Any:
        return x | y


@primitive
class Xor(Binary):
    """Bitwise exclusive or; of bools: differ."""

    name = "xor"
    kinds = "biu"

    def meaning(self, x: Array, y: Array) -> Any:
        return x ^ y


@primitive
class Shl(Binary):
    """x · 2ʸ, wrapping; y is read as unsigned, and from the width on the result is 0."""

    name = "shl"
    kinds = "iu"

    @quiet
    def eval(self, x: Any, y: Any) -> Any:
        t = dtype(x.dtype)
        a, n = wide(x), _amount(wide(y))
        out = np.where(n < t.bits, a << np.minimum(n, t.bits - 1).astype(a.dtype), a.dtype.type(0))
        return fit(out, t)


@primitive
class Shr(Binary):
    """⌊x / 2ʸ⌋; y is read as unsigned, and from the width on the result is 0, or −1 of x < 0."""

    name = "shr"
    kinds = "iu"

    @quiet
    def eval(self, x: Any, y: Any) -> Any:
        t = dtype(x.dtype)
        a, n = wide(x), _amount(wide(y))
        by = np.minimum(n, t.bits - 1).astype(a.dtype)
        out = a >> by
        return fit(out if t.kind == "i" else np.where(n < t.bits, out, a.dtype.type(0)), t)


def _amount(y: Array) -> Array:
    return unsigned(y)
