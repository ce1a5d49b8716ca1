"""Records of gather, scatter and nonzero. The references go through the positions one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .record import FLOATS, Array, Record, Sampler, Tolerance, anything, uniform

INDICES = uniform(-1, 4)  # outside at both ends of sizes below 5


def _place(i: Array, sizes: tuple[int, ...], mode: str) -> tuple[int, ...] | None:
    """The position that an index row names; None outside."""
    at = tuple(int(v) for v in i)
    if mode == "clamp":
        return tuple(min(max(v, 0), n - 1) for v, n in zip(at, sizes, strict=True))
    return at if all(0 <= v < n for v, n in zip(at, sizes, strict=True)) else None




def gather(label: str, shapes: Any, bounds: str, batch: int = 0, **more: Any) -> Record:
    def reference(x: Array, indices: Array) -> Array:
        k = indices.shape[-1]
        sizes = x.shape[batch : batch + k]
        out = np.zeros((*indices.shape[:-1], *x.shape[batch + k :]), x.dtype)
        for n in np.ndindex(indices.shape[:-1]):
            at = _place(indices[n], sizes, bounds)
            if at is not None and 0 not in sizes:
                out[n] = x[n[:batch] + at]
        return out

    settings: dict[str, Any] = {
        "dtypes": ("f64", "f32"), "operand_dtypes": (None, "i32"), "samples": (anything, INDICES),
        **more,
    }
    return Record("gather", lambda b, x, i: b.gather(x, i, batch=batch, bounds=bounds), reference,
                  shapes, label=label, **settings)


ROWS = (((4, 3), (5, 1)), ((3,), (2, 2, 1)), ((4, 3, 2), (3, 2)))
GATHERS = (
    gather("zero", (*ROWS, ((0, 2), (3, 1)), (("C", 2), ("B", 1))), "zero",
           dtypes=(*FLOATS, "i32", "u8", "bool")),
    gather("clamp", (*ROWS, ((0, 2), (3, 1)), (("C", 2), ("B", 1))), "clamp"),
    gather("check", (((4, 3), (5, 1)), (("B", 3), (0, 1)), ((2, 3), (4, 0))), "check",
           samples=(anything, uniform(0, 3))),
    gather("batch", (((2, 4, 3), (2, 5, 1)), (("B", 4, 3, 2), ("B", 3, 2))), "zero", batch=1),
    gather("many batch axes", (((2, 3, 4), (2, 3, 1)),), "clamp", batch=2),
    gather("i64", (((4, 3), (5, 1)),), "zero", operand_dtypes=(None, "i64")),
    gather("u8", (((4, 3), (5, 1)),), "zero", operand_dtypes=(None, "u8"),
           samples=(anything, uniform(0, 9))),
)


def scatter(op: str, label: str, shapes: Any, bounds: str, batch: int = 0, **more: Any) -> Record:
    def reference(x: Array, indices: Array, updates: Array) -> Array:
        k = indices.shape[-1]
        sizes = x.shape[batch : batch + k]
        out = x.copy()
        for n in np.ndindex(indices.shape[:-1]):
            at = _place(indices[n], sizes, bounds)
            if at is None:
                continue
            here = n[:batch] + at
            old, new = np.asarray(out[here]), np.asarray(updates[n])
            if op == "set":
                out[here] = new
            elif op in ("max", "min"):
                out[here] = np.maximum(old, new) if op == "max" else np.minimum(old, new)
            else:
                out[here] = old + new if op == "add" else old * new
        return out

    settings: dict[str, Any] = {
        "dtypes": ("f64", "f32"), "operand_dtypes": (None, "i32", None),
        "samples": (anything, INDICES, anything), "tolerance": Tolerance(ulp=4, atol=2e-6),
        "wrt": (0, 2), **more,
    }

    def build(b: Any, x: Any, i: Any, u: Any) -> Any:
        return b.scatter(x, i, u, op=op, batch=batch, bounds=bounds)

    return Record("scatter", build, reference, shapes, label=f"{op} {label}", **settings)


def apart(shift: float) -> Sampler:
    """Different numbers, 0.1 apart, in any order: no ties, and none near."""
    return lambda rng, shape, t: (
        rng.permutation(int(np.prod(shape))).reshape(shape) * (0.1 if t.is_float else 1) + shift
    ).astype(t.np)


NO_TIES = (apart(0.0), INDICES, apart(0.05))
WIDE = (((4, 70), (5, 1), (5, 70)), ((4,), (2, 3, 1), (2, 3)), ((4, 3, 2), (6, 2), (6, 2)))
SYMBOLIC = (("C", 2), ("B", 1), ("B", 2))
EXACT = Tolerance()
# add and mul of narrow floats round after each update: references in f64 can not follow
SCATTERS = (
    scatter("add", "rows", (*WIDE, SYMBOLIC), "drop", dtypes=("f64", "f32", "i32", "u8")),
    scatter("set", "rows", (*WIDE, SYMBOLIC), "drop", tolerance=EXACT,
            dtypes=(*FLOATS, "i32", "bool")),
    scatter("max", "rows", WIDE, "drop", tolerance=EXACT, dtypes=(*FLOATS, "i32"), samples=NO_TIES),
    scatter("min", "rows", WIDE, "drop", tolerance=EXACT, dtypes=("f64", "u8"), samples=NO_TIES),
    scatter("mul", "rows", WIDE[1:], "drop", wrt=(0,), dtypes=("f64", "i32")),
    *(scatter(op, "batch", (((2, 4, 3), (2, 5, 1), (2, 5, 3)),), "drop", batch=1,
              samples=NO_TIES) for op in ("add", "set", "max")),
    scatter("add", "checked", (((4, 3), (5, 1), (5, 3)), ((4,), (3, 0), (3, 4))), "check",
            samples=(anything, uniform(0, 3), anything)),
)


def _nonzero(b: Any, x: Any) -> Any:
    return b.nonzero(x, symbol=str(b.fresh_symbol("N")))


def _positions(x: Array) -> tuple[Array, Array]:
    found = [i for i in np.ndindex(x.shape) if x[i] != 0]
    return (np.array(found, np.int64).reshape(len(found), x.ndim).astype(object),
            np.array(len(found), object))


def sparse(rng: np.random.Generator, shape: tuple[int, ...], t: Any) -> Array:
    return (rng.integers(0, 3, shape) == 1).astype(t.np)


NONZERO = (
    Record("nonzero", _nonzero, _positions, (((7,),), ((3, 4),), ((0, 2),), ((),), (("B", "C"),)),
           dtypes=("bool", "i32", "f32"), samples=sparse),
    Record("nonzero", _nonzero, _positions, (((4,),),), label="nan", dtypes=("f32",),
           samples=lambda rng, shape, t: np.array([0, math.nan, -0.0, 2], t.np)),
)

RECORDS = (*GATHERS, *SCATTERS, *NONZERO)
