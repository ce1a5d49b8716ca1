"""Patterns that fusion and schedules look for, in sizes around their edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.ir.core import Value
from flowc.ir.dtypes import BY_NAME, DType
from fuzz.program import Growing

Motif = Callable[[Growing, DType], Any]
MOTIFS: dict[str, Motif] = {}


def motif(fn: Motif) -> Motif:
    MOTIFS[fn.__name__] = fn
    return fn


def dot(b: Any, x: Value, y: Value) -> Value:
    return b.dot(x, y, contract=((1,), (0,)), batch=((), ()))  # type: ignore[no-any-return]


def scaled(b: Any, y: Value, by: float) -> Value:
    """y · by."""
    return b.mul(y, b.const(by, y))  # type: ignore[no-any-return]


def row_reduce(b: Any, x: Value, kind: str) -> Value:
    """A reduction of the last axis, spread again."""
    r = x.ty.rank - 1
    out = b.reduce(x, op=kind, axes=(r,))
    return b.broadcast(out, shape=x.ty.shape, dims=tuple(range(r)))  # type: ignore[no-any-return]


def image(g: Growing, t: DType) -> Value:
    """A matrix of rows, mostly the program's own."""
    rows, columns = g.choose([g.dims[0], 3, 65]), g.choose([g.dims[1], 1, 15, 16, 17, 130])
    return g.pick(t, (rows, columns))


@motif
def softmax(g: Growing, t: DType) -> Any:
    x = image(g, t)

    def build(b: Any) -> Value:
        e = b.exp(b.sub(x, row_reduce(b, x, "max")))
        return b.div(e, row_reduce(b, e, "sum"))  # type: ignore[no-any-return]
    return g.do(build) if g.count(x.ty.shape[1:]) else None


@motif
def layer_norm(g: Growing, t: DType) -> Any:
    x = image(g, t)

    def build(b: Any) -> Value:
        n = 1 / max(1, g.count(x.ty.shape[1:]))
        d = b.sub(x, b.mul(row_reduce(b, x, "sum"), b.const(n, x)))
        v = b.mul(row_reduce(b, b.mul(d, d), "sum"), b.const(n, x))
        return b.mul(d, b.rsqrt(b.add(v, b.const(0.5, v))))  # type: ignore[no-any-return]
    return g.do(build)


@motif
def columns(g: Growing, t: DType) -> Any:
    """Sums over rows, and something on top of them."""
    rows = g.choose([511, 512, 513, 1024, 1025, 2049, g.dims[0]])
    last = g.choose([1, 7, 8, 9, 16, 17, 33])
    shape = (rows, last) if g.chance(0.8) else (rows, 2, last)
    x = g.pick(t, shape)

    def build(b: Any) -> Value:
        total = b.reduce(x, op=g.choose(["sum", "max", "sum"]), axes=(0,))
        scaled = b.mul(total, b.const(1 / 64, total))
        return b.tanh(scaled) if g.chance(0.5) else scaled
    return g.do(build)


@motif
def whole(g: Growing, t: DType) -> Any:
    """One number of many, with an epilogue; around the sizes at which it is cut into pieces."""
    n = g.choose([16383, 16384, 16385, 32769, 40000, 33])
    shape = (n,) if g.chance(0.6) else (g.choose([130, 257]), g.choose([129, 128, 131]))
    x = g.param(t, shape) if len(g.args) < 20 else g.pick(t, shape)

    def build(b: Any) -> Value:
        y = b.mul(x, b.const(0.125, x)) if g.chance(0.5) else x
        if g.chance(0.3):
            y = b.transpose(y, perm=tuple(range(y.ty.rank))[::-1])
        total = b.reduce(y, op=g.choose(["sum", "max", "sum"]), axes=tuple(range(y.ty.rank)))
        return b.tanh(b.mul(total, b.const(1 / 512, total)))  # type: ignore[no-any-return]
    return g.do(build)


