"""Records of ops that move, cut and join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.dtypes import BY_NAME
from flowc.ir.literal import Literal

from .record import Record, anything, uniform

SOME = ("f32", "f64", "bf16", "i32", "u8", "bool", "i4")
B = dims.sym("B")
C = dims.sym("C")


def _op(name: str, **attrs: Any) -> Callable[..., Any]:
    return lambda b, *xs: getattr(b, name)(*xs, **attrs)


def broadcast(label: str, x: tuple[Any, ...], to: tuple[Any, ...], at: tuple[int, ...]) -> Record:
    def reference(v: Any) -> Any:
        env = dict(zip((str(d) for d in x), v.shape, strict=True))
        shape = tuple(int(dims.substitute(d, env)) for d in to)  # type: ignore[arg-type]
        out = np.empty(shape, v.dtype)
        for index in np.ndindex(*shape):
            out[index] = v[tuple(index[a] for a in at)]
        return out
    return Record("broadcast", _op("broadcast", shape=to, dims=at), reference, ((x,),), label, SOME)


def reshape(label: str, x: tuple[Any, ...], to: tuple[Any, ...]) -> Record:
    def reference(v: Any) -> Any:
        env = dict(zip((str(d) for d in x), v.shape, strict=True))
        shape = tuple(int(dims.substitute(d, env)) for d in to)  # type: ignore[arg-type]
        out = np.empty(shape, v.dtype)
        flat = list(v.flat)
        for n, index in enumerate(np.ndindex(*shape)):
            out[index] = flat[n]
        return out
    return Record("reshape", _op("reshape", shape=to), reference, ((x,),), label, SOME)


def transpose(perm: tuple[int, ...], *shapes: tuple[Any, ...]) -> Record:
    def reference(v: Any) -> Any:
        out = np.empty(tuple(v.shape[a] for a in perm), v.dtype)
        for index in np.ndindex(*v.shape):
            out[tuple(index[a] for a in perm)] = v[index]
        return out
    label = "".join(map(str, perm))
    cases = tuple((s,) for s in shapes)
    return Record("transpose", _op("transpose", perm=perm), reference, cases, label, SOME)


def reverse(axes: tuple[int, ...], *shapes: tuple[Any, ...]) -> Record:
    def reference(v: Any) -> Any:
        return v[tuple(slice(None, None, -1 if a in axes else 1) for a in range(v.ndim))]
    return Record("reverse", _op("reverse", axes=axes), reference, tuple((s,) for s in shapes),
                  "".join(map(str, axes)), SOME)


def cut(
    label: str, x: tuple[Any, ...], starts: tuple[Any, ...], limits: tuple[Any, ...],
    strides: tuple[int, ...], dtypes: tuple[str, ...] = SOME,
) -> Record:
    def reference(v: Any) -> Any:
        env = dict(zip((str(d) for d in x), v.shape, strict=True))
        at = [dims.substitute(d, env) for d in starts], [dims.substitute(d, env) for d in limits]
        return v[tuple(map(slice, *at, strides))]
    build = _op("slice", starts=starts, limits=limits, strides=strides)
    return Record("slice", build, reference, ((x,),), label, dtypes)


def pad(
    label: str, x: tuple[Any, ...], lo: tuple[Any, ...], hi: tuple[Any, ...],
    interior: tuple[int, ...], dtypes: tuple[str, ...] = SOME,
) -> Record:
    def reference(v: Any, fill: Any) -> Any:
        env = dict(zip((str(d) for d in x), v.shape, strict=True))
        a = [int(dims.substitute(d, env)) for d in lo]  # type: ignore[arg-type]
        c = [int(dims.substitute(d, env)) for d in hi]  # type: ignore[arg-type]
        grid = zip(v.shape, a, c, interior, strict=True)
        out = np.full([p + q + n + max(n - 1, 0) * k for n, p, q, k in grid], fill[()], v.dtype)
        for index in np.ndindex(*v.shape):
            at = tuple(p + i * (k + 1) for i, p, k in zip(index, a, interior, strict=True))
            if all(0 <= i < n for i, n in zip(at, out.shape, strict=True)):
                out[at] = v[index]
        return out
    return Record("pad", _op("pad", lo=lo, hi=hi, interior=interior), reference, ((x, ()),), label,
                  dtypes)


def concat(label: str, axis: int, *shapes: tuple[Any, ...]) -> Record:
    def reference(*vs: Any) -> Any:
        rows = [r for v in vs for r in np.moveaxis(v, axis, 0)]
        if not rows:
            return vs[0]
        return np.stack(rows, axis=axis)
    return Record("concat", _op("concat", axis=axis), reference, (shapes,), label, SOME)


def dynamic_slice(label: str, x: tuple[Any, ...], sizes: tuple[Any, ...], kind: str) -> Record:
    def reference(v: Any, *starts: Any) -> Any:
        env = dict(zip((str(d) for d in x), v.shape, strict=True))
        n = [int(dims.substitute(d, env)) for d in sizes]  # type: ignore[arg-type]
        at = [min(max(s.item(), 0), d - k) for s, d, k in zip(starts, v.shape, n, strict=True)]
        return v[tuple(slice(a, a + k) for a, k in zip(at, n, strict=True))]
    rank = len(x)
    return Record(
        "dynamic_slice", _op("dynamic_slice", sizes=sizes), reference, ((x, *[()] * rank),), label,
        SOME, (None, *[kind] * rank), samples=(ANY, *[uniform(-6, 20)] * rank),
    )


def dynamic_update(label: str, x: tuple[Any, ...], u: tuple[Any, ...], kind: str) -> Record:
    def reference(v: Any, w: Any, *starts: Any) -> Any:
        out = v.copy()
        ends = zip(starts, v.shape, w.shape, strict=True)
        at = [min(max(s.item(), 0), d - k) for s, d, k in ends]
        for index in np.ndindex(*w.shape):
            out[tuple(a + i for a, i in zip(at, index, strict=True))] = w[index]
        return out
    rank = len(x)
    return Record(
        "dynamic_update_slice", _op("dynamic_update_slice"), reference, ((x, u, *[()] * rank),),
        label, SOME, (None, None, *[kind] * rank), samples=(ANY, ANY, *[uniform(-6, 20)] * rank),
    )


ANY = anything

MOVES = [
    broadcast("scalar", (), (3, 17), ()),
    broadcast("rows", (17,), (3, 17), (1,)),
    broadcast("columns", ("B",), (B, 17), (0,)),
    broadcast("middle", ("B", "C"), (2, B, 5, C), (1, 3)),
    broadcast("none", (2, 3), (2, 3), (0, 1)),
    broadcast("empty", (0,), (3, 0), (1,)),
    reshape("flatten", ("B", 4, 3, 1), (B, 12)),
    reshape("split", ("B", 12), (B, 4, 3, 1)),
    reshape("regroup", (6, 35), (2, 21, 5)),
    reshape("ones", (1, 17, 1), (17,)),
    reshape("scalar", (1, 1), ()),
    reshape("unscalar", (), (1, 1)),
    reshape("merge", ("B", "C", 4), (B * C, 2, 2)),
    reshape("swap", ("B", "C"), (C, B)),
    reshape("symbols", ("B", 4, "C"), (4 * B, C)),
    reshape("empty", (0, 3), (5, 0)),
    transpose((1, 0), (3, 17), ("B", 5), (0, 2)),
    transpose((0, 2, 1), ("B", 3, "C")),
    transpose((2, 0, 1), (2, 3, 5)),
    transpose((), ()),
    reverse((0,), (17,), ("B", 3), (0,)),
    reverse((0, 2), (2, 3, 5)),
    reverse((), (), (4,)),
]


def _every_other_of_twice(b: Any, x: Any) -> Any:
    twice = b.concat(x, x, axis=0)
    return b.slice(twice, starts=(0, 0), limits=(2 * B, 3), strides=(2, 1))


PARTS = [
    Record("slice", _every_other_of_twice, lambda v: np.concatenate([v, v])[::2], ((("B", 3),),),
           "halves", ("f32", "f64")),
    cut("rows", (17,), (2,), (9,), (1,)),
    cut("strided", (17, 5), (1, 0), (16, 5), (4, 2)),
    cut("all", ("B", 5), (0, 0), (B, 5), (1, 1)),
    cut("symbolic", ("B", 9), (B // 2, 1), (B, 8), (1, 3), ("f32", "f64", "i32")),
    cut("nothing", (5,), (3,), (3,), (2,)),
    cut("scalar", (), (), (), ()),
    pad("both", (5, 3), (1, 0), (2, 4), (0, 0)),
    pad("crop", (17,), (-3,), (-2,), (0,)),
    pad("interior", (5, 3), (1, 2), (0, 1), (1, 2)),
    pad("crop-interior", (5,), (-3,), (-1,), (2,)),
    pad("symbolic", ("B", 3), (B, 1), (0, 2), (0, 0), ("f32", "f64", "i32")),
    pad("symbolic-interior", ("B", 3), (2, 0), (1, 0), (1, 0), ("f32", "f64", "i32")),
    pad("mixed", (4, 6), (-1, 2), (3, -2), (0, 0)),
    pad("empty", (0, 3), (2, 0), (1, 0), (3, 0)),
    pad("scalar", (), (), (), ()),
    concat("rows", 0, (3, 5), (1, 5), (4, 5)),
    concat("columns", 1, ("B", 3), ("B", 17), ("B", 1)),
    concat("symbols", 0, ("B", 3), ("C", 3), ("B", 3)),
    concat("empty", 0, (0, 3), (2, 3), (0, 3)),
    concat("one", 0, (4,)),
    concat("none", 0, (0, 2), (0, 2)),
    concat("many", 0, *(((n % 3 + 1),) for n in range(9))),
    dynamic_slice("row", (17, 5), (1, 5), "i32"),
    dynamic_slice("window", (9, 11), (4, 3), "i64"),
    dynamic_slice("symbolic", ("B", 9), (B, 4), "i32"),
    dynamic_slice("scalar", (), (), "i32"),
    dynamic_update("row", (17, 5), (1, 5), "i32"),
    dynamic_update("window", (9, 11), (4, 3), "i64"),
    dynamic_update("symbolic", ("B", 9), ("B", 4), "i32"),
    dynamic_update("whole", (3,), (3,), "i32"),
    dynamic_update("scalar", (), (), "i32"),
]


# ---- values from nothing

def iota(label: str, shape: tuple[Any, ...], axis: int, dtypes: tuple[str, ...]) -> list[Record]:
    def one(name: str) -> Record:
        def reference(like: Any) -> Any:
            out = np.empty(like.shape, object)
            for index in np.ndindex(*out.shape):
                out[index] = index[axis]
            return out

        def build(b: Any, like: Any) -> Any:
            return b.iota(dtype=BY_NAME[name], shape=like.ty.shape, axis=axis)

        return Record("iota", build, reference, ((shape,),), f"{label}-{name}", ("f64",), wrt=())
    return [one(n) for n in dtypes]


def dim_size(name: str) -> Record:
    def build(b: Any, x: Any) -> Any:
        return b.dim_size(dim=x.ty.shape[0] * 2 + 1, dtype=BY_NAME[name])
    return Record("dim_size", build, lambda x: np.array(x.shape[0] * 2 + 1, object),
                  ((("B", 3),),), name, ("f32",), wrt=())


def constant(name: str, value: Any) -> Record:
    t = BY_NAME[name]
    array = np.asarray(value).astype(t.np)
    want = array.astype(float if t.is_float else object)
    return Record("constant", lambda b: b.constant(value=Literal(array)), lambda: want, ((),),
                  f"{name}-{'x'.join(map(str, array.shape))}", (name,), wrt=())


VALUES = [
    *iota("line", (33,), 0, ("i32", "i64", "u8", "i4", "f32", "f16")),
    *iota("columns", ("B", 7), 1, ("i32", "bf16")),
    *iota("rows", ("B", 3), 0, ("i64", "f64")),
    *(dim_size(n) for n in ("i32", "i64", "f32")),
    constant("f32", 1.5), constant("f32", np.full((3, 5), -0.0)), constant("i32", np.full(7, -3)),
    constant("bool", True), constant("bf16", np.full((2, 2), 0.5)), constant("u8", np.zeros((0,))),
    constant("f64", np.arange(6.0).reshape(2, 3)), constant("i4", np.full(3, -8)),
]

RECORDS = [*MOVES, *PARTS, *VALUES]
