"""fold, cse, dce: what they leave, what they must not touch."""

from __future__ import annotations

import numpy as np
import pytest

from flowc.compiler.passes.cse import Cse
from flowc.compiler.passes.dce import Dce
from flowc.compiler.passes.fold import Fold
from flowc.compiler.passes.simplify import Simplify
from flowc.ir import interpreter
from flowc.ir.autodiff import differentiable, gradients, inline
from flowc.ir.builder import Builder
from flowc.ir.core import Function, IRError
from op_records import RECORDS, Record

from .same import apply, check_equal, names, parse

EVERY = [Simplify(), Fold(), Cse(), Simplify(), Dce()]


def test_fold_evaluates_constants() -> None:
    f = parse("""func @f() -> (f32[3]) {
      %a: f32[3] = constant() {value=f32[3] [1.0,2.0,3.0]}
      %b: f32[3] = mul(%a, %a)
      %c: f32[3] = reverse(%b) {axes=[0]}
      return %c
    }""")
    g = apply(f, Fold(), Dce())
    assert names(g) == ["constant"]
    np.testing.assert_array_equal(interpreter.run(g, [])[0], np.float32([9, 4, 1]))


def test_fold_of_splats_needs_no_sizes() -> None:
    f = parse("""func @f(%x: f32[B]) -> (f32[B]) {
      %a: f32[] = constant() {value=f32[] 2.0}
      %b: f32[B] = broadcast(%a) {shape=[B], dims=[]}
      %c: f32[B] = mul(%b, %b)
      %d: f32[B] = add(%x, %c)
      return %d
    }""")
    g = apply(f, Fold(), Dce())
    assert names(g) == ["constant", "broadcast", "add"]
    check_equal(f, g, B=3)


def test_fold_leaves_errors_to_the_run() -> None:
    f = parse("""func @f() -> (i32[]) {
      %a: i32[] = constant() {value=i32[] 1}
      %b: i32[] = constant() {value=i32[] 0}
      %c: i32[] = div(%a, %b)
      return %c
    }""")
    g = apply(f, *EVERY)
    assert "div" in names(g)
    with pytest.raises(IRError, match="division by zero"):
        interpreter.run(g, [])


def test_fold_keeps_large_results_out() -> None:
    f = parse("""func @f() -> (f32[1000,1000]) {
      %a: f32[1000] = iota() {dtype=f32, shape=[1000], axis=0}
      %b: f32[1000,1000] = broadcast(%a) {shape=[1000,1000], dims=[1]}
      %c: f32[1000,1000] = exp(%b)
      return %c
    }""")
    assert "constant" not in names(apply(f, Fold(), Dce()))


def test_cse_merges_equal_operations() -> None:
    f = parse("""func @f(%x: f32[3], %y: f32[3]) -> (f32[3], f32[3]) {
      %a: f32[3] = add(%x, %y)
      %b: f32[3] = add(%y, %x)
      %c: f32[3] = exp(%a)
      %d: f32[3] = exp(%b)
      %e: f32[3] = sub(%x, %y)
      %g: f32[3] = sub(%y, %x)
      %h: f32[3] = mul(%c, %e)
      %i: f32[3] = mul(%d, %g)
      return %h, %i
    }""")
    g = apply(f, Cse())
    assert names(g) == ["add", "exp", "sub", "sub", "mul", "mul"]
    check_equal(f, g)


def test_cse_tells_zeros_and_effects_apart() -> None:
    f = parse("""func @f(%x: f32[]) -> (f32[], f32[]) {
      %a: f32[] = constant() {value=f32[] 0.0}
      %b: f32[] = constant() {value=f32[] -0.0}
      print(%x) {message="x", summarize=3}
      print(%x) {message="x", summarize=3}
      %c: f32[] = add(%x, %a)
      %d: f32[] = add(%x, %b)
      return %c, %d
    }""")
    assert names(apply(f, Cse(), Dce())) == names(f)


def test_cse_compares_sub_functions_by_structure() -> None:
    branch = "{ %s: f32[3] = exp(%p)\n return %s }"
    other = "{ %s: f32[3] = neg(%p)\n return %s }"
    cond = """cond(%c, %x) {then=func @t(%p: f32[3]) -> (f32[3]) BRANCH,
              otherwise=func @e(%p: f32[3]) -> (f32[3]) OTHER}"""
    cond = cond.replace("BRANCH", branch).replace("OTHER", other)
    renamed = cond.replace("%s", "%u").replace("%p", "%q").replace("@t", "@t2")
    f = parse(f"""func @f(%c: bool[], %x: f32[3]) -> (f32[3]) {{
      %a: f32[3] = {cond}
      %b: f32[3] = {renamed}
      %r: f32[3] = add(%a, %b)
      return %r
    }}""")
    g = apply(f, Cse())
    assert names(g) == ["cond", "add"]
    check_equal(f, g)


def test_dce_keeps_effects_results_and_what_defines_a_size() -> None:
    f = parse("""func @f(%x: f32[3], %y: f32[5]) -> (f32[3]) {
      %a: f32[3] = exp(%x)
      %b: f32[5] = exp(%y)
      %ok: bool[3] = compare(%a, %x) {op=gt}
      assert_(%ok) {message="grows"}
      %c: f32[3] = neg(%x)
      return %c
    }""")
    g = apply(f, Dce())
    assert names(g) == ["exp", "compare", "assert_", "neg"]
    assert [i.name for i in g.infos] == ["x", "y"]
    assert [i.name for i in apply(f, Dce(prune=True)).infos] == ["x"]


