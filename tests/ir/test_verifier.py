"""What the verifier refuses, and how it says so; and the interpreter's checks."""

from __future__ import annotations

import numpy as np
import pytest

from flowc.ir import dims, interpreter, ops, verifier
from flowc.ir.builder import Builder
from flowc.ir.core import Function, Instr, IRError, Loc, Module, Param, Value
from flowc.ir.ops.base import REGISTRY
from flowc.ir.parser import parse_module
from flowc.ir.types import TOKEN, tensor

assert ops
B = dims.sym("B")
F = tensor("f32", B)


def neg(x: Value, t: object = F, **kw: object) -> Instr:
    return Instr(REGISTRY["neg"](), (x,), (Value(t, "y"),), Loc("m.py", 4), "negative")  # type: ignore[arg-type]


def refused(f: Function | Module, message: str) -> str:
    with pytest.raises(IRError, match=message) as e:
        verifier.verify(f)
    return str(e.value)


def test_use_before_definition_shows_the_lines_around() -> None:
    x, other = Value(F, "x"), Value(F, "other")
    first, last = neg(x), neg(x)
    bad = neg(other)
    text = refused(Function("f", (x,), (first, bad, last), (last.result,)),
                   "operand %<undefined other> is not defined before its use")
    assert text == (
        "negative (neg): operand %<undefined other> is not defined before its use "
        "[operands: f32[B]] (in @f) (at m.py:4)\n"
        '  %y: f32[B] = neg(%x) loc("m.py":4, "negative")\n'
        '> %y_1: f32[B] = neg(%<undefined other>) loc("m.py":4, "negative")\n'
        '  %y_2: f32[B] = neg(%x) loc("m.py":4, "negative")')


def test_double_definition() -> None:
    x = Value(F, "x")
    one = neg(x)
    two = Instr(one.op, (x,), one.results)
    refused(Function("f", (x,), (one, two), (x,)), "%y is defined twice")
    refused(Function("f", (x, x), (), (x,)), "listed twice")


def test_types_are_inferred_anew() -> None:
    x = Value(F, "x")
    refused(Function("f", (x,), (neg(x, tensor("f64", B)),), (x,)),
            r"results are \(f64\[B\]\), infer gives \(f32\[B\]\)")
    wrong = Instr(REGISTRY["add"](), (x,), (Value(F),))
    refused(Function("f", (x,), (wrong,), (x,)), "add takes 2 operands, found 1")
    token = Value(TOKEN, "t")
    refused(Function("f", (x, token), (neg(token),), (x,)), "neg")


def test_results() -> None:
    x = Value(F, "x")
    refused(Function("f", (x,), (), (Value(F, "z"),)), "result %<undefined z> is not defined")
    refused(Function("f", (x,), (), (x,), result_names=("a", "b")), "1 results have 2 names")
    refused(Module({"g": Function("f", (x,), (), (x,))}), "function @f is listed as @g")


def test_state() -> None:
    x, w = Value(F, "x"), Value(F, "w")

    def f(*infos: Param) -> Function:
        return Function("f", (x, w), (), (x, w), infos)

    verifier.verify(f(Param("x"), Param("w", "state", 0)))
    refused(f(Param("x"), Param("w", "input", 0)), "only state is updated")
    refused(f(Param("x"), Param("w", "state", 2)), "which is not its own")
    refused(f(Param("x", "state", 0), Param("w", "state", 0)), "which is not its own")
    refused(f(Param("x"), Param("w", "else")), "has the kind 'else'")
    refused(f(Param("x")), "2 parameters have 1 infos")


def test_symbols_are_bound() -> None:
    b = Builder()
    x = b.param(tensor("f32", B + 1), "x")
    refused(b.finish([x]), "no parameter has a dimension that is B, alone")
    b = Builder()
    x = b.param(F, "x")
    b.broadcast(x, shape=(dims.sym("N"), B), dims=(1,))
    refused(b.finish([x]), "the symbol N is not bound")


def test_sub_functions_are_isolated() -> None:
    b = Builder()
    p, x = b.param(tensor("bool"), "p"), b.param(F, "x")
    inner = Value(F, "a")
    leak = Function("then", (inner,), (), (x,))
    plain = Function("otherwise", (inner,), (), (inner,))
    b.cond(p, x, then=leak, otherwise=plain)
    refused(b.finish([x]), r"result %<undefined x> is not defined \(in @then\)")


# ---- the interpreter

def test_arguments_are_checked() -> None:
    b = Builder()
    x, y = b.param(tensor("f32", B, 2), "x"), b.param(tensor("f32", B), "y")
    f = b.finish([x, y])
    one, two = np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    assert len(interpreter.run(f, [one, two])) == 2
    for args, message in [
        ([one], "takes 2 arguments, got 1"),
        ([one, two.astype(np.float64)], r"argument 'y' of @main is f32\[B\], got float64\[3\]"),
        ([one, one], r"argument 'y' of @main is f32\[B\], got float32\[3, 2\]"),
        ([one, two[:2]], r"argument 'y' is f32\[B\], here \[3\]; got the shape \[2\]"),
    ]:
        with pytest.raises(IRError, match=message):
            interpreter.run(f, args)


def test_guards_are_checked() -> None:
    b = Builder()
    x, y = b.param(tensor("f32", B), "x"), b.param(tensor("f32", dims.sym("N")), "y")
    b.agree(B * 2, dims.sym("N") + 1, "sizes do not fit")
    f = b.finish([x, y])
    interpreter.run(f, [np.zeros(2, np.float32), np.zeros(3, np.float32)])
    with pytest.raises(IRError, match=r"sizes do not fit: 2\*B is 4, N\+1 is 5"):
        interpreter.run(f, [np.zeros(2, np.float32), np.zeros(4, np.float32)])


def test_state_is_read_and_written() -> None:
    m = parse_module("""
func @main(%x: f32[2], %w: f32[2] {kind=state, updated_by=1}) -> (f32[2], f32[2]) {
  %y: f32[2] = mul(%x, %w)
  %n: f32[2] = add(%w, %w)
  return %y, %n
}""")
    state = {"w": np.ones(2, np.float32)}
    for n in range(3):
        (y,) = interpreter.run_module(m, [np.full(2, 3, np.float32)], state)
        np.testing.assert_array_equal(y, [3 * 2**n] * 2)
    np.testing.assert_array_equal(state["w"], [8, 8])
    with pytest.raises(IRError, match="the variable 'w' has no value"):
        interpreter.run_module(m, [np.ones(2, np.float32)], {})


def test_failures_carry_their_code_op_and_line() -> None:
    m = parse_module("""
func @main(%x: i32[], %y: i32[]) -> (i32[]) {
  %q: i32[] = div(%x, %y) loc("m.py":3, "floordiv")
  return %q
}""")
    with pytest.raises(interpreter.RunError, match=r"floordiv \(div\): .* \(at m.py:3\)") as e:
        interpreter.run(m.main, [np.int32(1), np.int32(0)])
    assert e.value.code == 1
