"""A function as one unscheduled kernel, by the ops' `lower` alone."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Function, Value
from flowc.ir.kernel.compute import Compute
from flowc.ir.kernel.form import Buffer, Kernel
from flowc.ir.ops.constant import Constant


def kernel_of(f: Function) -> tuple[Kernel, list[Any]]:
    """The kernel, and the constants that it takes after the function's arguments."""
    k = Compute()
    buffers: dict[Value, Buffer] = {
        p: Buffer(p.name or "p", p.ty.dtype, p.ty.shape) for p in f.params}
    inputs, data = [buffers[p] for p in f.params], []
    for i in f.instrs:
        if isinstance(i.op, Constant) and i.op.value.splat is None:
            b = Buffer("c", i.op.value.dtype, i.op.value.type.shape)
            buffers[i.result] = b
            inputs.append(b)
            data.append(i.op.value.array)
            continue
        with k.at(i.loc, i.op.name):
            out = i.op.lower(k, *(buffers[v] for v in i.operands))
        outs = out if isinstance(out, tuple | list) else (out,)
        buffers.update(zip(i.results, outs, strict=True))
    outputs = tuple(buffers[r] for r in f.results)
    return Kernel("k", tuple(inputs), outputs, tuple(k.stages)), data
