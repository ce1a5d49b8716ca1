"""Records of elementwise ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flowc.ir.dtypes import BY_NAME, DType

from . import special
from .record import (
    ALL,
    F8,
    FLOATS,
    INTS,
    SIGNED,
    Record,
    Rows,
    Sampler,
    Tolerance,
    anything,
    away_from_zero,
    uniform,
)
from .special import each

INF, NAN = math.inf, math.nan
ONE = (((),), ((33,),), (("B", 17),))
TWO = tuple((*s, *s) for s in ONE)
THREE = tuple((*s, *s, *s) for s in ONE)
SIZES = ({"B": 5}, {"B": 0})
EXACT = Tolerance()
TWO_ULP = Tolerance(ulp=2)


def _op(name: str, **attrs: Any) -> Callable[..., Any]:
    return lambda b, *xs: getattr(b, name)(*xs, **attrs)


def unary(
    op: str, fn: Callable[..., Any], domain: Sampler = anything, tol: Tolerance = TWO_ULP,
    edges: Any = (), **more: Any,
) -> Record:
    settings: dict[str, Any] = {"sizes": SIZES, **more}
    return Record(
        op, _op(op), each(fn), ONE, samples=domain, tolerance=tol, edges=edges, **settings
    )


def binary(op: str, fn: Callable[..., Any], domain: Any = anything, **more: Any) -> Record:
    settings: dict[str, Any] = {"sizes": SIZES, **more}
    return Record(op, _op(op), each(fn), TWO, samples=domain, **settings)


def _round_even(x: float) -> float:
    return math.copysign(float(round(x)), x)


def _sign(x: Any) -> Any:
    return x if x == 0 else math.copysign(1.0, x) if isinstance(x, float) else (x > 0) - (x < 0)


def _whole(fn: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: math.copysign(float(fn(x)), x)


def _lowest(t: DType) -> Rows:
    low, high = int(t.min), int(t.max)
    return [(low, low), (high, -high), (0, 0)]


def _abs_lowest(t: DType) -> Rows:
    return [(int(t.min), int(t.min)), (-1, 1), (int(t.max), int(t.max))]


NEAR_HALF = [
    (0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (-1.5, -2.0), (3.5, 4.0), (-0.0, -0.0),
    (INF, INF), (-INF, -INF), (NAN, NAN), (0.25, 0.0), (-0.25, -0.0),
]

UNARY = [
    unary("neg", lambda x: -x, tol=EXACT, dtypes=(*FLOATS, *F8),
          edges=[(0.0, -0.0), (-0.0, 0.0), (NAN, NAN)]),
    unary("neg", lambda x: -x, tol=EXACT, dtypes=INTS, label="int",
          edges=_lowest, edge_dtypes=SIGNED),
    unary("abs", abs, away_from_zero(), EXACT, edges=[(-0.0, 0.0), (-INF, INF), (NAN, NAN)]),
    unary("abs", abs, tol=EXACT, dtypes=INTS, label="int", edges=_abs_lowest, edge_dtypes=SIGNED),
    unary("sign", _sign, away_from_zero(), EXACT,
          edges=[(0.0, 0.0), (-0.0, -0.0), (NAN, NAN), (-INF, -1.0), (INF, 1.0)]),
    unary("sign", _sign, tol=EXACT, dtypes=INTS, label="int"),
    unary("floor", lambda x: float(math.floor(x)), tol=EXACT,
          edges=[(-0.5, -1.0), (-0.0, -0.0), (1.0, 1.0), (INF, INF), (NAN, NAN)]),
    unary("ceil", _whole(math.ceil), tol=EXACT,
          edges=[(-0.5, -0.0), (0.5, 1.0), (-1.0, -1.0), (-INF, -INF), (NAN, NAN)]),
    unary("round", _round_even, uniform(-20.2, 20.2), EXACT, edges=NEAR_HALF),
    unary("not", lambda x: not x, tol=EXACT, dtypes=("bool",), label="bool"),
    unary("not", lambda x: ~x, tol=EXACT, dtypes=INTS),
    unary("sqrt", math.sqrt, uniform(0.2, 9), Tolerance(ulp=1),
          edges=[(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-1.0, NAN), (NAN, NAN), (4.0, 2.0)]),
    unary("rsqrt", lambda x: 1 / math.sqrt(x), uniform(0.2, 9),
          edges=[(0.0, INF), (-0.0, -INF), (INF, 0.0), (-1.0, NAN), (NAN, NAN), (4.0, 0.5)]),
    unary("exp", math.exp, uniform(-8, 8),
          edges=[(0.0, 1.0), (-INF, 0.0), (INF, INF), (NAN, NAN), (1000.0, INF), (-1000.0, 0.0)]),
    unary("expm1", math.expm1, uniform(-4, 4), edges=[
        (0.0, 0.0), (-INF, -1.0), (INF, INF), (NAN, NAN), (1000.0, INF), (-1000.0, -1.0)]),
    unary("log", math.log, uniform(0.1, 9), edges=[
        (1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (NAN, NAN)]),
    unary("log1p", math.log1p, uniform(-0.9, 5), edges=[
        (0.0, 0.0), (-1.0, -INF), (INF, INF), (-2.0, NAN), (NAN, NAN)]),
    unary("sin", math.sin, uniform(-7, 7), edges=[(0.0, 0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]),
    unary("cos", math.cos, uniform(-7, 7), edges=[(0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]),
    unary("tan", math.tan, uniform(-1.3, 1.3), Tolerance(ulp=3),
          edges=[(0.0, 0.0), (INF, NAN), (NAN, NAN)]),
    unary("asin", math.asin, uniform(-0.9, 0.9), edges=[
        (0.0, 0.0), (1.0, math.pi / 2), (-1.0, -math.pi / 2), (1.5, NAN), (NAN, NAN)]),
    unary("acos", math.acos, uniform(-0.9, 0.9), edges=[
        (1.0, 0.0), (-1.0, math.pi), (0.0, math.pi / 2), (1.5, NAN), (NAN, NAN)]),
    unary("atan", math.atan, edges=[
        (0.0, 0.0), (INF, math.pi / 2), (-INF, -math.pi / 2), (NAN, NAN)]),
    unary("tanh", math.tanh, edges=[(0.0, 0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (50.0, 1.0)]),
    unary("sigmoid", special.sigmoid, tol=Tolerance(ulp=3), edges=[
        (0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (200.0, 1.0), (-1000.0, 0.0)]),
    unary("erf", special.erf, uniform(-3, 3), edges=[
        (0.0, 0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (9.0, 1.0)]),
    unary("erfinv", special.erfinv, uniform(-0.9, 0.9), Tolerance(ulp=4), edges=[
        (0.0, 0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (-2.0, NAN), (NAN, NAN)]),
    unary("erfinv", special.erfinv, uniform(0.99, 0.99999), Tolerance(ulp=4), label="tail",
          dtypes=("f32", "f64"), wrt=()),
    unary("lgamma", special.lgamma, uniform(0.1, 8), Tolerance(ulp=4, atol=4e-7), edges=[
        (1.0, 0.0), (2.0, 0.0), (0.0, INF), (-1.0, INF), (-3.0, INF), (INF, INF), (-INF, INF),
        (NAN, NAN), (3.0, math.log(2)), (-0.5, math.log(2 * math.sqrt(math.pi)))]),
    unary("lgamma", special.lgamma, uniform(-3.8, -3.2), Tolerance(ulp=4, atol=1e-6),
          label="negative"),
    unary("digamma", special.digamma, uniform(0.2, 8), Tolerance(ulp=4, atol=5e-7), edges=[
        (1.0, -0.57721566490153286), (0.0, -INF), (-0.0, INF), (-1.0, NAN), (-2.0, NAN),
        (INF, INF), (-INF, NAN), (NAN, NAN), (0.5, -1.9635100260214235)]),
    unary("digamma", special.digamma, uniform(-3.8, -3.2), Tolerance(ulp=8, atol=4e-6),
          label="negative"),
]


# ---- two operands

def _div_rows(t: DType) -> Rows:
    rows = [(7, 2, 3), (7, -2, -3), (-7, 2, -3), (-7, -2, 3), (0, 5, 0), (6, 3, 2), (-6, 3, -2)]
    if t.kind == "u":
        return [(7, 2, 3), (0, 5, 0), (int(t.max), 1, int(t.max)), (int(t.max), int(t.max), 1)]
    return [*rows, (int(t.min), -1, int(t.min)), (int(t.min), 1, int(t.min))]


def _rem_rows(t: DType) -> Rows:
    if t.kind == "u":
        return [(7, 2, 1), (0, 5, 0), (int(t.max), 2, 1)]
    return [(7, 2, 1), (7, -2, 1), (-7, 2, -1), (-7, -2, -1), (int(t.min), -1, 0), (6, 3, 0)]


def _trunc_div(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _float_div(a: float, b: float) -> float:
    return a / b


def _pow_int(a: int, b: int) -> int:
    if b >= 0:
        return pow(a, b, 1 << 64) if a >= 0 else pow(-a, b, 1 << 64) * (-1 if b & 1 else 1)
    return {1: 1, -1: -1 if b & 1 else 1}.get(a, 0)


def _extremum_rows(sign: float) -> Rows:
    rows = [(1.0, 2.0, 2.0), (NAN, 1.0, NAN), (1.0, NAN, NAN), (-0.0, 0.0, 0.0), (0.0, -0.0, 0.0),
            (-0.0, -0.0, -0.0), (-INF, 3.0, 3.0), (INF, INF, INF)]
    return [tuple(sign * v for v in row) for row in rows]


POW_EDGES = [  # C17 F.10.4.4
    (0.0, -1.0, INF), (-0.0, -1.0, -INF), (0.0, -2.0, INF), (-0.0, -INF, INF), (0.0, 3.0, 0.0),
    (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-1.0, INF, 1.0), (-1.0, -INF, 1.0), (1.0, NAN, 1.0),
    (NAN, 0.0, 1.0), (NAN, -0.0, 1.0), (-2.0, 0.5, NAN), (0.5, -INF, INF), (2.0, -INF, 0.0),
    (0.5, INF, 0.0), (2.0, INF, INF), (-INF, -3.0, -0.0), (-INF, -2.0, 0.0), (-INF, 3.0, -INF),
    (-INF, 2.0, INF), (INF, -1.0, 0.0), (INF, 1.0, INF), (NAN, 1.0, NAN), (2.0, NAN, NAN),
    (-2.0, 3.0, -8.0), (-2.0, -2.0, 0.25), (0.0, 0.0, 1.0),
]
ATAN2_EDGES = [  # C17 F.10.1.4
    (0.0, -0.0, math.pi), (-0.0, -0.0, -math.pi), (0.0, 0.0, 0.0), (-0.0, 0.0, -0.0),
    (0.0, -1.0, math.pi), (-0.0, -1.0, -math.pi), (0.0, 1.0, 0.0), (-1.0, 0.0, -math.pi / 2),
    (1.0, -0.0, math.pi / 2), (1.0, -INF, math.pi), (-1.0, INF, -0.0), (INF, 1.0, math.pi / 2),
    (INF, -INF, 3 * math.pi / 4), (-INF, INF, -math.pi / 4), (NAN, 1.0, NAN), (1.0, NAN, NAN),
]


def _pow_rows(t: DType) -> Rows:
    rows = [(2, 3, 8), (0, 0, 1), (0, 5, 0), (1, 7, 1), (3, 1, 3), (7, 0, 1), (2, t.bits, 0)]
    rows = [r for r in rows if r[1] <= int(t.max)]
    if t.kind == "i":
        rows += [(2, -1, 0), (1, -3, 1), (-1, -3, -1), (-1, -2, 1), (0, -1, 0), (-2, 3, -8),
                 (-1, int(t.max), -1), (-1, int(t.min), 1)]
    return rows


def _shl(t: DType) -> Rows:
    rows = [(1, 0, 1), (1, t.bits - 1, 1 << (t.bits - 1)), (3, 1, 6)]
    past = [(1, t.bits, 0), (5, int(t.max), 0)] if t.bits <= int(t.max) else []
    return rows + past + ([(1, -1, 0), (-1, 1, -2)] if t.kind == "i" else [])


def _shr(t: DType) -> Rows:
    rows = [(5, 0, 5), (5, 1, 2), (int(t.max), t.bits - 1, int(t.kind == "u"))]
    past = [(5, t.bits, 0), (5, int(t.max), 0)] if t.bits <= int(t.max) else []
    negative = [(-5, 1, -3), (-5, -1, -1), (5, -1, 0), (-1, t.bits - 1, -1)]
    return rows + past + (negative if t.kind == "i" else [])


def _bits(name: str, fn: Callable[[int, int], int]) -> Record:
    return binary(name, fn, dtypes=(*INTS, "bool"))


SMALL = uniform(0, 3)
BINARY = [
    binary("add", lambda a, b: a + b, tolerance=Tolerance(ulp=0.5),
           edges=[(INF, -INF, NAN), (-0.0, 0.0, 0.0), (-0.0, -0.0, -0.0)]),
    binary("add", lambda a, b: a + b, dtypes=INTS, label="int"),
    binary("sub", lambda a, b: a - b, tolerance=Tolerance(ulp=0.5), edges=[(INF, INF, NAN)]),
    binary("sub", lambda a, b: a - b, dtypes=INTS, label="int"),
    binary("mul", lambda a, b: a * b, tolerance=Tolerance(ulp=0.5),
           edges=[(INF, 0.0, NAN), (-0.0, 2.0, -0.0)]),
    binary("mul", lambda a, b: a * b, dtypes=INTS, label="int"),
    binary("div", _float_div, (anything, away_from_zero()), tolerance=Tolerance(ulp=0.5), edges=[
        (1.0, 0.0, INF), (1.0, -0.0, -INF), (0.0, 0.0, NAN), (INF, INF, NAN), (1.0, INF, 0.0)]),
    binary("div", _trunc_div, (anything, away_from_zero()), dtypes=INTS, label="int",
           edges=_div_rows),
    binary("rem", math.fmod, (uniform(4.2, 4.6), uniform(1.2, 1.35)), edges=[
        (5.0, 3.0, 2.0), (-5.0, 3.0, -2.0), (5.0, -3.0, 2.0), (1.0, 0.0, NAN), (INF, 1.0, NAN),
        (1.0, INF, 1.0), (-6.0, 3.0, -0.0), (NAN, 1.0, NAN), (0.0, 1.0, 0.0)]),
    binary("rem", lambda a, b: a - b * _trunc_div(a, b), (anything, away_from_zero()),
           dtypes=INTS, label="int", edges=_rem_rows),
    binary("max", max, edges=_extremum_rows(1.0)),
    binary("max", max, dtypes=INTS, label="int"),
    binary("min", min, edges=_extremum_rows(-1.0)),
    binary("min", min, dtypes=INTS, label="int"),
    binary("pow", math.pow, (uniform(0.3, 3), uniform(-3, 3)), tolerance=Tolerance(ulp=2),
           edges=POW_EDGES),
    binary("pow", _pow_int, (anything, uniform(0, 9)), dtypes=INTS, label="int", edges=_pow_rows),
    binary("atan2", math.atan2, (away_from_zero(), away_from_zero()), tolerance=Tolerance(ulp=3),
           edges=ATAN2_EDGES),
    _bits("and", lambda a, b: a & b),
    _bits("or", lambda a, b: a | b),
    _bits("xor", lambda a, b: a ^ b),
    binary("shl", lambda a, b: a << b, (anything, SMALL), dtypes=INTS, edges=_shl),
    binary("shr", lambda a, b: a >> b, (anything, SMALL), dtypes=INTS, edges=_shr),
]


# ---- comparison, choice, conversion

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}


def _compare(op: str) -> Record:
    fn = _COMPARE[op]
    pairs = [(NAN, NAN), (NAN, 1.0), (0.0, -0.0), (INF, INF), (-INF, INF), (1.0, 1.0), (1.0, 2.0)]
    rows = [(a, b, fn(a, b)) for a, b in pairs]
    return Record(
        "compare", _op("compare", op=op), each(lambda a, b: bool(fn(a, b))), TWO, op, ALL,
        samples=uniform(-2, 2) if op == "int" else anything, edges=rows, edge_dtypes=FLOATS,
        sizes=SIZES, wrt=(),
    )


def _select(c: Any, x: Any, y: Any) -> Any:
    return np.where(c, x, y)


def _cast(a: str, to: str, sample: Sampler = anything, edges: Rows = ()) -> Record:
    t = BY_NAME[to]

    def convert(x: Any) -> Any:
        if t.is_bool:
            return bool(x != 0)
        if t.is_int and isinstance(x, float):
            return 0 if math.isnan(x) else max(int(t.min), min(int(t.max), _trunc(x)))
        return float(x) if t.is_float else int(x)

    values = [float(np.float32(v)) if a == "f32" else v for v, *_ in edges]
    rows = [(v, convert(v)) for v in values]
    return Record(
        "cast", _op("cast", dtype=t), each(convert), ONE, f"{a}-{to}", (a,), samples=sample,
        edges=rows, sizes=SIZES, tolerance=Tolerance(ulp=0.5), wrt=(),
    )


def _trunc(x: float) -> int:
    return math.trunc(x) if math.isfinite(x) else (1 << 70) * (1 if x > 0 else -1)


WILD = [(v,) for v in (NAN, INF, -INF, 0.5, -0.5, -0.0, 1.99, -1.99, 3e4, -3e4, 3e9, -3e9, 1e19,
                       -1e19, 2147483647.0, -2147483648.0, 127.5, 128.0, 255.9, 256.0, 7.9, -9.0)]
CASTS = [
    *(_cast("f32", to, uniform(-300, 300), WILD) for to in (*INTS, "bool", "f64", "f32")),
    *(_cast("f64", to, uniform(-300, 300), WILD) for to in ("i32", "i64", "u8", "u64", "i4")),
    *(_cast("f64", to, edges=WILD) for to in ("f32", "f16", "bf16", "bool")),
    *(_cast(a, to, edges=[(NAN,), (1.5,), (-2.0,), (0.0,), (-0.0,)])
      for a, to in (("f16", "f32"), ("bf16", "f32"), ("f32", "f16"), ("f32", "bf16"),
                    ("bf16", "f16"), ("f32", "f8e4m3fn"), ("f32", "f8e5m2"), ("f8e5m2", "f32"),
                    ("f8e4m3fn", "bf16"), ("f16", "i8"), ("bf16", "i32"), ("f16", "bool"))),
    *(_cast(a, to) for a, to in (
        ("i32", "i8"), ("i8", "i32"), ("i64", "i32"), ("u8", "i8"), ("i8", "u64"), ("u64", "i16"),
        ("i32", "u4"), ("i4", "i32"), ("u4", "i4"), ("i16", "i4"), ("i32", "bool"), ("bool", "i32"),
        ("bool", "f32"), ("bool", "bf16"), ("i32", "f32"), ("i64", "f64"), ("u64", "f32"),
        ("u32", "f64"), ("i64", "f16"), ("i32", "bf16"), ("u8", "f16"), ("bool", "u8"))),
]


def _bitcast(a: str, to: str) -> Record:
    np_from, np_to = BY_NAME[a].np, BY_NAME[to].np

    def reference(x: Any) -> Any:
        bits = np.ascontiguousarray(x.astype(np_from)).tobytes()
        return np.frombuffer(bits, np_to).reshape(x.shape).astype(
            float if BY_NAME[to].is_float else object)

    return Record("bitcast", _op("bitcast", dtype=BY_NAME[to]), reference, ONE, f"{a}-{to}", (a,),
                  sizes=SIZES, wrt=())


CHOICE = [
    *(_compare(op) for op in _COMPARE),
    Record("select", _op("select"), _select, THREE, "", ALL, ("bool", None, None), sizes=SIZES),
    *CASTS,
    *(_bitcast(a, b) for a, b in (("f32", "i32"), ("u32", "f32"), ("f64", "u64"), ("i64", "f64"),
                                  ("f16", "u16"), ("bf16", "i16"), ("i8", "u8"))),
    Record("bitcast", _op("bitcast", dtype=BY_NAME["u4"]), each(lambda x: x & 15), ONE, "i4-u4",
           ("i4",), sizes=SIZES, wrt=()),
    Record("cut", _op("cut"), lambda x: x, ONE, "", ALL, sizes=SIZES),
    Record("stop_gradient", _op("stop_gradient"), lambda x: x, ONE, "", ALL, sizes=SIZES, wrt=()),
]

RECORDS = [*UNARY, *BINARY, *CHOICE]
