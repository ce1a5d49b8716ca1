"""The global step: the variable that counts training steps."""

from __future__ import annotations

import logging
from typing import Any

from .. import dtypes as dt
from ..graph import Graph, GraphKeys, get_default_graph
from ..initializers import Zeros
from ..shapes import TensorShape
from ..varscope import get_variable

log = logging.getLogger("flowc")


def create_global_step(graph: Graph | None = None) -> Any:
    """A new int64 variable `global_step`, in the collections GLOBAL_VARIABLES and GLOBAL_STEP.

    Raises ValueError where the graph has one.
    """
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError('"global_step" already exists.')
    with graph.as_default(), graph.name_scope(None):
        return get_variable(
            GraphKeys.GLOBAL_STEP, shape=[], dtype=dt.int64, initializer=Zeros(), trainable=False,
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )  # fmt: skip


def get_global_step(graph: Graph | None = None) -> Any:
    """The graph's global step, or None: the one of its collection, else the variable so named.

    Raises TypeError where that is no scalar integer variable.
    """
    root = (graph or get_default_graph()).root
    found = root.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        log.error("Multiple tensors in global_step collection.")
        return None
    every = root.get_collection(GraphKeys.GLOBAL_VARIABLES)
    named = [v for v in every if v.name == "global_step:0"]
    step = next(iter([*found, *named]), None)
    if step is not None:
        assert_global_step(step)
    return step


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """The graph's global step, made where there is none."""
    graph = graph or get_default_graph()
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def assert_global_step(global_step_tensor: Any) -> None:
    """TypeError unless it is a scalar integer."""
    if not global_step_tensor.dtype.is_integer:
        raise TypeError(
            f'Existing "global_step" does not have integer type: {global_step_tensor.dtype.name}'
        )
    shape: TensorShape = global_step_tensor.get_shape()
    if shape.ndims != 0 and shape.is_fully_defined():
        raise TypeError(f'Existing "global_step" is not scalar: {shape}')


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The step's value in a session, as an int."""
    return int(sess.run(global_step_tensor))
