"""Every op record, compiled for this machine.

Each function is compiled twice: by the whole pipeline, and with every choice of it off. All memory
lies between guard pages. Larger functions run on one, two and three threads, with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import pytest

from flowc.compiler import driver
from flowc.compiler.options import Options
from flowc.ir import dims, interpreter
from flowc.ir.core import Function
from flowc.ir.dtypes import dtype
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import For
from flowc.ir.plan import Program, launches
from flowc.runtime import Context, Executable, ThreadPool
from fuzz.execute import bare_passes, least_effort
from guarded_call import call_guarded
from op_records import RECORDS, Record
from op_records.record import Case

OUTSIDE = {"send", "recv", "all_reduce", "assert_", "print", "host_call"}  # ask for a host
ALL = [r for name in sorted(RECORDS) if name not in OUTSIDE for r in RECORDS[name] if r.run]
BY_ID = {r.id: r for r in ALL}
PLAIN = Options(opt_level=0)
NOTHING = Options(opt_level=0, rewrite_limit=0)  # no inlining, groups, updates in place


def variants(f: Function, every: bool) -> Iterator[tuple[str, Executable]]:
    """f by all passes and, with `every`, by none; the second only where its code differs."""
    whole = driver.compile_program(f, PLAIN)
    yield "all passes", whole.load()
    if not every:
        return
    bare = driver.compile_program(f, NOTHING, passes=bare_passes())
    if bare.llvm != whole.llvm:
        yield "no passes", bare.load()


@pytest.mark.parametrize("key", BY_ID)
def test_native_code_agrees_with_the_reference(key: str) -> None:
    last: Function | None = None
    runners: list[tuple[str, Executable]] = []
    for n, case in enumerate(BY_ID[key].cases()):
        if case.function is not last:
            with least_effort() if n > 2 else nullcontext():  # a few as they are shipped
                last, runners = case.function, list(variants(case.function, n < 8))
        for what, exe in runners:
            check(case, exe, what, front=n % 2 == 1)


def check(case: Case, exe: Executable, what: str, front: bool) -> None:
    """Run a case; its results must be the record's."""
    try:
        results, _ = call_guarded(exe, case.inputs, front=front)
        case.check(results)
    except Exception as error:
        raise AssertionError(f"{case.id}, {what}: {error}") from error


# ---- threads



def _sum(axes: tuple[int, ...], op: str = "sum") -> Any:
    return lambda b, x: b.reduce(x, op=op, axes=axes)


def _dot(b: Any, x: Any, y: Any) -> Any:
    return b.dot(x, y, contract=((x.ty.rank - 1,), (0,)), batch=((), ()))


def _conv(b: Any, x: Any, w: Any) -> Any:
    return b.conv(x, w, strides=(1, 1), pads=((1, 1), (1, 1)), lhs_dilation=(1, 1),
                  rhs_dilation=(1, 1), groups=1)


def _softmax(b: Any, x: Any) -> Any:
    shape = x.ty.shape
    top = b.reshape(b.reduce(x, op="max", axes=(1,)), shape=(shape[0], 1))
    e = b.exp(b.sub(x, b.broadcast_to(top, shape)))
    total = b.reshape(b.reduce(e, op="sum", axes=(1,)), shape=(shape[0], 1))
    return b.div(e, b.broadcast_to(total, shape))


MANY = {
    "elementwise": (lambda b, x, y: b.mul(b.sin(x), y), ((40_001,), (40_001,)), ("f32", "f64")),
    "rows of maps": (lambda b, x: b.transpose(b.exp(x), perm=(1, 0)), ((301, 207),), ("f32",)),
    "narrow": (lambda b, x: b.tanh(x), ((3, 20_001),), ("bf16", "f16")),
    "whole sum": (_sum((0,)), ((100_003,),), ("f32", "f16", "i32")),
    "whole sum of rows": (lambda b, x: b.reduce(b.transpose(x, perm=(1, 0)), op="sum", axes=(0, 1)),
                          ((301, 207),), ("f32",)),
    "whole max": (_sum((0, 1), "max"), ((1_001, 61),), ("f32", "i8")),
    "row sums": (_sum((1,)), ((257, 301),), ("f32", "bf16")),
    "column sums": (_sum((0,)), ((2_050, 37),), ("f32", "f64")),
    "column products": (_sum((0,), "prod"), ((1_100, 70),), ("i32",)),
    "middle": (_sum((1,), "min"), ((33, 530, 40),), ("f32",)),
    "softmax": (_softmax, ((130, 257),), ("f32", "bf16")),
    "dot": (_dot, ((257, 130), (130, 301)), ("f32", "f64", "bf16", "i32")),
    "vector": (_dot, ((2_001, 301), (301,)), ("f32",)),
    "conv": (_conv, ((3, 17, 19, 8), (3, 3, 8, 33)), ("f32", "bf16")),
    "sort": (lambda b, x: b.sort(x, axis=1)[0], ((5, 301),), ("f32", "i8")),
    "cumulative": (lambda b, x: b.cumulative(x, op="sum", axis=1), ((5, 3_001),), ("f32",)),
}
CASES = [(what, kind) for what, (_, _, kinds) in MANY.items() for kind in kinds]


@cache
def pools() -> tuple[Context, ...]:
    return (Context(), Context(ThreadPool(2)), Context(ThreadPool(3)))


def most_chunks(p: Program) -> int:
    """The greatest number of chunks of a parallel loop in a program of known sizes."""
    counts = [1]
    for s in launches(p.steps):
        for loop in (x for v in s.variants for phase in v.kernel.phases for x in phase.body):
            if isinstance(loop, For) and loop.kind == "parallel":
                d = ex.is_const_index(loop.extent)
                counts.append(d if isinstance(d, int) else 1)
    return max(counts)


@pytest.mark.parametrize(("what", "kind"), CASES, ids=[f"{w}-{k}" for w, k in CASES])
def test_threads_do_not_change_a_bit(what: str, kind: str) -> None:
    build, shapes, _ = MANY[what]
    record = Record("many", build, lambda *xs: (), (shapes,), label=what, dtypes=(kind,))
    f = record.function(dtype(kind), shapes)
    inputs = record.inputs(f, {}, kind)
    made = driver.compile_program(f, PLAIN)
    assert most_chunks(made.program) > 1, "this size does not divide the work"
    exe = made.load()
    serial, *others = [call_guarded(exe, inputs, ctx=ctx)[0] for ctx in pools() for _ in range(2)]
    for n, other in enumerate(others):
        for got, want in zip(other, serial, strict=True):
            assert got.tobytes() == want.tobytes(), f"run {n + 1} differs from the serial one"
    near(serial, interpreter.run(f, inputs), dims.product(shapes[0]))


def near(results: list[Any], wants: list[Any], count: Any) -> None:
    """Within what reordering sums of `count` terms explains; integers are equal."""
    for got, want in zip(results, wants, strict=True):
        t = dtype(want.dtype)
        if not t.is_float:
            np.testing.assert_array_equal(got, want)
            continue
        a, b = got.astype(np.float64), want.astype(np.float64)
        eps = {16: 2e-2, 32: 2e-4, 64: 1e-11}[t.bits]
        np.testing.assert_allclose(a, b, rtol=eps, atol=eps * (1 + np.abs(b).max(initial=0)))
        assert count
