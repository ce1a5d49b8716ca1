"""What a compiled function costs: kernels, host calls, operations, traffic, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel.expr import INDEX, Expr, walk
from flowc.ir.kernel.form import Buffer, Kernel, Stage
from flowc.ir.plan import HostCall, Launch, Program, launches, walk_steps

_FREE = frozenset({"const", "var", "lin", "dim", "load", "cast", "bitcast", "floordiv", "mod"})


@dataclass(frozen=True)
class CostAnalysis:
    """One run: kernels launched, calls to the host, arithmetic operations, bytes that kernels read
    and write (each buffer once a kernel). Loops count one round."""

    kernels: int
    host_calls: int
    flops: int
    bytes: int


@dataclass(frozen=True)
class MemoryAnalysis:
    """Bytes: arguments (inputs and state), outputs, workspace shared by temporaries, constants."""

    arguments: int
    outputs: int
    workspace: int
    constants: int


def _value(d: Dim, env: Mapping[str, int]) -> int:
    full = {name: env.get(name, 64) for name in dims.symbols(d)}
    out = dims.substitute(d, full)
    assert isinstance(out, int)
    return out


def cost_analysis(p: Program, env: Mapping[str, int] | None = None) -> CostAnalysis:
    """The costs of one run with these sizes (64 for a symbol that `env` lacks)."""
    env = env or {}
    kernels = [s.kernel for s in launches(p.steps)]
    moved = sum(_nbytes(b, env) for k in kernels for b in (*k.inputs, *k.outputs))
    flops = sum(kernel_flops(k, env) for k in kernels)
    calls = sum(isinstance(s, HostCall) for s in walk_steps(p.steps))
    return CostAnalysis(len(kernels), calls, flops, moved)


def _nbytes(b: Buffer, env: Mapping[str, int]) -> int:
    return _value(b.type.nbytes, env)


def kernel_flops(k: Kernel, env: Mapping[str, int]) -> int:
    """Arithmetic operations of a kernel's formulas (imperative stages count one an element)."""
    total = 0
    for s in k.stages:
        if not isinstance(s, Stage):
            total += sum(_value(b.type.count, env) for b in s.outs)
            continue
        domain = _value(s.out.type.count, env)
        total += domain * _ops(s.value)
        for e in walk(s.value):
            if e.op == "reduce":
                extent = 1
                for v in e.args[1:]:
                    extent *= _value(v.attr.extent, env)
                total += domain * extent * (_ops(e.args[0]) + 1)
    return total


def _ops(value: Expr) -> int:
    """Operations of an expression outside of the bodies of its reductions."""
    inner = {x for e in walk(value) if e.op == "reduce" for x in walk(e.args[0])}
    nodes = [
        e for e in walk(value)
        if e.op not in _FREE and e.op != "reduce" and e not in inner
        and e.dtype is not INDEX and not e.dtype.is_bool and e.op != "select"
    ]
    return sum(2 if e.op == "fma" else 1 for e in nodes)


def memory_analysis(p: Program, env: Mapping[str, int] | None = None) -> MemoryAnalysis:
    """Bytes of a run's buffers with these sizes."""
    env = env or {}
    given = sum(_nbytes(b, env) for b in (*p.inputs, *p.state))
    out = sum(_nbytes(b, env) for b in p.outputs)
    data = sum(v.array.nbytes for v in p.constants.values())
    return MemoryAnalysis(given, out, _value(p.workspace, env), data)


def distinct_kernels(p: Program) -> int:
    """How many different kernels a program launches."""
    return len({id(s.kernel) for s in launches(p.steps) if isinstance(s, Launch)})
