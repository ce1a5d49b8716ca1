"""The cheapest cut of a small network (Dinic 1970)."""

from __future__ import annotations

from collections import deque

NEVER = 1 << 60  # the capacity of an edge that is not to be cut


class Network:
    """Nodes are numbers; 0 is the source, 1 the sink. Capacities are integers ≥ 0."""

    def __init__(self) -> None:
        self.edges: list[list[int]] = [[], []]  # of a node: numbers of edges
        self.to: list[int] = []
        self.room: list[int] = []  # edge e's opposite is e ^ 1

    def node(self) -> int:
        """A new node."""
        self.edges.append([])
        return len(self.edges) - 1

    def edge(self, a: int, b: int, capacity: int) -> None:
        """An edge from a to b."""
        for u, v, room in ((a, b, capacity), (b, a, 0)):
            self.edges[u].append(len(self.to))
            self.to.append(v)
            self.room.append(room)

    def source_side(self) -> set[int]:
        """The nodes on the source's side of a cheapest cut, of several the one nearest to the sink.

        Raises ValueError where every cut goes through an edge that is not to be cut.
        """
        total = 0
        while (level := self._levels()) is not None:
            nexts = [0] * len(self.edges)
            while (more := self._push(level, nexts)) > 0:
                total += more
                if total >= NEVER:
                    raise ValueError("nothing can be cut")
        return set(range(len(self.edges))) - self._reaching_sink()

    def _levels(self) -> list[int] | None:
        level = [-1] * len(self.edges)
        level[0] = 0
        queue = deque([0])
        while queue:
            u = queue.popleft()
            for e in self.edges[u]:
                if self.room[e] > 0 and level[self.to[e]] < 0:
                    level[self.to[e]] = level[u] + 1
                    queue.append(self.to[e])
        return level if level[1] >= 0 else None

    def _push(self, level: list[int], nexts: list[int]) -> int:
        """One more path of the level graph, and what goes along it; 0 where there is none."""
        path: list[int] = []
        u = 0
        while u != 1:
            if nexts[u] < len(self.edges[u]):
                e = self.edges[u][nexts[u]]
                if self.room[e] > 0 and level[self.to[e]] == level[u] + 1:
                    path.append(e)
                    u = self.to[e]
                else:
                    nexts[u] += 1
            elif path:
                u = self.to[path.pop() ^ 1]
                nexts[u] += 1
            else:
                return 0
        amount = min(self.room[e] for e in path)
        for e in path:
            self.room[e] -= amount
            self.room[e ^ 1] += amount
        return amount

    def _reaching_sink(self) -> set[int]:
        seen, stack = {1}, [1]
        while stack:
            for e in self.edges[stack.pop()]:
                u = self.to[e]
                if self.room[e ^ 1] > 0 and u not in seen:
                    seen.add(u)
                    stack.append(u)
        return seen
