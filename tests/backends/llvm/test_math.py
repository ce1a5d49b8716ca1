"""Accuracy and edges of the transcendentals, in units of the last place, against f64 (for f32) and
against long double or the C library (for f64)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu import target
from flowc.ir import dtypes as dt
from flowc.ir.dims import sym
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Buffer, For, Store
from native.run import HOST, Compiled, kernel

N = sym("N")
LD = np.longdouble
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def run(
    op: str, *xs: np.ndarray, cpu: target.CpuTarget = HOST, width: int | None = None
) -> np.ndarray:
    t = dt.dtype(xs[0].dtype)
    ins = [Buffer(f"x{n}", t, (N,)) for n in range(len(xs))]
    out, i = Buffer("out", t, (N,)), ex.var("i", N)
    args = [b[i] for b in ins]
    value = ex.unary(op, *args) if len(args) == 1 else ex.binary(op, *args)
    body = For(i, ex.index(N), "vector", (Store(out, (i,), value),),
               width or max(2, cpu.lanes(t)))
    got = np.zeros_like(xs[0])
    Compiled(kernel(ins, [out], body), cpu=cpu).run(*xs, got, N=len(got))
    return got


def each(fn: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the C library over an array; what it refuses is NaN."""
    def one(x: float) -> float:
        try:
            return fn(x)
        except (ValueError, OverflowError):
            return math.nan
    return lambda x: np.array([one(float(v)) for v in x])


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def digamma(x: np.ndarray) -> np.ndarray:
    """ψ by recurrence to 20 and the asymptotic series, reflected below 0."""
    x = x.astype(LD)
    y = np.where(x < 0, 1 - x, x)
    total = np.zeros_like(y)
    for _ in range(20):
        total, y = total - 1 / y, y + 1
    z = 1 / (y * y)
    series = z * (LD(1) / 12 - z * (LD(1) / 120 - z * (LD(1) / 252 - z * (
        LD(1) / 240 - z * (LD(5) / 660 - z * LD(691) / 32760)))))
    out = total + np.log(y) - 1 / (2 * y) - series
    pi = LD("3.14159265358979323846264338327950288")
    return np.where(x < 0, out - pi / np.tan(pi * (x - np.rint(x))), out)


def lgamma(x: np.ndarray) -> np.ndarray:
    """ln Γ(x) for x > 0 by Stirling's series beyond 25."""
    y = x.astype(LD)
    product, large = np.ones_like(y), y > 25
    for _ in range(25):
        product, y = np.where(large, product, product * y), np.where(large, y, y + 1)
    z = 1 / (y * y)
    series = (LD(1) / 12 - z * (LD(1) / 360 - z * (LD(1) / 1260 - z * (
        LD(1) / 1680 - z * LD(1) / 1188)))) / y
    half_log = LD("0.918938533204672741780329736405617639861")
    return (y - LD(0.5)) * np.log(y) - y + half_log + series - np.log(product)


def erfinv(x: np.ndarray) -> np.ndarray:
    """By Newton's method on erfc; in f64, so for f32 only."""
    a = np.abs(x.astype(np.float64))
    y = np.sqrt(-np.log((1 - a) * (1 + a)))
    for _ in range(60):
        miss = np.array([(1 - p) - math.erfc(q) if p > 0.5 else math.erf(q) - p
                         for p, q in zip(a.tolist(), y.tolist(), strict=True)])
        y = y - miss / (2 / math.sqrt(math.pi) * np.exp(-y * y))
    return np.copysign(y, x)


