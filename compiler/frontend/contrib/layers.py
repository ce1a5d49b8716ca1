"""`tf.contrib.layers`: initializers, regularizers, and two layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes as dt
from ..initializers import Initializer, VarianceScaling, Zeros
from ..layers.base import last_size
from ..layers.core import flatten as flatten_layer
from ..ops.activation import bias_add, l2_loss, relu
from ..ops.clip import add_n
from ..ops.convert import convert
from ..ops.matmul import matmul, tensordot
from ..ops.reduce import reduce_sum
from ..ops.unary import abs as absolute
from ..tensor import Tensor
from ..varscope import get_variable, variable_scope

Regularizer = Callable[[Any], Any]


def xavier_initializer(
    uniform: bool = True, seed: Any = None, dtype: Any = dt.float32
) -> Initializer:
    """Variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""
    kind = "uniform" if uniform else "truncated_normal"
    return VarianceScaling(1.0, "fan_avg", kind, seed, dtype)


xavier_initializer_conv2d = xavier_initializer


def variance_scaling_initializer(
    factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False, seed: Any = None,
    dtype: Any = dt.float32,
) -> Initializer:  # fmt: skip
    """Variance factor / n, n the fan-in, fan-out or their mean (FAN_IN, FAN_OUT, FAN_AVG)."""
    kind = "uniform" if uniform else "truncated_normal"
    return VarianceScaling(factor, mode.lower(), kind, seed, dtype)


def l2_regularizer(scale: float, scope: str | None = None) -> Regularizer:
    """scale · Σ w² / 2."""
    _check_scale(scale)
    return lambda w: None if scale == 0.0 else convert(scale, w.dtype) * l2_loss(w)


def l1_regularizer(scale: float, scope: str | None = None) -> Regularizer:
    """scale · Σ |w|."""
    _check_scale(scale)
    return lambda w: None if scale == 0.0 else convert(scale, w.dtype) * reduce_sum(absolute(w))


def sum_regularizer(regularizer_list: Any, scope: str | None = None) -> Regularizer:
    """The sum of several."""
    return lambda w: add_n([v for v in (r(w) for r in regularizer_list) if v is not None])


def _check_scale(scale: float) -> None:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or scale < 0.0:
        raise ValueError(f"Setting a scale of {scale!r} on a regularizer: it is a number ≥ 0")


def flatten(inputs: Any, outputs_collections: Any = None, scope: str | None = None) -> Tensor:
    """[n, ...] → [n, the product of the others]."""
    return flatten_layer(inputs, name=scope)


def fully_connected(
    inputs: Any,
    num_outputs: int,
    activation_fn: Any = relu,
    normalizer_fn: Any = None,
    normalizer_params: Any = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = Zeros,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Tensor:
    """activation_fn(inputs · weights + biases); normalizer_fn takes the place of the biases."""
    x = convert(inputs)
    with variable_scope(scope, "fully_connected", [x], reuse=reuse):
        n, rank = last_size(x.shape, -1, "last dimension"), x.shape.ndims or 0
        start = weights_initializer or xavier_initializer()
        w = get_variable("weights", [n, num_outputs], x.dtype, start, weights_regularizer,
                         trainable)
        out = matmul(x, w) if rank == 2 else tensordot(x, w, [[rank - 1], [0]])
        if normalizer_fn is not None:
            out = normalizer_fn(out, **(normalizer_params or {}))
        elif biases_initializer is not None:
            bias = get_variable("biases", [num_outputs], x.dtype, biases_initializer,
                                biases_regularizer, trainable)
            out = bias_add(out, bias)
        return out if activation_fn is None else activation_fn(out)


__all__ = [
    "flatten", "fully_connected", "l1_regularizer", "l2_regularizer", "sum_regularizer",
    "variance_scaling_initializer", "xavier_initializer", "xavier_initializer_conv2d",
]  # fmt: skip
