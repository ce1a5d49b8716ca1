"""Where the time of a compilation goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


@dataclass
class Timings:
    """Seconds by pass name, in order of first use; also other parts of a compilation."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time inside, less what is added meanwhile for parts of it."""
        start, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            self.add(name, max(0.0, time.perf_counter() - start - inner))

    def merge(self, other: Timings) -> None:
        """Adds the parts of another one."""
        for name, seconds in other.seconds.items():
            self.add(name, seconds)

    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())

    def table(self) -> str:
        """Lines ``name  seconds  share`` of the time since `began`, with what no part counts."""
        whole = max(time.perf_counter() - self.began, 1e-9)
        rows = [*self.seconds.items(), ("not accounted for", max(0.0, whole - self.total()))]
        lines = [f"{n:20} {s:9.4f} s {s / whole:6.1%}" for n, s in rows]
        return "\n".join([*lines, f"{'total':20} {whole:9.4f} s"])


def peak_bytes() -> int:
    """The most memory that this process has had resident, 0 where that is not known."""
    usage: Any = resource
    if usage is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return int(usage.getrusage(usage.RUSAGE_SELF).ru_maxrss) * unit
