"""`tf.contrib.framework`."""

from __future__ import annotations

from typing import Any

from ..graph import get_default_graph
from ..train.global_step import (
    assert_global_step,
    create_global_step,
    get_global_step,
    get_or_create_global_step,
)
from ..variables import global_variables
from ..varscope import get_variable as variable


def get_variables(scope: Any = None, suffix: Any = None, collection: Any = None) -> list[Any]:
    """The variables of a scope, those whose names end in suffix."""
    prefix = getattr(scope, "name", scope)
    found = global_variables(prefix) if collection is None else (
        get_default_graph().root.get_collection(collection, prefix))
    return [v for v in found if suffix is None or v.op.name.endswith(suffix)]


__all__ = [
    "assert_global_step", "create_global_step", "get_global_step", "get_or_create_global_step",
    "get_variables", "variable",
]  # fmt: skip