# op → (reference on wider numbers, f32 bound, f64 bound, domain of samples)
UNARY: dict[str, tuple[Any, float, float, tuple[float, float]]] = {
    "exp": (np.exp, 1.0, 1.1, (-800, 800)),
    "expm1": (np.expm1, 1.5, 2.0, (-60, 720)),
    "log": (np.log, 1.0, 1.0, (0, 1e30)),
    "log1p": (np.log1p, 1.5, 1.5, (-1, 1e5)),
    "tanh": (np.tanh, 1.6, 1.6, (-30, 30)),
    "sigmoid": (sigmoid, 2.0, 2.5, (-750, 750)),
    "erf": (each(math.erf), 1.2, 2.0, (-6.5, 6.5)),
    "sin": (np.sin, 1.6, 1.0, (-(2.0**20), 2.0**20)),
    "cos": (np.cos, 1.6, 1.0, (-(2.0**20), 2.0**20)),
    "tan": (np.tan, 3.2, 2.5, (-(2.0**20), 2.0**20)),
    "asin": (np.arcsin, 1.6, 1.8, (-1, 1)),
    "acos": (np.arccos, 1.6, 1.6, (-1, 1)),
    "atan": (np.arctan, 1.6, 2.0, (-50, 50)),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.6, 1.6, (0, 1e30)),
    "lgamma": (lgamma, 1.0, 6.0, (1e-30, 200)),
    "digamma": (digamma, 1.0, 4.0, (0, 200)),
}


def samples(t: DType, low: float, high: float) -> np.ndarray:
    """Uniform, near 0 on all scales, small numbers, and edges of the interval."""
    rng = np.random.default_rng(11)
    small = rng.uniform(-1, 1, 3000) * np.exp2(rng.integers(-140, 8, 3000))
    parts = [rng.uniform(low, high, 5000), rng.uniform(-4, 4, 5000), small, [low, high]]
    x = np.concatenate(parts).astype(t.np)
    return x[(x >= low) & (x <= high)]


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distances in units of got's last place at the wanted value; overflow has to agree."""
    rounded = want.astype(got.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(np.isfinite(got), finite)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    unit = np.spacing(np.abs(rounded[finite])).astype(want.dtype)
    return np.abs(got[finite].astype(want.dtype) - want[finite]) / unit


@pytest.mark.parametrize("op", sorted(UNARY))
@pytest.mark.parametrize("t", [dt.f32, dt.f64], ids=str)
def test_accuracy(op: str, t: DType) -> None:
    reference, bound32, bound64, (low, high) = UNARY[op]
    x = samples(t, low, high)
    want = reference(x.astype(np.float64 if t.bits == 32 else LD))
    if op in ("lgamma", "digamma"):  # the references lose digits near the roots
        x, want = x[np.abs(want) > 0.05], want[np.abs(want) > 0.05]
    worst = ulps(run(op, x), want).max()
    assert worst <= (bound32 if t.bits == 32 else bound64), f"{op} {t}: {worst} ULP"


@pytest.mark.parametrize("op", ["exp", "tanh", "sin", "log", "erf"])
def test_accuracy_without_fused_operations(op: str) -> None:
    if HOST.arch != "x86_64":
        pytest.skip("for x86-64")
    reference, bound, _, (low, high) = UNARY[op]
    x = samples(dt.f32, low, high)
    got = run(op, x, cpu=target.level("x86-64", HOST.triple))
    assert ulps(got, reference(x.astype(np.float64))).max() <= bound + 0.5


@pytest.mark.parametrize("t", [dt.f32, dt.f64], ids=str)
def test_exp_without_an_instruction_that_scales(t: DType) -> None:
    """As on targets that have fused operations, and no p · 2ⁿ."""
    if HOST.arch != "x86_64" or not HOST.has_fma:
        pytest.skip("for x86-64-v3")
    reference, bound32, bound64, (low, high) = UNARY["exp"]
    x = np.concatenate([samples(t, low, high), np.array([89, 710, -104, -746, -88, -709], t.np)])
    got = run("exp", x, cpu=target.level("x86-64-v3", HOST.triple))
    wide = np.longdouble if t.bits == 64 else np.float64
    assert ulps(got, reference(x.astype(wide))).max() <= (bound32 if t.bits == 32 else bound64)


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 32, 64])
def test_exp_of_any_width(width: int) -> None:
    for t in (dt.f32, dt.f64):
        x = samples(t, -20, 20)[:333]
        want = run("exp", x)
        assert run("exp", x, width=width).tobytes() == want.tobytes()


