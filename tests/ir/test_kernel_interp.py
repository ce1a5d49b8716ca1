"""The kernel interpreter against the op records' references, and its rules."""

from __future__ import annotations

import numpy as np
import pytest

from flowc.ir import interpreter
from flowc.ir.kernel.interp import KernelError, run_kernel
from flowc.ir.kernel.parse import parse_kernel
from flowc.ir.kernel.text import print_kernel
from flowc.ir.kernel.verify import verify_kernel
from op_records import RECORDS, Record

from .lowering import kernel_of
from .same import same_kernel

ALL = {r.id: r for name in sorted(RECORDS) for r in RECORDS[name] if r.kernel and r.run}


@pytest.mark.parametrize("key", ALL)
def test_lowered_ops(key: str) -> None:
    """Every op's stages compute what its reference does, after a round trip through text."""
    record: Record = ALL[key]
    kinds = [d for d in ("f32", "bf16", "i32", "u8", "bool") if d in record.dtypes]
    for case in record.cases(kinds or None):
        k, data = kernel_of(case.function)
        verify_kernel(k)
        text = print_kernel(k)
        again = parse_kernel(text)
        assert print_kernel(again) == text
        assert same_kernel(k, again)
        env: dict[str, int] = {}
        interpreter.bind(case.function, case.inputs, env)
        got = run_kernel(again, [*case.inputs, *data], env)
        if any(i.op.defines() for i in case.function.instrs):  # buffers have the bound's size
            got = [g[tuple(slice(n) for n in w.shape)]
                   for g, w in zip(got, case.expected, strict=True)]
        case.check(got)


SCALE = """
loops @scale target("cpu") (x: f32[N]) -> (y: f32[N]) {
  phase {
    for c < (N + 7) // 8 parallel {
      for j < min(8, N - c*8) vector(4) {
        let v: f32 = x[c*8 + j]
        y[c*8 + j] = v * f32(2.0)
      }
    }
  }
}
"""


@pytest.mark.parametrize("n", [0, 1, 8, 19])
@pytest.mark.parametrize("order", ["forward", "reverse", 3])
def test_scheduled(n: int, order: str | int) -> None:
    x = np.arange(n, dtype=np.float32)
    k = parse_kernel(SCALE)
    verify_kernel(k)
    (y,) = run_kernel(k, [x], order=order)
    np.testing.assert_array_equal(y, x * 2)


def test_guarded_loads_do_not_touch_memory() -> None:
    k = parse_kernel("kernel @k(x: f32[4]) -> (y: f32[6]) {\n"
                     "  stage y[i<6]: f32 = (x[i - 1] if i >= 1 & i < 5)\n}")
    (y,) = run_kernel(k, [np.ones(4, np.float32)])
    np.testing.assert_array_equal(y, [0, 1, 1, 1, 1, 0])


def test_horizontal_reduction_halves() -> None:
    """With cancellation the order shows: x[i] + x[i + 3], then halves of 3, 2."""
    text = """loops @k (x: f32[5]) -> (y: f32[]) {
      phase {
        alloc a: f32[5] register {
          for j < 5 vector(4) { a[j] = x[j] }
          y[] = hreduce(sum, a[])
        }
      }
    }"""
    x = np.array([1e8, 1.0, 3.0, 1.0, -1e8], np.float32)
    (y,) = run_kernel(parse_kernel(text), [x])
    a, b, c = x[0] + x[3], x[1] + x[4], x[2]
    assert y == np.float32(np.float32(a + c) + b)


BLOCKS = """loops @k target("cuda") (x: i32[64]) -> (y: i32[4]) {
  phase threads(16) {
    for b < 4 block {
      alloc s: i32[16] shared {
        for t < 16 thread { s[t] = x[b*16 + t] }
        for h < 4 {
          for t < WIDTH thread {
            BODY
          }
        }
        y[b] = s[0]
      }
    }
  }
}"""


def test_thread_loops_are_separated_by_barriers() -> None:
    text = BLOCKS.replace("WIDTH", "1").replace(
        "BODY", "for r < 4 { s[0] = s[0] + s[h*4 + r] * cast(h*4 + r > 0, i32) }")
    k = parse_kernel(text)
    verify_kernel(k)
    x = np.arange(64, dtype=np.int32)
    for order in ("forward", "reverse", 1):
        (y,) = run_kernel(k, [x], order=order)
        np.testing.assert_array_equal(y, x.reshape(4, 16).sum(1))


