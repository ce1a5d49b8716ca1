"""Random bits, the same on any number of threads, any vector width, any device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Op
from ..dims import Shape, product
from ..dtypes import DType, u32, u64
from ..kernel import expr as ex
from ..kernel.expr import Expr
from ..types import TensorType
from .base import concrete, primitive
from .numeric import Array, quiet

# Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
ROUNDS = 10
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
MASK = 0xFFFFFFFF


@primitive
class RandomBits(Op):
    """Random words of `dtype` (u32 or u64) of `shape`, by Philox4x32-10.

    step: a u64 scalar. Element i (linear, row-major) is the block of counter (i lo, i hi, step lo,
    step hi) under key (key0, key1): its word 0, and for u64 its word 1 in the upper half.
    """

    name = "random_bits"
    key0: int
    key1: int
    shape: Shape
    dtype: DType

    def infer(self, step: TensorType) -> TensorType:
        if step != TensorType(u64, ()):
            raise TypeError(f"the step {step} must be a u64 scalar")
        if self.dtype not in (u32, u64):
            raise TypeError(f"random bits are u32 or u64, not {self.dtype}")
        if not (0 <= self.key0 <= MASK and 0 <= self.key1 <= MASK):
            raise ValueError(f"keys {self.key0}, {self.key1} are not 32-bit numbers")
        return TensorType(self.dtype, self.shape)

    @quiet
    def eval(self, step: Any) -> Any:
        shape = concrete(self.shape)
        i = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64)
        at = np.full_like(i, int(step))
        half = np.uint64(32)
        mask = np.uint64(MASK)
        words = philox((i & mask, i >> half, at & mask, at >> half), (self.key0, self.key1))
        out = words[0] if self.dtype == u32 else words[0] | (words[1] << half)
        return out.astype(self.dtype.np).reshape(shape)

    def grad(self, b: Any, operands: Any, results: Any, gs: Any) -> tuple[None]:
        return (None,)

    def lower(self, k: Any, step: Any) -> Any:
        small = isinstance(n := product(self.shape), int) and n <= MASK

        def element(*i: Any) -> Any:
            linear = ex.index(0)
            for j, d in zip(i, self.shape, strict=True):
                linear = linear * d + j
            wide = ex.cast(linear, u64)
            counter = (
                ex.cast(wide, u32), ex.const(0, u32) if small else _high(wide),
                ex.cast(step[()], u32), _high(step[()]),
            )
            a, c = _philox_expr(counter, (self.key0, self.key1))
            if self.dtype == u32:
                return a
            upper = ex.binary("shl", ex.cast(c, u64), 32)
            return ex.cast(a, u64) | upper

        return k.compute(self.infer(step.type), element)

    def flops(self, operands: Any, results: Any) -> Any:
        return product(self.shape) * 60


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> list[Array]:
    """The four output words, as u64 arrays, of counter words (u64 arrays of 32-bit numbers)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    half, mask = np.uint64(32), np.uint64(MASK)
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(M0), c2 * np.uint64(M1)
        c0, c1, c2, c3 = (
            (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & mask,
            (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & mask,
        )
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return [c0, c1, c2, c3]


def _high(x: Expr) -> Expr:
    return ex.cast(ex.binary("shr", x, 32), u32)


def _philox_expr(counter: tuple[Expr, Expr, Expr, Expr], key: tuple[int, int]) -> tuple[Expr, Expr]:
    """Words 0 and 1, as u32 expressions."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    m0, m1 = ex.const(M0, u32), ex.const(M1, u32)
    for _ in range(ROUNDS):
        high0, high1 = ex.binary("mulhi", c0, m0), ex.binary("mulhi", c2, m1)
        c0, c1, c2, c3 = (
            _xor(_xor(high1, c1), ex.const(k0, u32)), c2 * m1,
            _xor(_xor(high0, c3), ex.const(k1, u32)), c0 * m0,
        )
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1


def _xor(a: Expr, b: Expr) -> Expr:
    return ex.binary("xor", a, b)
