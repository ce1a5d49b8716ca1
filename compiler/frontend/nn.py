"""`tf.nn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import LazyModule
from .ops.activation import (
    bias_add,
    crelu,
    dropout,
    elu,
    l2_loss,
    leaky_relu,
    log_softmax,
    relu,
    relu6,
    selu,
    softmax,
    softplus,
    softsign,
)
from .ops.conv import (
    atrous_conv2d,
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    depthwise_conv2d,
    depthwise_conv2d_native,
    separable_conv2d,
)
from .ops.embed import embedding_lookup
from .ops.losses import (
    in_top_k,
    log_poisson_loss,
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
    weighted_cross_entropy_with_logits,
)
from .ops.matmul import xw_plus_b
from .ops.norm import (
    batch_norm_with_global_normalization,
    batch_normalization,
    fused_batch_norm,
    l2_normalize,
    local_response_normalization,
    lrn,
    moments,
)
from .ops.pool import avg_pool, avg_pool3d, max_pool, max_pool3d
from .ops.reduce import zero_fraction
from .ops.selecting import top_k
from .ops.unary import log_sigmoid, sigmoid, tanh
from .rnn import (
    bidirectional_dynamic_rnn,
    dynamic_rnn,
    static_bidirectional_rnn,
    static_rnn,
)

if TYPE_CHECKING:
    from . import rnn_cell
else:
    rnn_cell = LazyModule("flowc.rnn_cell")

__all__ = [
    "atrous_conv2d", "avg_pool", "avg_pool3d", "batch_norm_with_global_normalization",
    "batch_normalization", "bias_add", "bidirectional_dynamic_rnn", "conv1d", "conv2d",
    "conv2d_transpose", "conv3d", "crelu", "depthwise_conv2d", "depthwise_conv2d_native", "dropout",
    "dynamic_rnn", "elu", "embedding_lookup", "fused_batch_norm", "in_top_k", "l2_loss",
    "l2_normalize", "leaky_relu", "local_response_normalization", "log_poisson_loss", "log_sigmoid",
    "log_softmax", "lrn", "max_pool", "max_pool3d", "moments", "relu", "relu6", "rnn_cell", "selu",
    "separable_conv2d", "sigmoid", "sigmoid_cross_entropy_with_logits", "softmax",
    "softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2", "softplus",
    "softsign", "sparse_softmax_cross_entropy_with_logits", "static_bidirectional_rnn",
    "static_rnn", "tanh", "top_k", "weighted_cross_entropy_with_logits", "xw_plus_b",
    "zero_fraction",
]  # fmt: skip
