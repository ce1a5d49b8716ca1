"""Attention on the CPU: two contracts and the rows between them as one loop nest.

`match` (`match.py`) takes a kernel apart; `schedule` (`nest.py`) gives its variants: for a block of
query rows the scores of all keys are computed into a buffer that stays in cache, by the
micro-kernel of contracts; the stages of rows run over it as they would over memory; the second
product reads it. The tiles and the block are chosen by `cost.py`.
"""

from .match import Attention, match
from .nest import schedule

__all__ = ["Attention", "match", "schedule"]
