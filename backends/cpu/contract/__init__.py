"""Schedules of contractions on the CPU: matrix products, convolutions and their gradients.

`match` takes a kernel apart (`match.py`); `schedule` (`variants.py`) gives a few variants:

- `blocked.py`: a register tile of rows × vectors (`micro.py`) inside loops over panels of lanes and
  tiles of rows (`nest.py`), tiles chosen by `cost.py`. What the micro-kernel cannot read well is
  copied first: the lane factor into panels (`pack.py`), a factor with padding into an array that
  holds the padding (`halo.py`). Strided transposed convolutions go by phases (`phases.py`). Long
  sums go around the tiles in blocks, partial sums waiting in memory.
- `stream.py`: up to some hundred rows times a matrix from memory: each panel is packed just before
  its use, by when it has been fetched.
- `sweep.py`: a vector or a few rows times a matrix, whose lines are read in order.
- `pairs.py`: products of bf16, two steps of k at once, where the target can; by the others.
- `dots.py`: tiles of dot products with lanes along k, where both factors are contiguous there.

Every result is one chain of multiply-adds over k whose order depends on the shapes alone.
"""

from .match import Contract, match
from .pack import hoistable
from .variants import schedule

__all__ = ["Contract", "hoistable", "match", "schedule"]
