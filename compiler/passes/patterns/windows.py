"""Rules of convolutions: their own padding instead of padded copies and cropped results."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir import dims
from flowc.ir.core import Value

from ..rewrite import Replacement, Rewriter, rule


@rule("pad-into-conv", "conv")
def pad_into_conv(b: Rewriter, op: Any, x: Value, w: Value) -> Replacement:
    """Zeros around the spatial axes are a convolution's own; also where x is then transposed."""
    moved = b.made(x, "transpose")
    perm: tuple[int, ...] = moved.op.perm if moved else tuple(range(x.ty.rank))  # type: ignore[attr-defined]
    made = b.made(moved.operands[0] if moved else x, "pad")
    if made is None or not _is_zero(b.splat(made.operands[1])):
        return None
    pad: Any = made.op
    lo, hi = [pad.lo[a] for a in perm], [pad.hi[a] for a in perm]
    if any(pad.interior) or not all(map(dims.nonnegative, (*lo, *hi))):
        return None
    if any(d != 0 for d in (lo[0], hi[0], lo[-1], hi[-1])) or set(op.lhs_dilation) != {1}:
        return None
    pads = tuple(
        (dims.add(a, more), dims.add(z, rest))
        for (a, z), more, rest in zip(op.pads, lo[1:-1], hi[1:-1], strict=True)
    )

    def build() -> Any:
        source = made.operands[0]
        return _conv(b, op, b.transpose(source, perm=perm) if moved else source, w, pads)

    return build


@rule("slice-of-conv", "slice")
def slice_of_conv(b: Rewriter, op: Any, x: Value) -> Replacement:
    """Outputs that are cut off are not computed: a gradient towards what had been padded."""
    made = b.made(x, "conv")
    if made is None or not b.single(x) or any(s != 1 for s in op.strides):
        return None
    conv: Any = made.op
    sizes = x.ty.shape
    if any(op.starts[a] != 0 or op.limits[a] != sizes[a] for a in (0, len(sizes) - 1)):
        return None
    pads = tuple(
        (dims.add(lo, dims.mul(start, -s)),
         dims.add(hi, dims.mul(dims.add(size, dims.mul(limit, -1)), -s)))
        for (lo, hi), start, limit, size, s in zip(
            conv.pads, op.starts[1:-1], op.limits[1:-1], sizes[1:-1], conv.strides, strict=True)
    )
    source, filters = made.operands
    return lambda: _conv(b, conv, source, filters, pads)


def _conv(b: Rewriter, op: Any, x: Value, w: Value, pads: Any) -> Any:
    return b.conv(
        x, w, strides=op.strides, pads=pads, lhs_dilation=op.lhs_dilation,
        rhs_dilation=op.rhs_dilation, groups=op.groups,
    )


def _is_zero(value: Any) -> bool:
    """Whether a scalar is zero, and not −0."""
    return value is not None and not np.asarray(value).tobytes().strip(b"\0")
