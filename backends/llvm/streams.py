"""Which results are stored past the caches.

A store that misses the cache reads its line first and evicts another: where a kernel's arrays do
not fit the last-level cache together, streaming stores save both (elementwise 1.2–1.9 times as
fast from some 24 MB; in cache they are three times slower). What reads the result next would not
find it in cache either way.
"""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    LoopKernel,
    Phase,
    Stmt,
    Store,
    stmt_exprs,
    walk_stmts,
)
from flowc.ir.kernel.patterns import is_heavy

from .emit import Target
from .statements import used_buffers, written_buffers

FOOTPRINT = 24 << 20  # bytes of a phase's arrays: three quarters of a common last-level cache
LEAST = 4 << 20  # bytes of a result
RUN = 8  # vectors in a loop, below which the loose ends cost more than is won


def to_stream(kernel: LoopKernel, phase: Phase, target: Target) -> frozenset[Buffer]:
    """The outputs whose whole vectors are to be stored past the caches: never read here, large."""
    body = phase.body
    if not target.triple.startswith("x86_64"):
        return frozenset()  # elsewhere LLVM's streaming stores are pairs, and no faster
    used = set(used_buffers(body))
    sizes = {b: dims.mul(dims.product(b.shape), b.dtype.size) for b in kernel.params if b in used}
    total = sum(n for n in sizes.values() if isinstance(n, int))
    if total < FOOTPRINT or _bursts(body):
        return frozenset()
    read = {e.attr for e in ex.loads(*stmt_exprs(body))}
    read |= {b for pair in kernel.inplace for b in pair}
    large = (b for b in written_buffers(body) if b in kernel.outputs and b not in read)
    return frozenset(b for b in large if isinstance(n := sizes[b], int) and n >= LEAST)


def _bursts(body: tuple[Stmt, ...]) -> bool:
    """Whether rows are computed for long and then stored at once (softmax): the stores would wait
    for memory, which is idle before; caches even that out."""
    rows = any(isinstance(s, Alloc) for s in walk_stmts(body))
    return rows and any(is_heavy(e) for e in ex.walk(*stmt_exprs(body)))


def store_to_stream(s: For, streams: frozenset[Buffer]) -> Store | None:
    """The first store of a long vector loop to one of the buffers, element by element."""
    bounds = ex.bounds(s.extent)
    longest = bounds[1] if bounds is not None else None
    if isinstance(longest, int) and longest < RUN * s.width:
        return None
    for store in s.body:
        if isinstance(store, Store) and store.buffer in streams:
            terms, _ = ex.linear(store.buffer.offset(store.indices))
            size = store.buffer.dtype.size
            elsewhere = any(s.var in ex.walk(a) for a in terms if a is not s.var)
            if terms.get(s.var) == 1 and not elsewhere and s.width * size >= 16:
                return store
    return None
