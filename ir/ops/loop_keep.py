"""What a loop keeps of each round for its gradient, and what the reverse round computes again.

A cheapest cut between the forward round and what the reverse round needs: to keep a value costs the
trip through memory, to compute it again costs its op. Carried values and the results of expensive
ops can only be kept; elements of arrays are there, but reading them costs, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..core import Instr, Value
from ..kernel.patterns import estimate
from ..mincut import NEVER, Network
from ..types import TensorType

# Picoseconds, on a Zen 4 core: a byte written to a stack and read again; a byte of an element; an
# element of a cheap op and of a transcendental one.
KEEP, READ, CHEAP, COSTLY = 110, 50, 30, 450
TRANSCENDENTAL = frozenset((
    "tanh", "sigmoid", "exp", "expm1", "log", "log1p", "pow", "sin", "cos", "tan", "erf", "erfc",
    "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "lgamma", "digamma",
))
LARGEST = 4000  # instructions of a round up to which the cut is looked for


def cheapest(
    needed: Iterable[Value], producer: Mapping[Value, Instr], carried: Sequence[Value],
    elements: Sequence[Value], fixed: Callable[[Instr, Value], bool],
) -> set[Value] | None:
    """The values to keep so that those `needed` are known; None where the round is too large.

    producer: what makes values in a round; others are known in any case, but for `carried` and
    `elements`. fixed: whether a result of an instruction can only be kept.
    """
    if len(producer) > LARGEST:
        return None
    net = Network()
    ends: dict[Value, tuple[int, int]] = {}
    stack = list(dict.fromkeys(needed))
    for v in stack:
        _node(net, ends, v)
        net.edge(ends[v][1], 1, NEVER)
    seen: set[Value] = set(stack)
    while stack:
        v = stack.pop()
        instr = producer.get(v)
        start, end = ends[v]
        net.edge(start, end, _bytes(v) * KEEP)
        if v in carried or (instr is not None and fixed(instr, v)):
            net.edge(0, start, NEVER)
        elif v in elements:
            net.edge(0, start, _bytes(v) * READ)
        elif instr is not None:
            net.edge(0, start, _again(instr, v))
            for o in instr.operands:
                if o not in seen:
                    seen.add(o)
                    stack.append(o)
                    _node(net, ends, o)
                net.edge(ends[o][1], start, NEVER)
    side = net.source_side()
    return {v for v, (start, end) in ends.items() if start in side and end not in side}


def _node(net: Network, ends: dict[Value, tuple[int, int]], v: Value) -> None:
    ends[v] = net.node(), net.node()


def _bytes(v: Value) -> int:
    return max(1, estimate(v.type.nbytes)) if isinstance(v.type, TensorType) else NEVER // KEEP


def _again(instr: Instr, v: Value) -> int:
    """What computing v again costs."""
    if not isinstance(v.type, TensorType):
        return 0
    each = COSTLY if instr.op.name in TRANSCENDENTAL else CHEAP
    return max(1, estimate(v.type.count)) * each
