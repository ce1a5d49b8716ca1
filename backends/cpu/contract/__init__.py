"""Schedules of contractions on the CPU: matrix products, convolutions and their gradients."""

from .match import Contract, match
from .pack import hoistable
from .variants import schedule

__all__ = ["Contract", "hoistable", "match", "schedule"]
