"""Pooling, and changes of images' sizes."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .conv import channels_first, padding_of, pads, per_axis, to_first, to_last
from .convert import Like, apply, convert, need, scope
from .reduce import one_of


def _pool(
    op: str, spatial: int, value: Like, ksize: Any, strides: Any, padding: Any,
    data_format: str | None, name: str | None, default: str,
) -> Tensor:  # fmt: skip
    first = channels_first(data_format, spatial)
    with scope(name, default) as s:
        t = convert(value, name="value")
        need(t, "fi", "value")
        return apply(
            op, [t], t.dtype, s, first=first, padding=padding_of(padding, spatial, first),
            window=per_axis(ksize, spatial, first, "ksize"),
            strides=per_axis(strides, spatial, first, "strides"),
        )  # fmt: skip


def max_pool(
    value: Like = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Like = None,
) -> Tensor:
    """The greatest element of each window of images [N, H, W, C]."""
    t = one_of(value, input)
    return _pool("MaxPool", 2, t, ksize, strides, padding, data_format, name, "MaxPool")


def avg_pool(
    value: Like = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Like = None,
) -> Tensor:
    """The mean of each window, of the elements that lie inside the image."""
    t = one_of(value, input)
    return _pool("AvgPool", 2, t, ksize, strides, padding, data_format, name, "AvgPool")


def max_pool3d(
    input: Like, ksize: Any, strides: Any, padding: Any, data_format: str = "NDHWC",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The greatest element of each window of volumes."""
    return _pool("MaxPool", 3, input, ksize, strides, padding, data_format, name, "MaxPool3D")


def avg_pool3d(
    input: Like, ksize: Any, strides: Any, padding: Any, data_format: str = "NDHWC",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of volumes."""
    return _pool("AvgPool", 3, input, ksize, strides, padding, data_format, name, "AvgPool3D")


def _windows(x: Expansion, node: Operation, a: Value) -> dict[str, Any]:
    at = node.attrs
    window, strides = at["window"], at["strides"]
    ones = (1,) * len(window)
    padding = pads(at["padding"], a.ty.shape[1:-1], window, strides, ones)
    return {
        "window": (1, *window, 1),
        "strides": (1, *strides, 1),
        "pads": ((0, 0), *padding, (0, 0)),
        "dilation": (1,) * a.ty.rank,
    }


@expander("MaxPool")
def _max_pool(x: Expansion, node: Operation, a: Value) -> Any:
    a = to_last(x, a, node.attrs["first"])
    out = x.b.reduce_window(a, op="max", **_windows(x, node, a))
    return to_first(x, out, node.attrs["first"])


@expander("AvgPool")
def _avg_pool(x: Expansion, node: Operation, a: Value) -> Any:
    b, a = x.b, to_last(x, a, node.attrs["first"])
    windows = _windows(x, node, a)
    total = b.reduce_window(a, op="sum", **windows)
    if all(p == (0, 0) for p in windows["pads"]):
        count = 1
        for n in windows["window"]:
            count *= n
        out = b.mul(total, b.const(1.0 / count, total))
    else:
        inside = b.reduce_window(b.const(1, a), op="sum", **windows)
        out = b.div(total, inside)
    return to_first(x, out, node.attrs["first"])