def test_sines_far_out() -> None:
    if not HOST.has_fma:
        pytest.skip("documented with fused operations")
    x = np.random.default_rng(1).uniform(2.0**20, 2.0**30, 5000).astype(np.float32)
    for op in ("sin", "cos"):
        assert ulps(run(op, x), getattr(np, op)(x.astype(np.float64))).max() <= 2
    wide = np.random.default_rng(1).uniform(2.0**20, 2.0**36, 5000)
    if np.finfo(LD).nmant >= 63:
        error = np.abs(run("sin", wide) - np.sin(wide.astype(LD)))
        assert error.max() < 2.0**-50
    assert np.isnan(run("sin", np.array([1e20, -1e20]))).all()


def test_erfinv() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-1, 1, 4000), 1 - np.exp2(-rng.uniform(1, 24, 500))])
    x32 = x.astype(np.float32)
    x32 = x32[np.abs(x32) < 1]
    assert ulps(run("erfinv", x32), erfinv(x32)).max() <= 4
    x = np.concatenate([x, rng.uniform(-1, 1, 200) * 1e-9])
    y = run("erfinv", x)
    # back again: an error of one part in the argument is one in the inverse times its condition
    back = np.array([math.erf(v) if abs(v) < 1 else math.copysign(1 - math.erfc(abs(v)), v)
                     for v in y.tolist()])
    condition = 2 / math.sqrt(math.pi) * np.exp(-y * y) * np.spacing(np.abs(y))
    assert (np.abs(back - x) <= 3 * condition + np.spacing(np.abs(x))).all()


