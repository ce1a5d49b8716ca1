"""Schedules of convolutions whose filters or images are larger than a cache, run natively."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu.contract import match, schedule
from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.form import Buffer, Kernel, LoopKernel, Prefetch, Stage, walk_stmts

from .contract_cases import conv, dot, filter_gradient, input_gradient, run_all
from .test_contract import _filter_gradient, _input_gradient, check

B = dims.sym("B")
SAME3 = ((1, 1), (1, 1))


def _kernel(kernel: Any) -> LoopKernel:
    found = match(kernel)
    assert found is not None
    return schedule(kernel, found)[-1].kernel


def _asks_ahead(kernel: LoopKernel) -> bool:
    return any(isinstance(s, Prefetch) for p in kernel.phases for s in walk_stmts(p.body))


LARGE = [
    ((1, 7, 7, 96), (3, 3, 96, 100), {"pads": SAME3}),
    ((3, 7, 7, 96), (3, 3, 96, 112), {"pads": SAME3}),
    ((2, 14, 13, 200), (1, 1, 200, 400), {"strides": (2, 2)}),
    ((B, 5, 6, 80), (3, 3, 80, 130), {"strides": (2, 1), "pads": SAME3}),
    ((1, 4, 30, 400), (1, 1, 400, 200), {}),
    ((20, 9, 9, 96), (3, 3, 96, 96), {"pads": SAME3}),
]


@pytest.mark.parametrize(
    ("xs", "ws", "attrs", "n"),
    [(*c, n) for c in LARGE for n in ((0, 1, 4) if c[0][0] is B else (1,))],
)
def test_large_filters_go_panel_by_panel(xs: Any, ws: Any, attrs: dict[str, Any], n: int) -> None:
    op, kernel = conv(xs, ws, **attrs)
    assert _asks_ahead(_kernel(kernel))
    check(kernel, {"B": n}, op.eval, int(np.prod(ws[:-1])))


def test_bits_do_not_depend_on_the_batch() -> None:
    ws: Any = (3, 3, 96, 112)
    one, many = (conv((n, 7, 7, 96), ws, pads=SAME3)[1] for n in (1, 3))
    (x, w), results, _ = run_all(many, {})
    from_one, alone, _ = run_all(one, {})
    assert from_one[0].tobytes() == x.reshape(-1)[: from_one[0].size].tobytes()
    assert from_one[1].tobytes() == w.tobytes()
    assert results[0][0][:1].tobytes() == alone[0][0].tobytes()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_sums_over_images_go_by_blocks_of_two_axes(n: int) -> None:
    xs, ws = (36, 36, 16), (3, 3, 16, 64)
    kernel = filter_gradient(B, xs, ws, 1, 1)
    assert "k by t r" in _kernel(kernel).note
    check(kernel, {"B": n}, lambda x, g: _filter_gradient(x, g, ws, 1, 1), 36 * 36 * 3)
    (raw,) = kernel.outputs
    y = Buffer("y", raw.dtype, raw.shape)
    axes = tuple(ex.var(a, d) for a, d in zip("ijkl", ws, strict=True))
    last = Stage(y, axes, ex.unary("neg", raw[axes]))
    kernel = Kernel("k", kernel.inputs, (y,), (*kernel.stages, last))
    check(kernel, {"B": n}, lambda x, g: -_filter_gradient(x, g, ws, 1, 1), 36 * 36 * 3)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_strided_points_have_a_gradient_of_mostly_zeros(size: int) -> None:
    xs, ws = (size, size, 16), (1, 1, 16, 40)
    check(input_gradient(B, xs, ws, 2, 0), {"B": 2},
          lambda g, w: _input_gradient(g, w, xs, 2, 0), 40)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3, 16, 50])
def test_depthwise(stride: int, channels: int) -> None:
    op, kernel = conv((B, 11, 10, channels), (3, 3, 1, channels), pads=SAME3,
                      strides=(stride, stride), groups=channels)
    padded = "padded" in _kernel(kernel).note
    assert padded == (stride == 1 or channels == 1)  # few uses: tested where it is read
    check(kernel, {"B": 3}, op.eval, 9)


def test_few_columns_of_a_symbolic_batch() -> None:
    """Both axes of the result are the image's: no dot products between the two."""
    op, kernel = conv((B, 9, 3, 1), (2, 2, 1, 1), strides=(3, 3))
    check(kernel, {"B": 5}, op.eval, 4)


@pytest.mark.parametrize("n", [31, 32, 33, 96])
def test_a_panel_that_no_lane_has_is_not_read(n: int) -> None:
    """A symbolic number of lanes, which panels may divide; fuzzing has guard pages behind them."""
    kernel = dot((33, 8), (8, dims.sym("N")))
    check(kernel, {"N": n}, lambda a, b: a @ b, 8)
