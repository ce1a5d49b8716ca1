"""`tf.contrib`: the parts that programs use most."""

from __future__ import annotations

from . import framework, layers, rnn

__all__ = ["framework", "layers", "rnn"]