@pytest.mark.parametrize("body", ["s[0] = s[t] + s[t + 1]", "s[t] = s[t + 1]", "s[3] = i32(1)"])
def test_races_are_found(body: str) -> None:
    k = parse_kernel(BLOCKS.replace("WIDTH", "8").replace("BODY", body))
    with pytest.raises(KernelError, match="two iterations touch element"):
        run_kernel(k, [np.arange(64, dtype=np.int32)])


def test_parallel_chunks_share_nothing() -> None:
    k = parse_kernel("loops @k (x: f32[4]) -> (y: f32[1]) {\n"
                     "  phase { for i < 4 parallel { y[0] = x[i] } }\n}")
    with pytest.raises(KernelError, match="two iterations touch element 0 of y"):
        run_kernel(k, [np.zeros(4, np.float32)])


@pytest.mark.parametrize(("text", "message"), [
    ("y[i + 1] = x[i]", "outside y"), ("y[i] = x[i - 1]", "outside x"),
    ("y[i] = check(x[i], x[i] > f32(0.0), 8, \"op\", \"f.py:3\")", "check failed at f.py:3"),
    ("y[i] = x[0 // (i - 2)]", "not positive"),
])
def test_failures(text: str, message: str) -> None:
    body = f"phase {{ for i < 4 {{ {text} }} }}"
    k = parse_kernel(f"loops @k (x: f32[4]) -> (y: f32[4]) {{ {body} }}")
    with pytest.raises(KernelError, match=message):
        run_kernel(k, [np.arange(4, dtype=np.float32)])


def test_undefined_contents_show() -> None:
    k = parse_kernel("loops @k (x: f32[4]) -> (y: f32[4]) {\n"
                     "  phase { alloc t: f32[4] local { for i < 4 { y[i] = t[i] } } }\n}")
    assert np.isnan(run_kernel(k, [np.zeros(4, np.float32)])[0]).all()


def test_reductions_of_many_points_stay_bounded() -> None:
    n = 3_000_000
    k = parse_kernel(f"kernel @k(x: f32[3,{n}]) -> (y: f32[3], z: f32[3]) {{\n"
                     f"  stage y[i<3]: f32 = sum(r<{n}) {{ x[i, r] }}\n"
                     f"  stage z[i<3]: f32 = max(r<{n}) {{ x[i, r] - y[i] }}\n}}")
    x = np.random.default_rng(0).standard_normal((3, n)).astype(np.float32)
    y, z = run_kernel(k, [x])
    np.testing.assert_allclose(y, x.astype(np.float64).sum(1), rtol=1e-6)
    np.testing.assert_allclose(z, x.max(1) - y, rtol=1e-6)


def test_symbols_are_bound_and_checked() -> None:
    k = parse_kernel("kernel @k(x: f32[N], w: f32[N]) -> (y: f32[N]) {\n"
                     "  stage y[i<N]: f32 = x[i] * w[i]\n}")
    with pytest.raises(KernelError, match=r"input w: f32\[N\], here \[4\], got \[5\]"):
        run_kernel(k, [np.zeros(4, np.float32), np.zeros(5, np.float32)])


@pytest.mark.parametrize(("index", "works"), [("i", True), ("3 - i", False)])
def test_updates_in_place(index: str, works: bool) -> None:
    k = parse_kernel("loops @k (x: f32[4]) -> (y: f32[4]) inplace(y=x) {\n"
                     f"  phase {{ for i < 4 parallel {{ y[i] = x[{index}] * f32(2.0) }} }}\n}}")
    x = np.arange(4, dtype=np.float32)
    want = 2 * (x if works else x[::-1])
    np.testing.assert_array_equal(run_kernel(k, [x])[0], want)
    if works:
        np.testing.assert_array_equal(run_kernel(k, [x], alias=True)[0], want)
    else:
        with pytest.raises(KernelError, match="two iterations touch"):
            run_kernel(k, [x], alias=True)