@motif
def flat(g: Growing, t: DType) -> Any:
    """Elementwise work around the size of a chunk."""
    n = g.choose([16383, 16384, 16385, 32768, 32769, 511, 512, 513])
    x = g.param(t, (n,)) if len(g.args) < 20 else g.pick(t, (n,))
    return g.do(lambda b: b.add(b.sin(x), b.mul(x, b.const(0.5, x))))


@motif
def dense(g: Growing, t: DType) -> Any:
    """A layer: product, bias, activation; sometimes a large second factor, which is packed."""
    m = g.choose([g.dims[0], 1, 2, 11, 12, 13, 33, 130, 160])
    k, n = g.choose([(17, 33), (64, 64), (65, 47), (1, 16), (300, 450), (520, 260), (260, 513)])
    x, w = g.pick(t, (m, k)), g.pick(t, (k, n))
    c = g.pick(t, (n,))

    def build(b: Any) -> Value:
        y = scaled(b, dot(b, x, w), 1 / 32)
        y = b.add(y, b.broadcast_to(c, y.ty.shape))
        return g.choose([b.tanh, lambda v: b.max(v, b.const(0, v))])(y)  # type: ignore[no-any-return]
    return g.do(build)


@motif
def along(g: Growing, t: DType) -> Any:
    """Products with lanes along k: a matrix times a vector, or a transposed matrix."""
    m, k = g.choose([g.dims[0], 1, 4, 33]), g.choose([15, 16, 17, 47, 130, 513])
    x = g.pick(t, (m, k))
    w = g.pick(t, (k,)) if g.chance(0.5) else g.pick(t, (g.choose([1, 2, 3, 5]), k))
    return g.do(lambda b: b.dot(x, w, contract=((1,), (w.ty.rank - 1,)), batch=((), ())))


@motif
def served(g: Growing, t: DType) -> Any:
    """A layer for any number of rows: several variants, chosen when it runs."""
    rows = [d for d in g.dims if not isinstance(d, int)]
    if not rows:
        return dense(g, t)
    x = g.pick(t, (g.choose(rows), g.choose([16, 65, 300])))
    w = g.pick(t, (x.ty.shape[1], g.choose([17, 64, 450])))
    return g.do(lambda b: b.tanh(scaled(b, dot(b, x, w), 1 / 16)))


@motif
def deep(g: Growing, t: DType) -> Any:
    """A long sum of products, cut into blocks of k."""
    k = g.choose([4095, 4096, 4097, 5000])
    x, w = g.pick(t, (g.choose([1, 3, 13]), k)), g.pick(t, (k, g.choose([1, 9, 16])))
    return g.do(lambda b: scaled(b, dot(b, x, w), 1 / 512))


@motif
def attention(g: Growing, t: DType) -> Any:
    """Two products and the rows between them, in the forms that programs write."""
    n, m = g.choose([g.dims[0], 8, 16, 33]), g.choose([g.dims[1], 5, 16, 33, 65])
    d, e = g.choose([8, 16, 17]), g.choose([3, 16, 33])
    lead = g.choose([(), (3,), (g.dims[2],)])
    if g.count((*lead, n, m)) > 20_000 or not g.count((n, m)):
        return None
    q, k, v = g.pick(t, (*lead, n, d)), g.pick(t, (*lead, m, d)), g.pick(t, (*lead, m, e))
    mask = g.pick(t, (n, m)) if g.chance(0.4) else None
    early, late, moved = g.chance(0.5), g.chance(0.3), g.chance(0.5)
    r, at = len(lead), tuple(range(len(lead)))

    def build(b: Any) -> Value:
        a = scaled(b, q, 0.125) if early else q
        s = b.dot(a, k, contract=((r + 1,), (r + 1,)), batch=(at, at))
        s = s if early else scaled(b, s, 0.125)
        if mask is not None:
            s = b.add(s, b.broadcast_to(mask, s.ty.shape))
        x = b.exp(b.sub(s, row_reduce(b, s, "max")))
        p = x if late else b.div(x, row_reduce(b, x, "sum"))
        y = b.dot(p, v, contract=((r + 1,), (r,)), batch=(at, at))
        if late:
            total = b.reduce(x, op="sum", axes=(r + 1,))
            y = b.div(y, b.broadcast(total, shape=y.ty.shape, dims=tuple(range(r + 1))))
        return b.transpose(y, perm=(1, 0, 2)) if r and moved else y  # type: ignore[no-any-return]
    return g.do(build)


