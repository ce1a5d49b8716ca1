"""What fusion may do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """cheap: cost up to which a formula is recomputed in each consumer; nodes: the size at which
    formulas stop growing; rows, epilogues, parts: allow these groups."""

    cheap: int = 5
    nodes: int = 300
    rows: bool = True
    epilogues: bool = True
    parts: bool = True
