"""One cost model for contracts: cycles from shapes, by which tiles and packing are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.dtypes import DType

from .access import size


@dataclass(frozen=True)
class Machine:
    """What the model knows of a core. vector: bytes; registers: vector registers; caches: bytes.

    bf16_dot: whether `dot_bf16` is an instruction.
    """

    vector: int = 64
    registers: int = 32
    l1: int = 32 << 10
    l2: int = 1 << 20
    bf16_dot: bool = False

    def lanes(self, dt: DType) -> int:
        """Elements in a vector register."""
        return max(1, self.vector // max(dt.size, 1))


def machine(target: Any) -> Machine:
    """The model's view of a target; attributes that it lacks have usual values."""
    vector = int(getattr(target, "vector_bits", 512)) // 8
    triple = str(getattr(target, "triple", "x86_64"))
    wide = vector >= 64 or not triple.startswith(("x86", "i386", "i686", "arm", "wasm"))
    return Machine(vector, 32 if wide else 16, bf16_dot=getattr(target, "has_bf16_dot", False))


@dataclass(frozen=True)
class Tile:
    """The register tile: mr rows of nv vectors of w lanes."""

    mr: int
    nv: int
    w: int

    @property
    def nr(self) -> int:
        """Lanes of a row of the tile."""
        return self.nv * self.w


def tile_cycles(mr: int, nv: int) -> float:
    """Cycles of one step of k: fused multiply-adds, loads, and the latency of the chain."""
    fma = float(mr * nv)
    loads = nv + 0.5 * mr
    # each row is a stream through memory: more than 8 collide in an 8-way cache (1024³: 12x32 93,
    # 8x48 107, 6x64 112 GFLOP/s on Zen 4, all the same at 384³)
    return max(fma, loads, 4.0) + 0.4 + 0.02 * mr + (0.03 * (mr - 8) if mr > 8 else 0.0)


@cache
def _shapes(registers: int) -> tuple[tuple[int, int], ...]:
    """Tiles that fit: accumulators, a row of b, one broadcast."""
    return tuple(
        (mr, nv) for nv in (1, 2, 3, 4, 6, 8) for mr in range(1, 25)
        if mr * nv + nv + 1 <= registers and mr * nv <= 28 * registers // 32
    )


TAIL_ROWS = 4  # rows of the tile that finishes a symbolic number of rows


def _splits(extent: int, step: int) -> Iterator[tuple[int, int]]:
    """(size, how often) of the pieces that cover an extent."""
    if extent >= step:
        yield step, extent // step
    if extent % step:
        yield extent % step, 1


STREAM = 0.5  # cycles for each vector of a panel that comes from the second cache


def _region(
    rows: int, lanes: int, t: Tile, clamped: bool, collide: bool, deep: bool = False
) -> float:
    total = 0.0
    full_rows, rest = divmod(rows, t.mr)
    pieces = [(t.mr, full_rows), (rest, 1)]
    if clamped:
        pieces[1] = (min(t.mr, TAIL_ROWS), -(-rest // TAIL_ROWS))
    for r, times in pieces:
        for width, count in _splits(lanes, t.nr):
            if r and times:
                nv = -(-width // t.w)
                cycles = tile_cycles(r, nv) + deep * (STREAM * nv + 0.1 * max(0, r - 8))
                total += times * count * cycles * (1.0 + 0.2 * max(0, r - 8) * collide)
    return total


def choose_tile(
    rows: Dim, lanes: Dim, w: int, mach: Machine, collide: bool = False, deep: bool = False
) -> Tile:
    """The tile that covers rows × lanes in the fewest cycles of each step of k.

    A symbolic number of rows is taken for large: efficiency of the full tile decides. collide: rows
    lie a multiple of 1 KiB apart, so that more than 8 push each other out of the first cache. deep:
    a panel of lanes lies in the second cache.
    """
    fixed = isinstance(rows, int)
    r = rows if isinstance(rows, int) else 16 * 840
    n = lanes if isinstance(lanes, int) else 840 * w
    best: tuple[float, int, Tile] | None = None
    for mr, nv in _shapes(mach.registers):
        if not fixed and mr % TAIL_ROWS:
            continue
        if mr > max(1, r) or (nv > 1 and (nv - 1) * w >= max(1, n)):
            continue
        t = Tile(mr, nv, w)
        # prefer fewer, larger rows of b (fewer streams of a) only where nothing else differs
        key = (round(_region(max(1, r), max(1, n), t, not fixed, collide, deep), 3), mr, t)
        if best is None or key[:2] < best[:2]:
            best = key
    assert best is not None
    return best[2]


FITS = 512 << 10  # bytes of the lane factor that are read in place at full speed from any tile


def direct_rows(nbytes: float, step: int) -> int:
    """Up to how many rows of the result reading the lane factor in place beats packing it.

    nbytes: its size; step: bytes between its rows. Measured on Zen 4 (256x1024 … 3136x1024):
    packing costs some 1.2 cycles an element, reading in place a tenth of the arithmetic, and the
    more the further its rows are apart.
    """
    if nbytes <= FITS and not (step % 1024 == 0 and nbytes >= step * 512):
        return 1 << 62
    return 128 if nbytes <= 8 << 20 else 24


GRAIN = 1 << 20  # operations of a chunk: some 10 µs, well above a fork-join


def grain(inner: float, extent: Dim) -> int:
    """Iterations of a loop to put into one chunk, `inner` operations each."""
    want = max(1, int(-(-GRAIN // max(1.0, inner))))
    return min(want, extent) if isinstance(extent, int) and extent > 0 else want


def work(*extents: Dim) -> float:
    """The typical product of extents, at least 1."""
    return max(1.0, float(size(dims.product(tuple(extents))))) if extents else 1.0
