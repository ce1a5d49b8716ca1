"""Operations on constants are evaluated when compiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import Function, Op, Value
from flowc.ir.literal import Literal
from flowc.ir.types import TensorType, Type

from .base import Context, Pass, Unit, register
from .patterns.layout import ELEMENTWISE
from .rewrite import Rewriter

NEVER = frozenset({"random_bits", "constant"})


@register
@dataclass(frozen=True)
class Fold(Pass):
    """Evaluate operations whose operands are constants, by `Op.eval`.

    A result is kept where it has at most `limit` bytes or no more than the operands have.
    Elementwise operations on repeated scalars are folded as scalars, whatever their shape.
    Effects, random numbers and control flow stay; an operation whose evaluation fails (division by
    zero, an index out of range) stays, to fail when it runs.
    """

    name = "fold"
    limit: int = 1 << 16

    def run(self, unit: Unit, ctx: Context) -> Unit:
        return unit.map_functions(lambda f: self.function(f, ctx))

    def function(self, f: Function, ctx: Context) -> Function:
        """One function and those inside it."""
        b = _Folder(f, ctx, self.limit)
        return b.run(lambda sub: self.function(sub, ctx))


class _Folder(Rewriter):
    def __init__(self, f: Function, ctx: Context, limit: int) -> None:
        super().__init__(f, ctx)
        self.limit = limit

    def emit(self, op: Op, *operands: Value) -> Any:
        return Builder.emit(self, op, *operands)

    def replaced(self, op: Op, operands: tuple[Value, ...]) -> Any:
        if op.name in NEVER or op.effects or op.subfunctions() or op.defines():
            return None
        if op.name in ELEMENTWISE:
            splats = [self.splat(v) for v in operands]
            if all(c is not None for c in splats):
                return self.of_splats(op, operands, splats)
        if op.name == "broadcast" or (op.name == "reshape" and self.is_splat(operands[0])):
            return None  # it needs no data as it is
        return self.of_constants(op, operands)

    def is_splat(self, v: Value) -> bool:
        return self.splat(v) is not None

    def of_splats(self, op: Op, operands: tuple[Value, ...], splats: list[Any]) -> Any:
        scalars = [np.full((), c, v.ty.dtype.np) for c, v in zip(splats, operands, strict=True)]
        out = _evaluated(op, scalars)
        if out is None or not self.ctx.allow("fold-splat"):
            return None
        return self.constant(out[0], operands[0].ty.shape)

    def of_constants(self, op: Op, operands: tuple[Value, ...]) -> Any:
        arrays = [self.array(v) for v in operands]
        if any(a is None for a in arrays) or _has_symbols(op):
            return None
        types = op.infer(*(v.type for v in operands))
        each = types if isinstance(types, tuple) else (types,)
        size = sum(_bytes(t) for t in each)
        given = sum(a.nbytes for a in arrays if a is not None)
        if not each or (size > self.limit and size > given) or (not operands and size > 256):
            return None
        out = _evaluated(op, arrays)
        if out is None or not self.ctx.allow("fold"):
            return None
        made = tuple(self.constant(a, a.shape) for a in out)
        return made if isinstance(types, tuple) else made[0]

    def array(self, v: Value) -> Any:
        """The elements of a constant, or of a repeated scalar that is small."""
        lit = self.literal(v)
        if lit is not None:
            return lit.array
        c, t = self.splat(v), v.ty
        if c is None or not t.is_static or _bytes(t) > self.limit:
            return None
        return np.full(t.shape, c, t.dtype.np)

    def constant(self, a: Any, shape: dims.Shape) -> Value:
        """A constant; of one value, a broadcast scalar."""
        lit = Literal(a)
        if not shape or lit.splat is None:
            return self.const(a, lit.dtype)
        return self.const(lit.splat, TensorType(lit.dtype, shape))


def _bytes(t: Type) -> int:
    """The size of a tensor whose shape is known."""
    n = t.nbytes if isinstance(t, TensorType) else 0
    return n if isinstance(n, int) else 1 << 62


def _has_symbols(op: Op) -> bool:
    stack: list[Any] = list(op.attrs().values())
    while stack:
        v = stack.pop()
        if isinstance(v, dims.Expr):
            return True
        if isinstance(v, tuple):
            stack.extend(v)
    return False


def _evaluated(op: Op, arrays: list[Any]) -> tuple[Any, ...] | None:
    """The results; None where evaluation fails."""
    try:
        with np.errstate(all="ignore"):
            out = op.eval(*arrays)
    except (ArithmeticError, ValueError, LookupError, TypeError, NotImplementedError, MemoryError):
        return None
    return tuple(map(np.asarray, out)) if isinstance(out, tuple | list) else (np.asarray(out),)
