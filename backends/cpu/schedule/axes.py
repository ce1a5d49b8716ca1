"""Loops over index spaces: collapsing axes, cutting work into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.dtypes import DType
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer, For, Stage, Stmt
from flowc.ir.kernel.patterns import estimate

CHUNK = 16384  # elements of work in a chunk: 10–20 µs, far above a fork-join's 0.5 µs


def unravel(flat: Expr, shape: Sequence[Dim]) -> list[Expr]:
    """The index tuple of a row-major linear index."""
    out: list[Expr] = []
    for n in range(len(shape) - 1):
        inner = dims.product(tuple(shape[n + 1 :]))
        out.append(ex.floordiv(flat, ex.index(inner)))
        flat = ex.mod(flat, ex.index(inner))
    return [*out, flat] if shape else []


def collapse(
    axes: Sequence[Expr], roots: Iterable[Expr], outs: Iterable[tuple[Buffer, tuple[Expr, ...]]]
) -> list[list[Expr]]:
    """Neighbouring axes that every access walks as one: groups, outermost first.

    Axes i, j join if in each access coefficient(i) = extent(j)·coefficient(j), and neither is used
    but in the linear offset of accesses.
    """
    roots = list(roots)
    accesses: list[dict[Expr, Dim]] = []
    free: set[Expr] = set()  # axes used otherwise than in an affine offset
    offsets: set[Expr] = set()
    nodes = ex.walk(*roots)
    for e in nodes:
        if e.op == "load":
            buf, idx, pred = ex.load_parts(e)
            _access(buf.offset(idx), accesses, free)
            offsets.update(idx)
            if pred is not None:
                free.update(v for v in ex.walk(pred) if v.op == "var")
    for buf, idx in outs:
        _access(buf.offset(idx), accesses, free)
    for e in nodes:  # index expressions used as data
        if e.op == "cast" and e.args[0].dtype is ex.INDEX:
            free.update(v for v in ex.walk(e) if v.op == "var")
    groups: list[list[Expr]] = []
    for v in axes:
        if groups and _joins(groups[-1][-1], v, accesses, free):
            groups[-1].append(v)
        else:
            groups.append([v])
    return groups


def _access(offset: Expr, accesses: list[dict[Expr, Dim]], free: set[Expr]) -> None:
    terms, _ = ex.linear(offset)
    for atom in terms:
        if atom.op != "var":
            free.update(v for v in ex.walk(atom) if v.op == "var")
    accesses.append(terms)


def _joins(a: Expr, b: Expr, accesses: list[dict[Expr, Dim]], free: set[Expr]) -> bool:
    if a in free or b in free:
        return False
    extent = b.attr.extent
    return all(t.get(a, 0) == dims.mul(extent, t.get(b, 0)) for t in accesses)


def merged(groups: list[list[Expr]], names: str) -> tuple[list[Expr], dict[Expr, Expr]]:
    """One fresh variable a group, and what each old axis is in terms of them."""
    fresh: list[Expr] = []
    env: dict[Expr, Expr] = {}
    for n, group in enumerate(groups):
        shape = [v.attr.extent for v in group]
        flat = ex.var(names[n % len(names)], dims.product(tuple(shape)))
        fresh.append(flat)
        env.update(zip(group, unravel(flat, shape), strict=True))
    return fresh, env


def chunked(
    count: Dim, per_chunk: Dim, body: Callable[[Expr], Sequence[Stmt]], name: str = "r"
) -> For:
    """A parallel loop over chunks of a serial loop over `count` points."""
    if dims.maximum(dims.add(count, mul_neg(per_chunk)), 0) == 0 or count == 1:
        chunk = ex.var("chunk", 1)
        return For(chunk, ex.index(1), "parallel", (_serial(count, body, name),))
    chunks = dims.ceildiv(count, per_chunk)
    chunk = ex.var("chunk", chunks)
    left = ex.index(count) - chunk * ex.index(per_chunk)
    inner = ex.var(name, per_chunk)
    stmts = tuple(body(chunk * ex.index(per_chunk) + inner))
    loop = For(inner, ex.imin(ex.index(per_chunk), left), "serial", stmts)
    return For(chunk, ex.index(chunks), "parallel", (loop,))


def _serial(count: Dim, body: Callable[[Expr], Sequence[Stmt]], name: str) -> For:
    v = ex.var(name, count)
    return For(v, ex.index(count), "serial", tuple(body(v)))


def mul_neg(d: Dim) -> Dim:
    """−d."""
    return dims.mul(d, -1)


def rows_per_chunk(inner: Dim, weight: int = 1) -> Dim:
    """How many rows of `inner` elements make a chunk; depends on the shape alone."""
    if isinstance(inner, int):
        return max(1, CHUNK // max(1, inner * weight))
    return dims.maximum(1, dims.floordiv(CHUNK, dims.maximum(dims.mul(inner, weight), 1)))


def vector_axis(extent: Dim, lanes: int) -> int:
    """The width for a loop of this extent: narrower than `lanes` where that wastes less."""
    if isinstance(extent, int):
        while lanes > 1 and extent <= lanes // 2:
            lanes //= 2
    return lanes


def widest(stages: Iterable[Stage], lanes: Callable[[DType], int]) -> int:
    """The lane count of the widest element type that the stages load, compute or store.

    What only becomes an index does not count: those of a gather are the same for all lanes, mostly.
    """
    return _widest([s.value for s in stages], {s.out.dtype for s in stages}, lanes)


def widest_of(values: Iterable[Expr], lanes: Callable[[DType], int]) -> int:
    """The same of expressions that are not stored."""
    return _widest(values, set(), lanes)


def _widest(values: Iterable[Expr], kinds: set[DType], lanes: Callable[[DType], int]) -> int:
    todo = list(values)
    seen = set(todo)
    while todo:
        e = todo.pop()
        if e.dtype is ex.INDEX:
            continue
        kinds.add(e.dtype)
        more = [a for a in e.args if a not in seen]
        seen.update(more)
        todo += more
    return min((lanes(t) for t in kinds if not t.is_bool), default=16)


def is_large(d: Dim, than: int) -> bool:
    """Whether a size is, or for a symbol may well be, larger."""
    return not isinstance(d, int) or d > than or estimate(d) > than
