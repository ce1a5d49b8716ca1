"""What ops refuse: when they are built, and when they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowc.ir import dims, interpreter
from flowc.ir.builder import Builder
from flowc.ir.core import IRError
from flowc.ir.dtypes import BY_NAME, i32, u8, u32
from flowc.ir.ops.base import REGISTRY, EvalError
from flowc.ir.types import TensorType, tensor

B = dims.sym("B")
F = tensor("f32", 3, 5)


def op(name: str, **attrs: Any) -> Any:
    return REGISTRY[name](**attrs)


def cut(starts: Any, limits: Any, strides: Any = (1, 1)) -> Any:
    return op("slice", starts=starts, limits=limits, strides=strides)


WRONG: list[tuple[Any, tuple[TensorType, ...], str]] = [
    (op("add"), (F, tensor("f64", 3, 5)), "element types differ"),
    (op("add"), (F, tensor("f32", 5, 3)), "shapes differ"),
    (op("add"), (tensor("bool", 2), tensor("bool", 2)), "must be"),
    (op("and"), (F, F), "must be"),
    (op("exp"), (tensor("i32", 2),), "must be float"),
    (op("not"), (F,), "must be"),
    (op("shl"), (tensor("bool"), tensor("bool")), "must be"),
    (op("atan2"), (tensor("i32"), tensor("i32")), "must be float"),
    (op("compare", op="like"), (F, F), "no comparison"),
    (op("compare", op="lt"), (tensor("c64"), tensor("c64")), "must be"),
    (op("select"), (F, F, F), "condition"),
    (op("select"), (tensor("bool", 3), F, F), "shapes differ"),
    (op("bitcast", dtype=i32), (tensor("f64", 3),), "width"),
    (op("bitcast", dtype=u8), (tensor("bool", 3),), "must be"),
    (op("broadcast", shape=(4, 5), dims=(0, 1)), (F,), "size 3"),
    (op("broadcast", shape=(3, 5), dims=(1, 0)), (F,), "sorted"),
    (op("broadcast", shape=(3, 5), dims=(0,)), (F,), "one an axis"),
    (op("reshape", shape=(4, 4)), (F,), "as many elements"),
    (op("reshape", shape=(B, 5)), (tensor("f32", B, 4),), "as many elements"),
    (op("transpose", perm=(0, 0)), (F,), "permute"),
    (op("transpose", perm=(0,)), (F,), "permute"),
    (op("reverse", axes=(1, 0)), (F,), "sorted"),
    (op("reverse", axes=(2,)), (F,), "outside"),
    (cut((0, 0), (3, 6)), (F,), "outside"),
    (cut((2, 0), (1, 5)), (F,), "outside"),
    (cut((-1, 0), (1, 5)), (F,), "outside"),
    (cut((0, 0), (B + 1, 5)), (tensor("f32", B, 5),), "outside"),
    (cut((0, 0), (3, 5), (0, 1)), (F,), "stride"),
    (cut((0,), (3,), (1,)), (F,), "one an axis"),
    (op("pad", lo=(0, 0), hi=(0, 0), interior=(0, -1)), (F, tensor("f32")), "padding"),
    (op("pad", lo=(-2, 0), hi=(-2, 0), interior=(0, 0)), (F, tensor("f32")), "padding"),
    (op("pad", lo=(0, 0), hi=(0, 0), interior=(0, 0)), (F, tensor("f32", 1)), "scalar"),
    (op("pad", lo=(0, 0), hi=(0, 0), interior=(0, 0)), (F, tensor("i32")), "element types"),
    (op("concat", axis=0), (F, tensor("f32", 3, 4)), "beside axis 0"),
    (op("concat", axis=0), (), "nothing"),
    (op("concat", axis=2), (F, F), "outside"),
    (op("dynamic_slice", sizes=(4, 5)), (F, tensor("i32"), tensor("i32")), "fit"),
    (op("dynamic_slice", sizes=(1, 5)), (F, tensor("u32"), tensor("i32")), "signed"),
    (op("dynamic_slice", sizes=(1, 5)), (F, tensor("i32")), "1 starts"),
    (op("dynamic_update_slice"), (F, tensor("f32", 3, 6), tensor("i32"), tensor("i32")), "fit"),
    (op("reduce", op="mean", axes=(0,)), (F,), "no combiner"),
    (op("reduce", op="sum", axes=(1, 0)), (F,), "sorted"),
    (op("reduce", op="and", axes=(0,)), (F,), "must be bool"),
    (op("reduce", op="sum", axes=(0,)), (tensor("bool", 3),), "must be"),
    (op("cumulative", op="or", axis=0), (F,), "no cumulative"),
    (op("cumulative", op="sum", axis=2), (F,), "outside"),
    (op("sort", axis=0, num_keys=2), (F,), "2 keys"),
    (op("sort", axis=0), (F, tensor("i32", 3)), "shapes differ"),
    (op("random_bits", key0=0, key1=0, shape=(3,), dtype=u32), (tensor("u32"),), "u64 scalar"),
    (op("random_bits", key0=0, key1=0, shape=(3,), dtype=i32), (tensor("u64"),), "u32 or u64"),
    (op("random_bits", key0=-1, key1=0, shape=(3,), dtype=u32), (tensor("u64"),), "32-bit"),
    (op("iota", dtype=i32, shape=(), axis=0), (), "outside"),
    (op("iota", dtype=BY_NAME["bool"], shape=(3,), axis=0), (), "must be"),
    (op("assert_"), (F,), "condition"),
]


@pytest.mark.parametrize(("o", "types", "message"), WRONG, ids=lambda v: getattr(v, "name", None))
def test_infer_refuses(o: Any, types: tuple[TensorType, ...], message: str) -> None:
    b = Builder()
    with pytest.raises(IRError, match=message) as caught:
        b.emit(o, *(b.param(t) for t in types))
    assert str(caught.value).startswith(o.name)
    assert all(str(t) in str(caught.value) for t in types)


@pytest.mark.parametrize("name", ["div", "rem"])
@pytest.mark.parametrize("kind", ["i32", "u8", "i64", "i4"])
def test_integer_division_by_zero_is_error_1(name: str, kind: str) -> None:
    t = BY_NAME[kind].np
    with pytest.raises(EvalError) as caught:
        op(name).eval(np.array([4, 4], t), np.array([2, 0], t))
    assert caught.value.code == 1
    empty = np.zeros(0, t)
    assert op(name).eval(empty, empty).shape == (0,)


def test_a_false_assertion_is_error_4() -> None:
    with pytest.raises(EvalError, match="too small") as caught:
        op("assert_", message="too small").eval(np.array([True, False]))
    assert caught.value.code == 4


def test_variables_are_read_and_written_in_order() -> None:
    b = Builder()
    before = b.var_read(var="v", dtype=BY_NAME["f32"], shape=(2,))
    b.var_write(b.add(before, before), var="v")
    f = b.finish([before, b.var_read(var="v", dtype=BY_NAME["f32"], shape=(2,))])
    state = {"v": np.array([1, 2], np.float32)}
    first, second = interpreter.run(f, [], state=state)
    assert first.tolist() == [1, 2]
    assert second.tolist() == [2, 4]
    assert state["v"].tolist() == [2, 4]


def test_print_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    op("print", message="x = ", summarize=2).eval(np.arange(3), np.array(True))
    assert capsys.readouterr().err == "x = [0 1...][True]\n"


def test_host_call_checks_what_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Callable[..., Any]] = {"twice": lambda x: [x * 2]}
    monkeypatch.setattr("flowc.ir.ops.state.HOST_FUNCTIONS", table)
    good = op("host_call", key="twice", dtypes=(i32,), shapes=((2,),))
    assert good.eval(np.array([1, 2], np.int32))[0].tolist() == [2, 4]
    for bad in (
        op("host_call", key="thrice", dtypes=(), shapes=()),
        op("host_call", key="twice", dtypes=(u8,), shapes=((2,),)),
    ):
        with pytest.raises(EvalError) as caught:
            bad.eval(np.array([1, 2], np.int32))
        assert caught.value.code == 7
