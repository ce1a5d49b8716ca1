"""`tf.layers`."""

from __future__ import annotations

from .base import Layer
from .convolution import (
    AveragePooling2D,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    MaxPooling2D,
    average_pooling2d,
    conv1d,
    conv2d,
    conv2d_transpose,
    max_pooling2d,
)
from .core import Dense, Dropout, Flatten, dense, dropout, flatten
from .normalization import BatchNormalization, batch_normalization

__all__ = [
    "AveragePooling2D", "BatchNormalization", "Conv1D", "Conv2D", "Conv2DTranspose", "Dense",
    "Dropout", "Flatten", "Layer", "MaxPooling2D", "average_pooling2d", "batch_normalization",
    "conv1d", "conv2d", "conv2d_transpose", "dense", "dropout", "flatten", "max_pooling2d",
]  # fmt: skip
