"""Convolutions, with TensorFlow's paddings and layouts."""

from __future__ import annotations

from typing import Any

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.dims import Dim
from flowc.ir.types import shape_text

from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, need, scope, shape_tensor
from .reduce import one_of


def channels_first(data_format: str | None, spatial: int) -> bool:
    """Whether a layout is NC…; ValueError for one that is neither NC… nor N…C."""
    last = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[spatial]
    first = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[spatial]
    if data_format in (None, last):
        return False
    if data_format != first:
        raise ValueError(f"data_format must be {last} or {first}, not {data_format!r}")
    return True


def per_axis(value: Any, spatial: int, first: bool, what: str) -> tuple[int, ...]:
    """Strides, dilations or window sizes of the spatial axes: from an int, or a list for them or
    for all axes. ValueError where those of batch or channels are not 1."""
    if value is None:
        return (1,) * spatial
    items = [int(value)] if isinstance(value, int) else [int(v) for v in value]
    if len(items) == 1:
        return (items[0],) * spatial
    if len(items) == spatial:
        return tuple(items)
    if len(items) != spatial + 2:
        raise ValueError(f"{what} must have 1, {spatial} or {spatial + 2} entries, not {items}")
    batch, channel = items[0], items[1] if first else items[-1]
    if batch != 1 or channel != 1:
        raise ValueError(f"{what} in the batch and channel dimensions must be 1, not {items}")
    return tuple(items[2:] if first else items[1:-1])


