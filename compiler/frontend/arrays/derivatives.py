"""Derivatives of Python functions: `grad` and `value_and_grad` of what is being traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..ops.creation import zeros_like
from ..ops.gradients import gradients
from ..ops.state import identity
from ..tensor import Tensor
from . import pytree
from .promotion import here, strong


def value_and_gradients(
    fn: Callable[..., Any],
    argnums: int | Sequence[int],
    has_aux: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Any, Any, Any]:
    """(value, aux, gradients) of fn at traced arguments; aux is None without `has_aux`.

    TypeError where fn's result is no float scalar, or an argument to derive by is not float.
    """
    name = getattr(fn, "__name__", "the function")
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in chosen:
        if not -len(args) <= i < len(args):
            raise TypeError(
                f"grad: {name} has no positional argument {i}, {len(args)} were given{here()}"
            )
    chosen = [i % len(args) for i in chosen]
    inputs = list(args)
    for i in dict.fromkeys(chosen):
        # a reading of its own: what else uses the argument is no part of the derivative
        inputs[i] = pytree.map_leaves(partial(_source, name, i), args[i])
    value = fn(*inputs, **kwargs)
    aux = None
    if has_aux:
        value, aux = value
    y = _scalar(value, name)
    found = [_toward(y, inputs[i]) for i in chosen]
    return y, aux, found[0] if isinstance(argnums, int) else tuple(found)


def _source(name: str, index: int, value: Any) -> Tensor:
    t = strong(value)
    if not (t.dtype.is_floating or t.dtype.is_complex):
        raise TypeError(
            f"grad: argument {index} of {name} is {t.dtype.name}; derivatives are by floats{here()}"
        )
    out = identity(t)
    out.weak = getattr(t, "weak", False)  # type: ignore[attr-defined]
    return out


def _scalar(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"grad: {name} returned a {type(value).__name__} where a traced scalar is needed"
            f"{here()}; other results are returned beside it with has_aux=True"
        )
    if not value.dtype.is_floating or value.ndim:
        raise TypeError(
            f"grad: {name} returned {value!r} where a float scalar is needed{here()}: reduce it, "
            "as by flowc.reduce_sum"
        )
    return value


def _toward(y: Tensor, tree: Any) -> Any:
    leaves, structure = pytree.flatten(tree)
    found = gradients(y, leaves)
    got = [zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]
    return pytree.build(structure, iter(got))
