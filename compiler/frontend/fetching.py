"""What `Session.run` is given: nested fetches and feeds, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .graph import Graph
from .shapes import TensorShape
from .tensor import Operation, Tensor

Rebuild = Callable[[Sequence[Any]], Any]


def flatten_fetches(graph: Graph, fetches: Any) -> tuple[list[Any], Rebuild]:
    """The tensors and operations among nested fetches (once each), and how to nest their values.

    Raises TypeError for what is no fetch, ValueError for elements of another graph or unknown
    names.
    """
    leaves: dict[Any, int] = {}

    def visit(f: Any) -> Rebuild:
        if f is None:
            raise TypeError("Fetch argument None has invalid type <class 'NoneType'>")
        if isinstance(f, Mapping):
            parts = {k: visit(v) for k, v in f.items()}
            kind: Any = type(f)
            return lambda got: kind((k, r(got)) for k, r in parts.items())
        if isinstance(f, (list, tuple)):
            several = [visit(v) for v in f]
            make = getattr(type(f), "_make", type(f))
            return lambda got: make([r(got) for r in several])
        element = _element(graph, f)
        index = leaves.setdefault(element, len(leaves))
        return lambda got: got[index]

    rebuild = visit(fetches)
    return list(leaves), rebuild


def _element(graph: Graph, f: Any) -> Tensor | Operation:
    try:
        return graph.as_graph_element(f)  # type: ignore[no-any-return]
    except TypeError as e:
        raise TypeError(
            f"Fetch argument {f!r} has invalid type {type(f)}, must be a string or Tensor. ({e})"
        ) from None
    except (KeyError, ValueError) as e:
        text = e.args[0] if e.args else e
        raise ValueError(
            f"Fetch argument {f!r} cannot be interpreted as a Tensor. ({text})"
        ) from None


def flatten_feeds(graph: Graph, feed_dict: Mapping[Any, Any]) -> dict[Tensor, Any]:
    """Tensor → value; keys are tensors, variables, names, or tuples of these.

    Raises TypeError for a key that is no tensor of the graph, ValueError where one is given twice.
    """
    out: dict[Tensor, Any] = {}
    for key, value in feed_dict.items():
        if isinstance(key, tuple):
            if len(key) != len(value):
                raise ValueError(f"Cannot feed {len(value)} values for {len(key)} tensors")
            pairs = list(zip(key, value, strict=True))
        else:
            pairs = [(key, value)]
        for k, v in pairs:
            tensor = feed_key(graph, k)
            if tensor in out:
                raise ValueError(f"Tensor {tensor.name!r} is fed twice")
            out[tensor] = v
    return out


def feed_key(graph: Graph, key: Any) -> Tensor:
    """The tensor that a key of a feed_dict stands for."""
    try:
        return graph.as_graph_element(key, allow_operation=False)  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError) as e:
        text = e.args[0] if e.args else e
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {text}") from None


def feed_array(tensor: Tensor, value: Any) -> Any:
    """A value as an array of the tensor's dtype, dense; checks dtype and shape.

    Raises TypeError for a Tensor or a value that the dtype cannot hold, ValueError for a shape
    that the tensor's shape does not allow.
    """
    array = convert(tensor, value)
    if not tensor.shape.is_compatible_with(array.shape):
        where = f" (at {tensor.op.loc})" if tensor.op.loc else ""
        raise ValueError(
            f"Cannot feed value of shape {array.shape!r} for Tensor {tensor.name!r}, which has "
            f"shape {_shape_text(tensor.shape)!r}{where}"
        )
    return array


def convert(tensor: Tensor, value: Any) -> Any:
    """The value as an array of the tensor's dtype."""
    dtype = tensor.dtype
    if isinstance(value, (Tensor, Operation)):
        raise TypeError(
            "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include "
            "Python scalars, strings, lists, numpy ndarrays, or TensorHandles."
        )
    if type(value) is np.ndarray and value.dtype == dtype.np and value.dtype.isnative:
        return value
    if dtype.ir is None:
        return np.asarray(value, dtype=object)
    if isinstance(value, int) and not isinstance(value, bool) and dtype.is_integer:
        info = (dtype.min, dtype.max)
        if not info[0] <= value <= info[1]:
            raise TypeError(
                f"Type of feed value {value} with type {type(value)} is not compatible with Tensor "
                f"type {dtype.name}. Try explicitly setting the type of the feed tensor to a "
                "larger type (e.g. int64)."
            )
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            value = np.from_dlpack(value)
        if np.iscomplexobj(value) and dtype.np.kind != "c":
            raise TypeError("complex numbers have an imaginary part")
        return np.asarray(value, dtype=dtype.np)
    except OverflowError as e:
        raise TypeError(f"Cannot feed Tensor {tensor.name!r} of dtype {dtype.name}: {e}") from None
    except (ValueError, TypeError) as e:
        raise type(e)(f"Cannot feed Tensor {tensor.name!r} of dtype {dtype.name}: {e}") from None


def _shape_text(shape: TensorShape) -> str:
    return str(shape)
