"""Every op record: meaning, types, text, gradients, and the kernel form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowc.ir import interpreter, ops, parser, printer, verifier
from flowc.ir.autodiff import differentiable, gradients
from flowc.ir.builder import Builder
from flowc.ir.core import Function, Module
from flowc.ir.dims import Expr, Shape
from flowc.ir.dtypes import dtype
from flowc.ir.kernel import interp
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Kernel
from flowc.ir.literal import Literal
from flowc.ir.ops.base import REGISTRY
from op_records import RECORDS, Record

ALL = [r for name in sorted(RECORDS) for r in RECORDS[name]]
BY_ID = {r.id: r for r in ALL}
MAX_PRIMITIVES = 90

assert ops


def test_every_op_has_a_record() -> None:
    assert sorted(set(REGISTRY) - set(RECORDS)) == []
    assert sorted(set(RECORDS) - set(REGISTRY)) == []


def test_primitives_are_few() -> None:
    assert len(REGISTRY) <= MAX_PRIMITIVES


def test_labels_tell_records_apart() -> None:
    assert len(BY_ID) == len(ALL)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_an_op_says_what_it_does(name: str) -> None:
    doc = REGISTRY[name].__doc__ or ""
    assert len(doc) > 3
    assert not doc.startswith(REGISTRY[name].__name__ + "(")  # what dataclasses write


@pytest.mark.parametrize("key", BY_ID)
def test_interpreter_agrees_with_the_reference(key: str) -> None:
    for case in BY_ID[key].cases():
        verifier.verify(case.function)
        case.check(interpreter.run(case.function, case.inputs))


@pytest.mark.parametrize("key", BY_ID)
def test_text_round_trip(key: str) -> None:
    record = BY_ID[key]
    for name in record.dtypes[:1]:
        for shapes in record.shapes:
            f = record.function(dtype(name), shapes)
            text = printer.print_module(Module.of([f]))
            again = parser.parse_module(text)
            assert printer.print_module(again) == text
            pairs = zip(again.main.instrs, f.instrs, strict=True)
            assert all(i.op == j.op or i.op.subfunctions() for i, j in pairs)  # functions: by text


# ---- the kernel form

@pytest.mark.parametrize("key", [r.id for r in ALL if r.kernel and r.run])
def test_lowered_kernel_agrees_with_the_reference(key: str) -> None:
    for case in BY_ID[key].cases():
        kernel, literals = lowered(case.function)
        results = interp.run_kernel(kernel, [*case.inputs, *literals])
        wants = zip(results, case.expected, case.function.results, strict=True)
        case.check([fitting(r, w.shape, v.ty.shape) for r, w, v in wants])


def fitting(result: Any, shape: tuple[int, ...], declared: Shape) -> Any:
    """A result without what a size that only the data tells leaves unused of its buffer."""
    cut = zip(result.shape, shape, declared, strict=True)
    return result[tuple(slice(n if isinstance(d, Expr) else full) for full, n, d in cut)]


def lowered(f: Function) -> tuple[Kernel, list[Any]]:
    """All instructions in one unscheduled kernel; literals that are no splat are inputs."""
    k = Compute()
    env = {p: k.buffer(p.ty, "in") for p in f.params}
    inputs, literals = list(env.values()), []
    for instr in f.instrs:
        value = getattr(instr.op, "value", None)
        if isinstance(value, Literal) and value.splat is None:
            outs: Any = k.buffer(value.type, "data")
            inputs.append(outs)
            literals.append(value.array)
        else:
            outs = instr.op.lower(k, *(env[v] for v in instr.operands))
        outs = outs if isinstance(outs, tuple | list) else (outs,)
        for r, out in zip(instr.results, outs, strict=True):
            assert out.dtype == r.ty.dtype
            assert out.shape == r.ty.shape or instr.op.defines()
        env.update(zip(instr.results, outs, strict=True))
    outputs = tuple(env[r] for r in f.results)
    return Kernel(f.name, tuple(inputs), outputs, tuple(k.stages)), literals


@pytest.mark.parametrize("name", ["div", "rem"])
def test_a_kernel_reports_integer_division_by_zero(name: str) -> None:
    record = next(r for r in RECORDS[name] if r.label == "int")
    kernel, _ = lowered(record.function(dtype("i32"), [(3,), (3,)]))
    four, some = np.full(3, 4, np.int32), np.array([2, 0, 1], np.int32)
    with pytest.raises(interp.KernelError) as caught:
        interp.run_kernel(kernel, [four, some])
    assert caught.value.code == 1


# ---- gradients against f64 finite differences along random directions

def differentiated(record: Record) -> tuple[int, ...]:
    """The operands to differentiate by."""
    if "f64" not in record.dtypes or not record.run:
        return ()
    if record.wrt is not None:
        return record.wrt
    types = record.operand_types(dtype("f64"), record.shapes[0])
    return tuple(i for i, t in enumerate(types) if t.dtype.is_float)


GRADS = [r.id for r in ALL if differentiated(r)]


@pytest.mark.parametrize("key", GRADS)
def test_gradients(key: str) -> None:
    record = BY_ID[key]
    wrt = differentiated(record)
    for case in record.cases(["f64"]):
        if "edges" not in case.id:
            check_gradients(case.function, case.inputs, wrt, record.second)


def check_gradients(f: Function, inputs: list[Any], wrt: tuple[int, ...], second: bool) -> None:
    """First and second derivatives of Σ w·f along random directions."""
    rng = np.random.default_rng(7)
    xs = [inputs[i] for i in wrt]
    outs = [r for r in interpreter.run(f, inputs) if np.asarray(r).dtype == np.float64]
    if not outs or not any(x.size for x in xs):
        return
    ws = [rng.standard_normal(r.shape) for r in outs]
    vs = [rng.standard_normal(x.shape) for x in xs]
    us = [rng.standard_normal(x.shape) for x in xs]
    g = with_gradients(f, wrt)

    def at(step: float, along: list[Any]) -> tuple[float, float, float]:
        args = list(inputs)
        for i, d in zip(wrt, along, strict=True):
            args[i] = np.asarray(inputs[i] + step * d)
        value, gs, hs = split(interpreter.run(g, [*args, *ws, *vs]), len(outs), len(wrt))
        scalar = sum(float(np.sum(w * y)) for w, y in zip(ws, value, strict=True))
        return scalar, dot(gs, vs), dot(hs, us)

    _, slope, bend = at(0.0, vs)
    close(slope, difference(lambda s: at(s, vs)[0]), "first")
    if second:
        close(bend, difference(lambda s: at(s, us)[1]), "second")


def with_gradients(f: Function, wrt: tuple[int, ...]) -> Function:
    """params, w…, v… → float results, first gradients of Σ w·f, gradients of Σ v·(first)."""
    b = Builder("main")
    params = [b.param(p.type) for p in f.params]
    ys = [y for y in b.call_region(f, params) if differentiable(y.type)]
    ws = [b.param(y.type) for y in ys]
    xs = [params[i] for i in wrt]
    vs = [b.param(x.type) for x in xs]
    firsts = [b.const(0, x) if g is None else g
              for x, g in zip(xs, gradients(b, ys, xs, ws), strict=True)]
    seconds = [b.const(0, x) if g is None else g
               for x, g in zip(xs, gradients(b, firsts, xs, vs), strict=True)]
    out = b.finish([*ys, *firsts, *seconds])
    verifier.verify(out)
    return out


def split(results: list[Any], ys: int, xs: int) -> tuple[list[Any], list[Any], list[Any]]:
    return results[:ys], results[ys : ys + xs], results[ys + xs :]


def dot(a: list[Any], b: list[Any]) -> float:
    return sum(float(np.sum(x * y)) for x, y in zip(a, b, strict=True))


def difference(fn: Any, h: float = 1e-3) -> float:
    """Central differences of sixth order."""
    near, mid, far = (fn(n * h) - fn(-n * h) for n in (1, 2, 3))
    return float(45 * near - 9 * mid + far) / (60 * h)


def close(got: float, want: float, what: str) -> None:
    assert got == pytest.approx(want, rel=2e-6, abs=2e-7), f"{what} derivative"
