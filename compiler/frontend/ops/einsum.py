"""`einsum`: sums of products, written with a letter for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowc.ir.core import Value

from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, need, scope

_REST = "..."
Labels = tuple[str, ...]


def einsum(equation: str, *inputs: Like, name: str | None = None) -> Tensor:
    """The sum of products that an equation such as ``bij,bjk->bik`` describes.

    Without ``->`` the result has the letters that occur once, sorted. ``...`` stands for axes that
    broadcast. Operands are multiplied from left to right. Raises ValueError for an equation that
    does not fit the operands, or with a letter twice in one of them.
    """
    if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
        inputs = tuple(inputs[0])
    with scope(name, "einsum") as s:
        tensors = [convert(v, name="inputs") for v in inputs]
        terms, out = _parse(equation, len(tensors))
        for t in tensors:
            need(t, "fiuc", "inputs")
            if t.dtype != tensors[0].dtype:
                raise TypeError(f"einsum of {tensors[0].dtype.name} and {t.dtype.name}")
        dtype = tensors[0].dtype
        return apply("Einsum", tensors, dtype, s, equation=equation, terms=terms, out=out)


def _parse(equation: str, count: int) -> tuple[tuple[Labels, ...], Labels]:
    """The letters of each operand and of the result; ``...`` is a label, too."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = tuple(map(_labels, left.split(",")))
    if len(terms) != count:
        raise ValueError(f"'{equation}' has {len(terms)} operands, but {count} were given")
    every = [c for t in terms for c in t]
    if arrow:
        out = _labels(right)
    else:
        once = sorted(c for c in set(every) if every.count(c) == 1 and c != _REST)
        out = (*((_REST,) if _REST in every else ()), *once)
    for term in (*terms, out):
        wrong = [c for c in term if c != _REST and not c.isalpha()]
        if wrong or len(set(term)) != len(term):
            raise ValueError(f"'{equation}': each axis of '{''.join(term)}' needs its own letter")
    unknown = [c for c in out if c not in every]
    if unknown:
        raise ValueError(f"'{equation}': no operand has the axis {unknown[0]}")
    return terms, out


def _labels(text: str) -> Labels:
    before, dots, after = text.partition(_REST)
    return (*before, *((_REST,) if dots else ()), *after)


@expander("Einsum")
def _einsum(x: Expansion, node: Operation, *operands: Value) -> Any:
    equation: str = node.attrs["equation"]
    terms = [_spread(x, equation, t, v) for t, v in zip(node.attrs["terms"], operands, strict=True)]
    rest = max((t for t in terms), key=lambda t: sum(c.startswith(".") for c in t), default=())
    dots = [c for c in rest if c.startswith(".")]
    out: list[str] = []
    for c in node.attrs["out"]:
        out += dots if c == _REST else [c]
    sizes = _sizes(x, equation, terms, operands)
    parts = [_fitted(x, t, v, sizes) for t, v in zip(terms, operands, strict=True)]
    labels, value = parts[0]
    for n, (other, v) in enumerate(parts[1:], 1):
        later = {*out, *(c for t, _ in parts[n + 1 :] for c in t)}
        labels, value = _product(x, labels, value, other, v, later)
    labels, value = _summed(x, labels, value, set(out))
    value = x.b.transpose(value, perm=tuple(labels.index(c) for c in out if c in labels))
    at = tuple(i for i, c in enumerate(out) if c in labels)
    return x.b.broadcast(value, shape=tuple(sizes[c] for c in out), dims=at)


def _spread(x: Expansion, equation: str, term: Labels, v: Value) -> Labels:
    """Labels for all axes: those of ``...`` are ``.0``, ``.1`` …, counted from the last."""
    named, rank = [c for c in term if c != _REST], v.ty.rank
    if len(named) > rank or (_REST not in term and len(named) != rank):
        raise x.fail(f"'{equation}': '{''.join(term)}' does not fit the shape {v.type}")
    dots = tuple(f".{i}" for i in reversed(range(rank - len(named))))
    return tuple(c for label in term for c in (dots if label == _REST else (label,)))


def _sizes(
    x: Expansion, equation: str, terms: Sequence[Labels], operands: Sequence[Value]
) -> dict[str, Any]:
    """The size of each axis; those of ``...`` broadcast."""
    sizes: dict[str, Any] = {}
    for term, v in zip(terms, operands, strict=True):
        for c, size in zip(term, v.ty.shape, strict=True):
            have = sizes.get(c, size)
            if c.startswith(".") and 1 in (have, size):
                sizes[c] = size if have == 1 else have
            else:
                sizes[c] = x.agree(have, size, f"'{equation}': sizes of the axis {c}")
    return sizes


def _fitted(
    x: Expansion, term: Labels, v: Value, sizes: dict[str, Any]
) -> tuple[Labels, Value]:
    """The operand with the sizes that were agreed on, without axes that only broadcast."""
    keep = tuple(c for c, n in zip(term, v.ty.shape, strict=True) if n != 1 or sizes[c] == 1)
    if keep != term:
        shape = tuple(n for c, n in zip(term, v.ty.shape, strict=True) if c in keep)
        v = x.b.reshape(v, shape=shape)
    return keep, x.conform(v, tuple(sizes[c] for c in keep))


def _product(
    x: Expansion, a: Labels, v: Value, b: Labels, w: Value, later: set[str]
) -> tuple[Labels, Value]:
    """One product, summed over what neither the result nor a later operand has."""
    a, v = _summed(x, a, v, later | set(b))
    b, w = _summed(x, b, w, later | set(a))
    both = [c for c in a if c in b]
    batch = [c for c in both if c in later]
    over = [c for c in both if c not in later]
    free = [c for c in a if c not in both], [c for c in b if c not in both]
    out = x.b.dot(
        v, w,
        contract=(tuple(a.index(c) for c in over), tuple(b.index(c) for c in over)),
        batch=(tuple(a.index(c) for c in batch), tuple(b.index(c) for c in batch)),
    )
    return (*batch, *free[0], *free[1]), out


def _summed(x: Expansion, labels: Labels, v: Value, keep: set[str]) -> tuple[Labels, Value]:
    """Summed over the axes that nobody needs."""
    axes = tuple(i for i, c in enumerate(labels) if c not in keep)
    if not axes:
        return labels, v
    return tuple(c for c in labels if c in keep), x.b.reduce(v, op="sum", axes=axes)
