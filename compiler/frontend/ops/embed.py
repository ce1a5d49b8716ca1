"""Embeddings and clipping of rows."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from .clip import clip_by_norm
from .convert import Like, convert
from .selecting import gather
from .shape import concat


def embedding_lookup(
    params: Any,
    ids: Like,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: float | None = None,
) -> Tensor:
    """Rows of a table (or of several, stacked) at ids."""
    if isinstance(params, (list, tuple)):
        if len(params) == 1:
            params = params[0]
        elif partition_strategy == "div":
            params = concat(list(params), 0)
        else:
            raise NotImplementedError("embedding_lookup of several tables by 'mod'")
    rows = gather(params, convert(ids, name="ids"), name=name or "embedding_lookup")
    return rows if max_norm is None else clip_by_norm(rows, max_norm, axes=[-1])