LOOP = """func @f(%n: i64[], %x: f32[3], %k: f32[3], %dead: f32[3], %w: f32[7]) -> (f32[3]) {
  %one: f32[] = constant() {value=f32[] 1.0}
  %ones: f32[3] = broadcast(%one) {shape=[3], dims=[]}
  %z: i64[] = constant() {value=i64[] 0}
  %i, %a: f32[3], %b: f32[3], %d: f32[3] = while(%z, %x, %k, %dead, %n, %ones, %w) {
    cond=func @c(%ci: i64[], %ca: f32[3], %cb: f32[3], %cd: f32[3], %cn: i64[], %co: f32[3],
                 %cw: f32[7]) -> (bool[]) {
      %t: bool[] = compare(%ci, %cn) {op=lt}
      return %t
    },
    body=func @b(%bi: i64[], %ba: f32[3], %bb: f32[3], %bd: f32[3], %bn: i64[], %bo: f32[3],
                 %bw: f32[7]) -> (i64[], f32[3], f32[3], f32[3]) {
      %s: i64[] = constant() {value=i64[] 1}
      %ni: i64[] = add(%bi, %s)
      %na: f32[3] = mul(%ba, %bb)
      %nb: f32[3] = add(%na, %bo)
      %nd: f32[3] = exp(%bd)
      return %ni, %nb, %bb, %nd
    }, carried=4, max_trips=none, trips=""}
  return %a
}""".replace("%i, %a", "%i: i64[], %a")


def test_loops_lose_what_does_not_change_or_matter() -> None:
    f = parse(LOOP)
    g = apply(f, *EVERY)
    (loop,) = [i for i in g.instrs if i.op.name == "while"]
    assert loop.op.carried == 2  # type: ignore[attr-defined]
    assert len(loop.operands) == 4  # i, a; k, n: ones are made inside, w was not used
    for n in (0, 1, 4):
        args = [np.int64(n), np.float32([1, 2, 3]), np.float32([2, 0.5, 1]),
                np.zeros(3, np.float32), np.zeros(7, np.float32)]
        want, got = interpreter.run(f, args), interpreter.run(g, args)
        np.testing.assert_array_equal(want[0], got[0])


def test_scan_constants_sink_and_unused_stacks_go() -> None:
    f = parse("""func @f(%xs: f32[4,3], %h: f32[3]) -> (f32[3]) {
      %c: f32[] = constant() {value=f32[] 0.5}
      %half: f32[3] = broadcast(%c) {shape=[3], dims=[]}
      %o: f32[3], %ys: f32[4,3] = scan(%h, %xs, %half) {
        body=func @b(%a: f32[3], %x: f32[3], %k: f32[3]) -> (f32[3], f32[3]) {
          %m: f32[3] = mul(%a, %k)
          %n: f32[3] = add(%m, %x)
          %y: f32[3] = exp(%n)
          return %n, %y
        }, carried=1, xs=1, trip=4, reverse=false}
      return %o
    }""")
    g = apply(f, *EVERY)
    assert names(g) == ["scan"]
    assert len(g.instrs[0].operands) == 2
    assert len(g.instrs[0].results) == 1
    check_equal(f, g)


def test_known_branch_is_inlined() -> None:
    f = parse("""func @f(%x: f32[3]) -> (f32[3]) {
      %t: bool[] = constant() {value=bool[] true}
      %a: f32[3] = cond(%t, %x) {
        then=func @t(%p: f32[3]) -> (f32[3]) { %s: f32[3] = exp(%p)\n return %s },
        otherwise=func @e(%p: f32[3]) -> (f32[3]) { %s: f32[3] = neg(%p)\n return %s }}
      return %a
    }""".replace("\\n", "\n"))
    g = apply(f, *EVERY)
    assert names(g) == ["exp"]
    check_equal(f, g)


def gradient(f: Function) -> Function | None:
    """The gradients of all results towards all parameters, as a function of f's parameters."""
    b = Builder(f.name)
    params = [b.param(p.type, p.name) for p in f.params]
    env = inline(b, f, params)
    ys = [env[r] for r in f.results if differentiable(r.type)]
    gs = gradients(b, ys, [p for p in params if differentiable(p.type)])
    found = [g for g in gs if g is not None]
    return b.finish(found) if found else None


LOOPS = [r for name in ("cond", "while", "scan") for r in RECORDS[name]]


@pytest.mark.parametrize("record", LOOPS, ids=lambda r: r.id)
def test_gradients_of_control_flow_keep_their_meaning(record: Record) -> None:
    for case in record.cases():
        f: Function | None = case.function
        for _ in range(2):
            f = gradient(f) if f is not None else None
            if f is None:
                break
            want = interpreter.run(f, case.inputs)
            got = interpreter.run(apply(f, *EVERY), case.inputs)
            for a, b in zip(want, got, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


ALL = [r for name in sorted(RECORDS) for r in RECORDS[name]]


@pytest.mark.parametrize("record", ALL, ids=lambda r: r.id)
def test_every_op_keeps_its_meaning(record: Record) -> None:
    for case in list(record.cases())[:1]:  # some are for compiled code alone
        case.check(interpreter.run(apply(case.function, *EVERY), case.inputs))
