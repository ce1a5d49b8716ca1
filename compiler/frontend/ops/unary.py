"""Elementwise ops of one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.ir.core import Value

from .. import dtypes as dt
from ..expand import Expansion
from ..registry import expander, operator
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, need, scope

Unary = Callable[..., Tensor]


def unary(op: str, kinds: str, x: Like, name: str | None, default: str = "") -> Tensor:
    """A unary op's node."""
    with scope(name, default or op) as s:
        t = convert(x, name="x")
        need(t, kinds)
        return apply(op, [t], t.dtype, s)


def _make(op: str, primitive: str, kinds: str, doc: str, **options: Any) -> Unary:
    """An op that is one primitive, and its public function."""

    @expander(op, **options)
    def _expand(x: Expansion, node: Operation, a: Value) -> Any:
        return getattr(x.b, primitive)(a)

    def public(x: Like, name: str | None = None) -> Tensor:
        return unary(op, kinds, x, name)

    public.__doc__ = doc
    public.__name__ = public.__qualname__ = op.lower()
    return public


def composed(op: str, kinds: str, doc: str, **options: Any) -> Callable[[Any], Unary]:
    """An op that the decorated function composes of primitives: (b, x) → value."""

    def register(fn: Any) -> Unary:
        @expander(op, **options)
        def _expand(x: Expansion, node: Operation, a: Value) -> Any:
            return fn(x.b, a)

        def public(x: Like, name: str | None = None) -> Tensor:
            return unary(op, kinds, x, name)

        public.__doc__ = doc
        public.__name__ = public.__qualname__ = op.lower()
        return public

    return register


F = "f"
negative = _make("Neg", "neg", "fic", "−x.")
sign = _make("Sign", "sign", "fi", "−1, 0 or 1; NaN of NaN.")
exp = _make("Exp", "exp", F, "e to the power of x.")
expm1 = _make("Expm1", "expm1", F, "exp(x) − 1, exact near 0.")
log = _make("Log", "log", F, "The natural logarithm.")
log1p = _make("Log1p", "log1p", F, "log(1 + x), exact near 0.")
sqrt = _make("Sqrt", "sqrt", F, "The square root.")
rsqrt = _make("Rsqrt", "rsqrt", F, "1 / √x.")
sin = _make("Sin", "sin", F, "The sine.")
cos = _make("Cos", "cos", F, "The cosine.")
tan = _make("Tan", "tan", F, "The tangent.")
asin = _make("Asin", "asin", F, "The inverse of the sine.")
acos = _make("Acos", "acos", F, "The inverse of the cosine.")
atan = _make("Atan", "atan", F, "The inverse of the tangent.")
tanh = _make("Tanh", "tanh", F, "The hyperbolic tangent.")
sigmoid = _make("Sigmoid", "sigmoid", F, "1 / (1 + exp(−x)).")
erf = _make("Erf", "erf", F, "The error function.")
erfinv = _make("Erfinv", "erfinv", F, "The inverse of the error function.")
lgamma = _make("Lgamma", "lgamma", F, "log |Γ(x)|.")
digamma = _make("Digamma", "digamma", F, "The derivative of lgamma.")
floor = _make("Floor", "floor", "f", "The greatest integer ≤ x.", differentiable=False)
ceil = _make("Ceil", "ceil", "f", "The least integer ≥ x.", differentiable=False)
rint = _make("Rint", "round", "f", "The nearest integer, half to even.", differentiable=False)
logical_not = _make("LogicalNot", "not", "b", "Whether x is false.", differentiable=False)
invert = _make("Invert", "not", "iu", "All bits flipped.", differentiable=False)
_abs = _make("Abs", "abs", "fi", "|x|.")


def abs(x: Like, name: str | None = None) -> Tensor:
    """|x|."""
    with scope(name, "Abs") as s:
        t = convert(x, name="x")
        if t.dtype.is_unsigned:
            return apply("Identity", [t], t.dtype, s)
        need(t, "fi")
        return apply("Abs", [t], t.dtype, s)


def round(x: Like, name: str | None = None) -> Tensor:
    """The nearest integer, half to even."""
    with scope(name, "Round") as s:
        t = convert(x, name="x")
        return apply("Identity" if t.dtype.is_integer else "Rint", [t], t.dtype, s)


@composed("Square", "fiuc", "x².")
def square(b: Any, x: Value) -> Any:
    return b.mul(x, x)


@composed("Reciprocal", F, "1 / x.")
def reciprocal(b: Any, x: Value) -> Any:
    return b.div(b.const(1, x), x)


@composed("Erfc", F, "1 − erf(x).")
def erfc(b: Any, x: Value) -> Any:
    return b.sub(b.const(1, x), b.erf(x))


@composed("Sinh", F, "The hyperbolic sine.")
def sinh(b: Any, x: Value) -> Any:
    e = b.expm1(x)  # (e + e/(e+1)) / 2 keeps its digits near 0
    return b.mul(b.const(0.5, x), b.add(e, b.div(e, b.add(e, b.const(1, x)))))


@composed("Cosh", F, "The hyperbolic cosine.")
def cosh(b: Any, x: Value) -> Any:
    return b.mul(b.const(0.5, x), b.add(b.exp(x), b.exp(b.neg(x))))


