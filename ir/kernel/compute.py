"""The stage builder `k` that ops lower through: a small compute and reduce language."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core import Loc
from ..dims import Dim, Shape
from ..dtypes import DType, dtype
from ..types import TensorType
from . import expr as ex
from .expr import Expr
from .form import AnyStage, Buffer, Proc, Stage, Stmt


class Compute:
    """Collects the stages of one or more ops. Values are buffers: ``x[i, j]`` is a load."""

    def __init__(self) -> None:
        self.stages: list[AnyStage] = []
        self.loc: Loc | None = None
        self.source = ""
        self._serial = 0
        self._axes: dict[tuple[int, str, Dim], Expr] = {}

    @contextlib.contextmanager
    def at(self, loc: Loc | None, source: str) -> Iterator[None]:
        """Checks made inside report this op and line."""
        before = self.loc, self.source
        self.loc, self.source = loc, source
        try:
            yield
        finally:
            self.loc, self.source = before

    def buffer(self, type: TensorType, hint: str = "t") -> Buffer:
        """A fresh buffer (a stage has to write it)."""
        self._serial += 1
        return Buffer(f"{hint}{self._serial}", type.dtype, type.shape)

    def axes(self, shape: Shape, names: str = "ijklmnop") -> tuple[Expr, ...]:
        """Index variables that range over a shape: the same ones for each stage of that domain, so
        that formulas of one domain share their nodes and are inlined as they are."""
        out = []
        for n, d in enumerate(shape):
            key = (n, names[n % len(names)], d)
            if key not in self._axes:
                self._axes[key] = ex.var(key[1], d)
            out.append(self._axes[key])
        return tuple(out)

    def compute(self, type: TensorType, fn: Callable[..., Expr], hint: str = "t") -> Buffer:
        """A new buffer with ``out[i, j, …] = fn(i, j, …)``."""
        axes = self.axes(type.shape)
        value = fn(*axes)
        if value.dtype != type.dtype:
            raise TypeError(f"stage of {type} computes {value.dtype}")
        out = self.buffer(type, hint)
        self.stages.append(Stage(out, axes, value))
        return out

    def elementwise(self, out: TensorType, fn: Callable[..., Expr], *xs: Buffer) -> Buffer:
        """``out[i…] = fn(x[i…], …)`` for operands of out's shape."""
        return self.compute(out, lambda *i: fn(*(x[i] for x in xs)))

    def reduce(self, op: str, extents: Sequence[Dim], fn: Callable[..., Expr]) -> Expr:
        """Inside `compute`: the reduction of ``fn(r0, r1, …)`` over fresh axes."""
        axes = tuple(ex.var("rstuvw"[n % 6], d) for n, d in enumerate(extents))
        return ex.reduce(op, axes, fn(*axes))

    def proc(
        self, outs: Sequence[Buffer], shape: Shape, fn: Callable[..., Sequence[Stmt]]
    ) -> None:
        """``fn(*point) -> statements`` for each point of a parallel domain; writes `outs`."""
        axes = self.axes(shape)
        self.stages.append(Proc(tuple(outs), axes, tuple(fn(*axes))))

    def const(self, value: Any, dt: DType | str) -> Expr:
        """A scalar constant."""
        return ex.const(value, dtype(dt))

    def check(self, value: Expr, ok: Expr, code: int) -> Expr:
        """value, reporting error `code` (a FLOWC_E_ number) for the current op where not ok."""
        return ex.check(value, ok, code, self.source, str(self.loc or ""))
