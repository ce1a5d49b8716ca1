"""Variables become parameters and results; the interpreter runs both forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowc.compiler.passes.functionalize import Functionalize
from flowc.ir import interpreter
from flowc.ir.core import Function, IRError, Module

from .same import apply, names, parse


def check(f: Function, args: list[Any], state: dict[str, Any]) -> dict[str, Any]:
    """Both forms give the same results and leave the same state; returns that."""
    g = apply(f, Functionalize())
    assert not {"var_read", "var_write"} & {i.op.name for i in g.walk()}
    before, after = dict(state), dict(state)
    want = interpreter.run(f, args, state=before)
    got = interpreter.run_module(Module.of([g]), args, after)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(a, b)
    for name in state:
        np.testing.assert_array_equal(before[name], after[name])
    return after


def test_a_function_without_variables_is_returned() -> None:
    f = parse("func @f(%x: f32[]) -> (f32[]) { return %x }")
    assert apply(f, Functionalize()) is f


def test_a_read_sees_the_writes_before_it() -> None:
    f = parse("""func @f(%x: f32[]) -> (f32[], f32[]) {
      %a: f32[] = var_read() {var=v, dtype=f32, shape=[]}
      %b: f32[] = add(%a, %x)
      var_write(%b) {var=v}
      %c: f32[] = var_read() {var=v, dtype=f32, shape=[]}
      %d: f32[] = mul(%c, %c)
      var_write(%d) {var=v}
      return %a, %c
    }""")
    after = check(f, [np.float32(2)], {"v": np.float32(3)})
    assert after["v"] == 25
    g = apply(f, Functionalize())
    assert names(g) == ["add", "mul"]
    assert [(i.name, i.kind, i.updated_by) for i in g.infos] == [("x", "input", -1),
                                                                 ("v", "state", 2)]


BRANCHES = """func @f(%c: bool[], %x: f32[]) -> (f32[]) {
  %r: f32[] = cond(%c, %x) {
    then=func @t(%p: f32[]) -> (f32[]) {
      %a: f32[] = var_read() {var=v, dtype=f32, shape=[]}
      %b: f32[] = add(%a, %p)
      var_write(%b) {var=v}
      return %a
    },
    otherwise=func @e(%p: f32[]) -> (f32[]) {
      %a: f32[] = var_read() {var=w, dtype=f32, shape=[]}
      return %a
    }}
  %s: f32[] = var_read() {var=v, dtype=f32, shape=[]}
  %t: f32[] = add(%r, %s)
  return %t
}"""


@pytest.mark.parametrize("taken", [True, False])
def test_branches(taken: bool) -> None:
    state = {"v": np.float32(3), "w": np.float32(5)}
    after = check(parse(BRANCHES), [np.bool_(taken), np.float32(2)], state)
    assert after["v"] == (5 if taken else 3)


LOOP = """func @f(%n: i64[]) -> (i64[]) {
  %z: i64[] = constant() {value=i64[] 0}
  %i: i64[] = while(%z, %n) {
    cond=func @c(%i: i64[], %n: i64[]) -> (bool[]) {
      %w: i64[] = var_read() {var=w, dtype=i64, shape=[]}
      %m: i64[] = add(%n, %w)
      %t: bool[] = compare(%i, %m) {op=lt}
      return %t
    },
    body=func @b(%i: i64[], %n: i64[]) -> (i64[]) {
      %s: i64[] = constant() {value=i64[] 1}
      %v: i64[] = var_read() {var=v, dtype=i64, shape=[]}
      %v2: i64[] = add(%v, %i)
      var_write(%v2) {var=v}
      %j: i64[] = add(%i, %s)
      return %j
    }, carried=1, max_trips=none, trips=""}
  return %i
}"""


def test_loops_carry_what_they_write() -> None:
    after = check(parse(LOOP), [np.int64(4)], {"v": np.int64(100), "w": np.int64(1)})
    assert after["v"] == 110
    g = apply(parse(LOOP), Functionalize())
    (loop,) = [i for i in g.instrs if i.op.name == "while"]
    assert loop.op.carried == 2  # type: ignore[attr-defined]


def test_scan_writes() -> None:
    f = parse("""func @f(%xs: f32[4], %h: f32[]) -> (f32[], f32[4]) {
      %o: f32[], %ys: f32[4] = scan(%h, %xs) {
        body=func @b(%a: f32[], %x: f32[]) -> (f32[], f32[]) {
          %v: f32[] = var_read() {var=v, dtype=f32, shape=[]}
          %n: f32[] = add(%a, %v)
          var_write(%x) {var=v}
          return %n, %v
        }, carried=1, xs=1, trip=4, reverse=false}
      return %o, %ys
    }""")
    after = check(f, [np.float32([1, 2, 3, 4]), np.float32(0)], {"v": np.float32(9)})
    assert after["v"] == 4


def test_two_types_for_a_variable_are_an_error() -> None:
    f = parse("""func @f(%x: f32[2]) -> (f32[]) {
      %a: f32[] = var_read() {var=v, dtype=f32, shape=[]}
      var_write(%x) {var=v} loc("user.py":7)
      return %a
    }""")
    with pytest.raises(IRError, match=r"variable 'v' is f32\[\] and f32\[2\].*user.py:7"):
        apply(f, Functionalize())