@pytest.mark.parametrize("op", ["lgamma", "digamma"])
def test_gamma_functions_below_zero(op: str) -> None:
    """Accurate as absolute numbers: zeros and poles lie there."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-20, 0, 4000)
    reference = each(math.lgamma) if op == "lgamma" else digamma
    want = reference(x)
    error = np.abs(run(op, x) - want) / (1 + np.abs(want))
    assert error.max() < 1e-13
    x32 = x.astype(np.float32)
    want = reference(x32.astype(np.float64))
    error = np.abs(run(op, x32) - want) / (1 + np.abs(want))
    assert error.max() < 2e-7


@pytest.mark.parametrize("t", [dt.f32, dt.f64], ids=str)
def test_pow_and_atan2(t: DType) -> None:
    rng = np.random.default_rng(6)
    a = np.concatenate([rng.uniform(0, 10, 4000), np.exp2(rng.uniform(-100, 100, 4000)),
                        1 + rng.normal(size=2000) * 1e-4]).astype(t.np)
    b = np.concatenate([rng.uniform(-20, 20, 8000), rng.uniform(-1e4, 1e4, 2000)]).astype(t.np)
    wide = np.float64 if t.bits == 32 else LD
    for op, fn, bound in (("pow", np.power, 1.3), ("atan2", np.arctan2, 2.0)):
        want = fn(a.astype(wide), b.astype(wide))
        assert ulps(run(op, a, b), want).max() <= bound
    for op, fn in (("pow", np.power), ("atan2", np.arctan2)):
        corners = np.array([0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, 2.5, np.inf, -np.inf, np.nan,
                            1e30, -1e30, 1e-30, -1e-30], t.np)
        x, y = (v.ravel().copy() for v in np.meshgrid(corners, corners))
        got, want = run(op, x, y), fn(x.astype(np.float64), y.astype(np.float64)).astype(t.np)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        known = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(want)[known])


INF, NAN, PI = math.inf, math.nan, math.pi
EDGES: dict[str, list[tuple[float, float]]] = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e4, INF), (-1e4, 0)],
    "expm1": [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -1), (1e-40, 1e-40), (-1e4, -1)],
    "log": [(0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, NAN), (-INF, NAN)],
    "log1p": [(0, 0), (-0.0, -0.0), (-1, -INF), (-2, NAN), (INF, INF), (1e-40, 1e-40)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e-40, 1e-40), (99, 1)],
    "sigmoid": [(0, 0.5), (INF, 1), (-INF, 0), (-1e4, 0), (1e4, 1)],
    "erf": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (9, 1)],
    "erfinv": [(0, 0), (-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN), (INF, NAN)],
    "sin": [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-40, 1e-40)],
    "cos": [(0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "tan": [(0, 0), (-0.0, -0.0), (INF, NAN), (1e-40, 1e-40)],
    "asin": [(0, 0), (-0.0, -0.0), (1, PI / 2), (-1, -PI / 2), (1.1, NAN), (-INF, NAN)],
    "acos": [(1, 0), (-1, PI), (0, PI / 2), (1.1, NAN), (INF, NAN)],
    "atan": [(0, 0), (-0.0, -0.0), (INF, PI / 2), (-INF, -PI / 2), (1e30, PI / 2)],
    "rsqrt": [(0, INF), (-0.0, -INF), (INF, 0), (-1, NAN), (4, 0.5)],
    "lgamma": [(1, 0), (2, 0), (0, INF), (-0.0, INF), (-1, INF), (-7, INF), (INF, INF),
               (-INF, INF)],
    "digamma": [(0, -INF), (-0.0, INF), (-1, NAN), (-INF, NAN), (INF, INF)],
}


@pytest.mark.parametrize("op", sorted(EDGES))
@pytest.mark.parametrize("t", [dt.f32, dt.f64], ids=str)
def test_edges(op: str, t: DType) -> None:
    x = np.array([p for p, _ in EDGES[op]] + [NAN], t.np)
    want = np.array([q for _, q in EDGES[op]] + [NAN]).astype(t.np)
    got = run(op, x)
    np.testing.assert_array_equal(got, want)
    known = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(want)[known])


@pytest.mark.parametrize("t", [dt.f32, dt.f64], ids=str)
def test_exp_at_its_thresholds(t: DType) -> None:
    """The last finite, the first infinite, denormal and zero results."""
    info = np.finfo(t.np)
    top, bottom = np.log(LD(info.max)), np.log(LD(info.smallest_subnormal) / 2)
    x = np.array([top, bottom, np.log(LD(info.smallest_normal))]).astype(t.np)
    x = np.concatenate([x, np.nextafter(x, t.np.type(0)), np.nextafter(x, x * 2)])
    want = np.exp(x.astype(LD)).astype(t.np)
    got = run("exp", x)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    assert (np.abs(got[got < 1] - want[want < 1]) <= info.smallest_subnormal).all()
    np.testing.assert_allclose(got, want, rtol=4 * float(info.eps), atol=0)


@pytest.mark.parametrize("t", [dt.f16, dt.bf16, dt.f8e5m2, dt.f8e4m3fn], ids=str)
def test_narrow_floats_are_rounded_once(t: DType) -> None:
    """All values of the type: the result is the right one or, for a tie in f32, its neighbour."""
    raw = np.arange(1 << t.bits, dtype=f"u{t.size}").view(t.np)
    wide = raw.astype(np.float64)
    for op in ("exp", "log", "tanh", "sigmoid", "sin"):
        keep = raw[np.abs(wide) < 1e6] if op == "sin" else raw
        want = UNARY[op][0](keep.astype(np.float64)).astype(np.float32).astype(t.np)
        got = run(op, keep)
        bits = np.dtype(f"u{t.size}")
        distance = np.abs(got.view(bits).astype(int) - want.view(bits).astype(int))
        nan = np.isnan(want.astype(np.float32))
        assert (distance[~nan] <= 1).all()
        assert (distance[~nan] == 0).mean() > 0.999
        np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), nan)
