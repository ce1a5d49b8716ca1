"""The work that `compare.py` measures: models written once, over a framework's few operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Case:
    """`model(o, x, p)`: the result, or the loss where it trains, for data `x` and parameters `p`.

    o: the framework's operations (`_frameworks.py`). train: "" for inference, "sgd" or "adam".
    """

    model: Callable[[Any, dict[str, Any], dict[str, Any]], Any]
    data: dict[str, tuple[int, ...]]
    params: dict[str, tuple[int, ...]]
    train: str = ""

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Random data and parameters, f32, the same for every framework."""
        rng = np.random.default_rng(0)
        data = {n: rng.random(s, np.float32) for n, s in self.data.items()}
        if "labels" in data:
            rows, classes = data["labels"].shape
            data["labels"] = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, rows)]
        scale = {n: np.float32(np.prod(s[:-1]) ** -0.5) for n, s in self.params.items()}
        params = {n: rng.standard_normal(s, np.float32) * scale[n] for n, s in self.params.items()}
        return data, params


def _mlp(o: Any, x: dict[str, Any], p: dict[str, Any]) -> Any:
    h = o.relu(o.matmul(x["x"], p["w1"]) + p["b1"])
    h = o.relu(o.matmul(h, p["w2"]) + p["b2"])
    return o.matmul(h, p["w3"]) + p["b3"]


def _mlp_loss(o: Any, x: dict[str, Any], p: dict[str, Any]) -> Any:
    return o.cross_entropy(_mlp(o, x, p), x["labels"])


def _attention(o: Any, x: dict[str, Any], p: dict[str, Any]) -> Any:
    scores = o.matmul(x["q"], o.swap(x["k"])) * 0.125
    return o.matmul(o.softmax(scores), x["v"])


def _chain(o: Any, x: dict[str, Any], p: dict[str, Any]) -> Any:
    return o.tanh(x["x"] * x["y"] + 1.0) * o.sigmoid(x["x"] - x["y"])


def _product(m: int, k: int, n: int) -> Case:
    return Case(lambda o, x, p: o.matmul(x["a"], x["b"]), {"a": (m, k), "b": (k, n)}, {})


def _conv(n: int, size: int, cin: int, cout: int, filter_: int) -> Case:
    return Case(lambda o, x, p: o.conv(x["x"], p["w"]), {"x": (n, size, size, cin)},
                {"w": (filter_, filter_, cin, cout)})


def _rows(what: str, *shape: int) -> Case:
    return Case(lambda o, x, p: getattr(o, what)(x["x"]), {"x": shape}, {})


_LAYERS = {"w1": (784, 512), "b1": (512,), "w2": (512, 512), "b2": (512,), "w3": (512, 10),
           "b3": (10,)}  # fmt: skip
_HEADS = (8, 256, 64)

CASES = {
    "matmul 64": _product(64, 64, 64),
    "matmul 256": _product(256, 256, 256),
    "matmul 1024": _product(1024, 1024, 1024),
    "matmul 1 x 1024 x 4096": _product(1, 1024, 4096),
    "conv 3 x 3, 8 x 28 x 28 x 128": _conv(8, 28, 128, 128, 3),
    "conv 1 x 1, 56 x 56 x 64 to 256": _conv(1, 56, 64, 256, 1),
    "softmax 4096 x 1000": _rows("softmax", 4096, 1000),
    "layer norm 4096 x 1024": _rows("layer_norm", 4096, 1024),
    "sum over rows 4096 x 4096": _rows("sum_rows", 4096, 4096),
    "sum over columns 4096 x 4096": _rows("sum_columns", 4096, 4096),
    "elementwise 4M": Case(_chain, {"x": (1 << 22,), "y": (1 << 22,)}, {}),
    "elementwise 1K": Case(_chain, {"x": (1 << 10,), "y": (1 << 10,)}, {}),
    "attention 8 x 256 x 64": Case(_attention, {"q": _HEADS, "k": _HEADS, "v": _HEADS}, {}),
    "mlp inference, batch 1": Case(_mlp, {"x": (1, 784)}, _LAYERS),
    "mlp inference, batch 128": Case(_mlp, {"x": (128, 784)}, _LAYERS),
    "mlp step, sgd": Case(_mlp_loss, {"x": (128, 784), "labels": (128, 10)}, _LAYERS, "sgd"),
    "mlp step, adam": Case(_mlp_loss, {"x": (128, 784), "labels": (128, 10)}, _LAYERS, "adam"),
}  # fmt: skip
