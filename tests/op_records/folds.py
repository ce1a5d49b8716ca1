"""Records of reductions, running reductions, sorting and random bits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flowc.ir.dtypes import BY_NAME

from .record import FLOATS, INTS, Record, Sampler, Tolerance, anything, distinct, uniform

Fold = Callable[[list[Any]], Any]


def _op(name: str, **attrs: Any) -> Callable[..., Any]:
    return lambda b, *xs: getattr(b, name)(*xs, **attrs)


def _sum(vs: list[Any]) -> Any:
    return math.fsum(vs) if any(isinstance(v, float) for v in vs) else sum(vs)


def _max(vs: list[Any]) -> Any:
    return math.nan if any(v != v for v in vs) else max(vs)


def _min(vs: list[Any]) -> Any:
    return math.nan if any(v != v for v in vs) else min(vs)


FOLDS: dict[str, Fold] = {
    "sum": _sum, "prod": lambda vs: functools.reduce(lambda a, b: a * b, vs, 1),
    "max": _max, "min": _min, "and": all, "or": any,
}
CLOSE = Tolerance(ulp=4, rtol=2e-6, atol=2e-6, narrow_ulp=1.0)


def fold_axes(fold: Fold, empty: Any, axes: tuple[int, ...]) -> Callable[[Any], Any]:
    """A list function along axes of an array; `empty` where there is nothing."""
    def apply(x: Any) -> Any:
        keep = tuple(a for a in range(x.ndim) if a not in axes)
        out = np.empty(tuple(x.shape[a] for a in keep), object)
        for at in np.ndindex(*out.shape):
            index = [slice(None)] * x.ndim
            for n, a in enumerate(keep):
                index[a] = at[n]  # type: ignore[call-overload]
            values = list(np.asarray(x[tuple(index)]).reshape(-1).tolist())
            out[at] = fold(values) if values else empty
        return out
    return apply


def reduce(
    op: str, axes: tuple[int, ...], *shapes: tuple[Any, ...], dtypes: tuple[str, ...] = FLOATS,
    label: str = "", samples: Sampler = anything, tol: Tolerance | None = None,
) -> list[Record]:
    exact = op in ("max", "min", "and", "or") or dtypes[0] in INTS
    tolerance = Tolerance() if exact else tol or CLOSE

    def one(name: str) -> Record:
        t = BY_NAME[name]
        low, high = (t.min, t.max) if t.is_float else (int(t.min), int(t.max))
        empty = {"sum": 0, "prod": 1, "max": low, "min": high, "and": True, "or": False}[op]
        return Record(
            "reduce", _op("reduce", op=op, axes=axes), fold_axes(FOLDS[op], empty, axes),
            tuple((s,) for s in shapes), f"{op}{''.join(map(str, axes))}{label}-{name}", (name,),
            samples=samples, tolerance=tolerance,
        )
    return [one(n) for n in dtypes]


def with_zeros(rng: np.random.Generator, shape: tuple[int, ...], t: Any) -> Any:
    """About every fourth element is zero, and half of those rows have two."""
    v = rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape)
    return np.where(rng.random(shape) < 0.25, 0.0, v).astype(np.float32).astype(t.np)


def specials(rng: np.random.Generator, shape: tuple[int, ...], t: Any) -> Any:
    """NaN, infinities and zeros of both signs among few."""
    pool = [1.0, 0.0, -0.0, math.inf, -math.inf, math.nan, -2.0]
    return rng.choice(pool, shape, p=[0.2, 0.3, 0.3, 0.05, 0.05, 0.05, 0.05]).astype(t.np)


REDUCE = [
    *reduce("sum", (1,), (3, 33), ("B", 17), (2, 0), dtypes=(*FLOATS, "i32", "u8", "i64", "i4")),
    *reduce("sum", (0,), (33, 3), (0, 2), ("B", "C")),
    *reduce("sum", (0, 2), (2, 3, 17), ("B", 2, "C"), dtypes=("f32", "f64")),
    *reduce("sum", (0, 1), (3, 17), ("B", 5), dtypes=("f32", "f64", "i32")),
    *reduce("sum", (), (3, 5), (), dtypes=("f32", "f64")),
    *reduce("prod", (1,), (3, 5), ("B", 3), (2, 0), dtypes=("f32", "f64", "i32", "u8"),
            samples=uniform(-2, 2)),
    *reduce("prod", (0, 1), (4, 3), dtypes=("f32", "f64"), samples=with_zeros, label="-zeros"),
    *reduce("max", (1,), (3, 33), ("B", 17), (2, 0), dtypes=(*FLOATS, "i32", "u8", "i8")),
    *reduce("min", (0,), (33, 3), ("B", 17), (0, 2), dtypes=(*FLOATS, "i32", "u64")),
    *reduce("max", (0, 1), (3, 5), (1, 1), dtypes=("f32", "f64")),
    *reduce("and", (1,), (3, 5), ("B", 3), (2, 0), (4, 1), dtypes=("bool",)),
    *reduce("or", (0,), (5, 3), (0, 2), dtypes=("bool",)),
]


def _extremum_of_specials(op: str) -> Record:
    def fold(vs: list[float]) -> float:
        if any(math.isnan(v) for v in vs):
            return math.nan
        key = functools.partial(sorted, key=lambda v: (v, math.copysign(1, v)))
        return key(vs)[-1 if op == "max" else 0]
    return Record("reduce", _op("reduce", op=op, axes=(1,)), fold_axes(fold, 0.0, (1,)),
                  (((40, 3),),), f"{op}-specials", ("f32", "f64", "bf16"), samples=specials, wrt=())


# ---- running

def cumulative(
    op: str, axis: int, *shapes: tuple[Any, ...], exclusive: bool = False, reverse: bool = False,
    dtypes: tuple[str, ...] = ("f32", "f64"), samples: Sampler = anything, label: str = "",
) -> list[Record]:
    def one(name: str) -> Record:
        t = BY_NAME[name]
        low, high = (t.min, t.max) if t.is_float else (int(t.min), int(t.max))
        start = {"sum": 0, "prod": 1, "max": low, "min": high}[op]

        def line(v: Any) -> Any:
            values = v.tolist()[::-1] if reverse else v.tolist()
            parts = [values[: i + (not exclusive)] for i in range(len(values))]
            out = np.empty(len(values), object)
            out[:] = [FOLDS[op](p) if p else start for p in parts]
            return out[::-1] if reverse else out

        def reference(x: Any) -> Any:
            out = np.empty(x.shape, object)
            moved, into = np.moveaxis(x, axis, -1), np.moveaxis(out, axis, -1)
            for at in np.ndindex(*moved.shape[:-1]):
                into[at] = line(moved[at])
            return out

        marks = f"{'x' if exclusive else ''}{'r' if reverse else ''}"
        exact = op in ("max", "min") or not t.is_float
        return Record(
            "cumulative",
            _op("cumulative", op=op, axis=axis, exclusive=exclusive, reverse=reverse),
            reference, tuple((s,) for s in shapes), f"{op}{axis}{marks}{label}-{name}", (name,),
            samples=samples, tolerance=Tolerance() if exact else CLOSE,
        )
    return [one(n) for n in dtypes]


NEAR_ONE = uniform(0.5, 1.6)
CUMULATIVE = [
    *cumulative("sum", 0, (17,), (0,), ("B", 3), dtypes=(*FLOATS, "i32", "u8", "i4")),
    *cumulative("sum", 1, (3, 17), ("B", "C"), exclusive=True),
    *cumulative("sum", 1, (2, 5, 3), ("B", "C", 2), reverse=True),
    *cumulative("sum", 0, (5,), exclusive=True, reverse=True, dtypes=("f64", "i64")),
    *cumulative("prod", 1, (3, 9), ("B", 4), (2, 1), samples=NEAR_ONE,
                dtypes=("f32", "f64", "i32")),
    *cumulative("prod", 0, (9,), exclusive=True, samples=NEAR_ONE),
    *cumulative("prod", 0, (7, 2), exclusive=True, reverse=True, samples=NEAR_ONE),
    *cumulative("prod", 1, (4, 6), reverse=True, samples=with_zeros, label="-zeros"),
    *cumulative("prod", 0, (8,), samples=with_zeros, label="-zeros"),
    *cumulative("prod", 0, ("B",), samples=NEAR_ONE, label="-symbolic", dtypes=("f64",)),
    *cumulative("max", 1, (3, 17), ("B", 5), dtypes=("f32", "f64", "bf16", "i32", "u8")),
    *cumulative("max", 0, (9, 2), exclusive=True, dtypes=("f32", "i8")),
    *cumulative("min", 0, (17,), (0,), reverse=True, dtypes=("f32", "f64", "i64")),
    *cumulative("min", 1, (2, 6), exclusive=True, reverse=True, dtypes=("f32",)),
]


# ---- sorting

def _rank(key: Any, descending: bool) -> tuple[int, Any]:
    if key != key:
        return (1, 0)
    return (0, -key if descending else +key)


def sort(
    label: str, axis: int, shapes: tuple[tuple[Any, ...], ...], descending: bool = False,
    keys: int = 1, dtypes: tuple[str, ...] = ("f32", "f64", "i32"),
    kinds: tuple[str | None, ...] = (), samples: Sampler = anything, wrt: Any = None,
    limit: int = 0, kernel: bool = True,
) -> Record:
    count = len(kinds) or 1

    def reference(*xs: Any) -> tuple[Any, ...]:
        shape = [limit if limit and a == axis else n for a, n in enumerate(xs[0].shape)]
        outs = tuple(np.zeros(shape, x.dtype) for x in xs)
        moved = [np.moveaxis(x, axis, -1) for x in xs]
        into = [np.moveaxis(x, axis, -1) for x in outs]
        for at in np.ndindex(*moved[0].shape[:-1]):
            rows = list(zip(*(m[at].tolist() for m in moved), strict=True))
            rows.sort(key=lambda r: tuple(_rank(k, descending) for k in r[:keys]))
            for n, m in enumerate(into):
                m[at][: len(rows)] = [r[n] for r in rows][: limit or None]
        return outs

    build = _op("sort", axis=axis, descending=descending, num_keys=keys, limit=limit)
    return Record("sort", build, reference, tuple((s,) * count for s in shapes), label, dtypes,
                  kinds, samples=samples, wrt=wrt, kernel=kernel)


FEW = uniform(0, 3)
SORT = [
    sort("rows", 1, ((3, 17), ("B", 33), (2, 0), (4, 1)), samples=distinct,
         dtypes=("f32", "f64", "bf16", "i32", "u8")),
    sort("columns", 0, ((33, 2), ("B", 3)), descending=True, samples=distinct,
         dtypes=("f32", "f64", "i64", "i4")),
    sort("bools", 0, ((17,),), dtypes=("bool",)),
    sort("specials", 1, ((20, 9),), dtypes=("f32", "f64", "f16"), samples=specials, wrt=()),
    sort("specials-down", 1, ((20, 9),), True, dtypes=("f32",), samples=specials, wrt=()),
    sort("stable", 0, ((33,),), kinds=("i8", None), samples=FEW, dtypes=("f32", "i32"), wrt=()),
    sort("stable-down", 0, ((33,),), True, kinds=("i8", None), samples=FEW, dtypes=("i32",)),
    sort("payload", 1, ((2, 9), ("B", 5)), kinds=(None, None, "i32"), dtypes=("f32", "f64"),
         samples=distinct),
    sort("two-keys", 0, ((40,),), keys=2, kinds=("i32", "u8", None), samples=FEW,
         dtypes=("f32", "bool")),
    sort("digits", 0, (("B",),), dtypes=("f32", "f64", "i32", "i8", "u16", "u64", "f16", "bool"),
         wrt=()),
    sort("digits-stable", 0, (("B", 2),), True, keys=2, kinds=("i8", None, "f32"), samples=FEW,
         dtypes=("i32",), wrt=()),
    sort("long", 0, ((300,),), dtypes=("f32", "f64", "i32", "f16", "bool"), wrt=(), kernel=False),
    sort("long-down", 1, ((2, 300),), True, samples=specials, wrt=(), kernel=False,
         dtypes=("f32", "f64", "bf16")),
    sort("long-down-int", 1, ((2, 300),), True, wrt=(), dtypes=("i16", "u8", "i64"), kernel=False),
    sort("long-stable", 0, ((600, 2),), True, keys=2, kinds=("i8", None, "f32"),
         samples=FEW, dtypes=("f32", "i32"), wrt=(), kernel=False),
    sort("first", 1, ((3, 17), ("B", 33), (2, 3), (2, 0)), True, kinds=(None, "i32"), limit=5,
         samples=distinct, dtypes=("f32", "f64", "i32", "u8")),
    sort("first-column", 0, ((9, 2), (1, 3), ("B", 4)), limit=1, samples=distinct),
    sort("first-specials", 1, ((20, 9),), limit=4, dtypes=("f32", "f16"), samples=specials, wrt=()),
    sort("first-stable", 0, ((33,),), True, kinds=("i8", None), samples=FEW, dtypes=("i32",),
         limit=10, wrt=()),
    sort("two-keys-down", 1, ((2, 17),), True, keys=2, kinds=("bool", None, "i64"),
         dtypes=("f32",)),
]


# ---- random bits: Philox4x32-10 by the paper, on Python ints

def philox(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds (Salmon et al. 2011, section 3.3), one block at a time."""
    c, k = list(counter), list(key)
    for n in range(10):
        if n:
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
    return c


