"""Every scalar operation on every element type, against Python integers and NumPy in f64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu import codegen, target
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dtypes as dt
from flowc.ir.dims import sym
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import BINARY, COMPARE, UNARY, Expr
from flowc.ir.kernel.form import Buffer, For, Store
from flowc.runtime.errors import UnimplementedError
from native.run import HOST, Compiled, kernel

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, about NaNs
N = sym("N")
TYPES = [t for t in dt.ALL if not t.is_complex]
INTS = [t for t in TYPES if t.is_int]
FLOATS = [t for t in TYPES if t.is_float]
NARROW = [t for t in FLOATS if t.bits < 32]
EXACT = {"neg", "abs", "sign", "sqrt", "floor", "ceil", "round"}
X86 = HOST.arch == "x86_64"
TARGETS = [HOST, *([target.level("x86-64", HOST.triple)] if X86 else [])]


def ids(x: Any) -> str:
    return str(getattr(x, "name", getattr(x, "cpu", x)))


def run(fn: Callable[..., Expr], *xs: np.ndarray, cpu: target.CpuTarget = HOST) -> np.ndarray:
    """fn, elementwise over arrays, in vectors."""
    ins = [Buffer(f"x{n}", dt.dtype(x.dtype), (N,)) for n, x in enumerate(xs)]
    i = ex.var("i", N)
    value = fn(*(b[i] for b in ins))
    out = Buffer("out", value.dtype, (N,))
    width = max(2, min(cpu.lanes(b.dtype) for b in (*ins, out)))
    body = For(i, ex.index(N), "vector", (Store(out, (i,), value),), width)
    got = np.zeros(len(xs[0]), value.dtype.np)
    Compiled(kernel(ins, [out], body), cpu=cpu).run(*xs, got, N=len(got))
    return got


def samples(t: DType) -> np.ndarray:
    """All values of narrow types, else edges and random ones."""
    rng = np.random.default_rng(5)
    if t.is_bool:
        return np.array([False, True])
    if t.bits == 4:
        return np.arange(int(t.min), int(t.max) + 1).astype(t.np)
    if t.bits == 8:
        return np.arange(256, dtype=np.uint8).view(t.np)
    raw = rng.integers(0, 1 << 16, (60, t.size // 2), dtype=np.uint16).view(t.np).ravel()
    if t.is_int:
        edges = [0, 1, 2, 3, 7, int(t.max), int(t.max) - 1, int(t.min), int(t.min) + 1, t.bits]
        edges += [] if t.kind == "u" else [-1, -2, -7]
        return np.concatenate([np.array(edges, t.np), raw])
    big = float(np.finfo(t.np).max) if t.bits >= 16 and t.name != "bf16" else 3.3e38
    edges = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, big, -big]
    near = rng.normal(size=60) * np.exp2(rng.integers(-8, 8, 60))
    with np.errstate(all="ignore"):
        return np.concatenate([np.array(edges), near]).astype(t.np).ravel()


def pairs(t: DType) -> tuple[np.ndarray, np.ndarray]:
    s = samples(t)
    a, b = np.meshgrid(s, s)
    return a.ravel().copy(), b.ravel().copy()


def wrap(x: Any, t: DType) -> np.ndarray:
    """Python integers, modulo 2^bits."""
    out = [int(v) & ((1 << t.bits) - 1) for v in x]
    if t.kind == "i":
        out = [v - (1 << t.bits) if v >> (t.bits - 1) else v for v in out]
    return np.array(out, dtype=object).astype(np.int64 if t.kind == "i" else np.uint64).astype(t.np)


def ints(x: np.ndarray) -> list[int]:
    return [int(v) for v in x]


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Equal values, NaNs and signs of zeros."""
    assert got.dtype == want.dtype
    if dt.dtype(got.dtype).is_float:
        g, w = got.astype(np.float64), want.astype(np.float64)
        np.testing.assert_array_equal(g, w)
        np.testing.assert_array_equal(np.signbit(g)[~np.isnan(w)], np.signbit(w)[~np.isnan(w)])
    else:
        np.testing.assert_array_equal(got.astype(object), want.astype(object))


# ---- integers

def trunc_div(a: int, b: int) -> int:
    return a if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def shl(a: int, b: int, t: DType) -> int:
    n = b & ((1 << t.bits) - 1)
    return a << n if n < t.bits else 0


def shr(a: int, b: int, t: DType) -> int:
    n = b & ((1 << t.bits) - 1)
    return a >> min(n, t.bits) if t.kind == "i" else (a >> n if n < t.bits else 0)


def int_pow(a: int, b: int, t: DType) -> int:
    if b < 0:
        return {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)
    return pow(a, b, 1 << t.bits)


