"""Each rule of simplify: what is left, and that it computes the same bits."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.compiler.passes.cse import Cse
from flowc.compiler.passes.dce import Dce
from flowc.compiler.passes.fold import Fold
from flowc.compiler.passes.simplify import Simplify
from flowc.ir import interpreter
from flowc.ir.builder import Builder
from flowc.ir.core import Function
from flowc.ir.dtypes import DType, dtype
from flowc.ir.types import tensor

from .same import apply, check_equal, context, names, parse


def build(body: object, *types: object) -> Function:
    """A function of parameters with these types; body(b, *params) gives its results."""
    b = Builder("f")
    params = [b.param(tensor(*t), f"p{i}") for i, t in enumerate(types)]  # type: ignore[misc]
    out = body(b, *params)  # type: ignore[operator]
    return b.finish(out if isinstance(out, tuple) else (out,))


# operand types of the tables
X = ("f32", 4, 3)
I = ("i32", 4, 3)  # noqa: E741
U = ("u32", 4, 3)
P = ("bool", 4, 3)

ARITHMETIC = {
    "x+0 of integers": (lambda b, x: b.add(x, b.const(0, x)), [I], []),
    "x+0.0 stays": (lambda b, x: b.add(x, b.const(0.0, x)), [X], None),
    "x+-0.0": (lambda b, x: b.add(b.const(-0.0, x), x), [X], []),
    "x-0.0": (lambda b, x: b.sub(x, b.const(0.0, x)), [X], []),
    "x--0.0 stays": (lambda b, x: b.sub(x, b.const(-0.0, x)), [X], None),
    "x-x of integers": (lambda b, x: b.sub(x, x), [I], ["constant", "broadcast"]),
    "x-x of floats stays": (lambda b, x: b.sub(x, x), [X], ["sub"]),
    "x*1": (lambda b, x: b.mul(x, b.const(1, x)), [X], []),
    "x*-1": (lambda b, x: b.mul(b.const(-1, x), x), [X], ["neg"]),
    "x*0 of integers": (lambda b, x: b.mul(x, b.const(0, x)), [I], ["constant", "broadcast"]),
    "x*0 of floats stays": (lambda b, x: b.mul(x, b.const(0, x)), [X], None),
    "x/1": (lambda b, x: b.div(x, b.const(1, x)), [X], []),
    "x/4": (lambda b, x: b.div(x, b.const(4, x)), [X], ["constant", "broadcast", "mul"]),
    "x/3 stays": (lambda b, x: b.div(x, b.const(3, x)), [X], ["constant", "broadcast", "div"]),
    "x/4 unsigned": (lambda b, x: b.div(x, b.const(4, x)), [U], ["constant", "broadcast", "shr"]),
    "x%8 unsigned": (lambda b, x: b.rem(x, b.const(8, x)), [U], ["constant", "broadcast", "and"]),
    "x/-1": (lambda b, x: b.div(x, b.const(-1, x)), [I], ["neg"]),
    "pow 2": (lambda b, x: b.pow(x, b.const(2, x)), [X], ["mul"]),
    "pow 1": (lambda b, x: b.pow(x, b.const(1, x)), [X], []),
    "pow 0.5 stays": (lambda b, x: b.pow(x, b.const(0.5, x)), [X], None),
    "--x": (lambda b, x: b.neg(b.neg(x)), [X], []),
    "x+(-y)": (lambda b, x, y: b.add(x, b.neg(y)), [X, X], ["sub"]),
    "x-(-y)": (lambda b, x, y: b.sub(x, b.neg(y)), [X, X], ["add"]),
    "(-x)(-y)": (lambda b, x, y: b.mul(b.neg(x), b.neg(y)), [X, X], ["mul"]),
    "-(x-y) of floats stays": (lambda b, x, y: b.neg(b.sub(x, y)), [X, X], ["sub", "neg"]),
    "-(x-y)": (lambda b, x, y: b.neg(b.sub(x, y)), [I, I], ["sub"]),
    "floor floor": (lambda b, x: b.floor(b.floor(x)), [X], ["floor"]),
    "abs neg": (lambda b, x: b.abs(b.neg(x)), [X], ["abs"]),
    "max(x,-inf)": (lambda b, x: b.max(x, b.const(-np.inf, x)), [X], []),
    "x and true": (lambda b, x: getattr(b, "and")(x, b.const(True, x)), [P], []),
    "x xor true": (lambda b, x: b.xor(x, b.const(True, x)), [P], ["not"]),
    "x>>0": (lambda b, x: b.shr(x, b.const(0, x)), [I], []),
    "x=x": (lambda b, x: b.compare(x, x, op="eq"), [I], ["constant", "broadcast"]),
    "x=x of floats stays": (lambda b, x: b.compare(x, x, op="eq"), [X], ["compare"]),
    "not x<y": (lambda b, x, y: getattr(b, "not")(b.compare(x, y, op="lt")), [I, I], ["compare"]),
    "not x<y of floats stays": (
        lambda b, x, y: getattr(b, "not")(b.compare(x, y, op="lt")), [X, X], ["compare", "not"]),
    "select not": (lambda b, c, x, y: b.select(getattr(b, "not")(c), x, y), [P, X, X], ["select"]),
    "select true": (lambda b, x, y: b.select(b.const(True, x.ty.with_dtype(dtype("bool"))), x, y),
                    [X, X], []),
    "u<0": (lambda b, x: b.compare(x, b.const(0, x), op="lt"), [U], ["constant", "broadcast"]),
    "marks": (lambda b, x: b.cut(b.stop_gradient(x)), [X], []),
}  # fmt: skip

SHAPES = {
    "transpose twice": (
        lambda b, x: b.transpose(b.transpose(x, perm=(1, 0)), perm=(1, 0)), [X], []),
    "reshape twice": (
        lambda b, x: b.reshape(b.reshape(x, shape=(12,)), shape=(2, 6)), [X], ["reshape"]),
    "transpose of ones": (lambda b, x: b.transpose(x, perm=(1, 0)), [("f32", 1, 5)], ["reshape"]),
    "transpose of broadcast": (
        lambda b, x: b.transpose(b.broadcast(x, shape=(4, 5, 3), dims=(0, 2)), perm=(2, 1, 0)),
        [X], ["transpose", "broadcast"]),
    "broadcast twice": (
        lambda b, x: b.broadcast(b.broadcast(x, shape=(4, 3), dims=(1,)), shape=(2, 4, 3),
                                 dims=(1, 2)), [("f32", 3)], ["broadcast"]),
    "reverse twice": (
        lambda b, x: b.reverse(b.reverse(x, axes=(0, 1)), axes=(1,)), [X], ["reverse"]),
    "exp of broadcast": (
        lambda b, x: b.exp(b.broadcast(x, shape=(4, 3), dims=(1,))), [("f32", 3)],
        ["exp", "broadcast"]),
    "scalars before they are repeated": (
        lambda b, x, y: b.sqrt(b.sub(b.const(1, tensor("f32", 4, 3)),
                                     b.broadcast(b.mul(x, y), shape=(4, 3), dims=()))),
        [("f32",), ("f32",)], ["constant", "mul", "sub", "sqrt", "broadcast"]),
    "slice of slice": (
        lambda b, x: b.slice(b.slice(x, starts=(1, 0), limits=(4, 3), strides=(1, 2)),
                             starts=(1, 1), limits=(3, 2), strides=(1, 1)), [X], ["slice"]),
    "slice inside pad": (
        lambda b, x: b.slice(b.pad(x, b.const(7.0, "f32"), lo=(2, 1), hi=(0, 1), interior=(0, 0)),
                             starts=(2, 1), limits=(6, 4), strides=(1, 1)), [X], []),
    "slice of padding": (
        lambda b, x: b.slice(b.pad(x, b.const(7.0, "f32"), lo=(2, 1), hi=(0, 1), interior=(0, 0)),
                             starts=(0, 0), limits=(2, 4), strides=(1, 1)), [X],
        ["constant", "broadcast"]),
    "slice of concat": (
        lambda b, x, y: b.slice(b.concat(x, y, x, axis=0), starts=(4, 0), limits=(8, 3),
                                strides=(1, 1)), [X, X], []),
    "concat of slices": (
        lambda b, x: b.concat(
            b.slice(x, starts=(0, 0), limits=(1, 3), strides=(1, 1)),
            b.slice(x, starts=(1, 0), limits=(4, 3), strides=(1, 1)), axis=0), [X], []),
    "concat of concat": (
        lambda b, x, y: b.concat(b.concat(x, y, axis=0), x, axis=0), [X, X], ["concat"]),
    "pad of pad": (
        lambda b, x: b.pad(b.pad(x, b.const(0.0, "f32"), lo=(1, 0), hi=(0, 2), interior=(1, 0)),
                           b.const(0.0, "f32"), lo=(0, 1), hi=(1, 0), interior=(0, 0)),
        [X], ["constant", "pad"]),
    "known start": (
        lambda b, x: b.dynamic_slice(x, b.const(9, "i32"), b.const(-5, "i32"), sizes=(2, 3)),
        [X], ["slice"]),
    "known indices": (
        lambda b, x: b.gather(x, b.const([[1], [2]], "i64")), [X], ["slice"]),
    "transposes into dot": (
        lambda b, x, y: b.dot(b.transpose(x, perm=(1, 0)), b.transpose(y, perm=(1, 0)),
                              contract=((1,), (1,)), batch=((), ())), [X, X], ["dot"]),
    "transpose of dot": (
        lambda b, x, y: b.transpose(b.dot(x, y, contract=((1,), (1,)), batch=((), ())),
                                    perm=(1, 0)), [X, ("f32", 5, 3)], ["dot"]),
    "slice of dot": (
        lambda b, x, y: b.slice(b.dot(x, y, contract=((1,), (1,)), batch=((), ())),
                                starts=(1, 2), limits=(4, 5), strides=(2, 1)),
        [I, ("i32", 5, 3)], ["slice", "slice", "dot"]),
    "slice of rows of dot": (
        lambda b, x, y: b.slice(b.dot(x, y, contract=((2,), (1,)), batch=((1,), (0,))),
                                starts=(1, 0, 0), limits=(2, 4, 5), strides=(1, 1, 1)),
        [("i32", 4, 2, 3), ("i32", 2, 3, 5)], ["slice", "slice", "dot"]),
    "slice of dot that is used whole stays": (
        lambda b, x, y: (lambda z: (z, b.slice(z, starts=(1, 2), limits=(4, 5), strides=(1, 1))))(
            b.dot(x, y, contract=((1,), (1,)), batch=((), ()))),
        [I, ("i32", 5, 3)], ["dot", "slice"]),
    "reduce of transpose": (
        lambda b, x: b.reduce(b.transpose(x, perm=(1, 0)), op="sum", axes=(0,)), [X], ["reduce"]),
    "max of max": (
        lambda b, x: b.reduce(b.reduce(x, op="max", axes=(0,)), op="max", axes=(0,)), [X],
        ["reduce"]),
    "reduce no axes": (lambda b, x: b.reduce(x, op="sum", axes=()), [X], []),
    "max of broadcast": (
        lambda b, x: b.reduce(b.broadcast(x, shape=(4, 3), dims=(1,)), op="max", axes=(0,)),
        [("f32", 3)], []),
    "cast there and back": (
        lambda b, x: b.cast(b.cast(x, dtype=dtype("f64")), dtype=dtype("f32")), [X], []),
    "cast through less stays": (
        lambda b, x: b.cast(b.cast(x, dtype=dtype("f16")), dtype=dtype("f32")), [X],
        ["cast", "cast"]),
    "cast i32 f64 i8 stays": (
        lambda b, x: b.cast(b.cast(x, dtype=dtype("f64")), dtype=dtype("i8")), [I],
        ["cast", "cast"]),
    "cast i32 i16 i8": (
        lambda b, x: b.cast(b.cast(x, dtype=dtype("i16")), dtype=dtype("i8")), [I], ["cast"]),
}  # fmt: skip

ALL = {**ARITHMETIC, **SHAPES}


@pytest.mark.parametrize("key", ALL)
def test_rule(key: str) -> None:
    body, types, expected = ALL[key]
    f = build(body, *types)
    g = apply(f, Simplify(), Dce())
    check_equal(f, g)
    found = names(g)
    if expected is None:  # the operation in question is still there
        assert found[-1] == f.instrs[-1].op.name
    else:
        assert sorted(found) == sorted(expected)


DTYPES = [
    dtype(n)
    for n in ("f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64",
              "bool")
]


@pytest.mark.parametrize("first", DTYPES, ids=str)
def test_cast_chains_keep_every_value(first: DType) -> None:
    for middle in DTYPES:
        for last in DTYPES:
            b = Builder("f")
            x = b.param(tensor(first, 40), "x")
            y = b.cast(b.cast(x, dtype=middle), dtype=last)
            f = b.finish([y])
            check_equal(f, apply(f, Simplify(), Dce()))


def test_symbolic_sizes() -> None:
    f = parse("""func @f(%x: f32[B,3], %y: f32[B,3]) -> (f32[B,3]) {
      %c: f32[2*B,3] = concat(%x, %y) {axis=0}
      %s: f32[B,3] = slice(%c) {starts=[B,0], limits=[2*B,3], strides=[1,1]}
      return %s
    }""")
    g = apply(f, Simplify(), Dce())
    check_equal(f, g, B=5)
    assert g.results[0] is g.params[1]


def test_chain_of_50000_is_linear() -> None:
    b = Builder("f")
    x = b.param(tensor("f32", 4), "x")
    v, one = x, b.const(1, tensor("f32", 4))
    for i in range(25_000):
        v = b.mul(b.neg(v), one) if i % 2 else b.add(v, x)
    f = b.finish([v])
    start = time.perf_counter()
    apply(f, Simplify(), Fold(), Cse(), Dce())
    assert time.perf_counter() - start < 20


def test_rewrite_limit_stops_anywhere() -> None:
    f = build(lambda b, x: b.neg(b.neg(b.mul(b.add(x, b.const(-0.0, x)), b.const(1, x)))), X)
    counts = set()
    for limit in range(8):
        ctx = context(limit)
        g = apply(f, Simplify(), Dce(), ctx=ctx)
        check_equal(f, g)
        assert sum(ctx.rewrites.values()) <= limit
        counts.add(len(g.instrs))
    assert len(counts) > 3


UNARY = ["neg", "abs", "floor", "ceil", "round", "exp", "sign"]
BINARY = ["add", "sub", "mul", "div", "max", "min", "pow"]


@st.composite
def graphs(draw: st.DrawFn) -> Function:
    """Small programs of the operations that rules look at, on a few shapes."""
    b = Builder("f")
    pool = [b.param(tensor("f32", 2, 3), "x"), b.param(tensor("f32", 3), "y")]
    for _ in range(draw(st.integers(1, 12))):
        x = draw(st.sampled_from(pool))
        kind = draw(st.integers(0, 7))
        same = [v for v in pool if v.type == x.type]
        other = draw(st.sampled_from(same))
        if kind == 0:
            v = getattr(b, draw(st.sampled_from(UNARY)))(x)
        elif kind == 1:
            v = getattr(b, draw(st.sampled_from(BINARY)))(x, other)
        elif kind == 2:
            c = draw(st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, 0.25, np.inf]))
            v = getattr(b, draw(st.sampled_from(BINARY)))(x, b.const(c, x))
        elif kind == 3 and x.ty.rank:
            v = b.transpose(x, perm=tuple(draw(st.permutations(range(x.ty.rank)))))
        elif kind == 4:
            v = b.broadcast(x, shape=(2, *x.ty.shape), dims=tuple(range(1, x.ty.rank + 1)))
        elif kind == 5 and x.ty.rank:
            axis = draw(st.integers(0, x.ty.rank - 1))
            v = b.reduce(x, op=draw(st.sampled_from(["max", "min"])), axes=(axis,))
        elif kind == 6 and x.ty.rank:
            axis = draw(st.integers(0, x.ty.rank - 1))
            n = x.ty.shape[axis]
            at = draw(st.integers(0, int(n) - 1))  # type: ignore[arg-type]
            starts = tuple(at if a == axis else 0 for a in range(x.ty.rank))
            part = b.slice(x, starts=starts, limits=x.ty.shape, strides=(1,) * x.ty.rank)
            v = b.concat(part, other, axis=axis)
        else:
            v = b.select(b.compare(x, other, op="lt"), x, other)
        if v.ty.rank < 5:
            pool.append(v)
    return b.finish(pool[-2:])


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_random_programs_keep_their_meaning(f: Function) -> None:
    g = apply(f, Simplify(), Fold(), Cse(), Simplify(), Dce())
    check_equal(f, g)
    assert len(g.instrs) <= 3 * len(f.instrs)
    args = [np.zeros((2, 3), np.float32), np.ones(3, np.float32)]
    assert len(interpreter.run(g, args)) == len(f.results)