def random_bits(label: str, key: tuple[int, int], shape: tuple[int, ...], name: str) -> Record:
    def reference(step: Any) -> Any:
        out = np.empty(shape, object)
        for i, at in enumerate(np.ndindex(*shape)):
            s = int(step[()])
            w = philox([i & 0xFFFFFFFF, i >> 32, s & 0xFFFFFFFF, s >> 32], list(key))
            out[at] = w[0] if name == "u32" else w[0] | w[1] << 32
        return out

    build = _op("random_bits", key0=key[0], key1=key[1], shape=shape, dtype=BY_NAME[name])
    return Record("random_bits", build, reference, (((),),), f"{label}-{name}", ("u64",), wrt=())


RANDOM = [
    random_bits("zero", (0, 0), (33,), "u32"),
    random_bits("zero", (0, 0), (3, 17), "u64"),
    random_bits("keyed", (0xFFFFFFFF, 12345), (2, 3, 5), "u32"),
    random_bits("keyed", (7, 0xA4093822), (), "u64"),
    random_bits("empty", (1, 2), (0, 4), "u32"),
]


def symbolic_bits() -> Record:
    def build(b: Any, step: Any, like: Any) -> Any:
        return b.random_bits(step, key0=3, key1=4, shape=like.ty.shape, dtype=BY_NAME["u32"])

    def reference(step: Any, like: Any) -> Any:
        s = int(step[()])
        words = [philox([i, 0, s & 0xFFFFFFFF, s >> 32], [3, 4])[0] for i in range(like.size)]
        out = np.empty(like.size, object)
        out[:] = words
        return out.reshape(like.shape)

    return Record("random_bits", build, reference, (((), ("B", 3)),), "symbolic", ("u64",),
                  (None, "f32"), wrt=())


RECORDS = [
    *REDUCE, _extremum_of_specials("max"), _extremum_of_specials("min"),
    *CUMULATIVE, *SORT, *RANDOM, symbolic_bits(),
]
