"""Products of bf16 by the instruction that takes two steps of k at once.

The factors become words of two bf16 each, neighbours along k; the contract of the words goes
through the other schedules, with half as many steps: what these copy and pack is words, and
conversions to bf16 happen there. A step is `dot_bf16`: products are exact, sums are f32, rounded to
nearest; x86's instruction takes subnormal numbers for 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowc.ir import dims
from flowc.ir.dtypes import bf16, f32, u16, u32
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, LoopKernel

from .access import by_stride, is_guarded, is_plain, is_windowed, masked
from .cost import Machine, work
from .match import Contract, variables
from .pack import Packed, fill_phase

LEAST = 16  # rows, lanes and steps from which copying both factors is worth it


@dataclass(frozen=True, eq=False)
class Pairs:
    """The contract of pairs, and copies that it reads where its words need bounds."""

    contract: Contract
    copies: tuple[Packed, ...]

    def before(self, k: LoopKernel) -> LoopKernel:
        """A schedule of the contract, the copies in front."""
        return k.replace(
            phases=(*(p.phase for p in self.copies), *k.phases), note=f"{k.note}, bf16 pairs",
            scratch=(*(p.buffer for p in self.copies), *k.scratch),
        )


def pairs(c: Contract, mach: Machine) -> Pairs | None:
    """The contract by pairs, where the target has the instruction and the factors are bf16."""
    if not mach.bf16_dot or c.acc != f32 or c.casts or c.limits or c.exists is not None:
        return None
    a, b = _narrow(c.a), _narrow(c.b)
    if a is None or b is None or len(c.k) != 1 or min(
            work(*(v.attr.extent for v in side)) for side in (c.m, c.n, c.k)) < LEAST:
        return None
    (k,) = c.k
    half = ex.var(k.attr.name, dims.ceildiv(k.attr.extent, 2))
    out = replace(c, k=(half,), pairs=True)
    if isinstance(k.attr.extent, int) and k.attr.extent % 2 == 0:  # others copy and pack words
        return Pairs(out.with_factors(_word(a, k, half), _word(b, k, half)), ())
    axes = (*c.axes, k)
    copies = tuple(_copy(e, name, axes, k, half, mach)
                   for e, name in ((a, "apairs"), (b, "bpairs")))
    return Pairs(out.with_factors(*(p.factor for p in copies)), copies)


def _narrow(e: Expr) -> Expr | None:
    """The bf16 values that a factor consists of, where it is one array of them."""
    while e.op == "cast" and e.dtype != bf16:
        e = e.args[0]
    ok = e.dtype == bf16 and is_plain(e) and not is_guarded(e) and not is_windowed(e)
    return e if ok else None


def _copy(
    e: Expr, name: str, axes: tuple[Expr, ...], k: Expr, half: Expr, mach: Machine
) -> Packed:
    used = variables(e)
    order = by_stride(tuple(v for v in axes if v in used), e)
    order = tuple(half if v is k else v for v in order)
    buf = Buffer(name, u32, tuple(v.attr.extent for v in order))
    phase = fill_phase(buf, order, _word(e, k, half), mach.lanes(u32))
    return Packed(buf[order], buf, phase)


def _word(e: Expr, k: Expr, half: Expr) -> Expr:
    """Two neighbours of e along k."""
    low, high = (_bits(_at(e, k, half * 2 + n)) for n in (0, 1))
    return ex.binary("or", low, ex.binary("shl", high, ex.const(16, u32)))


def _at(e: Expr, k: Expr, at: Expr) -> Expr:
    """e at a step of k, 0 beyond the axis."""
    extent = k.attr.extent
    if not (isinstance(extent, int) and extent % 2 == 0):
        e = masked(e, k, k < ex.index(extent))
    return ex.substitute(e, {k: at})


def _bits(e: Expr) -> Expr:
    return ex.cast(ex.bitcast(e, u16), u32)
