"""Tiles of an attention kernel, and how many query rows are worked on at once.

The whole row of scores is kept, so that softmax is what it is elsewhere: with 16,384 keys six rows
still fit, and the kernel runs as near to its peak as with 512 (Zen 4: 98 and 91 of 116 GFLOP/s). So
there is no form with a running maximum, which rounds differently.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir.dims import Dim

from ..contract.access import size
from ..contract.cost import Machine, Tile, tile_cycles

MANY_ROWS = 16 * 840  # taken for a symbolic number of queries: whole tiles decide
BLOCK_ROWS = 64  # query rows of a block, at most: they share what is read of keys and values
SCORES = 3 / 8  # of the second cache that a block's scores may fill


@dataclass(frozen=True)
class Tiling:
    """Register tiles of both products (equal rows), and tiles of rows in a block."""

    scores: Tile
    out: Tile
    tiles: int

    @property
    def rows(self) -> int:
        """Query rows of a block."""
        return self.tiles * self.scores.mr


def choose(
    queries: Dim, keys: Dim, depth: int, lanes: int, w: int, item: int, mach: Machine
) -> Tiling:
    """The tiles with the fewest cycles for queries × keys × (depth + lanes) multiply-adds.

    The last tile of rows is computed whole. w: elements of a vector; item: bytes of a score.
    """
    rows = queries if isinstance(queries, int) else MANY_ROWS
    best: tuple[float, Tile, Tile] | None = None
    for mr in range(2, 15):
        widths = [nv for nv in (1, 2, 3, 4, 6) if mr * nv + nv + 1 <= mach.registers]
        if not widths or mr > max(rows, 2):
            continue
        first = min((_panels(mr, nv, size(keys), w), nv) for nv in widths)
        second = min((_panels(mr, nv, lanes, w), nv) for nv in widths)
        cycles = -(-rows // mr) * (first[0] * depth + second[0] * size(keys))
        if best is None or cycles < best[0]:
            best = cycles, Tile(mr, first[1], w), Tile(mr, second[1], w)
    assert best is not None
    _, scores, out = best
    fit = int(SCORES * mach.l2 / (scores.mr * max(1, size(keys)) * item))
    count = -(-rows // scores.mr)
    most = max(1, min(fit, BLOCK_ROWS // scores.mr, count))
    blocks = -(-count // most)
    return Tiling(scores, out, -(-count // blocks) if isinstance(queries, int) else most)


def _panels(mr: int, nv: int, lanes: int, w: int) -> float:
    """Cycles of one step of the sum over all panels of lanes."""
    full, rest = divmod(max(1, lanes), nv * w)
    cost = full * tile_cycles(mr, nv)
    return cost + (tile_cycles(mr, -(-rest // w)) if rest else 0.0)
