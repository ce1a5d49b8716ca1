"""Register buffers followed without loads, and equal instructions that are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowc.backends.llvm.cells import Cells
from flowc.backends.llvm.emit import Function, Unit, V
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dtypes as dt
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Alloc, Buffer, For, If, LoopKernel, Stmt, Store
from native.run import HOST, Compiled, kernel

A = V("float", 16, "%a")
B = V("float", 16, "%b")


def test_cells_hold_for_a_version_and_a_region() -> None:
    cells, buffer = Cells(), Buffer("r", dt.f32, (64,), "register")
    cells.keep(buffer, 0, 1, 16, A)
    assert cells.find(buffer, 1, 16, 16) is A
    assert cells.find(buffer, 2, 16, 16) is None  # something else was stored
    assert cells.find(buffer, 1, 16, 0) is None  # one element of it
    assert cells.find(buffer, 1, 0, 16) is None
    cells.push()
    cells.keep(buffer, 1, 2, 32, B)
    assert cells.find(buffer, 2, 16, 16) is A
    assert cells.find(buffer, 2, 32, 16) is B
    cells.pop()
    assert cells.find(buffer, 2, 32, 16) is None
    assert cells.find(buffer, 1, 16, 16) is A


def test_cells_that_overlap_are_forgotten() -> None:
    cells, buffer = Cells(), Buffer("r", dt.f32, (64,), "register")
    cells.keep(buffer, 0, 1, 16, A)
    cells.keep(buffer, 1, 2, 8, B)  # over a part of it
    assert cells.find(buffer, 2, 16, 16) is None
    assert cells.find(buffer, 2, 8, 16) is None
    cells.keep(buffer, 2, 3, 0, A)
    cells.keep(buffer, 3, 4, 3, V("float", 0, "%c"))
    assert cells.find(buffer, 4, 0, 16) is None


def test_equal_instructions_of_a_region_are_one() -> None:
    fn = Function(Unit(HOST), "define void @f(i64 %x)")
    first, again = (fn.op("i64", 0, "add i64 %x, 1") for _ in range(2))
    assert first != again  # no region is open: who branches has not said so
    fn.push()
    outer = fn.op("i64", 0, "add i64 %x, 1")
    fn.push()
    assert fn.op("i64", 0, "add i64 %x, 1") == outer
    inner = fn.op("i64", 0, "add i64 %x, 2")
    assert fn.op("i64", 0, "load i64, ptr %p") != fn.op("i64", 0, "load i64, ptr %p")
    fn.pop()
    assert fn.op("i64", 0, "add i64 %x, 2") != inner
    entry = fn.op("i64", 0, "add i64 %x, 1", entry=True)
    assert entry != outer  # what comes later does not serve the entry block
    assert fn.op("i64", 0, "add i64 %x, 1") == entry


def loop(extent: Any, fn: Any, kind: Any = "serial", width: int = 1) -> For:
    e = ex.index(extent)
    v = ex.var("i", ex.is_const_index(e))
    return For(v, e, kind, fn(v), width)


def run(inner: Any, rounds: int = 3, x: Any = None) -> np.ndarray:
    """What `inner(register buffer, x, y)` writes to y[32]."""
    r = Buffer("r", dt.f32, (32,), "register")
    source, y = Buffer("x", dt.f32, (32,)), Buffer("y", dt.f32, (32,))
    given = np.arange(32, dtype=np.float32) if x is None else x
    out = np.full(32, -1, np.float32)
    statements: tuple[Stmt, ...] = inner(r, source, y)
    Compiled(kernel([source], [y], Alloc(r, statements))).run(given, out)
    return out


def lanes(fn: Any) -> For:
    return loop(32, lambda i: (fn(i),), "vector", 16)


def unrolled(fn: Any) -> For:
    """Two vectors of 16, written out: the form of a tile."""
    return loop(2, lambda u: (loop(16, lambda i: (fn(u * 16 + i),), "vector", 16),), "unroll")


@pytest.mark.parametrize("write", [lanes, unrolled])
@pytest.mark.parametrize("read", [lanes, unrolled])
def test_stored_in_one_form_read_in_another(write: Any, read: Any) -> None:
    got = run(lambda r, x, y: (
        write(lambda i: Store(r, (i,), x[i] + 1.0)),
        unrolled(lambda i: Store(r, (i,), r[i] * 2.0)),
        read(lambda i: Store(y, (i,), r[i])),
    ))
    np.testing.assert_array_equal(got, (np.arange(32) + 1) * 2)


def test_a_loop_changes_what_was_known_before_it() -> None:
    got = run(lambda r, x, y: (
        unrolled(lambda i: Store(r, (i,), x[i])),
        loop(5, lambda k: (unrolled(lambda i: Store(r, (i,), r[i] + 1.0)),)),
        unrolled(lambda i: Store(y, (i,), r[i])),
    ))
    np.testing.assert_array_equal(got, np.arange(32) + 5)


@pytest.mark.parametrize("taken", [0.0, 1.0])
def test_a_branch_may_change_it(taken: float) -> None:
    x = np.arange(32, dtype=np.float32)
    x[0] = taken
    got = run(lambda r, source, y: (
        unrolled(lambda i: Store(r, (i,), source[i])),
        If(ex.compare("gt", source[0], 0.5), (unrolled(lambda i: Store(r, (i,), r[i] * 3.0)),), (
            unrolled(lambda i: Store(r, (i,), r[i] - 1.0)),)),
        unrolled(lambda i: Store(y, (i,), r[i])),
    ), x=x)
    np.testing.assert_array_equal(got, x * 3 if taken else x - 1)


def test_one_element_of_a_vector_is_stored() -> None:
    got = run(lambda r, x, y: (
        unrolled(lambda i: Store(r, (i,), x[i])),
        Store(r, (ex.index(5),), ex.const(100.0, "f32")),
        Store(r, (ex.index(20),), r[5] + 1.0),
        unrolled(lambda i: Store(y, (i,), r[i])),
    ))
    want = np.arange(32, dtype=np.float32)
    want[5], want[20] = 100, 101
    np.testing.assert_array_equal(got, want)


def test_a_tile_loads_what_it_stored_once() -> None:
    r = Buffer("r", dt.f32, (32,), "register")
    x, y = Buffer("x", dt.f32, (32,)), Buffer("y", dt.f32, (32,))
    steps = [unrolled(lambda i: Store(r, (i,), x[i]))]
    steps += [unrolled(lambda i: Store(r, (i,), r[i] * 2.0)) for _ in range(4)]
    body = (Alloc(r, (*steps, unrolled(lambda i: Store(y, (i,), r[i])))),)
    k: LoopKernel = kernel([x], [y], *body)
    text = lower_phase(k, k.phases[0], "f", HOST)
    assert text.count("load <16 x float>") == 2
