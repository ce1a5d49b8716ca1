"""`tf.train`."""

from __future__ import annotations

from .averages import ExponentialMovingAverage
from .checkpoint_state import (
    CheckpointState,
    checkpoint_exists,
    get_checkpoint_mtimes,
    get_checkpoint_state,
    latest_checkpoint,
    remove_checkpoint,
    update_checkpoint_state,
)
from .decay import (
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    natural_exp_decay,
    piecewise_constant,
    piecewise_constant_decay,
    polynomial_decay,
)
from .global_step import (
    assert_global_step,
    create_global_step,
    get_global_step,
    get_or_create_global_step,
    global_step,
)
from .optimizer import Optimizer
from .optimizers import (
    AdadeltaOptimizer,
    AdagradDAOptimizer,
    AdagradOptimizer,
    AdamOptimizer,
    FtrlOptimizer,
    GradientDescentOptimizer,
    MomentumOptimizer,
    ProximalGradientDescentOptimizer,
    RMSPropOptimizer,
)
from .saver import NewCheckpointReader, Saver, list_variables, load_checkpoint, load_variable

__all__ = [
    "AdadeltaOptimizer", "AdagradDAOptimizer", "AdagradOptimizer", "AdamOptimizer",
    "CheckpointState", "ExponentialMovingAverage", "FtrlOptimizer", "GradientDescentOptimizer",
    "MomentumOptimizer", "NewCheckpointReader", "Optimizer", "ProximalGradientDescentOptimizer",
    "RMSPropOptimizer", "Saver", "assert_global_step", "checkpoint_exists", "cosine_decay",
    "create_global_step", "exponential_decay", "get_checkpoint_mtimes", "get_checkpoint_state",
    "get_global_step", "get_or_create_global_step", "global_step", "inverse_time_decay",
    "latest_checkpoint", "list_variables", "load_checkpoint", "load_variable",
    "natural_exp_decay", "piecewise_constant", "piecewise_constant_decay", "polynomial_decay",
    "remove_checkpoint", "update_checkpoint_state",
]  # fmt: skip
