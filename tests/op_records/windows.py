"""Records of sliding windows. The references visit each window and list what is in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .record import FLOATS, Array, Record, Tolerance, anything, uniform

Ints = tuple[int, ...]


def windows(
    shape: Ints, window: Ints, strides: Ints, pads: Any, dilation: Ints
) -> Iterator[tuple[Ints, list[Ints]]]:
    """Each window's number along each axis, and the positions of x in it, row-major."""
    counts = [
        max((n + lo + hi - (w - 1) * d - 1) // s + 1, 0)
        for n, w, s, (lo, hi), d in zip(shape, window, strides, pads, dilation, strict=True)
    ]
    for o in itertools.product(*map(range, counts)):
        inside = []
        for t in itertools.product(*map(range, window)):
            at = tuple(o[a] * strides[a] + t[a] * dilation[a] - pads[a][0] for a in range(len(o)))
            if all(0 <= i < n for i, n in zip(at, shape, strict=True)):
                inside.append(at)
        yield o, inside


def pool(
    op: str, label: str, shapes: Any, window: Ints, strides: Ints, pads: Any,
    dilation: Ints | None = None, **more: Any,
) -> Record:
    holes = dilation or (1,) * len(window)

    def reference(x: Array) -> Array:
        found = {}
        for o, at in windows(x.shape, window, strides, pads, holes):
            values = [x[i] for i in at]
            if op == "sum":
                found[o] = math.fsum(values) if x.dtype != object else sum(values)
            else:
                worst = {"max": -math.inf, "min": math.inf}[op]
                found[o] = {"max": max, "min": min}[op](values, default=worst)
        shape = tuple(n + 1 for n in max(found)) if found else _empty(x.shape)
        out = np.empty(shape, x.dtype)
        for o, v in found.items():
            out[o] = v
        return out

    def _empty(shape: Ints) -> Ints:
        return tuple(
            max((n + lo + hi - (w - 1) * d - 1) // s + 1, 0)
            for n, w, s, (lo, hi), d in zip(shape, window, strides, pads, holes, strict=True)
        )

    def build(b: Any, x: Any) -> Any:
        return b.reduce_window(x, op=op, window=window, strides=strides, pads=pads, dilation=holes)

    return Record("reduce_window", build, reference, shapes, label=f"{op} {label}",
                  tolerance=Tolerance(ulp=2, atol=2e-6) if op == "sum" else Tolerance(), **more)


IMAGE = (((2, 5, 4, 3),), (("B", 5, 4, 3),))
PLAIN: Any = ((1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4)
PADDED: Any = ((1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0)))
POOLS = (
    *(pool(op, "plain", IMAGE, *PLAIN, dtypes=(*FLOATS, "i32", "u8") if op == "max" else FLOATS)
      for op in ("max", "sum", "min")),
    *(pool(op, "padded", IMAGE[:1], *PADDED, dtypes=("f64", "f32"))
      for op in ("max", "sum", "min")),
    pool("sum", "dilated", (((7, 4),),), (3, 2), (2, 1), ((1, -1), (0, 1)), (2, 1),
         dtypes=("f64", "f32", "i32"), samples=uniform(-9, 9)),
    pool("max", "dilated", (((7, 4),),), (3, 2), (2, 1), ((1, -1), (0, 1)), (2, 1),
         dtypes=("f64", "f32"), wrt=()),
    pool("sum", "one element", (((3, 2),),), (1, 1), (1, 2), ((0, 0), (0, 0)), dtypes=("f64",)),
)


def unpool(label: str, shapes: Any, window: Ints, strides: Ints, pads: Any, **more: Any) -> Record:
    def reference(x: Array, g: Array) -> Array:
        out = np.zeros(x.shape, g.dtype)
        for o, at in windows(x.shape, window, strides, pads, (1,) * len(window)):
            if at:
                nan = [i for i in at if x[i] != x[i]]
                first = nan[0] if nan else max(at, key=lambda i: x[i])  # max keeps the first
                out[first] += g[o]
        return out

    def build(b: Any, x: Any, g: Any) -> Any:
        return b.select_and_scatter(x, g, window=window, strides=strides, pads=pads)

    return Record("select_and_scatter", build, reference, shapes, label=label, wrt=(1,),
                  tolerance=Tolerance(ulp=2, atol=4e-6), **more)


def with_ties(rng: np.random.Generator, shape: tuple[int, ...], t: Any) -> Array:
    """A few small values: windows have several maxima."""
    return rng.integers(0, 3, shape).astype(t.np)


def with_nans(rng: np.random.Generator, shape: tuple[int, ...], t: Any) -> Array:
    x = rng.standard_normal(shape)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.2] = -np.inf
    return x.astype(t.np)


UNPOOLS = (
    unpool("plain", (((2, 4, 6, 3), (2, 2, 3, 3)), (("B", 4, 6, 3), ("B", 2, 3, 3))), *PLAIN,
           dtypes=FLOATS),
    unpool("ties", (((2, 4, 6, 1), (2, 2, 3, 1)),), *PLAIN, samples=(with_ties, anything)),
    unpool("nans", (((5, 6), (4, 6)),), (2, 3), (1, 1), ((0, 0), (1, 1)),
           samples=(with_nans, anything), dtypes=("f64", "f32")),
    unpool("overlapping", (((2, 5, 4, 1), (2, 3, 4, 1)),), *PADDED, dtypes=("f64", "f32")),
    unpool("gaps", (((7, 8), (3, 3)), (("B", 8), ("(B+3)//3", 3))), (2, 2), (3, 3),
           ((1, 1), (0, 2)), samples=(with_ties, anything), dtypes=FLOATS),
    unpool("outside", (((3, 4), (5, 3)),), (2, 2), (1, 1), ((2, 1), (-1, 1)), dtypes=("f64",)),
)

RECORDS = (*POOLS, *UNPOOLS)
