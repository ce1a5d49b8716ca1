"""One way (or several) to add each op to a growing program, for an element type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.dtypes import BY_NAME, DType, bool_, f32, f64, i32, i64, u32, u64
from flowc.ir.types import TensorType
from fuzz.program import Growing, Reject, between, numbers

FLOATS = ("f32", "f64", "f16", "bf16")
F8 = ("f8e4m3fn", "f8e5m2")
SIGNED = ("i32", "i64", "i8", "i16", "i4")
UNSIGNED = ("u32", "u64", "u8", "u16", "u4")
INTS = SIGNED + UNSIGNED
NUMBERS = (*FLOATS, *INTS)
EVERY = (*NUMBERS, "bool")
WIDTHS = {16: ("f16", "bf16", "i16", "u16"), 32: ("f32", "i32", "u32"), 64: ("f64", "i64", "u64"),
          8: ("i8", "u8"), 4: ("i4", "u4")}

Emitter = Callable[[Growing, DType], Any]
TABLE: dict[str, tuple[tuple[str, ...], Emitter]] = {}


def op(name: str, *kinds: str) -> Callable[[Emitter], Emitter]:
    """Register an emitter for an op and the element types that it takes."""
    def add(fn: Emitter) -> Emitter:
        TABLE[name] = (kinds, fn)
        return fn
    return add


# ---- elementwise

def clip(g: Growing, x: Value, to: float) -> Value:
    """x within ±to."""
    return g.do(lambda b: b.max(b.min(x, b.const(to, x)), b.const(-to, x)))  # type: ignore[no-any-return]


def positive(g: Growing, x: Value, least: float = 0.375) -> Value:
    """|x| + least, where x may be anything; at most 8."""
    y = x if g.t(x).kind == "u" else g.emit("abs", x)
    return g.do(lambda b: b.add(b.min(y, b.const(8, y)), b.const(least, y)))  # type: ignore[no-any-return]


DOMAIN: dict[str, Callable[[Growing, Value], Value]] = {
    **dict.fromkeys(("sqrt", "rsqrt", "log", "lgamma", "digamma"), positive),
    **{n: lambda g, x: clip(g, x, 0.875) for n in ("asin", "acos", "erfinv", "log1p")},
    **{n: lambda g, x: clip(g, x, 3.0) for n in ("exp", "expm1")},
    # beyond 2^48 ours are NaN, by their documentation
    **{n: lambda g, x: clip(g, x, 64.0) for n in ("sin", "cos")},
    "tan": lambda g, x: clip(g, x, 1.25),
}
EXACT_UNARY = ("sign", "floor", "ceil", "round")


def _unary(name: str) -> Emitter:
    def emit(g: Growing, t: DType) -> Any:
        x = g.pick(t, exact=name in EXACT_UNARY)
        return g.emit(name, DOMAIN[name](g, x) if name in DOMAIN else x)
    return emit


MATHS = (
    "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan", "asin", "acos", "atan",
    "tanh", "sigmoid", "erf", "erfinv", "lgamma", "digamma", "floor", "ceil", "round",
)
for _name in MATHS:
    TABLE[_name] = (FLOATS, _unary(_name))
TABLE["neg"] = ((*NUMBERS, *F8), _unary("neg"))
TABLE["abs"] = (NUMBERS, _unary("abs"))
TABLE["sign"] = (NUMBERS, _unary("sign"))
TABLE["not"] = ((*INTS, "bool"), _unary("not"))


def _binary(name: str) -> Emitter:
    def emit(g: Growing, t: DType) -> Any:
        x = g.pick(t, exact=name == "rem")
        y = g.pick(t, x.ty.shape, exact=name == "rem")
        if name in ("div", "rem"):
            y = positive(g, y) if t.is_float else g.emit("or", y, g.const(1, y))
        if name == "pow" and t.is_float:
            x, y = positive(g, clip(g, x, 2.0)), clip(g, y, 2.0)
        return g.emit(name, x, y)
    return emit


for _name in ("add", "sub", "mul", "div", "rem", "max", "min", "pow"):
    TABLE[_name] = (NUMBERS, _binary(_name))
for _name in ("and", "or", "xor"):
    TABLE[_name] = ((*INTS, "bool"), _binary(_name))
for _name in ("shl", "shr"):
    TABLE[_name] = (INTS, _binary(_name))
TABLE["atan2"] = (FLOATS, _binary("atan2"))


@op("compare", *EVERY)
def compare(g: Growing, t: DType) -> Any:
    x = g.pick(t, exact=True)
    kinds = ("eq", "ne") if t.is_bool else ("eq", "ne", "lt", "le", "gt", "ge")
    return g.emit("compare", x, g.pick(t, x.ty.shape, exact=True), op=g.choose(kinds))


@op("select", *EVERY)
def select(g: Growing, t: DType) -> Any:
    x = g.pick(t)
    return g.emit("select", g.pick(bool_, x.ty.shape, exact=True), x, g.pick(t, x.ty.shape))


@op("cast", *EVERY, *F8)
def cast(g: Growing, t: DType) -> Any:
    to = BY_NAME[g.choose((*EVERY, *F8))]
    return g.emit("cast", g.pick(t, exact=t.is_float and not to.is_float), dtype=to)


@op("bitcast", *NUMBERS)
def bitcast(g: Growing, t: DType) -> Any:
    to = [n for n in WIDTHS[t.bits] if n not in FLOATS] or WIDTHS[t.bits]
    return g.emit("bitcast", g.pick(t, exact=True), dtype=BY_NAME[g.choose(to)])


@op("cut", *EVERY)
def cut(g: Growing, t: DType) -> Any:
    return g.emit("cut", g.pick(t))


@op("stop_gradient", *EVERY)
def stop_gradient(g: Growing, t: DType) -> Any:
    return g.emit("stop_gradient", g.pick(t))


# ---- from nothing

@op("iota", *NUMBERS)
def iota(g: Growing, t: DType) -> Any:
    shape = g.shape() or (g.dims[1],)
    return g.emit("iota", dtype=t, shape=shape, axis=g.int(0, len(shape) - 1))


@op("dim_size", "i32", "i64", "f32", "f64")
def dim_size(g: Growing, t: DType) -> Any:
    d = g.choose(g.dims)
    return g.emit("dim_size", dim=dims.add(dims.mul(d, g.int(1, 3)), g.int(0, 2)), dtype=t)


@op("constant", *EVERY)
def constant(g: Growing, t: DType) -> Any:
    shape = g.shape()
    if not all(isinstance(d, int) for d in shape) or g.count(shape) > 4096 or g.chance(0.2):
        shape = ()
    return g.do(lambda b: b.const(numbers(t)(g.rng, g.size(shape)), t))


@op("random_bits", "u32", "u64")
def random_bits(g: Growing, t: DType) -> Any:
    step = g.pick(u64, (), exact=True)
    return g.emit("random_bits", step, key0=g.int(0, 2**32 - 1), key1=7, shape=g.shape(), dtype=t)


# ---- moves

@op("broadcast", *EVERY)
def broadcast(g: Growing, t: DType) -> Any:
    x = g.pick(t)
    shape: list[Any] = list(x.ty.shape)
    at = list(range(len(shape)))
    for _ in range(g.int(1, 2)):
        n = g.int(0, len(shape))
        shape.insert(n, g.choose([*g.dims, 1, 2, 3]))
        at = [a + (a >= n) for a in at]
    if g.count(tuple(shape)) > 20_000:
        raise Reject("large")
    return g.emit("broadcast", x, shape=tuple(shape), dims=tuple(at))


@op("reshape", *EVERY)
def reshape(g: Growing, t: DType) -> Any:
    x = g.pick(t)
    s = x.ty.shape
    ways: list[Any] = [(*s, 1), (1, *s), (dims.product(s),)]
    if len(s) >= 2:
        ways += [(dims.mul(s[0], s[1]), *s[2:]), s[::-1], (*s[1:], s[0])]
    ways += [(*s[:n], d // k, k, *s[n + 1:]) for n, d in enumerate(s) for k in (2, 3, 4, 5)
             if isinstance(d, int) and d and d % k == 0]
    return g.emit("reshape", x, shape=tuple(g.choose(ways)))


def ranked(g: Growing, t: DType, least: int = 1, exact: bool = False) -> Value:
    """A value with at least so many axes."""
    for _ in range(8):
        x = g.pick(t, exact=exact)
        if x.ty.rank >= least:
            return x
    return g.pick(t, (g.dims[0], g.dims[1]) if least < 3 else g.shapes[5], exact)


@op("transpose", *EVERY)
def transpose(g: Growing, t: DType) -> Any:
    x = ranked(g, t, 2)
    return g.emit("transpose", x, perm=tuple(map(int, g.rng.permutation(x.ty.rank))))


@op("reverse", *EVERY)
def reverse(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    axes = [a for a in range(x.ty.rank) if g.chance(0.6)]
    return g.emit("reverse", x, axes=tuple(axes or [x.ty.rank - 1]))


@op("slice", *EVERY)
def slice_(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    lo, hi, step = [], [], []
    for d in x.ty.shape:
        if isinstance(d, int):
            a = g.int(0, min(d, 3))
            lo.append(a)
            hi.append(g.int(a, d))
        else:
            lo.append(g.choose([0, 0, dims.floordiv(d, 2)]))
            hi.append(d)
        step.append(g.choose([1, 1, 2, 3]))
    return g.emit("slice", x, starts=tuple(lo), limits=tuple(hi), strides=tuple(step))


@op("pad", *EVERY)
def pad(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    lo, hi, inner = [], [], []
    for d in x.ty.shape:
        least = -1 if isinstance(d, int) and d > 2 else 0
        lo.append(g.int(least, 2))
        hi.append(g.int(least, 2))
        inner.append(g.choose([0, 0, 0, 1, 2]))
    return g.emit("pad", x, g.pick(t, ()), lo=tuple(lo), hi=tuple(hi), interior=tuple(inner))


@op("concat", *EVERY)
def concat(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    more = [g.pick(t, x.ty.shape) for _ in range(g.int(1, 3))]
    return g.emit("concat", x, *more, axis=g.int(0, x.ty.rank - 1))


def starts(g: Growing, x: Value) -> list[Value]:
    kind = BY_NAME[g.choose(("i32", "i64"))]
    return [g.pick(kind, (), exact=True) for _ in x.ty.shape]


@op("dynamic_slice", *EVERY)
def dynamic_slice(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    sizes = tuple(g.int(min(d, 1), d) if isinstance(d, int) else d for d in x.ty.shape)
    return g.emit("dynamic_slice", x, *starts(g, x), sizes=sizes)


@op("dynamic_update_slice", *EVERY)
def dynamic_update_slice(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    sizes = tuple(g.int(min(d, 1), d) if isinstance(d, int) else d for d in x.ty.shape)
    return g.emit("dynamic_update_slice", x, g.pick(t, sizes), *starts(g, x))


# ---- reductions and windows

@op("reduce", *NUMBERS, "bool")
def reduce(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    axes = tuple(a for a in range(x.ty.rank) if g.chance(0.5)) or (g.int(0, x.ty.rank - 1),)
    kind = g.choose(("and", "or") if t.is_bool else ("sum", "sum", "max", "min", "prod"))
    if kind == "prod" and t.is_float:
        x = g.do(lambda b: b.add(b.mul(b.sin(x), b.const(0.03, x)), b.const(1, x)))
    return g.emit("reduce", x, op=kind, axes=axes)


@op("cumulative", *NUMBERS)
def cumulative(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    kind = g.choose(("sum", "max", "min") if t.is_float else ("sum", "prod", "max", "min"))
    return g.emit("cumulative", x, op=kind, axis=g.int(0, x.ty.rank - 1),
                  exclusive=kind not in ("max", "min") and g.chance(0.3), reverse=g.chance(0.3))


def image(g: Growing, t: DType, exact: bool = False) -> Value:
    """A value with four axes, not large."""
    shape = (g.choose([1, 2, g.dims[2]]), g.int(1, 9), g.int(1, 9), g.choose([1, 3, 8, 17]))
    if g.count(shape) > 8000:
        raise Reject("large")
    return g.pick(t, shape, exact)


@op("reduce_window", *FLOATS, "i32", "i64", "i8", "u8", "u32")
def reduce_window(g: Growing, t: DType) -> Any:
    x = image(g, t) if g.chance(0.5) else ranked(g, t)
    r = x.ty.rank
    window = tuple(g.choose([1, 2, 3]) for _ in range(r))
    return g.emit(
        "reduce_window", x, op=g.choose(("sum", "max", "min")), window=window,
        strides=tuple(g.int(1, 2) for _ in range(r)),
        dilation=tuple(g.choose([1, 1, 2]) for _ in range(r)),
        pads=tuple((g.int(0, w - 1), g.int(0, w)) for w in window))


@op("select_and_scatter", *FLOATS)
def select_and_scatter(g: Growing, t: DType) -> Any:
    x = image(g, t, exact=True)
    window = (1, g.int(1, 3), g.int(1, 3), 1)
    settings: dict[str, Any] = {"window": window, "strides": (1, g.int(1, 2), g.int(1, 2), 1),
                                "pads": tuple((g.int(0, w - 1), g.int(0, 1)) for w in window)}
    y = g.emit("reduce_window", x, op="max", dilation=(1,) * 4, **settings)
    return g.emit("select_and_scatter", x, g.pick(t, y.ty.shape), **settings)


# ---- contracts

EDGES = (1, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 97)


@op("dot", *FLOATS, "i32", "i64", "i8", "u8")
def dot(g: Growing, t: DType) -> Any:
    m, k, n = (g.choose([*EDGES, g.dims[0], g.dims[1]]) for _ in range(3))
    if g.count((m, k, n)) > 600_000:
        raise Reject("large")
    way = g.int(0, 5)
    none: tuple[Any, Any] = ((), ())
    if way == 0:
        a, c = g.pick(t, (k, m)), g.pick(t, (n, k))
        return g.emit("dot", a, c, contract=((0,), (1,)), batch=none)
    if way == 1:
        return g.emit("dot", g.pick(t, (m, k)), g.pick(t, (k,)), contract=((1,), (0,)), batch=none)
    if way == 2:
        d = g.choose([2, 3, g.dims[2]])
        a, c = g.pick(t, (d, m, k)), g.pick(t, (d, k, n))
        return g.emit("dot", a, c, contract=((2,), (1,)), batch=((0,), (0,)))
    if way == 3:
        a, c = g.pick(t, (m, k)), g.pick(t, (n, k))
        return g.emit("dot", a, c, contract=((1,), (1,)), batch=none)
    return g.emit("dot", g.pick(t, (m, k)), g.pick(t, (k, n)), contract=((1,), (0,)), batch=none)


@op("conv", *FLOATS, "i32")
def conv(g: Growing, t: DType) -> Any:
    groups = g.choose([1, 1, 1, 2, 3])
    cin, cout = g.choose([1, 3, 8, 16]), groups * g.choose([1, 4, 16, 17])
    x = g.pick(t, (g.choose([1, 2, g.dims[2]]), g.int(1, 9), g.int(1, 9), groups * cin))
    taps = (g.int(1, 3), g.int(1, 3))
    w = g.pick(t, (*taps, cin, cout))
    if g.count(x.ty.shape) * g.count(w.ty.shape) > 4_000_000:
        raise Reject("large")
    return g.emit(
        "conv", x, w, strides=(g.int(1, 2), g.int(1, 2)), groups=groups,
        pads=tuple((g.int(-1 if t.is_float else 0, k), g.int(0, k)) for k in taps),
        lhs_dilation=(g.choose([1, 1, 2]), 1), rhs_dilation=(1, g.choose([1, 1, 2])))


# ---- indices

def indices(g: Growing, x: Value, bounds: str) -> tuple[Value, int]:
    """Positions in x, of one or two axes behind at most one batch axis; how many are batch axes."""
    if len(g.args) > 20:
        raise Reject("many arguments")
    batch = int(x.ty.rank >= 2 and g.chance(0.25))
    k = 2 if x.ty.rank - batch >= 2 and g.chance(0.3) else 1
    n = g.choose([1, 5, 16, 33, g.dims[0]])
    high = min((*g.size(x.ty.shape[batch : batch + k]), 100))
    kind = BY_NAME[g.choose(("i32", "i64", "u8", "i8"))]
    if bounds == "check":
        if high < 1:
            raise Reject("no valid index")
        sample = between(kind, 0, high - 1)
    else:
        sample = between(kind, -1 if kind.kind == "i" else 0, high)
    return g.param(kind, (*x.ty.shape[:batch], n, k), sample), batch


@op("gather", *EVERY)
def gather(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    bounds = g.choose(("check", "clamp", "zero"))
    at, batch = indices(g, x, bounds)
    return g.emit("gather", x, at, batch=batch, bounds=bounds)


@op("scatter", *EVERY)
def scatter(g: Growing, t: DType) -> Any:
    x = ranked(g, t)
    bounds = g.choose(("check", "drop"))
    kinds = ("set",) if t.is_bool else ("set", "add", "max", "min")
    at, batch = indices(g, x, bounds)
    shape = (*at.ty.shape[:-1], *x.ty.shape[batch + int(at.ty.shape[-1]) :])  # type: ignore[arg-type]
    return g.emit("scatter", x, at, g.pick(t, shape), op=g.choose(kinds), batch=batch,
                  bounds=bounds)


@op("sort", *EVERY)
def sort(g: Growing, t: DType) -> Any:
    x = ranked(g, t, exact=True)
    if g.count(x.ty.shape) > 4000:
        raise Reject("large")
    more = [g.pick(BY_NAME[g.choose(EVERY)], x.ty.shape)] if g.chance(0.4) else []
    return g.emit("sort", x, *more, axis=g.int(0, x.ty.rank - 1), descending=g.chance(0.4))


@op("nonzero", "bool", "i32", "f32", "u8")
def nonzero(g: Growing, t: DType) -> Any:
    x = g.pick(t, exact=True)
    if g.count(x.ty.shape) > 3000:
        raise Reject("large")
    found, count = g.do(lambda b: b.nonzero(x, symbol=str(b.fresh_symbol("N"))))
    if g.chance(0.5):
        g.do(lambda b: b.reduce(b.cast(found, dtype=f32 if g.chance(0.5) else i64), op="max",
                                axes=(0,)))
    return found, count


# ---- control flow

def _step(g: Growing, b: Any, x: Value, y: Value) -> Value:
    """One or two ops that stay bounded."""
    if not g.t(x).is_float:
        return g.choose([b.add, b.sub, b.__getattr__("xor")])(x, y)  # type: ignore[no-any-return]
    half = b.mul(x, b.const(0.5, x))
    return g.choose([  # type: ignore[no-any-return]
        lambda: b.tanh(b.add(x, y)), lambda: b.add(half, b.mul(y, b.const(0.25, y))),
        lambda: b.sub(b.sin(x), half), lambda: b.max(half, b.min(y, b.const(1, y))),
    ])()


def _function(g: Growing, name: str, types: list[TensorType], make: Any) -> Any:
    from_b = g.b.child(name)
    return from_b.finish(make(from_b, *(from_b.param(t) for t in types)))


def _small(g: Growing, t: DType) -> Value:
    for _ in range(6):
        x = g.pick(t)
        if g.count(x.ty.shape) <= 600:
            return x
    raise Reject("large")


LOOPED = ("f32", "f64", "bf16", "i32", "u8")


@op("cond", *LOOPED)
def cond(g: Growing, t: DType) -> Any:
    x = _small(g, t)
    y = g.pick(t, x.ty.shape)
    types = [x.ty, y.ty]
    one, two = (_function(g, n, types, lambda b, x, y: [_step(g, b, x, y), y])
                for n in ("then", "otherwise"))
    return g.emit("cond", g.pick(bool_, (), exact=True), x, y, then=one, otherwise=two)


@op("while", *LOOPED)
def while_(g: Growing, t: DType) -> Any:
    x = _small(g, t)
    y = g.pick(t, x.ty.shape)
    rounds = g.param(i32, (), between(i32, 0, 4))
    start = g.const(0, rounds)
    types = [start.ty, x.ty, rounds.ty, y.ty]
    test = _function(g, "test", types, lambda b, i, x, n, y: [b.compare(i, n, op="lt")])
    body = _function(g, "body", types,
                     lambda b, i, x, n, y: [b.add(i, b.const(1, i)), _step(g, b, x, y)])
    return g.emit("while", start, x, rounds, y, cond=test, body=body, carried=2,
                  max_trips=g.choose([None, None, 3]))


@op("scan", *LOOPED)
def scan(g: Growing, t: DType) -> Any:
    x = _small(g, t)
    trip = g.choose([g.dims[2], 1, 3, 5])
    xs = g.pick(t, (trip, *x.ty.shape))
    y = g.pick(t, x.ty.shape)
    types = [x.ty, x.ty, y.ty]

    def step(b: Any, x: Value, e: Value, y: Value) -> list[Value]:
        new = _step(g, b, x, e)
        return [new, _step(g, b, new, y)] if g.chance(0.6) else [new]

    body = _function(g, "body", types, step)
    return g.emit("scan", x, xs, y, body=body, carried=1, xs=1, trip=trip, reverse=g.chance(0.4))


assert f64
assert u32