@motif
def convolution(g: Growing, t: DType) -> Any:
    x = g.pick(t, (g.choose([1, 2, g.dims[2]]), g.int(3, 12), g.int(3, 12), g.choose([3, 16])))
    if g.count(x.ty.shape) > 20_000:
        return None
    w = g.pick(t, (3, 3, x.ty.shape[3], g.choose([8, 16, 33])))

    def build(b: Any) -> Value:
        y = b.conv(x, w, strides=(1, g.int(1, 2)), pads=((1, 1), (1, 1)), lhs_dilation=(1, 1),
                   rhs_dilation=(1, 1), groups=1)
        y = b.mul(y, b.const(1 / 16, y))
        return b.max(y, b.const(0, y))  # type: ignore[no-any-return]
    return g.do(build)


@motif
def several(g: Growing, t: DType) -> Any:
    """A value that several read, by itself and through views."""
    x = image(g, t)

    def build(b: Any) -> Any:
        y = b.sin(x)
        return b.add(y, x), b.transpose(y, perm=(1, 0)), b.reshape(y, shape=(*y.ty.shape, 1))
    return g.do(build)


@motif
def recurrent(g: Growing, t: DType) -> Any:
    """A recurrent net: a product with a weight that is packed ahead of the loop, carried values
    that change places, rows of arrays read and written; as a scan, or counted with a gather."""
    t = BY_NAME["f32"] if t.bits == 16 else t  # rounding errors grow from round to round
    rows, n = g.choose([g.dims[0], 1, 4, 13]), g.choose([16, 33, 65])
    trip = g.choose([0, 1, 2, 3])
    h, w, xs = g.pick(t, (rows, n)), g.pick(t, (n, n)), g.pick(t, (trip, rows, n))
    swaps, keeps = g.chance(0.5), g.chance(0.6)

    def step(b: Any, now: Value, before: Value, e: Value, w: Value) -> list[Value]:
        new = b.tanh(b.add(scaled(b, dot(b, now, w), 1 / 32), e))
        old = now if swaps else b.add(scaled(b, before, 0.5), new)
        return [new, old, *([b.mul(new, old)] if keeps else [])]

    def scan(b: Any) -> Any:
        inner = b.child("body")
        now, before, e, fixed = (inner.param(v.ty) for v in (h, h, h, w))
        body = inner.finish(step(inner, now, before, e, fixed))
        return b.scan(h, h, xs, w, body=body, carried=2, xs=1, trip=trip, reverse=g.chance(0.4))

    def counted(b: Any) -> Any:
        start = b.const(0, BY_NAME["i32"])
        types = [v.ty for v in (start, h, h, xs, w)]
        test, inner = b.child("test"), b.child("body")
        i, *_ = (test.param(ty) for ty in types)
        ends = test.finish([test.compare(i, test.const(trip, i), op="lt")])
        i, now, before, x, fixed = (inner.param(ty) for ty in types)
        e = inner.gather(x, inner.reshape(i, shape=(1,)), batch=0, bounds="check")
        after = step(inner, now, before, e, fixed)[:2]
        body = inner.finish([inner.add(i, inner.const(1, i)), *after])
        return b.__getattr__("while")(start, h, h, xs, w, cond=ends, body=body, carried=3)
    return g.do(g.choose([scan, counted]))


@motif
def cheap_producer(g: Growing, t: DType) -> Any:
    """A formula that consumers repeat rather than load."""
    x = image(g, t)

    def build(b: Any) -> Any:
        y = b.neg(x)
        return b.add(y, b.reverse(y, axes=(1,))), b.reduce(y, op="max", axes=(1,))
    return g.do(build) if g.count(x.ty.shape[1:]) else None


KINDS = tuple(BY_NAME[n] for n in ("f32", "f32", "f32", "f64", "bf16", "f16"))