@composed("Asinh", F, "The inverse of the hyperbolic sine.")
def asinh(b: Any, x: Value) -> Any:
    a, one = b.abs(x), b.const(1, x)
    square = b.mul(a, a)
    inner = b.add(a, b.div(square, b.add(one, b.sqrt(b.add(square, one)))))
    return b.mul(b.sign(x), b.log1p(inner))


@composed("Acosh", F, "The inverse of the hyperbolic cosine.")
def acosh(b: Any, x: Value) -> Any:
    one = b.const(1, x)
    root = b.mul(b.sqrt(b.sub(x, one)), b.sqrt(b.add(x, one)))
    return b.log(b.add(x, root))


@composed("Atanh", F, "The inverse of the hyperbolic tangent.")
def atanh(b: Any, x: Value) -> Any:
    return b.mul(b.const(0.5, x), b.sub(b.log1p(x), b.log1p(b.neg(x))))


def _test(op: str, doc: str) -> Callable[[Any], Unary]:
    def register(fn: Any) -> Unary:
        @expander(op, differentiable=False)
        def _expand(x: Expansion, node: Operation, a: Value) -> Any:
            return fn(x.b, a)

        def public(x: Like, name: str | None = None) -> Tensor:
            with scope(name, op) as s:
                t = convert(x, name="x")
                need(t, "f")
                return apply(op, [t], dt.bool_, s)

        public.__doc__ = doc
        return public

    return register


@_test("IsNan", "Whether x is NaN.")
def is_nan(b: Any, x: Value) -> Any:
    return b.compare(x, x, op="ne")


@_test("IsInf", "Whether x is infinite.")
def is_inf(b: Any, x: Value) -> Any:
    return b.compare(b.abs(x), b.const(float("inf"), x), op="eq")


@_test("IsFinite", "Whether x is neither infinite nor NaN.")
def is_finite(b: Any, x: Value) -> Any:
    return b.compare(b.abs(x), b.const(float("inf"), x), op="lt")


def log_sigmoid(x: Like, name: str | None = None) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return unary("LogSigmoid", "f", x, name)


@expander("LogSigmoid")
def _log_sigmoid(x: Expansion, node: Operation, a: Value) -> Any:
    b = x.b
    rest = b.log1p(b.exp(b.neg(b.abs(a))))
    return b.sub(b.min(a, b.const(0, a)), rest)


# ---- Changes of type.


def cast(x: Like, dtype: Any, name: str | None = None) -> Tensor:
    """x in another element type: float → int truncates, → bool is x ≠ 0."""
    to = dt.as_dtype(dtype)
    with scope(name, "Cast") as s:
        t = convert(x, name="x")
        if t.dtype is to:
            return t
        return apply("Cast", [t], to, s)


@expander("Cast")
def _cast(x: Expansion, node: Operation, a: Value) -> Any:
    return x.b.cast(a, dtype=node.outputs[0].dtype.element)


def _to(name: str, dtype: dt.DType) -> Unary:
    def public(x: Like, name: str = name) -> Tensor:
        return cast(x, dtype, name)

    public.__doc__ = f"x as {dtype.name}."
    return public


to_float, to_double = _to("ToFloat", dt.float32), _to("ToDouble", dt.float64)
to_int32, to_int64 = _to("ToInt32", dt.int32), _to("ToInt64", dt.int64)
to_bfloat16 = _to("ToBFloat16", dt.bfloat16)


def saturate_cast(value: Like, dtype: Any, name: str | None = None) -> Tensor:
    """Like `cast`; values outside the new type's range become its limits."""
    to = dt.as_dtype(dtype)
    with scope(name, "saturate_cast") as s:
        t = convert(value, name="value")
        return apply("SaturateCast", [t], to, s)


@expander("SaturateCast")
def _saturate(x: Expansion, node: Operation, a: Value) -> Any:
    old, to = a.ty.dtype, node.outputs[0].dtype.element
    if not to.is_float and (old.is_float or (old.min, old.max) != (to.min, to.max)):
        low = max(float(old.min), float(to.min))
        high = min(float(old.max), float(to.max))
        if old.is_int:  # exact, where floats are not
            low = max(int(old.min), int(to.min))
            high = min(int(old.max), int(to.max))
        a = x.b.min(x.b.max(a, x.b.const(low, a)), x.b.const(high, a))
    return x.b.cast(a, dtype=to)


def bitcast(input: Like, type: Any, name: str | None = None) -> Tensor:
    """The same bits as another element type of the same size."""
    to = dt.as_dtype(type)
    with scope(name, "Bitcast") as s:
        t = convert(input, name="input")
        return apply("Bitcast", [t], to, s)


@expander("Bitcast", differentiable=False)
def _bitcast(x: Expansion, node: Operation, a: Value) -> Any:
    return x.b.bitcast(a, dtype=node.outputs[0].dtype.element)


operator("neg")(negative)
operator("abs")(abs)


@operator("invert")
def _invert(x: Like) -> Tensor:
    t = convert(x)
    return logical_not(t) if t.dtype.is_bool else invert(t)
