"""What private memory holds: a value stored to a register buffer is found again without a load.

LLVM would find out the same (SROA), from some ten instructions for each: text, time and memory.
Cells lie at constant offsets. They hold for one version of the buffer (`Values.version`: stores,
and loops that store, raise it) and for the region that they were stored in, and those in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir.kernel.form import Buffer

from .emit import V


@dataclass
class _Held:
    """A buffer's cells: `lanes` elements from each offset that is a multiple of it (0: one)."""

    version: int
    lanes: int
    depth: int
    values: dict[int, V]


class Cells:
    """The known cells of each buffer."""

    def __init__(self) -> None:
        self._held: list[dict[Buffer, _Held]] = [{}]

    def push(self) -> None:
        """Enters a region."""
        self._held.append(dict(self._held[-1]))

    def pop(self) -> None:
        """Leaves it: what was stored in it is not known to come before what follows."""
        self._held.pop()

    def find(self, b: Buffer, version: int, offset: int, lanes: int) -> V | None:
        """The value at an offset, in elements."""
        held = self._held[-1].get(b)
        if held is None or held.version != version or held.lanes != lanes:
            return None
        return held.values.get(offset)

    def keep(self, b: Buffer, version: int, after: int, offset: int, value: V) -> None:
        """A cell's value, and the buffer's version before and after it."""
        now, depth = self._held[-1], len(self._held)
        held = now.get(b)
        if offset % max(1, value.n):
            now.pop(b, None)
            return
        if held is None or held.version != version or held.lanes != value.n:
            now[b] = _Held(after, value.n, depth, {offset: value})
        elif held.depth == depth:
            held.version = after
            held.values[offset] = value
        else:
            now[b] = _Held(after, value.n, depth, {**held.values, offset: value})
