"""Tables that the op files fill: how an API op expands, and what Tensor's operators call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """How nodes of a type become primitives.

    expand: (expansion, node, *input values) → Value, tuple of Values, or None for no outputs.
    refs: inputs that are variables which the op writes: the expander gets None for them.
    lazy: the expander evaluates its inputs itself and gets none.
    differentiable: False where `tf.gradients` stops.
    partial: output types where an input's rank is unknown: (expansion, node, *values) → shape or
    None.
    stateful: runs for its effect, also when only its control output is wanted.
    """

    expand: Callable[..., Any]
    refs: tuple[int, ...] = ()
    lazy: bool = False
    differentiable: bool = True
    partial: Callable[..., Any] | None = None


RULES: dict[str, Rule] = {}
OPERATORS: dict[str, Callable[..., Any]] = {}
CONVERTERS: list[tuple[type, Callable[..., Any]]] = []  # (class, (value, dtype, name) → Tensor)


def expander(*types: str, **options: Any) -> Callable[[F], F]:
    """Register the decorated function as the expansion of these op types (options: see `Rule`)."""

    def register(fn: F) -> F:
        for t in types:
            if t in RULES:
                raise ValueError(f"two expanders for {t!r}")
            RULES[t] = Rule(fn, **options)
        return fn

    return register


def operator(name: str) -> Callable[[F], F]:
    """Register the decorated function as what Tensor's operator `name` calls."""

    def register(fn: F) -> F:
        OPERATORS[name] = fn
        return fn

    return register