INT_BINARY: dict[str, Callable[[int, int, DType], int]] = {
    "add": lambda a, b, t: a + b, "sub": lambda a, b, t: a - b, "mul": lambda a, b, t: a * b,
    "div": lambda a, b, t: trunc_div(a, b),
    "rem": lambda a, b, t: 0 if b == 0 else a - b * trunc_div(a, b),
    "max": lambda a, b, t: max(a, b), "min": lambda a, b, t: min(a, b),
    "and": lambda a, b, t: a & b, "or": lambda a, b, t: a | b, "xor": lambda a, b, t: a ^ b,
    "shl": shl, "shr": shr, "pow": int_pow, "mulhi": lambda a, b, t: (a * b) >> t.bits,
}
INT_UNARY: dict[str, Callable[[int, DType], int]] = {
    "neg": lambda a, t: -a, "abs": lambda a, t: abs(a), "not": lambda a, t: ~a,
    "sign": lambda a, t: (a > 0) - (a < 0),
    "popcount": lambda a, t: (a & ((1 << t.bits) - 1)).bit_count(),
}


@pytest.mark.parametrize("cpu", TARGETS, ids=ids)
@pytest.mark.parametrize("t", INTS, ids=ids)
def test_integers(t: DType, cpu: target.CpuTarget) -> None:
    a, b = pairs(t)
    if len(a) > 6000:
        keep = np.random.default_rng(3).permutation(len(a))[:6000]
        a, b = a[keep], b[keep]
    for op, fn in INT_BINARY.items():
        want = wrap([fn(x, y, t) for x, y in zip(ints(a), ints(b), strict=True)], t)
        same(run(lambda x, y, op=op: ex.binary(op, x, y), a, b, cpu=cpu), want)
    s = samples(t)
    for op, one in INT_UNARY.items():
        want = wrap([one(x, t) for x in ints(s)], t)
        same(run(lambda x, op=op: ex.unary(op, x), s, cpu=cpu), want)


@pytest.mark.parametrize("t", [dt.i8, dt.u8, dt.i32, dt.u64, dt.i4], ids=ids)
def test_constant_divisors_and_shifts(t: DType) -> None:
    s = samples(t)
    for c in (0, 1, 3, t.bits - 1, *([-1, -3] if t.kind == "i" else [])):
        for op in ("div", "rem", "shl", "shr"):
            want = wrap([INT_BINARY[op](x, c, t) for x in ints(s)], t)
            same(run(lambda x, op=op, c=c: ex.binary(op, x, ex.const(c, t)), s), want)


# ---- floats

FLOAT_BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "rem": np.fmod,
}


def extremum(op: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """NaN wins; +0 is above −0."""
    first = (a > b) | ((a == b) & ~np.signbit(a)) if op == "max" else (
        (a < b) | ((a == b) & np.signbit(a)))
    return np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(first, a, b))


@pytest.mark.parametrize("cpu", TARGETS, ids=ids)
@pytest.mark.parametrize("t", FLOATS, ids=ids)
def test_float_arithmetic_is_rounded_once(t: DType, cpu: target.CpuTarget) -> None:
    a, b = pairs(t)
    wide = np.longdouble if t.bits == 64 else np.float64
    x, y = a.astype(wide), b.astype(wide)
    for op, fn in FLOAT_BINARY.items():
        with np.errstate(all="ignore"):
            want = fn(a, b) if t.bits >= 32 else fn(x, y).astype(t.np)
        same(run(lambda p, q, op=op: ex.binary(op, p, q), a, b, cpu=cpu), want)
    for op in ("max", "min"):
        want = extremum(op, x, y).astype(t.np)
        same(run(lambda p, q, op=op: ex.binary(op, p, q), a, b, cpu=cpu), want)
        for c in (0.0, -0.0, 1.0, -1.5, np.inf, np.nan):
            s, other = samples(t), np.full(len(samples(t)), c).astype(t.np)
            want = extremum(op, s.astype(wide), other.astype(wide)).astype(t.np)
            for flip in (False, True):
                def one(p: Expr, op: str = op, c: float = c, flip: bool = flip) -> Expr:
                    pair = (ex.const(c, t), p) if flip else (p, ex.const(c, t))
                    return ex.binary(op, *pair)
                same(run(one, s, cpu=cpu), want)


@pytest.mark.parametrize("cpu", TARGETS, ids=ids)
@pytest.mark.parametrize("t", FLOATS, ids=ids)
def test_exact_functions(t: DType, cpu: target.CpuTarget) -> None:
    s = samples(t)
    x = s.astype(np.float64)
    with np.errstate(all="ignore"):
        table = {
            "neg": -x, "abs": np.abs(x), "sqrt": np.sqrt(s if t.bits >= 32 else x),
            "floor": np.floor(x), "ceil": np.ceil(x), "round": np.rint(x),
            "sign": np.where((x == 0) | np.isnan(x), x, np.copysign(1, x)),
        }
        for op in sorted(EXACT):
            got = run(lambda v, op=op: ex.unary(op, v), s, cpu=cpu)
            same(got, table[op].astype(t.np))
    nan = run(lambda v: ex.unary("is_nan", v), s, cpu=cpu)
    np.testing.assert_array_equal(nan, np.isnan(x))


