"""Records of dot and conv. The references are sums written out, element by element."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .record import FLOATS, Array, Record, Tolerance, uniform

SMALL = uniform(-3, 3)
SUM = Tolerance(ulp=2, atol=4e-6)  # sums of some ten products of order 1, in f32
NUMBERS = (*FLOATS, "i32", "i64", "i8", "u8")


def numbers(x: Array) -> Array:
    """Python ints as i64: it wraps as any narrower type does."""
    return x.astype(np.int64) if x.dtype == object else x


def dot_reference(spec: str) -> Any:
    def reference(a: Array, b: Array) -> Array:
        return np.einsum(spec, numbers(a), numbers(b))
    return reference


def dot(label: str, spec: str, shapes: Any, contract: Any, batch: Any, **more: Any) -> Record:
    return Record(
        "dot", lambda b, x, y: b.dot(x, y, contract=contract, batch=batch), dot_reference(spec),
        shapes, label=label, samples=SMALL, tolerance=SUM, **more,
    )


NONE: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
DOTS = (
    dot("matrices", "ik,kj->ij", (((3, 5), (5, 4)), ((1, 1), (1, 1)), ((2, 0), (0, 3)),
                                  (("B", "C"), ("C", 3))), ((1,), (0,)), NONE, dtypes=NUMBERS),
    dot("transposed", "ki,jk->ij", (((5, 3), (4, 5)),), ((0,), (1,)), NONE),
    dot("vector", "ik,k->i", (((3, 5), (5,)),), ((1,), (0,)), NONE),
    dot("inner", "k,k->", (((7,), (7,)),), ((0,), (0,)), NONE),
    dot("outer", "i,j->ij", (((3,), (2,)), (("B",), ("C",))), NONE, NONE),
    dot("batch", "bik,bkj->bij", ((("B", 2, 3), ("B", 3, 4)),), ((2,), (1,)), ((0,), (0,))),
    dot("mixed", "abcd,ecda->cbe",
        (((2, 3, 4, 2), (3, 4, 2, 2)),), ((0, 3), (3, 2)), ((2,), (1,)), dtypes=("f64", "f32")),
)


def conv_reference(
    strides: Any, pads: Any, lhs: Any, rhs: Any, groups: int
) -> Any:
    def size(n: int, axis: int, taps: int) -> int:
        full = (max((n - 1) * lhs[axis] + 1, 0)) + sum(pads[axis])
        return max((full - ((taps - 1) * rhs[axis] + 1)) // strides[axis] + 1, 0)

    def source(o: int, t: int, axis: int, n: int) -> int | None:
        p = o * strides[axis] + t * rhs[axis] - pads[axis][0]
        return p // lhs[axis] if p % lhs[axis] == 0 and 0 <= p // lhs[axis] < n else None

    def reference(x: Array, w: Array) -> Array:
        x, w = numbers(x), numbers(w)
        spatial, taps, (cin, cout) = x.shape[1:-1], w.shape[:-2], w.shape[-2:]
        outs = [size(n, a, taps[a]) for a, n in enumerate(spatial)]
        y = np.zeros((x.shape[0], *outs, cout), x.dtype)
        for o in itertools.product(*map(range, outs)):
            for t in itertools.product(*map(range, taps)):
                at = [source(o[a], t[a], a, n) for a, n in enumerate(spatial)]
                if None in at:
                    continue
                here = x[(slice(None), *at)]
                for c in range(cout):
                    first = c // (cout // groups) * cin
                    taken = here[:, first : first + cin] * w[(*t, slice(None), c)]
                    y[(slice(None), *o, c)] += taken.sum(axis=1)
        return y
    return reference


def conv(
    label: str, shapes: Any, strides: Any, pads: Any, lhs: Any = None, rhs: Any = None,
    groups: int = 1, **more: Any,
) -> Record:
    lhs, rhs = lhs or (1,) * len(strides), rhs or (1,) * len(strides)

    def build(b: Any, x: Any, w: Any) -> Any:
        return b.conv(x, w, strides=strides, pads=pads, lhs_dilation=lhs, rhs_dilation=rhs,
                      groups=groups)

    settings: dict[str, Any] = {"dtypes": ("f64", "f32"), **more}
    return Record("conv", build, conv_reference(strides, pads, lhs, rhs, groups), shapes,
                  label=label, samples=SMALL, tolerance=SUM, **settings)


SAME = ((1, 1), (1, 1))
VALID = ((0, 0), (0, 0))
CONVS = (
    conv("valid", (((2, 5, 4, 3), (3, 2, 3, 4)), ((1, 2, 4, 3), (3, 2, 3, 2))), (1, 1), VALID,
         dtypes=(*FLOATS, "i32")),
    conv("same", (((2, 4, 3, 2), (3, 3, 2, 3)), (("B", 4, 3, 2), (3, 3, 2, 3))), (1, 1), SAME),
    conv("strided", (((2, 6, 5, 2), (3, 3, 2, 3)),), (2, 2), ((0, 1), (1, 1))),
    conv("symbolic", ((("B", "C", 2), (3, 2, 2)),), (2,), ((1, 1),)),
    conv("pointwise", (((2, 3, 3, 4), (1, 1, 4, 2)),), (2, 1), VALID),
    conv("transposed", (((2, 3, 3, 2), (3, 3, 2, 3)),), (1, 1), ((2, 2), (1, 2)), lhs=(2, 2)),
    conv("atrous", (((1, 7, 5, 2), (3, 2, 2, 2)),), (1, 2), ((2, 2), (0, 1)), rhs=(2, 3)),
    conv("cropped", (((1, 6, 5, 1), (2, 2, 1, 2)),), (1, 1), ((-1, 2), (1, -2))),
    conv("groups", (((2, 4, 3, 4), (2, 2, 2, 6)),), (1, 1), SAME, groups=2),
    conv("depthwise", (((2, 5, 4, 3), (3, 3, 1, 3)), ((1, 3, 3, 3), (3, 3, 1, 6))), (2, 1), SAME,
         groups=3),
    conv("everything", (((2, 4, 3, 4), (3, 2, 2, 4)),), (2, 3), ((-1, 3), (2, 1)), (3, 2), (2, 1),
         groups=2),
    conv("no spatial axes", (((2, 3), (3, 4)),), (), ()),
    conv("three", (((1, 3, 4, 2, 2), (2, 2, 2, 2, 1)),), (1, 2, 1), ((0, 1), (1, 0), (0, 0))),
)

RECORDS = (*DOTS, *CONVS)
