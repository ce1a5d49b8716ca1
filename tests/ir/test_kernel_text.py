"""Kernels print, parse back to the same text and structure, and bad text has exact errors."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowc.ir import dims
from flowc.ir.core import IRError
from flowc.ir.dtypes import f32
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel import form
from flowc.ir.kernel.parse import ParseError, parse_kernel
from flowc.ir.kernel.text import print_kernel
from flowc.ir.kernel.verify import verify_kernel

from .kernel_strategies import kernels, loop_kernels
from .same import same_kernel

RELAXED = settings(max_examples=60, deadline=None,
                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@RELAXED
@given(kernels())
def test_unscheduled(k: form.Kernel) -> None:
    text = print_kernel(k)
    back = parse_kernel(text)
    assert print_kernel(back) == text
    assert same_kernel(k, back), text


@RELAXED
@given(loop_kernels())
def test_scheduled(k: form.LoopKernel) -> None:
    text = print_kernel(k)
    back = parse_kernel(text)
    assert print_kernel(back) == text
    assert same_kernel(k, back), text


MATMUL = """\
loops @mm target("cpu") note("tiles of 6x64") (a: f32[M,784], b: f32[784,N]) -> (c: f32[M,N]) {
  phase {
    for io < (M + 5) // 6 parallel {
      alloc acc: f32[6,64] register {
        for k < 784 {
          for j < 64 vector(16) {
            for ii < 6 unroll {
              acc[ii, j] = fma((a[ii + io*6, k] if ii + io*6 < M), b[k, j], acc[ii, j])
            }
          }
        }
      }
    }
  }
}
"""


def test_reads_as_written() -> None:
    text = MATMUL.replace("(M + 5) // 6", "(M+5)//6")
    k = parse_kernel(text)
    assert isinstance(k, form.LoopKernel)
    assert print_kernel(k) == text.replace("ii + io*6", "io*6 + ii")
    (alloc,) = (s for s in form.walk_stmts(k.phases[0].body) if isinstance(s, form.Alloc))
    assert alloc.buffer.scope == "register"
    assert alloc.buffer.shape == (6, 64)


def test_formula() -> None:
    x = form.Buffer("x", f32, (dims.sym("B"), 784))
    y = form.Buffer("y", f32, (dims.sym("B"),))
    i, r = ex.var("i", dims.sym("B")), ex.var("r", 784)
    e = ex.unary("exp", x[i, r])
    k = form.Kernel("k", (x,), (y,), (form.Stage(y, (i,), ex.reduce("sum", [r], e * e)),))
    assert print_kernel(k) == """\
kernel @k(x: f32[B,784]) -> (y: f32[B]) {
  stage y[i<B]: f32 = sum(r<784) {
    let %0 = exp(x[i, r])
    return %0 * %0
  }
}
"""


def test_a_deep_chain() -> None:
    x = form.Buffer("x", f32, (4,))
    y = form.Buffer("y", f32, (4,))
    i = ex.var("i", 4)
    e = x[i]
    for _ in range(5000):
        e = ex.unary("tanh", e)
    k = form.Kernel("k", (x,), (y,), (form.Stage(y, (i,), e),))
    text = print_kernel(k)
    assert print_kernel(parse_kernel(text)) == text


BAD = [
    ("kernel @k (x: f32[4]) -> (y: f32[4]) {\n  stage y[i<4]: f32 = x[j]\n}",
     2, 25, "no variable or symbol is named 'j' here"),
    ("kernel @k (x: f32[4]) -> (y: f32[4]) {\n  stage y[i<4]: f32 = x[i, i]\n}",
     2, 23, "x: f32[4] has 1 axes, found 2 indices"),
    ("kernel @k (x: f32[4]) -> (y: f32[4]) {\n  stage y[i<4]: f32 = x[i] + i32(1)\n}",
     2, 28, "add: f32 and i32"),
    ("kernel @k (x: f32[4]) -> (y: f32[4]) {\n  stage y[i<4]: i32 = i32(1)\n}",
     2, 17, "y: f32[4] is declared, i32[4] is computed ([4])"),
    ("kernel @k (x: f32[4]) -> (y: f32[4]) {\n  stage y[i<4]: f32 = foo(x[i])\n}",
     2, 23, "no operation foo(f32)"),
    ("loops @k (x: f32[4]) -> (y: f32[4]) {\n  phase {\n    for i < 4 parallel {\n      y[i] = 1\n",
     4, 14, "what is stored must be f32, found index"),
    ("kernel @k (x: f32[4]) -> (y: f32[C]) {\n  stage z[i<D]: f32 = x[i]\n}",
     2, 11, "no symbol is named 'D'"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), BAD)
def test_errors(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ParseError) as e:
        parse_kernel(text)
    assert (e.value.problem, e.value.line, e.value.column) == (message, line, column)


@pytest.mark.parametrize("text", [
    "(" * 5000, "-" * 5000, "neg(" * 5000, "sum() {" * 5000, "9" * 5000, "x[" * 5000,
    "+".join(["C"] * 20) + "*(C" * 500,
    " ".join(f"let %{n + 1} = %{n} * %{n}" for n in range(60)),
])
def test_bombs(text: str) -> None:
    head = "kernel @k (x: f32[C]) -> (y: f32[4]) {\n  stage y[i<4]: f32 "
    for middle in (f"= {text}", "{ let %0 = C + 9 " + text + " return x[%60] }"):
        with pytest.raises(ParseError):
            parse_kernel(head + middle)


@RELAXED
@given(st.one_of(kernels(), loop_kernels()), st.integers(0, 10**6), st.integers(0, 5),
       st.sampled_from(["", "(", "}", "%1", "@", '"', "9" * 50, "let", " < ", "\n", "é", "[", "-"]))
def test_mutants_are_read_or_refused(k: form.Kernel, at: int, cut: int, put: str) -> None:
    text = print_kernel(k)
    at %= len(text)
    with contextlib.suppress(IRError):  # ParseError is one
        verify_kernel(parse_kernel(text[:at] + put + text[at + cut :]))
