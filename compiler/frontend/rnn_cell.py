"""`tf.nn.rnn_cell`: recurrent cells, (inputs, state) → (outputs, new state)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .dtypes import DType, as_dtype
from .graph import get_default_graph
from .initializers import Constant, Zeros
from .layers.base import Layer, last_size
from .ops.activation import bias_add, dropout
from .ops.binary import add
from .ops.clip import clip_by_value
from .ops.control import Nest
from .ops.convert import convert
from .ops.creation import zeros
from .ops.matmul import matmul
from .ops.random import random_uniform
from .ops.shape import concat, split, stack
from .ops.unary import floor, sigmoid, tanh
from .shapes import TensorShape
from .tensor import Tensor
from .varscope import variable_scope


class LSTMStateTuple(NamedTuple):
    """The state of an LSTM: c the cell's, h the output."""

    c: Any
    h: Any

    @property
    def dtype(self) -> DType:
        """The element type of both. TypeError where they differ."""
        if self.c.dtype is not self.h.dtype:
            raise TypeError(f"Inconsistent internal state: {self.c.dtype} vs {self.h.dtype}")
        return self.c.dtype  # type: ignore[no-any-return]


class RNNCell(Layer):
    """Base of cells: `state_size` (an int, or nested), `output_size`, `call(inputs, state)`."""

    def __call__(  # type: ignore[override]
        self, inputs: Any, state: Any = None, scope: Any = None, **kwargs: Any
    ) -> Any:
        return super().__call__(inputs, state, scope=scope, **kwargs)

    @property
    def state_size(self) -> Any:
        raise NotImplementedError("Abstract method")

    @property
    def output_size(self) -> Any:
        raise NotImplementedError("Abstract method")

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """A state of zeros: [batch_size, n] for each size n."""
        with get_default_graph().name_scope(type(self).__name__ + "ZeroState"):
            nest = Nest(self.state_size)
            t = as_dtype(dtype)
            return nest.rebuild([_zeros(batch_size, n, t) for n in nest.leaves])

    def get_initial_state(self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
                          ) -> Any:
        return self.zero_state(batch_size, dtype)

    def _gate(self, x: Tensor, kernel: Any, bias: Any) -> Tensor:
        return bias_add(matmul(x, kernel), bias)


def _zeros(batch_size: Any, size: Any, t: DType) -> Tensor:
    rest = TensorShape(size).as_list()
    static = not hasattr(batch_size, "op")
    out = zeros([int(batch_size), *rest] if static else stack([batch_size, *rest]), t)
    if not static:
        out.set_shape([None, *rest])
    return out


class BasicRNNCell(RNNCell):
    """output = state = activation([inputs, state] · kernel + bias)."""

    def __init__(
        self, num_units: int, activation: Any = None, reuse: Any = None, name: str | None = None,
        dtype: Any = None, **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, dtype=dtype, _reuse=reuse, **given)
        self._num_units, self._activation = num_units, activation or tanh

    @property
    def state_size(self) -> int:
        return self._num_units

    output_size = state_size

    def build(self, input_shape: TensorShape) -> None:
        n = last_size(input_shape, -1, "last dimension")
        self._kernel = self.add_variable("kernel", [n + self._num_units, self._num_units])
        self._bias = self.add_variable("bias", [self._num_units], initializer=Zeros())

    def call(self, inputs: Any, state: Any = None, **kwargs: Any) -> Any:
        out = self._activation(self._gate(concat([inputs, state], 1), self._kernel, self._bias))
        return out, out


