"""Initializers: objects that make a variable's first value from its shape and type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import dtypes as dt
from .ops import convert as c
from .ops import creation, random
from .shapes import TensorShape
from .tensor import Tensor


def _sizes(shape: Any) -> list[int]:
    return c.shape_list(TensorShape(shape))


class Initializer:
    """`initializer(shape, dtype, partition_info)` → tensor."""

    dtype: dt.DType = dt.float32

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        raise NotImplementedError

    def _type(self, dtype: Any) -> dt.DType:
        return self.dtype if dtype is None else dt.as_dtype(dtype)


class Zeros(Initializer):
    """All zero."""

    def __init__(self, dtype: Any = dt.float32) -> None:
        self.dtype = dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return creation.zeros(_sizes(shape), self._type(dtype))


class Ones(Initializer):
    """All one."""

    def __init__(self, dtype: Any = dt.float32) -> None:
        self.dtype = dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return creation.ones(_sizes(shape), self._type(dtype))


class Constant(Initializer):
    """One value, or a list of values for all elements."""

    def __init__(
        self, value: Any = 0, dtype: Any = dt.float32, verify_shape: bool = False
    ) -> None:
        self.value, self.dtype, self.verify = value, dt.as_dtype(dtype), verify_shape

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        t = self._type(dtype)
        if np.ndim(self.value) == 0:
            return creation.fill(_sizes(shape), c.convert(self.value, t))
        return c.constant(self.value, t, shape=_sizes(shape), verify_shape=self.verify)


class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    def __init__(
        self, minval: Any = -0.05, maxval: Any = 0.05, seed: Any = None, dtype: Any = dt.float32
    ) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed
        self.dtype = dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        t = self._type(dtype)
        return random.random_uniform(_sizes(shape), self.minval, self.maxval, t, self.seed)


class RandomNormal(Initializer):
    """Normally distributed."""

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: Any = None, dtype: Any = dt.float32
    ) -> None:
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        t = self._type(dtype)
        return random.random_normal(_sizes(shape), self.mean, self.stddev, t, self.seed)


class TruncatedNormal(RandomNormal):
    """Normally distributed within two standard deviations."""

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        t = self._type(dtype)
        return random.truncated_normal(_sizes(shape), self.mean, self.stddev, t, self.seed)


class UniformUnitScaling(Initializer):
    """Uniform with a variance that keeps the scale of the inputs."""

    def __init__(self, factor: float = 1.0, seed: Any = None, dtype: Any = dt.float32) -> None:
        self.factor, self.seed, self.dtype = factor, seed, dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes, t = _sizes(shape), self._type(dtype)
        rows = max(1.0, float(np.prod(sizes[:-1], dtype=np.float64)))
        limit = math.sqrt(3.0 / rows) * self.factor
        return random.random_uniform(sizes, -limit, limit, t, self.seed)


class VarianceScaling(Initializer):
    """Variance scale / n, with n the fan-in, the fan-out or their mean (Glorot, He, LeCun)."""

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        dtype: Any = dt.float32,
    ) -> None:
        if scale <= 0.0:
            raise ValueError("`scale` must be positive float.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError("Invalid `mode` argument:", mode)
        known = ("normal", "uniform", "truncated_normal", "untruncated_normal")
        if distribution.lower() not in known:
            raise ValueError("Invalid `distribution` argument:", distribution)
        self.scale, self.mode, self.distribution = scale, mode, distribution.lower()
        self.seed, self.dtype = seed, dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes, t = _sizes(shape), self._type(dtype)
        fan_in, fan_out = fans(sizes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        scale = self.scale / max(1.0, n)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * scale)
            return random.random_uniform(sizes, -limit, limit, t, self.seed)
        if self.distribution == "untruncated_normal":
            return random.random_normal(sizes, 0.0, math.sqrt(scale), t, self.seed)
        # the standard deviation of a standard normal cut at ±2
        stddev = math.sqrt(scale) / 0.87962566103423978
        return random.truncated_normal(sizes, 0.0, stddev, t, self.seed)


def fans(shape: list[int]) -> tuple[float, float]:
    """How many inputs a unit has and how many units an input goes to."""
    if len(shape) < 1:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), float(shape[0])
    window = float(np.prod(shape[:-2], dtype=np.float64))
    return shape[-2] * window, shape[-1] * window


class Orthogonal(Initializer):
    """Orthogonal rows or columns, from the QR decomposition of a normal matrix."""

    def __init__(self, gain: float = 1.0, seed: Any = None, dtype: Any = dt.float32) -> None:
        self.gain, self.seed, self.dtype = gain, seed, dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = _sizes(shape)
        if len(sizes) < 2:
            raise ValueError("The tensor to initialize must be at least two-dimensional")
        rows, columns = int(np.prod(sizes[:-1])), sizes[-1]
        first, second, _ = random.get_seed(self.seed)
        normal = np.random.default_rng([first, second]).standard_normal(
            (max(rows, columns), min(rows, columns))
        )
        q, r = np.linalg.qr(normal)
        q = q * np.sign(np.diag(r))
        q = q.T if rows < columns else q
        return c.constant(self.gain * q.reshape(sizes), self._type(dtype))


class Identity(Initializer):
    """The identity matrix."""

    def __init__(self, gain: float = 1.0, dtype: Any = dt.float32) -> None:
        self.gain, self.dtype = gain, dt.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = _sizes(shape)
        if len(sizes) != 2:
            raise ValueError("Identity matrix initializer can only be used for 2D matrices.")
        return c.constant(self.gain * np.eye(sizes[0], sizes[1]), self._type(dtype))


def glorot_uniform_initializer(seed: Any = None, dtype: Any = dt.float32) -> Initializer:
    """Uniform within √(6 / (fan-in + fan-out))."""
    return VarianceScaling(1.0, "fan_avg", "uniform", seed, dtype)


def glorot_normal_initializer(seed: Any = None, dtype: Any = dt.float32) -> Initializer:
    """Truncated normal of variance 2 / (fan-in + fan-out)."""
    return VarianceScaling(1.0, "fan_avg", "truncated_normal", seed, dtype)


def he_normal(seed: Any = None, dtype: Any = dt.float32) -> Initializer:
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed, dtype)


def he_uniform(seed: Any = None, dtype: Any = dt.float32) -> Initializer:
    return VarianceScaling(2.0, "fan_in", "uniform", seed, dtype)


def lecun_normal(seed: Any = None, dtype: Any = dt.float32) -> Initializer:
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed, dtype)


def lecun_uniform(seed: Any = None, dtype: Any = dt.float32) -> Initializer:
    return VarianceScaling(1.0, "fan_in", "uniform", seed, dtype)