def test_fma_rounds_once_where_the_target_fuses() -> None:
    if not HOST.has_fma:
        pytest.skip("no fused multiply-add")
    a = np.array([1 + 2.0**-12, 3.0], np.float32)
    got = run(lambda x: ex.fma(x, x, ex.const(-1.0, dt.f32)), a)
    np.testing.assert_array_equal(got, (a.astype(np.float64) ** 2 - 1).astype(np.float32))


# ---- all types

@pytest.mark.parametrize("t", TYPES, ids=ids)
def test_comparisons_and_select(t: DType) -> None:
    a, b = pairs(t)
    x, y = (v.astype(np.float64) if t.is_float else v.astype(object) for v in (a, b))
    for op in sorted(COMPARE):
        want = np.array(getattr(x, f"__{op}__")(y), bool)
        np.testing.assert_array_equal(run(lambda p, q, op=op: ex.compare(op, p, q), a, b), want)
    got = run(lambda p, q: ex.select(ex.compare("lt", p, q), q, p), a, b)
    want = np.where(np.array(x < y, bool), b.view(np.dtype(f"u{t.size}")),
                    a.view(np.dtype(f"u{t.size}")))
    np.testing.assert_array_equal(got.view(want.dtype), want)


def test_logic() -> None:
    a, b = pairs(dt.bool_)
    for op, fn in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        np.testing.assert_array_equal(run(lambda p, q, op=op: ex.binary(op, p, q), a, b), fn(a, b))
    np.testing.assert_array_equal(run(lambda p: ex.unary("not", p), a), ~a)
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)  # any byte but 0 is true
    assert run(lambda p: p, odd).view(np.uint8).tolist() == [0, 1, 1, 1]


def cast_reference(x: np.ndarray, src: DType, to: DType) -> np.ndarray:
    if src.is_float and to.is_int:
        out = []
        for v in x.astype(np.float64).tolist():
            lo, hi = int(to.min), int(to.max)
            out.append(0 if v != v else lo if v <= lo else hi if v >= hi else int(v))
        return wrap(out, to)
    if to.is_bool:
        return x.astype(np.float64) != 0 if src.is_float else x.astype(object) != 0
    if src.is_float:
        with np.errstate(all="ignore"):
            return narrow(x.astype(np.float64), to) if to.bits < 32 else x.astype(to.np)
    if to.is_float:
        return from_ints(ints(x), to)
    return wrap(ints(x), to)


def narrow(x: np.ndarray, to: DType) -> np.ndarray:
    """f64 to a narrow type with one rounding: by the neighbours of what ml_dtypes gives."""
    raw = np.arange(1 << to.bits, dtype=f"u{to.size}").view(to.np)
    values = raw.astype(np.float64)
    finite = np.sort(values[np.isfinite(values)])
    top, ulp = finite[-1], finite[-1] - finite[-2]
    out = []
    for v in x.tolist():
        if v != v or abs(v) == np.inf:
            out.append(v if to.name != "f8e4m3fn" else np.nan)
            continue
        at = int(np.searchsorted(finite, abs(v)))
        if at == len(finite):
            kept = top if abs(v) <= top + ulp / 2 and ties_down(top, abs(v), ulp, to) else np.inf
            out.append(np.copysign(kept, v) if kept < np.inf or to.name != "f8e4m3fn" else np.nan)
            continue
        hi, lo = finite[at], finite[max(at - 1, 0)] if finite[at] > 0 else 0.0
        up = hi - abs(v) < abs(v) - lo or (hi - abs(v) == abs(v) - lo and even(hi, to))
        out.append(np.copysign(hi if up else lo, v))
    with np.errstate(all="ignore"):
        return np.array(out).astype(to.np)


def ties_down(top: float, v: float, ulp: float, to: DType) -> bool:
    return v < top + ulp / 2 or even(top, to)


def even(v: float, to: DType) -> bool:
    return int(np.array([v]).astype(to.np).view(f"u{to.size}")[0]) % 2 == 0


def from_ints(x: list[int], to: DType) -> np.ndarray:
    """With one rounding: Python converts integers to f64 so; narrower types by halves."""
    if to.bits == 64:
        return np.array([float(v) for v in x])
    if to.bits == 32:
        out = []
        for v in x:
            f = np.float32(v)
            near = [np.nextafter(f, np.float32(-np.inf)), f, np.nextafter(f, np.float32(np.inf))]
            out.append(min(near, key=lambda c, v=v: (abs(int(c) - v), c.view(np.uint32) & 1)))
        return np.array(out, np.float32)
    sticky = [v if abs(v) < 1 << 50 else (v >> 12 | (v & 4095 != 0)) << 12 for v in x]
    return narrow(np.array([float(v) for v in sticky]), to)


