"""What all layers share: names, scopes, and variables that are made once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .. import dtypes as dt
from ..graph import GraphKeys, get_default_graph
from ..ops.convert import convert
from ..shapes import TensorShape
from ..tensor import Tensor
from ..varscope import VariableScope, get_variable, variable_scope


class Layer:
    """A function with variables of its own, made in the first call and used again in later ones.

    A subclass defines `build(shape)`, which makes variables with `add_variable`, and `call`.
    name: of the variable scope, else the class's name in snake case, made unique. reuse: whether
    existing variables of these names are taken.
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None,
        _reuse: Any = None, _scope: Any = None, **ignored: Any,
    ) -> None:  # fmt: skip
        self.trainable = trainable
        self._base_name = name or _snake(type(self).__name__)
        self._given_name, self._reuse = name, _reuse
        self.dtype = None if dtype is None else dt.as_dtype(dtype)
        self.built = False
        self.variables: list[Any] = []
        self.updates: list[Any] = []
        self.losses: list[Any] = []
        self._scope: VariableScope | None = None
        if _scope is not None:
            with variable_scope(_scope) as captured:
                self._scope = captured

    @property
    def name(self) -> str:
        return self._base_name if self._scope is None else self._scope.name.split("/")[-1]

    @property
    def scope_name(self) -> str:
        """The prefix of the variables' names. ValueError before the first call."""
        if self._scope is None:
            raise ValueError(f"layer {self._base_name} has not been called yet")
        return self._scope.name

    @property
    def trainable_variables(self) -> list[Any]:
        return [v for v in self.variables if v.trainable]

    @property
    def non_trainable_variables(self) -> list[Any]:
        return [v for v in self.variables if not v.trainable]

    weights = property(lambda self: self.variables)
    trainable_weights, non_trainable_weights = trainable_variables, non_trainable_variables

    def _set_scope(self, scope: Any) -> VariableScope:
        if self._scope is None:
            name = scope if scope is not None else self._given_name
            if self._reuse and name is None:
                name = self._base_name
            with variable_scope(name, default_name=self._base_name) as captured:
                self._scope = captured
        return self._scope

    def __call__(self, inputs: Any, *args: Any, scope: Any = None, **kwargs: Any) -> Any:
        captured = self._set_scope(scope)
        reuse = True if self.built else self._reuse
        with (
            variable_scope(captured, reuse=reuse, auxiliary_name_scope=False),
            get_default_graph().name_scope(captured.original_name_scope or None),
        ):
            if not self.built:
                shape = inputs.shape if isinstance(inputs, Tensor) else _shapes(inputs)
                if self.dtype is None:
                    self.dtype = _first(inputs).dtype
                self.build(shape)
                self.built = True
            return self.call(inputs, *args, **kwargs)

    def apply(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return self(inputs, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Make the variables."""

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.call")

    def add_variable(
        self, name: str, shape: Any, dtype: Any = None, initializer: Any = None,
        regularizer: Any = None, trainable: bool = True, constraint: Any = None,
    ) -> Any:  # fmt: skip
        """The variable `name` of the layer's scope."""
        made = get_variable(
            name, shape, dtype or self.dtype or dt.float32, initializer, regularizer,
            trainable=trainable and self.trainable, constraint=constraint,
        )  # fmt: skip
        self.variables.append(made)
        return made

    add_weight = add_variable

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Operations that a training step must run: they go to the collection UPDATE_OPS."""
        for op in updates if isinstance(updates, (list, tuple)) else [updates]:
            self.updates.append(op)
            get_default_graph().add_to_collection(GraphKeys.UPDATE_OPS, op)


def _snake(name: str) -> str:
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _first(inputs: Any) -> Any:
    while isinstance(inputs, (list, tuple)):
        inputs = inputs[0]
    return inputs


def _shapes(inputs: Any) -> Any:
    if isinstance(inputs, (list, tuple)):
        return [_shapes(v) for v in inputs]
    return inputs.shape


def last_size(shape: TensorShape, axis: int, what: str) -> int:
    """A static size of the inputs; ValueError where it is unknown."""
    size: int | None = None if shape.ndims is None else shape[axis].value
    if size is None:
        raise ValueError(f"The {what} of the inputs should be defined. Found `None`.")
    return int(size)


def activity(layer: Layer, regularizer: Any, outputs: Tensor) -> None:
    """Add the loss that a regularizer of outputs gives."""
    if regularizer is not None:
        loss = regularizer(outputs)
        layer.losses.append(loss)
        get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)


def called(
    make: Callable[..., Layer], inputs: Any, name: str | None, reuse: Any = None, **given: Any
) -> Any:
    """The layer of a functional call, applied."""
    return make(name=name, _reuse=reuse, _scope=name, **given).apply(convert(inputs))
