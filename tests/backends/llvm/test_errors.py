"""Checks: what is reported, for which lanes, and that nothing outside is touched meanwhile."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from flowc.backends.llvm.emit import Unit, decode_error
from flowc.backends.llvm.legalize import guard_checks
from flowc.backends.llvm.lower import lower_phase
from flowc.ir import dtypes as dt
from flowc.ir.dims import sym
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, LoopKernel, Store
from flowc.runtime.abi import E_DIVISION, E_INDEX, ContextStruct
from native.run import HOST, Compiled, kernel

N, K = sym("N"), sym("K")


def gather(width: int, guard: bool = False) -> LoopKernel:
    """y[i] = x[idx[i]], the index checked; with `guard` only where flag[i]."""
    x, y = Buffer("x", dt.f32, (K,)), Buffer("y", dt.f32, (N,))
    idx, flag = Buffer("idx", dt.i32, (N,)), Buffer("flag", dt.bool_, (N,))
    i = ex.var("i", N)
    raw = ex.cast(idx[i], ex.INDEX)
    ok = (raw >= ex.index(0)) & (raw < ex.index(K))
    at = ex.check(raw, ok, E_INDEX, "gather", "train.py:7")
    value: Expr = x[at]
    if guard:
        value = ex.select(flag[i], value, ex.const(-1, dt.f32))
    body = For(i, ex.index(N), "vector", (Store(y, (i,), value),), width)
    return kernel([x, idx, flag], [y], body)


@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize("n", [1, 15, 16, 40])
def test_index_checks(width: int, n: int) -> None:
    c = Compiled(gather(width))
    x, out = np.arange(5, dtype=np.float32), np.zeros(n, np.float32)
    idx, flag = (np.arange(n) % 5).astype(np.int32), np.zeros(n, np.bool_)
    c.run(x, idx, flag, out, N=n, K=5)
    assert c.error is None
    np.testing.assert_array_equal(out, idx)
    for bad in (5, -1, 2**31 - 1, -(2**31)):
        broken = idx.copy()
        broken[n - 1] = bad
        c.run(x, broken, flag, out, N=n, K=5)
        assert c.error == (E_INDEX, 0)


@pytest.mark.parametrize("width", [1, 16])
def test_a_guarded_check_fails_only_where_it_is_needed(width: int) -> None:
    c = Compiled(gather(width, guard=True))
    x, out = np.arange(5, dtype=np.float32), np.zeros(20, np.float32)
    idx, flag = np.full(20, 99, np.int32), np.zeros(20, np.bool_)
    idx[3], flag[3] = 4, True
    c.run(x, idx, flag, out, N=20, K=5)
    assert c.error is None
    assert out.tolist() == [4.0 if i == 3 else -1.0 for i in range(20)]
    flag[17] = True
    c.run(x, idx, flag, out, N=20, K=5)
    assert c.error == (E_INDEX, 0)


def test_division_by_zero_reports_and_survives() -> None:
    x, y, z = (Buffer(s, dt.i32, (N,)) for s in "xyz")
    i = ex.var("i", N)
    value = ex.check(x[i] / y[i], ex.compare("ne", y[i], 0), E_DIVISION, "div", "a.py:1")
    k = kernel([x, y], [z], For(i, ex.index(N), "vector", (Store(z, (i,), value),), 8))
    c = Compiled(k)
    a, out = np.array([7, -(2**31), 5], np.int32), np.zeros(3, np.int32)
    c.run(a, np.array([2, -1, 3], np.int32), out, N=3)
    assert c.error is None
    assert out.tolist() == [3, -(2**31), 1]
    c.run(a, np.array([2, 0, 3], np.int32), out, N=3)
    assert c.error == (E_DIVISION, 0)


def test_the_context_receives_details() -> None:
    c = Compiled(gather(16))
    x, out = np.arange(5, dtype=np.float32), np.zeros(20, np.float32)
    idx, flag = np.zeros(20, np.int32), np.zeros(20, np.bool_)
    idx[9], idx[12] = 77, 88
    words, word, _scratch = c.args([x, idx, flag, out], {"N": 20, "K": 5})
    context = ContextStruct()
    words[0] = ctypes.addressof(context)
    c.functions[0](words.ctypes.data, 0, 0)
    assert (context.error_code, context.error_op) == (E_INDEX, 0)
    assert list(context.error_detail)[:2] == [77, 5]
    assert decode_error(int(word[0])) == (E_INDEX, 0)


def test_sites_are_numbered_once() -> None:
    unit = Unit(HOST, first_site=10)
    assert [unit.site(1, "div", "a:1"), unit.site(2, "gather", "a:2"), unit.site(1, "div", "a:1")
            ] == [10, 11, 10]
    assert unit.sites == [(1, "div", "a:1"), (2, "gather", "a:2")]
    k = gather(16)
    text = lower_phase(k, k.phases[0], "one", HOST, unit)
    lower_phase(k, k.phases[0], "two", HOST, unit)
    assert "define internal void @one(" in text
    assert unit.sites[2:] == [(E_INDEX, "gather", "train.py:7")]
    assert unit.text().count("define internal void @flowc_report") == 1


def test_guards_reach_checks_through_shared_and_nested_expressions() -> None:
    flag, other = ex.let_var("p", dt.bool_), ex.let_var("q", dt.bool_)
    v = ex.let_var("v", dt.i32)
    checked = ex.check(v, v > 0, E_INDEX, "op", "")
    zero = ex.const(0, dt.i32)
    nested = ex.select(flag, ex.select(other, zero, checked + 1), zero)
    found = [e for e in ex.walk(guard_checks(nested)) if e.op == "check"]
    assert len(found) == 1
    assert {flag, other} <= set(ex.walk(found[0].args[1]))
    plain = checked + ex.select(flag, checked, zero)
    assert len([e for e in ex.walk(guard_checks(plain)) if e.op == "check"]) == 2
    assert guard_checks(v + 1) is v + 1
