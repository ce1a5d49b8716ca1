"""The ways to run a contract, at most three, chosen at entry by the sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Kernel, LoopKernel
from flowc.ir.plan import ALONE, Around, Variant

from . import dots
from .access import stride
from .blocked import (
    K_BLOCK,
    Axes,
    blocked,
    choose_axes,
    in_place,
    long_symbol,
    place_rows,
)
from .cost import Machine, choose_tile, machine, work
from .match import Contract, variables
from .pairs import pairs
from .phases import by_phases
from .stream import MOST_ROWS, streamed, streams
from .sweep import few, sweeps, swept

FEW_IN_PLACE = 1  # rows up to which tiles of one row, with b in place, are fastest


def schedule(
    kernel: Kernel, contract: Contract, target: Any = None, around: Around = ALONE
) -> list[Variant]:
    """Scheduled kernels for a contract; the last one always applies.

    target: a `CpuTarget` (None: 512-bit vectors). A symbolic number of rows gets variants for few
    rows, which neither pack nor compute rows that do not exist.
    """
    assert contract.kernel is kernel
    mach = machine(target)
    c = by_phases(replace(contract, around=around))
    by_two = pairs(c, mach)
    if by_two is None:
        return _ways(c, mach)
    found = [Variant(v.when, by_two.before(v.kernel)) for v in _ways(by_two.contract, mach, False)]
    plain = _ways(c, mach)[0]  # few rows are read where they are
    return found if plain.when is None else [plain, *found]


def _ways(c: Contract, mach: Machine, for_few: bool = True) -> list[Variant]:
    """The schedules of a contract as it stands. for_few: those for few rows too."""
    ax = choose_axes(c, mach)
    along_k = dots.plan(c, mach)
    if along_k is not None and dots.price(c, along_k) < ax.price:
        return [Variant(None, dots.dots(c, along_k))]
    if ax.row is None or isinstance(ax.row.attr.extent, int):
        return _known_rows(c, ax, mach)
    rows = ax.row.attr.extent
    least = _few_rows(c, ax, mach) if for_few else []
    out = [Variant(_up_to(rows, limit), k) for k, limit in least]
    lanes = _lane_factor(c, ax)
    most = 1 << 60 if c.is_fixed(lanes) else place_rows(ax, lanes)
    if streams(c, ax, mach):
        out.append(Variant(_up_to(rows, MOST_ROWS), streamed(c, ax, mach)))
    elif in_place(c, ax, lanes) and most < 1 << 60:
        out.append(Variant(_up_to(rows, most), blocked(c, ax, mach, pack=False)))
    else:
        return [*out, Variant(None, blocked(c, ax, mach))]
    return [*out, Variant(None, blocked(c, ax, mach, few=False))]


def _known_rows(c: Contract, ax: Axes, mach: Machine) -> list[Variant]:
    """The schedules where the number of rows is known."""
    if few(ax) and sweeps(c, ax, mach):
        return [Variant(None, swept(c, ax, mach))]
    if streams(c, ax, mach):
        return [Variant(None, streamed(c, ax, mach))]
    whole = Variant(None, blocked(c, ax, mach))
    depth = long_symbol(c)
    if depth is None:
        return [whole]
    short = blocked(c, ax, mach, split=False)  # no partial sums to visit
    return [Variant(_up_to(depth, 4 * K_BLOCK), short), whole]


def _up_to(rows: Dim, limit: int) -> Expr:
    return ex.compare("le", ex.index(rows), ex.index(limit))


def _lane_factor(c: Contract, ax: Axes) -> Expr:
    return c.a if ax.lane in variables(c.a) else c.b


def _few_rows(c: Contract, ax: Axes, mach: Machine) -> list[tuple[LoopKernel, int]]:
    """Schedules for few rows, along whichever axis b is contiguous; up to how many rows each."""
    along_k = dots.plan(c, mach)
    lanes = _lane_factor(c, ax)
    apart = ax.row not in variables(lanes)  # dot products want a factor for each of the two
    if along_k is not None and apart and stride(lanes, ax.lane) > 1:
        col = None if ax.row in c.batch else ax.row
        outer = tuple(v for v in c.axes if v is not ax.lane and v is not col)
        p = replace(along_k, row=ax.lane, col=col, outer=outer, alone=False)
        # packing costs an element some 1.2 cycles, combining lanes a result some 10
        depth = work(*(v.attr.extent for v in c.k))
        out = [(dots.dots(c, p), max(4, int(0.12 * depth)))]
        most = next((n for n in (dots.SIDE, 1) if dots.streams(c, p.row, n, mach)), 0)
        if most:
            out.insert(0, (dots.dots(c, replace(p, alone=True)), most))
        return out
    if sweeps(c, ax, mach):
        return [(swept(c, ax, mach), FEW_IN_PLACE)]
    t = choose_tile(1, ax.lane.attr.extent, mach.lanes(c.acc), mach)
    return [(blocked(c, replace(ax, tile=t), mach, pack=False), FEW_IN_PLACE)]