class GRUCell(RNNCell):
    """The gated recurrent unit (Cho et al. 2014)."""

    def __init__(
        self, num_units: int, activation: Any = None, reuse: Any = None,
        kernel_initializer: Any = None, bias_initializer: Any = None, name: str | None = None,
        dtype: Any = None, **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, dtype=dtype, _reuse=reuse, **given)
        self._num_units, self._activation = num_units, activation or tanh
        self._start, self._bias_start = kernel_initializer, bias_initializer

    @property
    def state_size(self) -> int:
        return self._num_units

    output_size = state_size

    def build(self, input_shape: TensorShape) -> None:
        n, units = last_size(input_shape, -1, "last dimension"), self._num_units
        ones, none = self._bias_start or Constant(1.0), self._bias_start or Zeros()
        self._gates = (
            self.add_variable("gates/kernel", [n + units, 2 * units], initializer=self._start),
            self.add_variable("gates/bias", [2 * units], initializer=ones),
        )
        self._candidate = (
            self.add_variable("candidate/kernel", [n + units, units], initializer=self._start),
            self.add_variable("candidate/bias", [units], initializer=none),
        )

    def call(self, inputs: Any, state: Any = None, **kwargs: Any) -> Any:
        gates = sigmoid(self._gate(concat([inputs, state], 1), *self._gates))
        r, u = split(gates, 2, 1)
        both = concat([inputs, r * state], 1)
        c = self._activation(self._gate(both, *self._candidate))
        out = u * state + (1.0 - u) * c
        return out, out


class BasicLSTMCell(RNNCell):
    """The LSTM without peepholes (Zaremba et al. 2014); the state is an LSTMStateTuple."""

    def __init__(
        self, num_units: int, forget_bias: float = 1.0, state_is_tuple: bool = True,
        activation: Any = None, reuse: Any = None, name: str | None = None, dtype: Any = None,
        **given: Any,
    ) -> None:  # fmt: skip
        given.pop("input_size", None)
        super().__init__(name=name, dtype=dtype, _reuse=reuse, **given)
        self._num_units, self._forget_bias = num_units, forget_bias
        self._state_is_tuple, self._activation = state_is_tuple, activation or tanh

    @property
    def state_size(self) -> Any:
        n = self._num_units
        return LSTMStateTuple(n, n) if self._state_is_tuple else 2 * n

    @property
    def output_size(self) -> int:
        return self._num_units

    def build(self, input_shape: TensorShape) -> None:
        n, units = last_size(input_shape, -1, "last dimension"), self._num_units
        self._kernel = self.add_variable("kernel", [n + units, 4 * units])
        self._bias = self.add_variable("bias", [4 * units], initializer=Zeros())

    def call(self, inputs: Any, state: Any = None, **kwargs: Any) -> Any:
        c, h = state if self._state_is_tuple else split(state, 2, 1)
        i, j, f, o = split(self._gate(concat([inputs, h], 1), self._kernel, self._bias), 4, 1)
        new_c = c * sigmoid(f + self._forget_bias) + sigmoid(i) * self._activation(j)
        new_h = self._activation(new_c) * sigmoid(o)
        return new_h, _lstm_state(new_c, new_h, self._state_is_tuple)


def _lstm_state(c: Tensor, h: Tensor, as_tuple: bool) -> Any:
    return LSTMStateTuple(c, h) if as_tuple else concat([c, h], 1)


