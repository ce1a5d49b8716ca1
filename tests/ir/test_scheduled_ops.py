"""Each op's kernel as the CPU schedules it: well formed, readable, and computing the same."""

from __future__ import annotations

from typing import Any

import pytest

from flowc.compiler.driver import backend_for
from flowc.compiler.options import Options
from flowc.ir import interpreter
from flowc.ir.kernel.form import Kernel, LoopKernel
from flowc.ir.kernel.interp import run_kernel
from flowc.ir.kernel.parse import parse_kernel
from flowc.ir.kernel.text import print_kernel
from flowc.ir.kernel.verify import verify_kernel
from op_records import RECORDS, Record

from .lowering import kernel_of
from .same import same_kernel

ALL = {r.id: r for name in sorted(RECORDS) for r in RECORDS[name] if r.kernel and r.run}


@pytest.fixture(scope="module")
def backend() -> Any:
    return backend_for(Options())


def stage_kernels(k: Kernel) -> list[Kernel]:
    """A kernel a stage."""
    out = []
    for s in k.stages:
        inputs = [e.attr for e in s.reads() if e.attr not in s.outs and e.attr.scope == "global"]
        out.append(Kernel(f"k{len(out)}", tuple(dict.fromkeys(inputs)), s.outs, (s,)))
    return out


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("order", ["reverse"])
def test_scheduled(key: str, order: str, backend: Any) -> None:
    record: Record = ALL[key]
    kinds = [d for d in ("f32", "i32", "bool") if d in record.dtypes][:1]
    for n, case in enumerate(record.cases(kinds or None)):
        if n > 1 or sum(x.size for x in case.inputs) > 2000:
            break
        k, data = kernel_of(case.function)
        memory: dict[Any, Any] = dict(zip(k.inputs, [*case.inputs, *data], strict=True))
        env: dict[str, int] = {}
        interpreter.bind(case.function, case.inputs, env)
        for part in stage_kernels(k):
            loops = backend.schedule(part)[-1].kernel
            outs = run_kernel(checked(loops), [memory[b] for b in loops.inputs], env, order)
            memory.update(zip(loops.outputs, outs, strict=True))
        got = [memory[b] for b in k.outputs]
        if any(i.op.defines() for i in case.function.instrs):
            got = [g[tuple(slice(n) for n in w.shape)]
                   for g, w in zip(got, case.expected, strict=True)]
        case.check(got)


def checked(loops: LoopKernel) -> LoopKernel:
    """The kernel read back from its text."""
    verify_kernel(loops)
    text = print_kernel(loops)
    again = parse_kernel(text)
    assert isinstance(again, LoopKernel)
    assert print_kernel(again) == text
    assert same_kernel(loops, again)
    return again
