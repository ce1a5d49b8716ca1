"""Records of cond, while and scan, at trip counts fed at run time. References are Python loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowc.ir.builder import Builder
from flowc.ir.core import Function, Value
from flowc.ir.dtypes import i32
from flowc.ir.types import TensorType

from .record import Array, Record, Sampler, Tolerance, uniform

N = TensorType(i32, ())
SUM = Tolerance(ulp=4, atol=1e-5)
HALF = uniform(-0.5, 0.5)
FLOATS = ("f64", "f32")


def function(name: str, types: Sequence[Any], make: Callable[..., Any]) -> Function:
    b = Builder(name)
    out = make(b, *(b.param(t) for t in types))
    return b.finish(out if isinstance(out, tuple | list) else [out])


def fixed(value: Any) -> Sampler:
    return lambda rng, shape, t: np.asarray(value, t.np)


def types(*values: Value) -> list[Any]:
    return [v.type for v in values]


def matvec(b: Builder, w: Value, x: Value) -> Value:
    return b.dot(w, x, contract=((1,), (0,)), batch=((), ()))


def counted(
    b: Builder, carried: Sequence[Value], n: Value, more: Sequence[Value], step: Any
) -> Any:
    """for i in range(n): carried = step(b, i, *carried, *more); returns the last carried values."""
    start = b.const(0, N)
    k = 1 + len(carried)
    operands = [start, *carried, n, *more]

    def body(b: Builder, *vs: Value) -> list[Value]:
        i, now, rest = vs[0], vs[1:k], vs[k + 1 :]
        return [b.add(i, b.const(1, i)), *step(b, i, *now, *rest)]

    test = function("test", types(*operands), lambda b, *v: b.compare(v[0], v[k], op="lt"))
    return getattr(b, "while")(
        *operands, cond=test, body=function("body", types(*operands), body), carried=k
    )[1:]


# ---- while

def power(b: Builder, x: Value, w: Value, n: Value) -> Any:
    """x ← tanh(w·x), n times."""
    return counted(b, [x], n, [w], lambda b, i, x, w: [b.tanh(matvec(b, w, x))])[0]


def power_reference(x: Array, w: Array, n: Array) -> Array:
    for _ in range(int(n)):
        x = np.tanh(w @ x)
    return x


def nested(b: Builder, x: Value, w: Value, n: Value) -> Any:
    """for i in range(n): x = sin(x) + power(x, w, i): the inner trip count differs each time."""
    return counted(b, [x], n, [w], lambda b, i, x, w: [b.add(b.sin(x), power(b, x, w, i))])[0]


def nested_reference(x: Array, w: Array, n: Array) -> Array:
    for i in range(int(n)):
        x = np.sin(x) + power_reference(x, w, np.array(i))
    return x


def until_small(b: Builder, x: Value, a: Value) -> Any:
    """while Σx² > 1, at most 9 times: x ← x·sin(x)·a²."""
    def test(b: Builder, x: Value, a: Value) -> Value:
        total = b.reduce(b.mul(x, x), op="sum", axes=(0,))
        return b.compare(total, b.const(1, total), op="gt")

    def body(b: Builder, x: Value, a: Value) -> Value:
        return b.mul(b.mul(x, b.sin(x)), b.broadcast_to(b.mul(a, a), x.ty.shape))

    return getattr(b, "while")(
        x, a, cond=function("test", types(x, a), test), body=function("body", types(x, a), body),
        carried=1, max_trips=9,
    )[0]


def until_small_reference(x: Array, a: Array) -> Array:
    for _ in range(9):
        if not np.sum(x * x) > 1:
            break
        x = x * np.sin(x) * a * a
    return x


def loop(label: str, build: Any, reference: Any, trips: int, **more: Any) -> Record:
    """x [3], w [3,3], n fed."""
    settings: dict[str, Any] = {"dtypes": FLOATS, "shapes": (((3,), (3, 3), ()),), **more}
    return Record(
        "while", build, reference, label=f"{label} {trips}", operand_dtypes=(None, None, "i32"),
        samples=(HALF, uniform(-1, 1), fixed(trips)), tolerance=SUM, kernel=False, **settings,
    )


WHILES = (
    *(loop("power", power, power_reference, n,
           shapes=(((3,), (3, 3), ()), (("C",), ("C", "C"), ()))) for n in (0, 1, 7)),
    *(loop("nested", nested, nested_reference, n) for n in (0, 1, 4)),
    *(Record("while", until_small, until_small_reference, (((3,), ()),), label=f"until small {x}",
             dtypes=FLOATS, samples=(uniform(0.5 * x, x), fixed(0.9)), tolerance=SUM, kernel=False)
      for x in (0.5, 2.0, 2.6)),
    Record("while", lambda b, x, n: counted(b, [x], n, [], lambda b, i, x: [b.mul(x, x)])[0],
           lambda x, n: x ** (2 ** int(n)), (((4,), ()), (("B",), ())), label="squares",
           operand_dtypes=(None, "i32"), samples=(uniform(0.5, 1.1), fixed(3)), dtypes=FLOATS,
           tolerance=Tolerance(ulp=64), kernel=False),
)

# ---- cond

def choose(b: Builder, pred: Value, x: Value, w: Value) -> Any:
    return b.cond(
        pred, x, w,
        then=function("sine", types(x, w), lambda b, x, w: b.mul(x, b.sin(x))),
        otherwise=function("product", types(x, w), lambda b, x, w: matvec(b, w, x)),
    )[0]


def choose_reference(pred: Array, x: Array, w: Array) -> Array:
    return x * np.sin(x) if pred else w @ x


def signed(b: Builder, x: Value) -> Value:
    total = b.reduce(x, op="sum", axes=(0,))
    return b.compare(total, b.const(0, total), op="gt")


def choosing_loop(b: Builder, x: Value, w: Value, n: Value) -> Any:
    """A branch inside a loop, chosen by the data."""
    return counted(b, [x], n, [w], lambda b, i, x, w: [choose(b, signed(b, x), x, w)])[0]


def choosing_loop_reference(x: Array, w: Array, n: Array) -> Array:
    for _ in range(int(n)):
        x = choose_reference(x.sum() > 0, x, w)
    return x


def loop_in_branch(b: Builder, x: Value, w: Value, n: Value) -> Any:
    """x·x unless n > 1, else the loop."""
    return b.cond(
        b.compare(n, b.const(1, n), op="gt"), x, w, n,
        then=function("many", types(x, w, n), power),
        otherwise=function("few", types(x, w, n), lambda b, x, w, n: b.mul(x, x)),
    )[0]


def loop_in_branch_reference(x: Array, w: Array, n: Array) -> Array:
    return power_reference(x, w, n) if n > 1 else x * x


CONDS = (
    *(Record("cond", choose, choose_reference, (((), (3,), (3, 3)), ((), ("C",), ("C", "C"))),
             label=str(p).lower(), operand_dtypes=("bool", None, None), dtypes=FLOATS,
             samples=(fixed(p), HALF, HALF), tolerance=SUM, kernel=False) for p in (True, False)),
    *(loop("choosing", choosing_loop, choosing_loop_reference, n) for n in (0, 1, 5)),
    *(loop("in a branch", loop_in_branch, loop_in_branch_reference, n) for n in (0, 4)),
)

# ---- scan

def recurrence(reverse: bool) -> Any:
    """h ← tanh(x_t + w·h), y_t = h·x_t."""
    def body(b: Builder, h: Value, x: Value, w: Value) -> list[Value]:
        new = b.tanh(b.add(x, matvec(b, w, h)))
        return [new, b.mul(new, x)]

    def build(b: Builder, h: Value, xs: Value, w: Value) -> Any:
        element = xs.ty.with_shape(xs.ty.shape[1:])
        return b.scan(
            h, xs, w, body=function("cell", [h.type, element, w.type], body), carried=1, xs=1,
            trip=xs.ty.shape[0], reverse=reverse,
        )
    return build


def recurrence_reference(reverse: bool) -> Any:
    def reference(h: Array, xs: Array, w: Array) -> tuple[Array, Array]:
        ys = np.zeros((len(xs), *h.shape))
        for t in reversed(range(len(xs))) if reverse else range(len(xs)):
            h = np.tanh(xs[t] + w @ h)
            ys[t] = h * xs[t]
        return h, ys
    return reference


def row_sums(b: Builder, xs: Value) -> Any:
    """Two scans, one in the other, without carried values: Σ_j sin(x_ij)."""
    row, cell = TensorType(xs.ty.dtype, xs.ty.shape[1:]), TensorType(xs.ty.dtype, ())

    def inner(b: Builder, total: Value, x: Value) -> list[Value]:
        return [b.add(total, b.sin(x))]

    def outer(b: Builder, x: Value) -> Any:
        f = function("cell", [cell, cell], inner)
        return b.scan(b.const(0, cell), x, body=f, carried=1, xs=1, trip=row.shape[0])

    return b.scan(xs, body=function("row", [row], outer), carried=0, xs=1, trip=xs.ty.shape[0])


SCANS = (
    *(Record("scan", recurrence(r), recurrence_reference(r),
             (((3,), (4, 3), (3, 3)), ((3,), (0, 3), (3, 3)), (("C",), ("B", "C"), ("C", "C"))),
             label="reverse" if r else "forward", dtypes=FLOATS, samples=HALF, tolerance=SUM,
             kernel=False) for r in (False, True)),
    Record("scan", row_sums, lambda x: np.sin(x).sum(axis=1), (((3, 4),), (("B", "C"),)),
           label="nested", dtypes=FLOATS, tolerance=SUM, kernel=False),
)

RECORDS = (*WHILES, *CONDS, *SCANS)