class LSTMCell(RNNCell):
    """The LSTM with peepholes (`use_peepholes`), clipping and a projection of the output."""

    def __init__(
        self, num_units: int, use_peepholes: bool = False, cell_clip: float | None = None,
        initializer: Any = None, num_proj: int | None = None, proj_clip: float | None = None,
        num_unit_shards: Any = None, num_proj_shards: Any = None, forget_bias: float = 1.0,
        state_is_tuple: bool = True, activation: Any = None, reuse: Any = None,
        name: str | None = None, dtype: Any = None, **given: Any,
    ) -> None:  # fmt: skip
        given.pop("input_size", None)
        super().__init__(name=name, dtype=dtype, _reuse=reuse, **given)
        self._num_units, self._peepholes, self._cell_clip = num_units, use_peepholes, cell_clip
        self._initializer, self._num_proj, self._proj_clip = initializer, num_proj, proj_clip
        self._forget_bias, self._state_is_tuple = forget_bias, state_is_tuple
        self._activation = activation or tanh

    @property
    def state_size(self) -> Any:
        n, h = self._num_units, self.output_size
        return LSTMStateTuple(n, h) if self._state_is_tuple else n + h

    @property
    def output_size(self) -> int:
        return self._num_proj or self._num_units

    def build(self, input_shape: TensorShape) -> None:
        n, units, start = last_size(input_shape, -1, "last dimension"), self._num_units, \
            self._initializer
        rows = n + self.output_size
        self._kernel = self.add_variable("kernel", [rows, 4 * units], initializer=start)
        self._bias = self.add_variable("bias", [4 * units], initializer=Zeros())
        if self._peepholes:
            names = ("w_f_diag", "w_i_diag", "w_o_diag")
            self._diagonals = [self.add_variable(d, [units], initializer=start) for d in names]
        if self._num_proj:
            self._projection = self.add_variable("projection/kernel", [units, self._num_proj],
                                                 initializer=start)

    def call(self, inputs: Any, state: Any = None, **kwargs: Any) -> Any:
        sizes = [self._num_units, self.output_size]
        c, h = state if self._state_is_tuple else split(state, sizes, 1)
        i, j, f, o = split(self._gate(concat([inputs, h], 1), self._kernel, self._bias), 4, 1)
        f = f + self._forget_bias
        if self._peepholes:
            f, i = f + self._diagonals[0] * c, i + self._diagonals[1] * c
        new_c = sigmoid(f) * c + sigmoid(i) * self._activation(j)
        if self._cell_clip is not None:
            new_c = clip_by_value(new_c, -self._cell_clip, self._cell_clip)
        if self._peepholes:
            o = o + self._diagonals[2] * new_c
        new_h = sigmoid(o) * self._activation(new_c)
        if self._num_proj:
            new_h = matmul(new_h, self._projection)
            if self._proj_clip is not None:
                new_h = clip_by_value(new_h, -self._proj_clip, self._proj_clip)
        return new_h, _lstm_state(new_c, new_h, self._state_is_tuple)


class MultiRNNCell(RNNCell):
    """Cells one above the other: the outputs of each are the inputs of the next."""

    def __init__(self, cells: Sequence[Any], state_is_tuple: bool = True) -> None:
        super().__init__()
        if not cells:
            raise ValueError("Must specify at least one cell for MultiRNNCell.")
        if not isinstance(cells, (list, tuple)):
            raise TypeError(f"cells must be a list or tuple, but saw: {cells}.")
        self._cells, self._state_is_tuple = list(cells), state_is_tuple
        if not state_is_tuple and any(not isinstance(c.state_size, int) for c in cells):
            raise ValueError("Some cells return tuples of states, but the flag state_is_tuple is "
                             "not set.")

    @property
    def state_size(self) -> Any:
        sizes = tuple(cell.state_size for cell in self._cells)
        return sizes if self._state_is_tuple else sum(sizes)

    @property
    def output_size(self) -> Any:
        return self._cells[-1].output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        if not self._state_is_tuple:
            return super().zero_state(batch_size, dtype)
        return tuple(cell.zero_state(batch_size, dtype) for cell in self._cells)

    def call(self, inputs: Any, state: Any = None, **kwargs: Any) -> Any:
        states = state
        if not self._state_is_tuple:
            states = split(state, [cell.state_size for cell in self._cells], 1)
        after = []
        for i, (cell, old) in enumerate(zip(self._cells, states, strict=True)):
            with variable_scope(f"cell_{i}"):
                inputs, new = cell(inputs, old)
            after.append(new)
        return inputs, tuple(after) if self._state_is_tuple else concat(after, 1)


# ---- Wrappers.


