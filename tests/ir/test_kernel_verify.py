"""What the kernel verifier refuses."""

from __future__ import annotations

import pytest

from flowc.ir.core import IRError
from flowc.ir.dtypes import f32, f64
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Buffer, For, Kernel, Let, LoopKernel, Phase, Stage, Store
from flowc.ir.kernel.parse import parse_kernel
from flowc.ir.kernel.verify import verify_kernel

HEAD = 'loops @k target("cuda") (x: f32[64], n: i32[]) -> (y: f32[64]) '

BAD_LOOPS = [
    ("for i < 64 { for j < 4 parallel { y[i] = x[j] } }", "parallel loop j is not the outermost"),
    ("for i < 64 thread { y[i] = x[i] }", "thread loop i is in no block"),
    ("for i < 4 { for j < 4 block { y[j] = x[i] } }", "inside another kind of loop"),
    ("for i < 64 vector(8) { for j < 4 vector(4) { y[j] = x[i] } }", "holds a vector loop"),
    ("for i < 64 vector(8) { while x[i] > f32(0.0) { y[i] = x[i] } }", "holds while"),
    ("for i < 64 vector(8) { alloc a: f32[1] register { y[i] = x[i] } }", "holds an allocation"),
    ("for i < 64 { x[i] = y[i] }", "the input x: f32[64] is written"),
    ("alloc a: f32[4] { y[0] = a[0] }", "allocated in global memory"),
    ("alloc a: f32[4] shared { y[0] = a[0] }", "outside of a block"),
    ("alloc a: f32[4] register { for i < 4 { y[i] = a[i] } }",
     "register buffer a: f32[4] is indexed by i, which is bound by serial"),
    ("for i < 64 { y[i] = sum(r<4) { x[r] } }", "scheduled kernel holds the reduction sum"),
    ("for i < 64 parallel(0) { y[i] = x[i] }", "is 0 wide"),
]


@pytest.mark.parametrize(("body", "message"), BAD_LOOPS)
def test_scheduled(body: str, message: str) -> None:
    k = parse_kernel(f"{HEAD}{{ phase {{ {body} }} }}")
    with pytest.raises(IRError) as e:
        verify_kernel(k)
    assert message in str(e.value)


GOOD_LOOPS = [
    "for b < 4 block { alloc s: f32[16] shared { for t < 16 thread { s[t] = x[b*16 + t] } } }",
    "alloc a: f32[4,8] register { for i < 4 unroll { for j < 8 vector(8) { a[i, j] = x[j] } } }",
    "for i < 64 vector(8) { for k < cast(n[], index) { y[i] = y[i] + x[i] } }",
    "for c < 8 parallel { for i < 8 vector(8) { let v: f32 = x[c*8 + i]  y[c*8 + i] = v } }",
]


@pytest.mark.parametrize("body", GOOD_LOOPS)
def test_sound_kernels_pass(body: str) -> None:
    verify_kernel(parse_kernel(f"{HEAD}{{ phase {{ {body} }} }}"))


X, Y = Buffer("x", f32, (4,)), Buffer("y", f32, (4,))
I = ex.var("i", 4)  # noqa: E741


def stages(*s: Stage) -> Kernel:
    return Kernel("k", (X,), (Y,), s)


def loops(*body: object) -> LoopKernel:
    return LoopKernel("k", (X,), (Y,), (), (Phase(body),))  # type: ignore[arg-type]


def test_unscheduled() -> None:
    t, free = Buffer("t", f32, (4,)), ex.var("free", 4)
    verify_kernel(stages(Stage(Y, (I,), X[I])))
    cases = [
        (stages(), "the output y: f32[4] is not computed"),
        (stages(Stage(Y, (I,), t[I])), "t: f32[4] is used where it has no contents"),
        (stages(Stage(Y, (I,), Y[I])), "y: f32[4] is used where it has no contents"),
        (stages(Stage(Y, (I,), X[free])), "the variable free is used outside of its scope"),
        (stages(Stage(Y, (I,), X[I]), Stage(Y, (I,), X[I])), "computed twice"),
        (stages(Stage(X, (I,), X[I])), "x: f32[4] is an input, or computed twice"),
        (stages(Stage(Y, (), X[0])), "a stage over () computes y: f32[4]"),
        (stages(Stage(Y, (I,), ex.cast(X[I], f64))), "a stage of y: f32[4] computes f64"),
        (stages(Stage(Y, (I,), ex.reduce("sum", [I], X[I]))), "the variable i is bound twice"),
        (Kernel("k", (X, X), (Y,), ()), "an input is listed twice"),
    ]
    for k, message in cases:
        with pytest.raises(IRError) as e:
            verify_kernel(k)
        assert message in str(e.value)


def test_scopes_and_dtypes() -> None:
    v = ex.let_var("v", f32)
    store = Store(Y, (ex.index(0),), v)
    cases = [
        (loops(store), "the variable v is used outside of its scope"),
        (loops(Let(ex.let_var("w", f64), X[0])), "w: f64 is let be f32"),
        (loops(Let(v, X[0]), Let(v, X[0])), "the variable v is bound twice"),
        (loops(For(I, ex.index(4), "serial", (Let(v, X[I]),)), store), "outside of its scope"),
        (loops(Store(Y, (), X[0])), "y: f32[4] is indexed by 0 indices"),
        (loops(Store(Y, (ex.index(0),), ex.const(1, f64))), "f64 is stored to y: f32[4]"),
        (loops(Store(Y, (ex.index(0),), ex.node("add", (X[0], ex.const(1, f64)), None, f32))),
         "add of f32, f64 gives f32"),
    ]
    for k, message in cases:
        with pytest.raises(IRError) as e:
            verify_kernel(k)
        assert message in str(e.value)
