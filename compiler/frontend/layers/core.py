"""Fully connected layers, flattening, dropout."""

from __future__ import annotations

from typing import Any

from .. import dtypes as dt
from ..initializers import Zeros
from ..ops.activation import bias_add
from ..ops.activation import dropout as drop
from ..ops.control import cond
from ..ops.convert import convert, static_ints
from ..ops.matmul import matmul, tensordot
from ..ops.shape import reshape, transpose
from ..ops.shape import shape as shape_of
from ..ops.state import identity
from ..shapes import TensorShape
from ..tensor import Tensor
from .base import Layer, activity, called, last_size


class Dense(Layer):
    """activation(inputs · kernel + bias) over the last axis."""

    def __init__(
        self, units: int, activation: Any = None, use_bias: bool = True,
        kernel_initializer: Any = None, bias_initializer: Any = Zeros,
        kernel_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
        **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(trainable, name, **given)
        self.units, self.activation, self.use_bias = int(units), activation, use_bias
        self.kernel_given = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self.bias_given = (bias_initializer, bias_regularizer, bias_constraint)
        self.activity_regularizer = activity_regularizer

    def build(self, input_shape: TensorShape) -> None:
        size = last_size(input_shape, -1, "last dimension")
        start, regularizer, constraint = self.kernel_given
        self.kernel = self.add_variable(
            "kernel", [size, self.units], None, start, regularizer, constraint=constraint
        )
        start, regularizer, constraint = self.bias_given
        self.bias = None
        if self.use_bias:
            self.bias = self.add_variable(
                "bias", [self.units], None, start, regularizer, constraint=constraint
            )

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        x = convert(inputs, self.dtype)
        rank = x.shape.ndims
        product = matmul(x, self.kernel) if rank in (None, 2) else tensordot(
            x, self.kernel, [[rank - 1], [0]])
        out = product if self.bias is None else bias_add(product, self.bias)
        out = out if self.activation is None else self.activation(out)
        activity(self, self.activity_regularizer, out)
        return out


def dense(
    inputs: Any,
    units: int,
    activation: Any = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Tensor:
    """activation(inputs · kernel + bias): [..., n] → [..., units]; variables kernel and bias."""
    return called(  # type: ignore[no-any-return]
        Dense, inputs, name, reuse, units=units, activation=activation, use_bias=use_bias,
        kernel_initializer=kernel_initializer, bias_initializer=bias_initializer,
        kernel_regularizer=kernel_regularizer, bias_regularizer=bias_regularizer,
        activity_regularizer=activity_regularizer, kernel_constraint=kernel_constraint,
        bias_constraint=bias_constraint, trainable=trainable,
    )  # fmt: skip


class Flatten(Layer):
    """[n, ...] → [n, the product of the others]."""

    def __init__(self, data_format: str = "channels_last", **given: Any) -> None:
        super().__init__(**given)
        self.data_format = data_format

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        x = convert(inputs)
        rank = x.shape.ndims
        if rank is not None and rank < 1:
            raise ValueError("Inputs should have rank >= 1")
        if self.data_format == "channels_first" and rank is not None and rank > 2:
            x = transpose(x, [0, *range(2, rank), 1])
        rest = x.shape[1:].num_elements() if rank is not None else None
        if rest is not None:
            return reshape(x, [-1, rest])
        return reshape(x, [shape_of(x)[0], -1])


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Tensor:
    """[n, ...] → [n, the product of the others]."""
    layer = Flatten(data_format, name=name)
    return layer.apply(convert(inputs))  # type: ignore[no-any-return]


class Dropout(Layer):
    """While training, each element is 0 with probability rate, the others divided by 1 − rate."""

    def __init__(
        self, rate: Any = 0.5, noise_shape: Any = None, seed: Any = None, name: str | None = None,
        **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, **given)
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed

    def call(self, inputs: Any, training: Any = False, **kwargs: Any) -> Tensor:
        x = convert(inputs)
        return chosen(  # type: ignore[no-any-return]
            training,
            lambda: drop(x, noise_shape=self.noise_shape, seed=self.seed, rate=self.rate),
            lambda: identity(x),
        )


def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: Any = None,
    training: Any = False,
    name: str | None = None,
) -> Tensor:
    """Dropout where training (a bool or a bool tensor) is true, else the inputs."""
    layer = Dropout(rate, noise_shape, seed, name)
    return layer.apply(convert(inputs), training=training)  # type: ignore[no-any-return]


def chosen(condition: Any, true_fn: Any, false_fn: Any) -> Any:
    """What one of two functions returns: only that one is called where the condition is known."""
    if isinstance(condition, Tensor):
        known = static_ints(condition)
        if known is None:
            return cond(condition, true_fn, false_fn)
        condition = bool(known[0])
    elif hasattr(condition, "_ref"):
        return cond(convert(condition, dt.bool_), true_fn, false_fn)
    return true_fn() if condition else false_fn()