class _Wrapper(RNNCell):
    """A cell around another one, in whose scope the variables are."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self._cell = cell

    @property
    def state_size(self) -> Any:
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        return self._cell.output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        return self._cell.zero_state(batch_size, dtype)

    def __call__(  # type: ignore[override]
        self, inputs: Any, state: Any = None, scope: Any = None, **kwargs: Any
    ) -> Any:
        return self.wrapped(inputs, state, scope)

    def wrapped(self, inputs: Any, state: Any, scope: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.wrapped")


class DropoutWrapper(_Wrapper):
    """Dropout on a cell's inputs, outputs and state (of an LSTM's, h only).

    variational_recurrent: the same elements in all steps of a run; it needs dtype and, for the
    inputs, input_size.
    """

    def __init__(
        self, cell: Any, input_keep_prob: Any = 1.0, output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0, variational_recurrent: bool = False, input_size: Any = None,
        dtype: Any = None, seed: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(cell)
        self._probabilities = (input_keep_prob, state_keep_prob, output_keep_prob)
        for name, p in zip(("input", "state", "output"), self._probabilities, strict=True):
            if isinstance(p, (int, float)) and not 0.0 <= p <= 1.0:
                raise ValueError(f"Parameter {name}_keep_prob must be between 0 and 1: {p}")
        self._seed, self._masks = seed, None
        if variational_recurrent:
            self._masks = self._noise(input_size, dtype)

    def _noise(self, input_size: Any, dtype: Any) -> tuple[list[Tensor], ...]:
        if dtype is None:
            raise ValueError("When variational_recurrent=True, dtype must be provided")
        if input_size is None and self._dropped(0):
            raise ValueError("When variational_recurrent=True and input_keep_prob < 1.0 or is "
                             "unknown, input_size must be provided")
        t = as_dtype(dtype)

        def masks(sizes: Any) -> list[Tensor]:
            shapes = [[1, *TensorShape(n).as_list()] for n in Nest(sizes).leaves]
            return [random_uniform(s, seed=self._seed, dtype=t) for s in shapes]

        inputs = masks(input_size) if input_size is not None else []
        return inputs, masks(self.state_size), masks(self.output_size)

    def _dropped(self, which: int) -> bool:
        p = self._probabilities[which]
        return not isinstance(p, (int, float)) or p < 1.0

    def _drop(self, values: Any, which: int) -> Any:
        if not self._dropped(which):
            return values
        nest = Nest(values)
        p = self._probabilities[which]
        kept = {0} if which == 1 and isinstance(values, LSTMStateTuple) else set()
        if which == 1 and isinstance(values, tuple) and not kept:
            make = getattr(type(values), "_make", tuple)
            return make([self._drop(v, 1) for v in values])
        out = []
        for i, v in enumerate(nest.leaves):
            if i in kept:
                out.append(v)
            elif self._masks is None:
                out.append(dropout(v, keep_prob=p, seed=self._seed))
            else:
                mask = floor(add(self._masks[which][i], convert(p, v.dtype)))
                out.append(v / convert(p, v.dtype) * mask)
        return nest.rebuild(out)

    def wrapped(self, inputs: Any, state: Any, scope: Any) -> Any:
        outputs, new = self._cell(self._drop(inputs, 0), state, scope=scope)
        return self._drop(outputs, 2), self._drop(new, 1)


class ResidualWrapper(_Wrapper):
    """The cell's outputs plus its inputs."""

    def wrapped(self, inputs: Any, state: Any, scope: Any) -> Any:
        outputs, new = self._cell(inputs, state, scope=scope)
        nest, before = Nest(outputs), Nest(inputs).leaves
        sums = [o + i for o, i in zip(nest.leaves, before, strict=True)]
        return nest.rebuild(sums), new


class DeviceWrapper(_Wrapper):
    """The cell on a device."""

    def __init__(self, cell: Any, device: Any) -> None:
        super().__init__(cell)
        self._device = device

    def wrapped(self, inputs: Any, state: Any, scope: Any) -> Any:
        with get_default_graph().device(self._device):
            return self._cell(inputs, state, scope=scope)
