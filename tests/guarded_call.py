"""Calls compiled functions with all their memory between guard pages, for any number of threads.

Arrays end at a page that faults, or begin behind one. Those that end there lie at addresses that
are multiples of their element's size and of nothing more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from flowc.runtime import Context, Executable
from flowc.runtime.arrays import address
from flowc.runtime.native import native
from guard import guarded

Array = Any


def call_guarded(
    exe: Executable, inputs: Sequence[Array], state: Sequence[Array] = (), *,
    front: bool = False, ctx: Context | None = None,
) -> tuple[list[Array], list[Array]]:
    """The outputs and the state afterwards, as plain arrays; `state` itself is left as it is.

    Raises AssertionError where an input was written to, else what `Executable.call` raises.
    """
    ctx = ctx or Context()
    with ExitStack() as stack:
        def room(shape: Any, dtype: Any, fill: Any = None) -> Array:
            return stack.enter_context(guarded(tuple(shape), dtype, front=front, fill=fill))

        xs = [room(x.shape, x.dtype, x) for x in inputs]
        states = [room(x.shape, x.dtype, x) for x in state]
        dims = exe._bound_dims(xs)
        shapes = exe.output_shapes(dims)
        specs = exe.manifest.outputs
        outs = [room(s, t.dtype.numpy) for s, t in zip(shapes, specs, strict=True)]
        for out in outs:
            out.reshape(-1).view(np.uint8)[...] = 0xA5  # what is not written shows
        size = exe.workspace_size(dims, ctx.struct.base.workers)
        work = room((-(-size // 64) * 64,), np.uint8)
        work[...] = 0xA5
        _run(exe, [*xs, *states, *outs], dims, work, ctx)
        for given, x in zip(inputs, xs, strict=True):
            assert np.asarray(given).tobytes() == x.tobytes(), "an input was written to"
        cut = exe.output_shapes(dims)
        results = [o.reshape(-1)[: int(np.prod(s))].reshape(s).copy()
                   for o, s in zip(outs, cut, strict=True)]
        return results, [s.copy() for s in states]


def _run(exe: Executable, arrays: list[Array], dims: Any, work: Array, ctx: Context) -> None:
    buffers = (ctypes.c_void_p * (len(arrays) + 1))(*map(address, arrays))
    ctx.host_error = None
    code = native().run(ctx.address, exe.entry, buffers, dims, address(work))
    if code:
        cause, ctx.host_error = ctx.host_error, None
        exe.raise_error(*ctx.error(), cause=cause)


def guarded_runner(
    exe: Executable, front: bool = False, ctx: Context | None = None
) -> Callable[..., list[Array]]:
    """A function of the inputs that gives the outputs, for functions without state."""
    return lambda *inputs: call_guarded(exe, inputs, front=front, ctx=ctx)[0]