@pytest.mark.parametrize("cpu", TARGETS, ids=ids)
@pytest.mark.parametrize("src", TYPES, ids=ids)
def test_casts(src: DType, cpu: target.CpuTarget) -> None:
    s = samples(src)
    for to in TYPES:
        if to != src:
            got = run(lambda x, to=to: ex.cast(x, to), s, cpu=cpu)
            same(got, cast_reference(s, src, to))


@pytest.mark.parametrize("to", NARROW, ids=ids)
def test_conversion_from_f64_does_not_round_twice(to: DType) -> None:
    values = np.arange(1 << to.bits, dtype=f"u{to.size}").view(to.np).astype(np.float64)
    finite = np.unique(np.abs(values[np.isfinite(values)]))[:2000]
    middle = (finite[1:] + finite[:-1]) / 2
    x = np.concatenate([middle, middle * (1 + 2.0**-45), middle * (1 - 2.0**-45), -middle])
    same(run(lambda v: ex.cast(v, to), x), narrow(x, to))


@pytest.mark.parametrize("t", TYPES, ids=ids)
def test_bitcasts(t: DType) -> None:
    s = samples(t)
    for to in TYPES:
        if to.bits == t.bits and not to.is_bool and not t.is_bool and t.bits != 4:
            got = run(lambda x, to=to: ex.bitcast(x, to), s)
            np.testing.assert_array_equal(got.view(f"u{t.size}"), s.view(f"u{t.size}"))


def test_every_operation_is_covered() -> None:
    """What is not tested here is in test_math.py."""
    from_math = {
        "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "tanh",
        "sigmoid", "erf", "erfinv", "lgamma", "digamma", "rsqrt", "pow", "atan2",
    }
    here = EXACT | set(INT_BINARY) | set(INT_UNARY) | set(FLOAT_BINARY) | {"is_nan", "not"}
    assert here | from_math == UNARY | BINARY


def test_complex_is_refused_by_name() -> None:
    x, y = Buffer("x", dt.c64, (N,)), Buffer("y", dt.c64, (N,))
    i = ex.var("i", N)
    k = kernel([x], [y], For(i, ex.index(N), "serial", (Store(y, (i,), x[i] + x[i]),)))
    with pytest.raises(UnimplementedError, match="c64"):
        lower_phase(k, k.phases[0], "p", HOST)


OTHERS = [("aarch64-unknown-linux-gnu", ""), ("x86_64-unknown-linux-gnu", "x86-64")]


def every_op(t: DType) -> list[Expr]:
    """All operations on loads of the type, each as an expression of it."""
    x, y = (Buffer(s, t, (N,)) for s in "xy")
    i = ex.var("i", N)
    a, b = x[i], y[i]
    if t.is_bool:
        return [ex.unary("not", a), *(ex.binary(o, a, b) for o in ("and", "or", "xor"))]
    if t.is_int:
        return [*(ex.unary(o, a) for o in INT_UNARY), *(ex.binary(o, a, b) for o in INT_BINARY)]
    ones = sorted(UNARY - {"not", "popcount", "is_nan"})
    twos = ("add", "sub", "mul", "div", "max", "min", "pow", "atan2")
    return [*(ex.unary(o, a) for o in ones), *(ex.binary(o, a, b) for o in twos), ex.fma(a, b, a)]


@pytest.mark.parametrize(("triple", "cpu"), OTHERS)
@pytest.mark.parametrize("t", TYPES, ids=ids)
def test_objects_need_no_symbol(t: DType, triple: str, cpu: str) -> None:
    """No runtime functions of compilers: artifacts have only libc and libm, and this needs none."""
    where = target.CpuTarget(triple, cpu)
    ops = every_op(t)
    outs = [Buffer(f"o{n}", t, (N,)) for n in range(len(ops))]
    i = next(e for e in ex.walk(*ops) if e.op == "var")
    body = For(i, ex.index(N), "vector", tuple(
        Store(o, (i,), e) for o, e in zip(outs, ops, strict=True)), max(2, where.lanes(t)))
    ins = list(dict.fromkeys(e.attr for e in ex.loads(*ops)))
    k = kernel(ins, outs, body)
    text = codegen.as_assembly(lower_phase(k, k.phases[0], "phase", where), where, 0)
    calls = [
        ln for ln in text.splitlines()
        if ln.split()[:1] in (["bl"], ["callq"], ["call"])
        and f"{ln.split()[1]}:" not in text  # a function of the module itself
    ]
    assert not calls, calls[:3]
