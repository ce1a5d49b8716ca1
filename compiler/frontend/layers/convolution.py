"""Convolution and pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..initializers import Zeros
from ..ops.activation import bias_add
from ..ops.conv import conv1d as convolve1d
from ..ops.conv import conv2d as convolve
from ..ops.conv import conv2d_transpose as convolve_transpose
from ..ops.convert import convert
from ..ops.pool import avg_pool, max_pool
from ..ops.shape import shape as shape_of
from ..ops.shape import stack
from ..shapes import TensorShape
from ..tensor import Tensor
from .base import Layer, activity, called, last_size

Ints = Any  # an int, or as many as there are spatial axes


def _ints(value: Ints, n: int, what: str) -> list[int]:
    out = [int(value)] * n if not isinstance(value, Sequence) else [int(v) for v in value]
    if len(out) != n:
        raise ValueError(f"The `{what}` argument must be a tuple of {n} integers. "
                         f"Received: {value}")
    return out


def _format(data_format: str, n: int) -> str:
    names = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW")}[n]
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError("The `data_format` argument must be one of \"channels_first\", "
                         f"\"channels_last\". Received: {data_format}")
    return names[data_format == "channels_first"]


def _padding(padding: str) -> str:
    if padding.lower() not in ("valid", "same"):
        raise ValueError("The `padding` argument must be a list/tuple or one of \"valid\", "
                         f"\"same\". Received: {padding}")
    return padding.upper()


class _Conv(Layer):
    """A convolution over n axes, with bias and activation."""

    n = 2

    def __init__(
        self, filters: int, kernel_size: Ints, strides: Ints = 1, padding: str = "valid",
        data_format: str = "channels_last", dilation_rate: Ints = 1, activation: Any = None,
        use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = Zeros,
        kernel_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
        **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(trainable, name, **given)
        n = self.n
        self.filters, self.kernel_size = int(filters), _ints(kernel_size, n, "kernel_size")
        self.strides = _ints(strides, n, "strides")
        self.dilation = _ints(dilation_rate, n, "dilation_rate")
        self.padding, self.format = _padding(padding), _format(data_format, n)
        self.activation, self.use_bias = activation, use_bias
        self.kernel_given = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self.bias_given = (bias_initializer, bias_regularizer, bias_constraint)
        self.activity_regularizer = activity_regularizer

    def kernel_shape(self, channels: int) -> list[int]:
        return [*self.kernel_size, channels, self.filters]

    def build(self, input_shape: TensorShape) -> None:
        if input_shape.ndims not in (None, self.n + 2):
            raise ValueError(f"Input 0 of layer {self.name} is incompatible with the layer: "
                             f"expected ndim={self.n + 2}, found ndim={input_shape.ndims}.")
        axis = 1 if self.format[1] == "C" else -1
        channels = last_size(input_shape, axis, "channel dimension")
        start, regularizer, constraint = self.kernel_given
        self.kernel = self.add_variable("kernel", self.kernel_shape(channels), None, start,
                                        regularizer, constraint=constraint)
        start, regularizer, constraint = self.bias_given
        self.bias = None
        if self.use_bias:
            self.bias = self.add_variable("bias", [self.filters], None, start, regularizer,
                                          constraint=constraint)

    def convolved(self, x: Tensor) -> Tensor:
        return convolve(x, self.kernel, self.strides, self.padding, data_format=self.format,
                        dilations=self.dilation)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        out = self.convolved(convert(inputs, self.dtype))
        if self.bias is not None:
            out = bias_add(out, self.bias, data_format=self.format)
        out = out if self.activation is None else self.activation(out)
        activity(self, self.activity_regularizer, out)
        return out


class Conv2D(_Conv):
    """activation(convolution of images + bias)."""


class Conv1D(_Conv):
    """activation(convolution of sequences + bias)."""

    n = 1

    def convolved(self, x: Tensor) -> Tensor:
        return convolve1d(x, self.kernel, self.strides[0], self.padding, data_format=self.format,
                          dilations=self.dilation[0])


class Conv2DTranspose(_Conv):
    """activation(gradient of a convolution + bias): images get larger by the strides."""

    def kernel_shape(self, channels: int) -> list[int]:
        return [*self.kernel_size, self.filters, channels]

    def convolved(self, x: Tensor) -> Tensor:
        sizes = shape_of(x)
        first = self.format == "NCHW"
        out = []
        for i, (k, s) in enumerate(zip(self.kernel_size, self.strides, strict=True)):
            axis = i + (2 if first else 1)
            known = x.shape[axis].value
            size: Any = sizes[axis] if known is None else known
            out.append(size * s + (max(k - s, 0) if self.padding == "VALID" else 0))
        channels: list[Any] = [self.filters]
        shape = stack([sizes[0], *(channels + out if first else out + channels)])
        return convolve_transpose(x, self.kernel, shape, self.strides, self.padding,
                                  data_format=self.format)


def _functional(kind: Any, default_format: str = "channels_last") -> Any:
    def layer(
        inputs: Any, filters: int, kernel_size: Ints, strides: Ints = 1, padding: str = "valid",
        data_format: str = default_format, dilation_rate: Ints = 1, activation: Any = None,
        use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = Zeros,
        kernel_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
        reuse: Any = None,
    ) -> Tensor:  # fmt: skip
        return called(  # type: ignore[no-any-return]
            kind, inputs, name, reuse, filters=filters, kernel_size=kernel_size, strides=strides,
            padding=padding, data_format=data_format, dilation_rate=dilation_rate,
            activation=activation, use_bias=use_bias, kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer, kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer, activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint, bias_constraint=bias_constraint,
            trainable=trainable,
        )  # fmt: skip

    return layer


conv1d = _functional(Conv1D)
conv2d = _functional(Conv2D)


def conv2d_transpose(
    inputs: Any, filters: int, kernel_size: Ints, strides: Ints = (1, 1), padding: str = "valid",
    data_format: str = "channels_last", activation: Any = None, use_bias: bool = True,
    kernel_initializer: Any = None, bias_initializer: Any = Zeros, kernel_regularizer: Any = None,
    bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
    bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
    reuse: Any = None,
) -> Tensor:  # fmt: skip
    """The gradient of a convolution towards its input, with bias and activation."""
    return called(  # type: ignore[no-any-return]
        Conv2DTranspose, inputs, name, reuse, filters=filters, kernel_size=kernel_size,
        strides=strides, padding=padding, data_format=data_format, activation=activation,
        use_bias=use_bias, kernel_initializer=kernel_initializer,
        bias_initializer=bias_initializer, kernel_regularizer=kernel_regularizer,
        bias_regularizer=bias_regularizer, activity_regularizer=activity_regularizer,
        kernel_constraint=kernel_constraint, bias_constraint=bias_constraint, trainable=trainable,
    )  # fmt: skip


# ---- Pooling.


class _Pooling(Layer):
    """A function of windows of images."""

    pool = staticmethod(max_pool)

    def __init__(
        self, pool_size: Ints, strides: Ints, padding: str = "valid",
        data_format: str = "channels_last", name: str | None = None, **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, **given)
        self.size, self.strides = _ints(pool_size, 2, "pool_size"), _ints(strides, 2, "strides")
        self.padding, self.format = _padding(padding), _format(data_format, 2)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        first = self.format == "NCHW"
        size = [1, 1, *self.size] if first else [1, *self.size, 1]
        strides = [1, 1, *self.strides] if first else [1, *self.strides, 1]
        return self.pool(convert(inputs), size, strides, self.padding, data_format=self.format)


class MaxPooling2D(_Pooling):
    """The greatest element of each window."""


class AveragePooling2D(_Pooling):
    """The mean of each window."""

    pool = staticmethod(avg_pool)


def max_pooling2d(
    inputs: Any, pool_size: Ints, strides: Ints, padding: str = "valid",
    data_format: str = "channels_last", name: str | None = None,
) -> Tensor:  # fmt: skip
    """The greatest element of each window of images."""
    layer = MaxPooling2D(pool_size, strides, padding, data_format, name)
    return layer.apply(convert(inputs))  # type: ignore[no-any-return]


def average_pooling2d(
    inputs: Any, pool_size: Ints, strides: Ints, padding: str = "valid",
    data_format: str = "channels_last", name: str | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of images."""
    layer = AveragePooling2D(pool_size, strides, padding, data_format, name)
    return layer.apply(convert(inputs))  # type: ignore[no-any-return]
