"""Recurrent networks: a cell along the time axis, as one loop."""

from __future__ import annotations

from typing import Any

from .dtypes import as_dtype, int32
from .ops.binary import greater_equal
from .ops.control import Nest
from .ops.convert import convert
from .ops.creation import zeros, zeros_like
from .ops.recur import recur
from .ops.selecting import reverse_sequence, where
from .ops.shape import concat, reverse, shape, stack, transpose, unstack
from .ops.unary import cast
from .tensor import Tensor
from .varscope import variable_scope


def dynamic_rnn(
    cell: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """(outputs, last state) of a cell on inputs [batch, time, n], or [time, batch, n] time-major.

    sequence_length: int[batch]; behind a sequence's end its outputs are 0 and its state stays.
    initial_state: by default zeros of dtype. Variables are made in the scope "rnn". Raises
    TypeError for what is no cell, ValueError without initial_state and dtype.
    """
    _check_cell(cell)
    with variable_scope(scope or "rnn"):
        nest = Nest(inputs)
        xs = [convert(v) for v in nest.leaves]
        if not time_major:
            xs = [_swapped(v) for v in xs]
        batch = _batch(xs[0])
        lengths = None if sequence_length is None else cast(sequence_length, int32)
        start = _start(cell, initial_state, dtype, batch)
        made, ys, after = _along(cell, nest, xs, start, lengths)
        outputs = ys if time_major else [_swapped(y) for y in ys]
    return made.rebuild(outputs), after


def _check_cell(cell: Any) -> None:
    if not (callable(cell) and hasattr(cell, "state_size") and hasattr(cell, "output_size")):
        raise TypeError(f"cell must be an instance of RNNCell: {cell!r} is not")


def _start(cell: Any, initial_state: Any, dtype: Any, batch: Any) -> Any:
    if initial_state is not None:
        return initial_state
    if dtype is None:
        raise ValueError("If there is no initial_state, you must give a dtype.")
    return cell.zero_state(batch, as_dtype(dtype))


def _batch(x: Tensor) -> Any:
    known = x.shape[1].value if x.shape.ndims is not None else None
    return shape(x)[1] if known is None else known


def _swapped(x: Tensor) -> Tensor:
    """The first two axes exchanged."""
    rank = x.shape.ndims
    if rank is None or rank < 2:
        raise ValueError(f"the inputs of a recurrent net need a batch and a time axis: {x}")
    return transpose(x, [1, 0, *range(2, rank)])


def _along(
    cell: Any, nest: Nest, xs: list[Tensor], start: Any, lengths: Tensor | None
) -> tuple[Nest, list[Tensor], Any]:
    """The structure of the outputs, the outputs over time, and the last state."""
    states = Nest(start)
    made: list[Nest] = []

    def body(now: list[Tensor], inside: list[Tensor]) -> Any:
        old = now[1:] if lengths is not None else now
        outputs, new = cell(nest.rebuild(inside), states.rebuild(old))
        out = Nest(outputs)
        made.append(out)
        ys, after = [convert(y) for y in out.leaves], [convert(s) for s in Nest(new).leaves]
        if lengths is None:
            return after, ys
        over = greater_equal(now[0], lengths)
        ys = [where(over, zeros_like(y), y) for y in ys]
        after = [
            s if s.shape.ndims == 0 else where(over, o, s) for o, s in zip(old, after, strict=True)
        ]
        return [now[0] + 1, *after], ys

    first = [] if lengths is None else [zeros([], int32)]
    last, ys = recur(body, [*first, *states.leaves], xs, "while")
    return made[0], ys, states.rebuild(last[len(first) :])


def static_rnn(
    cell: Any,
    inputs: Any,
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """(list of outputs, last state) of a cell on a list of inputs [batch, n], one a step.

    It is one loop over the stacked inputs, not a copy of the cell for each step.
    """
    _check_cell(cell)
    if not isinstance(inputs, (list, tuple)):
        raise TypeError("inputs must be a sequence")
    if not inputs:
        raise ValueError("inputs must not be empty")
    steps = [Nest(v) for v in inputs]
    xs = [stack(list(part)) for part in zip(*(s.leaves for s in steps), strict=True)]
    outputs, state = dynamic_rnn(
        cell, steps[0].rebuild(xs), sequence_length, initial_state,
        dtype or (None if initial_state is not None else xs[0].dtype), time_major=True, scope=scope,
    )  # fmt: skip
    nest = Nest(outputs)
    parts = [unstack(y, len(inputs)) for y in nest.leaves]
    return [nest.rebuild(list(row)) for row in zip(*parts, strict=True)], state


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """((outputs, outputs), (state, state)) of one cell forwards and one backwards in time."""
    _check_cell(cell_fw)
    _check_cell(cell_bw)
    time, batch = (0, 1) if time_major else (1, 0)

    def turned(structure: Any) -> Any:
        nest = Nest(structure)
        if sequence_length is None:
            return nest.rebuild([reverse(v, [time]) for v in nest.leaves])
        return nest.rebuild(
            [reverse_sequence(v, sequence_length, time, batch) for v in nest.leaves]
        )

    with variable_scope(scope or "bidirectional_rnn"):
        outputs_fw, state_fw = dynamic_rnn(
            cell_fw, inputs, sequence_length, initial_state_fw, dtype, time_major=time_major,
            scope="fw",
        )  # fmt: skip
        outputs_bw, state_bw = dynamic_rnn(
            cell_bw, turned(inputs), sequence_length, initial_state_bw, dtype,
            time_major=time_major, scope="bw",
        )  # fmt: skip
        return (outputs_fw, turned(outputs_bw)), (state_fw, state_bw)


def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any, Any]:
    """(list of concatenated outputs, state forwards, state backwards) on a list of inputs."""
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError("inputs must be a list that is not empty")
    both, states = bidirectional_dynamic_rnn(
        cell_fw, cell_bw, stack(list(inputs)), sequence_length, initial_state_fw,
        initial_state_bw, dtype, time_major=True, scope=scope,
    )  # fmt: skip
    outputs = unstack(concat(list(both), 2), len(inputs))
    return outputs, *states
