"""Nested lists, tuples and dicts of values: taken apart, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Structure = Any
"""What is left of a tree without its leaves; hashable, equal where trees have the same form."""

LEAF, NONE = "leaf", "none"
NUMBERS = (bool, int, float, complex)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves from left to right (dicts in the order of their keys) and the structure.

    Lists, tuples, named tuples and dicts are nodes, None is a tree without leaves, all else is a
    leaf.
    """
    leaves: list[Any] = []
    return leaves, _visit(tree, leaves)


def _visit(tree: Any, leaves: list[Any]) -> Structure:
    if tree is None:
        return NONE
    if isinstance(tree, dict):
        keys = _ordered(tree)
        return dict, tuple(keys), tuple([_visit(tree[k], leaves) for k in keys])
    if isinstance(tree, (list, tuple)):
        return type(tree), None, tuple([_visit(v, leaves) for v in tree])
    leaves.append(tree)
    return LEAF


def _ordered(tree: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(tree)
    except TypeError:
        return list(tree)


def take(tree: Any, leaves: list[Any]) -> Structure:
    """As `flatten`, onto `leaves`; in the structure, the type of a Python number stands for it."""
    kind = tree.__class__
    if kind is np.ndarray:
        leaves.append(tree)
        return LEAF
    if kind in NUMBERS:
        leaves.append(tree)
        return kind
    if tree is None:
        return NONE
    if isinstance(tree, dict):
        keys = _ordered(tree)
        return dict, tuple(keys), tuple([take(tree[k], leaves) for k in keys])
    if isinstance(tree, (list, tuple)):
        return kind, None, tuple([take(v, leaves) for v in tree])
    leaves.append(tree)
    return LEAF


def plain(structure: Structure) -> Structure:
    """The structure that `flatten` gives where `take` gave this one."""
    if structure.__class__ is not tuple:
        return NONE if structure == NONE else LEAF
    kind, keys, parts = structure
    return kind, keys, tuple([plain(p) for p in parts])


def build(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The tree of this structure with these leaves."""
    if structure.__class__ is not tuple:
        return None if structure == NONE else next(leaves)
    kind, keys, parts = structure
    values = [build(p, leaves) for p in parts]
    if kind is dict:
        return dict(zip(keys, values, strict=True))
    if kind is list:
        return values
    make = getattr(kind, "_make", None) or kind
    return make(values)


def paths(structure: Structure, prefix: str) -> list[str]:
    """A name for each leaf: `params_w`, `layers_0_b`."""
    if structure.__class__ is not tuple:
        return [] if structure == NONE else [prefix]
    kind, keys, parts = structure
    labels = keys or getattr(kind, "_fields", None) or range(len(parts))
    join = f"{prefix}_" if prefix else ""
    return [n for k, p in zip(labels, parts, strict=True) for n in paths(p, f"{join}{k}")]


def markers(structure: Structure) -> list[Any]:
    """What stands for each leaf: LEAF, or the type of a number."""
    if structure.__class__ is not tuple:
        return [] if structure == NONE else [structure]
    return [m for p in structure[2] for m in markers(p)]


def rename(text: str) -> str:
    """A name as the graph and C accept it."""
    out = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in text)
    return out if out[:1].isalpha() else f"x{out}"


def map_leaves(f: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with f applied to every leaf."""
    leaves, structure = flatten(tree)
    return build(structure, iter([f(v) for v in leaves]))