def padding_of(padding: Any, spatial: int, first: bool) -> Any:
    """ "SAME", "VALID", or explicit (lo, hi) pairs of the spatial axes."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(f"padding must be 'SAME' or 'VALID', not {padding!r}")
        return padding.upper()
    pairs = tuple((int(a), int(b)) for a, b in padding)
    if len(pairs) == spatial + 2:
        pairs = pairs[2:] if first else pairs[1:-1]
    return pairs


def pads(
    padding: Any, sizes: Any, window: Any, strides: Any, dilations: Any
) -> tuple[tuple[Dim, Dim], ...]:
    """(lo, hi) of each spatial axis: SAME gives ⌈size / stride⌉ windows, more of it behind."""
    if padding == "VALID":
        return ((0, 0),) * len(strides)
    if padding != "SAME":
        return padding  # type: ignore[no-any-return]
    out = []
    for size, w, s, d in zip(sizes, window, strides, dilations, strict=True):
        reach = dims.add(dims.mul(dims.add(w, -1), d), 1)
        if s == 1:
            total = dims.add(reach, -1)
        else:
            covered = dims.add(dims.mul(dims.add(dims.ceildiv(size, s), -1), s), reach)
            total = dims.maximum(dims.add(covered, dims.mul(size, -1)), 0)
        lo = dims.floordiv(total, 2)
        out.append((lo, dims.add(total, dims.mul(lo, -1))))
    return tuple(out)


def to_last(x: Expansion, a: Value, first: bool) -> Value:
    """Channels moved to the last axis."""
    n = a.ty.rank
    return x.b.transpose(a, perm=(0, *range(2, n), 1)) if first else a


def to_first(x: Expansion, a: Value, first: bool) -> Value:
    """Channels moved back behind the batch."""
    n = a.ty.rank
    return x.b.transpose(a, perm=(0, n - 1, *range(1, n - 1))) if first else a


def _convolution(
    op: str, spatial: int, input: Like, filter: Like, strides: Any, padding: Any,
    data_format: str | None, dilations: Any, name: str | None, default: str, **more: Any,
) -> Tensor:  # fmt: skip
    first = channels_first(data_format, spatial)
    attrs = {
        "strides": per_axis(strides, spatial, first, "strides"),
        "padding": padding_of(padding, spatial, first),
        "dilations": per_axis(dilations, spatial, first, "dilations"),
        "first": first,
    }
    with scope(name, default) as s:
        x = convert(input, name="input")
        need(x, "fi", "input")
        w = convert(filter, x.dtype, "filter")
        return apply(op, [x, w], x.dtype, s, **attrs, **more)


def conv2d(
    input: Like,
    filter: Like = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = None,
    name: str | None = None,
    filters: Like = None,
) -> Tensor:
    """Cross-correlation of images [N, H, W, C] with filters [h, w, C/groups, K].

    strides, dilations: an int, two, or four as TensorFlow has them. padding: "SAME", "VALID" or
    pairs. data_format: "NHWC" or "NCHW". Raises ValueError where the channels do not fit.
    """
    return _convolution("Conv2D", 2, input, one_of(filter, filters), strides, padding, data_format,
                        dilations, name, "Conv2D")  # fmt: skip


def conv1d(
    value: Like = None,
    filters: Like = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: Any = None,
    data_format: str | None = None,
    name: str | None = None,
    input: Like = None,
    dilations: Any = None,
) -> Tensor:
    """Cross-correlation of sequences [N, W, C] with filters [w, C, K]."""
    form = {"NHWC": "NWC", "NCHW": "NCW"}.get(data_format or "NWC", data_format)
    return _convolution("Conv2D", 1, one_of(value, input), filters, stride, padding, form,
                        dilations, name, "conv1d")  # fmt: skip


def conv3d(
    input: Like,
    filter: Like = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str | None = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
    filters: Like = None,
) -> Tensor:
    """Cross-correlation of volumes [N, D, H, W, C] with filters [d, h, w, C, K]."""
    return _convolution("Conv2D", 3, input, one_of(filter, filters), strides, padding, data_format,
                        dilations, name, "Conv3D")  # fmt: skip


def atrous_conv2d(
    value: Like, filters: Like, rate: int, padding: Any, name: str | None = None
) -> Tensor:
    """`conv2d` with holes in the filter."""
    return conv2d(value, filters, 1, padding, dilations=rate, name=name)


@expander("Conv2D")
def _conv(x: Expansion, node: Operation, a: Value, w: Value) -> Any:
    at = node.attrs
    n = len(at["strides"])
    if a.ty.rank != n + 2 or w.ty.rank != n + 2:
        raise x.fail(f"{a.type} and the filter {w.type} must have rank {n + 2}")
    a = to_last(x, a, at["first"])
    groups = _groups(x, a, w)
    padding = pads(at["padding"], a.ty.shape[1:-1], w.ty.shape[:n], at["strides"], at["dilations"])
    out = x.b.conv(
        a, w, strides=at["strides"], pads=padding, lhs_dilation=(1,) * n,
        rhs_dilation=at["dilations"], groups=groups,
    )  # fmt: skip
    return to_first(x, out, at["first"])


def _groups(x: Expansion, a: Value, w: Value) -> int:
    channels, each = a.ty.shape[-1], w.ty.shape[-2]
    groups = dims.exact_div(channels, each)
    if not isinstance(groups, int) or groups < 1:
        raise x.fail(
            f"the input has {channels} channels, the filter {shape_text(w.ty.shape)} takes {each}"
        )
    return groups


def depthwise_conv2d(
    input: Like,
    filter: Like = None,
    strides: Any = None,
    padding: Any = None,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """Each channel by filters of its own [h, w, C, M]: [N, H, W, C·M]."""
    return _convolution("DepthwiseConv2d", 2, input, filter, strides, padding, data_format,
                        one_of(rate, dilations), name, "depthwise")  # fmt: skip


depthwise_conv2d_native = depthwise_conv2d


@expander("DepthwiseConv2d")
def _depthwise(x: Expansion, node: Operation, a: Value, w: Value) -> Any:
    at = node.attrs
    a = to_last(x, a, at["first"])
    h, wide, channels, times = w.ty.shape
    size = x.agree(a.ty.shape[3], channels, f"channels of {a.type} and the filter {w.type}")
    if not isinstance(size, int):
        raise x.fail("the number of channels must be known")
    padding = pads(at["padding"], a.ty.shape[1:3], (h, wide), at["strides"], at["dilations"])
    filters = x.b.reshape(w, shape=(h, wide, 1, dims.mul(size, times)))
    out = x.b.conv(
        x.conform(a, (*a.ty.shape[:3], size)), filters, strides=at["strides"], pads=padding,
        lhs_dilation=(1, 1), rhs_dilation=at["dilations"], groups=size,
    )  # fmt: skip
    return to_first(x, out, at["first"])


def separable_conv2d(
    input: Like,
    depthwise_filter: Like,
    pointwise_filter: Like,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
) -> Tensor:
    """`depthwise_conv2d` followed by a 1×1 convolution."""
    with scope(name, "separable_conv2d"):
        form = data_format or "NHWC"
        out = depthwise_conv2d(input, depthwise_filter, strides, padding, rate, None, form)
        return conv2d(out, pointwise_filter, 1, "VALID", data_format=form)


def conv2d_transpose(
    value: Like = None,
    filter: Like = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Like = None,
    filters: Like = None,
    dilations: Any = None,
) -> Tensor:
    """The gradient of `conv2d` towards its input: value [N, H, W, K], filter [h, w, C, K]."""
    first = channels_first(data_format, 2)
    with scope(name, "conv2d_transpose") as s:
        x = convert(one_of(value, input), name="value")
        w = convert(one_of(filter, filters), x.dtype, "filter")
        return apply(
            "Conv2DTranspose", [x, w, shape_tensor(output_shape, "output_shape")], x.dtype, s,
            strides=per_axis(strides, 2, first, "strides"), first=first,
            padding=padding_of(padding, 2, first),
            dilations=per_axis(dilations, 2, first, "dilations"),
        )  # fmt: skip


@expander("Conv2DTranspose")
def _conv_transpose(x: Expansion, node: Operation, a: Value, w: Value, shape: Value) -> Any:
    at, b = node.attrs, x.b
    sizes = list(x.sizes(shape))
    if at["first"]:
        sizes = [sizes[0], *sizes[2:], sizes[1]]
    a = to_last(x, a, at["first"])
    window, strides = w.ty.shape[:2], at["strides"]
    forward = pads(at["padding"], sizes[1:3], window, strides, at["dilations"])
    padding = []
    for i in range(2):
        reach = dims.add(dims.mul(dims.add(window[i], -1), at["dilations"][i]), 1)
        lo = dims.add(dims.add(reach, -1), dims.mul(forward[i][0], -1))
        spread = dims.add(dims.mul(dims.add(a.ty.shape[i + 1], -1), strides[i]), 1)
        whole = dims.add(sizes[i + 1], dims.add(reach, -1))
        hi = dims.add(whole, dims.mul(dims.add(spread, lo), -1))
        padding.append((lo, hi))
    flipped = b.transpose(b.reverse(w, axes=(0, 1)), perm=(0, 1, 3, 2))
    out = b.conv(
        a, flipped, strides=(1, 1), pads=tuple(padding), lhs_dilation=strides,
        rhs_dilation=at["dilations"], groups=1,
    )  # fmt: skip
    text = f"output_shape {sizes} does not fit {a.type} and the filter {w.type}"
    for have, want in zip(out.ty.shape, sizes, strict=True):
        x.agree(have, want, text)
    return to_first(x, x.conform(out, tuple(sizes)), at["first"])
