"""Equality of kernels but for their buffers: what can share one schedule and one piece of code."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from .expr import Expr, walk
from .form import Buffer, Kernel, Proc


class _Numbers:
    """Numbers buffers and variables in the order in which they are met."""

    def __init__(self, kernel: Kernel) -> None:
        self.buffers: dict[Buffer, int] = {}
        self.vars: dict[Expr, int] = {}
        self.parts: list[Hashable] = []
        for b in (*kernel.inputs, *kernel.outputs):
            self.buffer(b)

    def buffer(self, b: Buffer) -> int:
        if b not in self.buffers:
            self.buffers[b] = len(self.buffers)
            self.parts.append((b.dtype.name, b.shape, b.scope, b.pad))
        return self.buffers[b]

    def var(self, v: Expr) -> int:
        if v not in self.vars:
            self.vars[v] = len(self.vars)
            self.parts.append((v.attr.extent, v.dtype.name))
        return self.vars[v]

    def exprs(self, roots: Iterable[Expr]) -> None:
        ids: dict[Expr, int] = {}
        for e in walk(*roots):
            ids[e] = len(ids)
            if e.op == "var":
                attr: Hashable = self.var(e)
            elif e.op == "load":
                attr = self.buffer(e.attr)
            else:
                attr = e.attr
            self.parts.append((e.op, attr, tuple(ids[a] for a in e.args), e.dtype.name))


def kernel_key(k: Kernel) -> Hashable | None:
    """Equal for kernels that are the same but for names and buffers; None where it is not known.

    Error sites are part of it: kernels that report from different lines differ.
    """
    n = _Numbers(k)
    for s in k.stages:
        if isinstance(s, Proc):
            return None
        n.parts.append(("stage", n.buffer(s.out), tuple(n.var(v) for v in s.axes)))
        n.exprs((s.value,))
    inputs, outputs = len(k.inputs), len(k.outputs)
    return (inputs, outputs, k.parts, tuple(n.parts))
