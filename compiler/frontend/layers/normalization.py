"""Batch normalization (Ioffe and Szegedy 2015)."""

from __future__ import annotations

from typing import Any

from .. import dtypes as dt
from ..initializers import Ones, Zeros
from ..ops.binary import maximum
from ..ops.control import cond
from ..ops.convert import convert, static_ints
from ..ops.norm import batch_normalization as normalize
from ..ops.norm import moments
from ..ops.reduce import reduce_prod
from ..ops.shape import reshape, shape, stack
from ..ops.state import assign_sub
from ..ops.unary import cast
from ..shapes import TensorShape
from ..tensor import Tensor
from .base import Layer, last_size


class BatchNormalization(Layer):
    """(x − mean) / √(variance + ε) · gamma + beta along an axis.

    While training mean and variance are the batch's, and operations in UPDATE_OPS move the averages
    that are used otherwise: average −= (average − batch's) · (1 − momentum). For images ([n, h, w,
    c]) the averaged variance is that with Bessel's n − 1, as TensorFlow's fused kernel has it.
    """

    def __init__(
        self, axis: Any = -1, momentum: Any = 0.99, epsilon: float = 1e-3, center: bool = True,
        scale: bool = True, beta_initializer: Any = Zeros, gamma_initializer: Any = Ones,
        moving_mean_initializer: Any = Zeros, moving_variance_initializer: Any = Ones,
        beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None,
        gamma_constraint: Any = None, fused: bool | None = None, trainable: bool = True,
        name: str | None = None, **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(trainable, name, **given)
        self.axis = axis[0] if isinstance(axis, (list, tuple)) else axis
        self.momentum, self.epsilon = momentum, epsilon
        self.center, self.scale, self.fused = center, scale, fused
        self.beta_given = (beta_initializer, beta_regularizer, beta_constraint)
        self.gamma_given = (gamma_initializer, gamma_regularizer, gamma_constraint)
        self.moving_given = (moving_mean_initializer, moving_variance_initializer)

    def build(self, input_shape: TensorShape) -> None:
        rank = input_shape.ndims
        if not rank:
            raise ValueError(f"Input has undefined rank: {input_shape}")
        if not -rank <= self.axis < rank:
            raise ValueError(f"Invalid axis: {self.axis}")
        self.axis %= rank
        if self.fused is None:
            self.fused = rank == 4 and self.axis in (1, 3)
        size = [last_size(input_shape, self.axis, "normalized axis")]
        self.gamma = self.beta = None
        t = dt.float32 if self.dtype in (dt.float16, dt.bfloat16) else self.dtype
        if self.scale:
            start, regularizer, constraint = self.gamma_given
            self.gamma = self.add_variable("gamma", size, t, start, regularizer,
                                           constraint=constraint)
        if self.center:
            start, regularizer, constraint = self.beta_given
            self.beta = self.add_variable("beta", size, t, start, regularizer,
                                          constraint=constraint)
        mean, variance = self.moving_given
        self.moving_mean = self.add_variable("moving_mean", size, t, mean, trainable=False)
        self.moving_variance = self.add_variable("moving_variance", size, t, variance,
                                                 trainable=False)

    def call(self, inputs: Any, training: Any = False, **kwargs: Any) -> Tensor:
        x = convert(inputs)
        rank = x.shape.ndims or 0
        axes = [i for i in range(rank) if i != self.axis]
        wide = cast(x, self.moving_mean.dtype)
        known = _known(training)

        def of_batch() -> list[Tensor]:
            return list(moments(wide, axes))

        def averaged() -> list[Tensor]:
            return [self.moving_mean.read_value(), self.moving_variance.read_value()]

        if known is None:
            mean, variance = cond(convert(training), of_batch, averaged)
        else:
            mean, variance = of_batch() if known else averaged()
        if known is not False:
            self._move(x, axes, mean, variance, None if known else convert(training))
        wanted = [-1 if i == self.axis else 1 for i in range(rank)]
        if self.axis == rank - 1:
            parts: list[Any] = [mean, variance, self.beta, self.gamma]
        else:
            given = (mean, variance, self.beta, self.gamma)
            parts = [None if v is None else reshape(v, wanted) for v in given]
        mean, variance, beta, gamma = parts
        return cast(normalize(wide, mean, variance, beta, gamma, self.epsilon), x.dtype)

    def _move(
        self, x: Tensor, axes: list[int], mean: Tensor, variance: Tensor, training: Tensor | None
    ) -> None:
        """The operations that move the averages towards the batch's mean and variance."""
        t = mean.dtype
        if self.fused:
            sizes = shape(x)
            n = cast(reduce_prod(stack([sizes[i] for i in axes])), t)
            factor = n / maximum(n - 1.0, 1.0)
            if training is not None:  # otherwise it is the average itself
                factor = cast(training, t) * (factor - 1.0) + 1.0
            variance = variance * factor
        rate = 1.0 - convert(self.momentum, t)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            self.add_update(assign_sub(average, (average - value) * rate, name="AssignMovingAvg"))


def _known(training: Any) -> bool | None:
    if isinstance(training, Tensor):
        found = static_ints(training)
        return None if found is None else bool(found[0])
    return None if hasattr(training, "_ref") else bool(training)


def batch_normalization(
    inputs: Any,
    axis: int = -1,
    momentum: Any = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Any = Zeros,
    gamma_initializer: Any = Ones,
    moving_mean_initializer: Any = Zeros,
    moving_variance_initializer: Any = Ones,
    beta_regularizer: Any = None,
    gamma_regularizer: Any = None,
    beta_constraint: Any = None,
    gamma_constraint: Any = None,
    training: Any = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
    fused: bool | None = None,
) -> Tensor:
    """Batch normalization along an axis; training: a bool or a bool tensor.

    Variables: gamma, beta, moving_mean, moving_variance. A training step must run the operations
    in the collection UPDATE_OPS.
    """
    layer = BatchNormalization(
        axis, momentum, epsilon, center, scale, beta_initializer, gamma_initializer,
        moving_mean_initializer, moving_variance_initializer, beta_regularizer, gamma_regularizer,
        beta_constraint, gamma_constraint, fused, trainable, name, _reuse=reuse, _scope=name,
    )  # fmt: skip
    return layer.apply(convert(inputs), training=training)  # type: ignore[no-any-return]
