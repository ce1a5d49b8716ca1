"""Sorting by the digits of keys: least digit first, so that it is stable.

Each key becomes an unsigned integer in the order of the keys; the elements are moved from array to
array once for each of its bytes, to where the counts of that byte's values say. Sources: Knuth, The
Art of Computer Programming 3, 5.2.5; the order of floats by their bits: Terdiman 2000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dims import Dim
from ..dtypes import DType, dtype, f32, i64
from ..kernel import expr as ex
from ..kernel.expr import Expr
from ..kernel.form import Alloc, Buffer, For, Let, Stmt, Store

DIGIT = 8  # bits
_VALUES = 1 << DIGIT
At = Callable[[Expr], tuple[Expr, ...]]


def digits(t: DType) -> int:
    """Passes over the elements for a key of this type."""
    return max(8, _coded(t).bits) // DIGIT


def _coded(t: DType) -> DType:
    """The type whose bits are the code of a key."""
    return f32 if t.is_float and t.bits < 16 else t


def code(x: Expr, descending: bool) -> Expr:
    """An unsigned integer in the order of the keys: NaN last, −0 as 0."""
    t = _coded(x.dtype)
    u = dtype(f"u{max(8, t.bits)}")
    top = ex.const(1 << (u.bits - 1), u)
    if not t.is_float:
        plain = ex.cast(x, u)  # of narrow signed types, with their sign
        out = ex.binary("xor", plain, top) if t.kind == "i" else plain
        return ex.unary("not", out) if descending else out
    x = ex.cast(x, t)
    zero = ex.const(0, t)
    bits = ex.bitcast(ex.select(x.eq(zero), zero, x), u)
    negative = ex.compare("ge", bits, top)
    out = ex.select(negative, ex.unary("not", bits), ex.binary("or", bits, top))
    out = ex.unary("not", out) if descending else out
    return ex.select(ex.unary("is_nan", x), ex.const((1 << u.bits) - 1, u), out)


def sort_row(
    xs: Sequence[Buffer], outs: Sequence[Buffer], keys: int, descending: bool, n: Dim, at: At
) -> list[Stmt]:
    """Statements that write the row x[at(j)], j < n, to outs, sorted by the first `keys` operands.
    """
    j = ex.var("s", n)
    first = tuple(Store(o, at(j), x[at(j)]) for o, x in zip(outs, xs, strict=True))
    temps = [Buffer(f"m{i}", x.dtype, (n,), "local") for i, x in enumerate(xs)]
    block: tuple[Stmt, ...] = (For(j, ex.index(n), "serial", first),)
    for k in reversed(range(keys)):  # stable: the first key, sorted by last, counts most
        block += _by_key(k, outs, temps, descending, n, at)
    for temp in temps:
        block = (Alloc(temp, block),)
    return list(block)


def _by_key(
    k: int, outs: Sequence[Buffer], temps: Sequence[Buffer], descending: bool, n: Dim, at: At
) -> tuple[Stmt, ...]:
    """The row in `outs` sorted by its k-th operand."""
    passes = digits(outs[k].dtype)
    j = ex.var("j", n)
    value = code(outs[k][at(j)], descending)
    codes = [Buffer(f"c{i}", value.dtype, (n,), "local") for i in range(2)]
    counts = Buffer("counts", i64, (passes, _VALUES), "local")
    held = ex.let_var("c", value.dtype)
    count: list[Stmt] = [Let(held, value), Store(codes[0], (j,), held)]
    for p in range(passes):
        cell = ex.index(p), _digit(held, p)
        count.append(Store(counts, cell, counts[cell] + ex.const(1, i64)))
    h, d = ex.var("h", passes), ex.var("d", _VALUES)
    clear = For(d, ex.index(_VALUES), "serial", (Store(counts, (h, d), ex.const(0, i64)),))
    block: tuple[Stmt, ...] = (
        For(h, ex.index(passes), "serial", (clear,)), For(j, ex.index(n), "serial", tuple(count)),
        *_starts(counts, passes),
    )

    def here(v: Expr) -> tuple[Expr, ...]:
        return (v,)

    places = [(outs, codes[0], at), (temps, codes[1], here)]
    for p in range(passes):
        block += (_move(places[p % 2], places[(p + 1) % 2], counts, p, n),)
    if passes % 2:
        back = tuple(Store(o, at(j), t[j]) for o, t in zip(outs, temps, strict=True))
        block += (For(j, ex.index(n), "serial", back),)
    for buffer in (*codes, counts):
        block = (Alloc(buffer, block),)
    return block


def _digit(value: Expr, h: int) -> Expr:
    """Byte h of a code, as an index."""
    u = value.dtype
    shifted = ex.binary("shr", value, ex.const(DIGIT * h, u)) if h else value
    return ex.cast(ex.binary("and", shifted, ex.const(_VALUES - 1, u)), ex.INDEX)


def _starts(counts: Buffer, passes: int) -> tuple[Stmt, ...]:
    """Counts become the places of the first element of each value."""
    total = Buffer("total", i64, (1,), "register")
    h, d, zero = ex.var("h", passes), ex.var("d", _VALUES), ex.index(0)
    here = ex.let_var("here", i64)
    step = (
        Let(here, counts[h, d]), Store(counts, (h, d), total[zero]),
        Store(total, (zero,), total[zero] + here),
    )
    each = (Store(total, (zero,), ex.const(0, i64)), For(d, ex.index(_VALUES), "serial", step))
    return (Alloc(total, (For(h, ex.index(passes), "serial", each),)),)


def _move(
    source: tuple[Sequence[Buffer], Buffer, At], to: tuple[Sequence[Buffer], Buffer, At],
    counts: Buffer, h: int, n: Dim,
) -> Stmt:
    """Each element to the next place of its digit."""
    j, held = ex.var("j", n), ex.let_var("c", source[1].dtype)
    place = ex.let_var("p", ex.INDEX)
    cell = ex.index(h), _digit(held, h)
    moves = tuple(
        Store(b, to[2](place), a[source[2](j)]) for a, b in zip(source[0], to[0], strict=True)
    )
    return For(j, ex.index(n), "serial", (
        Let(held, source[1][j]), Let(place, ex.cast(counts[cell], ex.INDEX)),
        Store(counts, cell, counts[cell] + ex.const(1, i64)), Store(to[1], (place,), held), *moves,
    ))
