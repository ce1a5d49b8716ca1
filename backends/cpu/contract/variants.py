"""The ways to run a contract, at most three, chosen at entry by the sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Kernel, LoopKernel
from flowc.ir.plan import Variant

from . import dots
from .access import stride
from .blocked import Axes, blocked, choose_axes
from .cost import Machine, choose_tile, machine
from .match import Contract

FEW = 3  # rows up to which packing the other factor at each call costs more than it gains


def schedule(
    kernel: Kernel, contract: Contract, target: Any = None, options: Any = None
) -> list[Variant]:
    """Scheduled kernels for a contract; the last one always applies.

    target: a `CpuTarget` (None: 512-bit vectors). A symbolic number of rows gets a variant for few
    rows, which neither packs nor computes rows that do not exist.
    """
    assert contract.kernel is kernel
    mach = machine(target)
    ax = choose_axes(contract, mach)
    along_k = dots.plan(contract, mach)
    if along_k is not None and dots.price(contract, along_k) < ax.price:
        return [Variant(None, dots.dots(contract, along_k))]
    many = blocked(contract, ax, mach)
    out = [Variant(None, many)]
    row = ax.row
    if row is not None and not isinstance(row.attr.extent, int):
        limit = ex.index(FEW if many.scratch else 1)
        few = ex.compare("le", ex.index(row.attr.extent), limit)
        out.insert(0, Variant(few, _few_rows(contract, ax, mach)))
    return out


def _few_rows(c: Contract, ax: Axes, mach: Machine) -> LoopKernel:
    """One row at a time, along whichever axis b is contiguous."""
    lane_factor = c.a if ax.lane in c.m or stride(c.a, ax.lane) else c.b
    along_k = dots.plan(c, mach)
    if stride(lane_factor, ax.lane) > 1 and along_k is not None:
        free = [v for v in (*c.m, *c.n) if v is not ax.row]
        if free:
            p = replace(along_k, row=ax.lane, outer=tuple(v for v in c.axes if v is not ax.lane))
            return dots.dots(c, p)
    t = choose_tile(1, ax.lane.attr.extent, mach.lanes(c.acc), mach)
    return blocked(c, replace(ax, tile=t), mach, pack=False)
