"""`tf.train.ExponentialMovingAverage`: averages of variables and tensors that forget slowly."""

from __future__ import annotations

from typing import Any

from ..graph import GraphKeys, get_default_graph
from ..ops.binary import minimum
from ..ops.creation import zeros
from ..ops.state import assign, assign_add, assign_sub, group, initialized_value
from ..ops.unary import cast
from ..tensor import Operation, Tensor
from ..variables import Variable, moving_average_variables, trainable_variables


class ExponentialMovingAverage:
    """shadow −= (1 − decay) · (shadow − value), once a run of `apply`'s operation.

    num_updates: a count with which the decay is min(decay, (1 + n) / (10 + n)). zero_debias:
    averages of tensors, which begin with 0, are divided by what that costs them (Kingma 2014).
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        self._decay, self._num_updates, self._zero_debias = decay, num_updates, zero_debias
        self._name = name
        self._averages: dict[Tensor, Variable] = {}

    @property
    def name(self) -> str:
        return self._name

    def apply(self, var_list: Any = None) -> Operation:
        """An operation that updates the averages of the variables or tensors (default: trainable).

        The average of a variable begins with its initial value, that of a tensor with 0. Raises
        TypeError for what is not of floats, ValueError where an average exists.
        """
        chosen = trainable_variables() if var_list is None else list(var_list)
        graph = get_default_graph()
        zero_based = set()
        for v in chosen:
            if not v.dtype.is_floating:
                raise TypeError(f"The variables must be half, float, or double: {v.name}")
            if _key(v) in self._averages:
                raise ValueError(f"Moving average already computed for: {v.name}")
            with graph.control_dependencies(None), graph.name_scope(None):
                self._averages[_key(v)] = self._shadow(v)
            if not isinstance(v, Variable):
                zero_based.add(_key(v))
            elif v not in moving_average_variables():
                graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, v)
        with graph.name_scope(self._name) as scope:
            decay = self._decay_now()
            updates = []
            for v in chosen:
                debias = self._zero_debias and _key(v) in zero_based
                updates.append(_update(self._averages[_key(v)], v, decay, debias))
            return group(*updates, name=scope)

    def _decay_now(self) -> Any:
        if self._num_updates is None:
            return self._decay
        n = cast(self._num_updates, "float32")
        return minimum(self._decay, (1.0 + n) / (10.0 + n))

    def _shadow(self, v: Any) -> Variable:
        name = f"{v.op.name}/{self._name}"
        if isinstance(v, Variable):
            initial = initialized_value(v, v.initial_value)
            made = Variable(initial, trainable=False, name=name, dtype=v.dtype, shape=v.shape)
        else:
            if not v.shape.is_fully_defined():
                raise ValueError(f"the average of {v.name} needs a static shape, not {v.shape}")
            made = Variable(zeros(v.shape.as_list(), v.dtype), trainable=False, name=name)
        return made

    def average(self, var: Any) -> Variable | None:
        """The variable that holds the average, or None."""
        return self._averages.get(_key(var))

    def average_name(self, var: Any) -> str:
        """The name that the average of a variable or tensor has, or would have."""
        found = self._averages.get(_key(var))
        return found.op.name if found is not None else f"{var.op.name}/{self._name}"

    def variables_to_restore(self, moving_avg_variables: Any = None) -> dict[str, Any]:
        """For a Saver that restores averages in the variables' place: name → variable."""
        averaged = moving_avg_variables
        if averaged is None:
            averaged = [*trainable_variables(), *moving_average_variables()]
        averaged = list(dict.fromkeys(averaged))
        out = {self.average_name(v): v for v in averaged}
        every = get_default_graph().root.get_collection(GraphKeys.GLOBAL_VARIABLES)
        out.update((v.op.name, v) for v in every if v not in averaged and v.op.name not in out)
        return out


def _key(v: Any) -> Tensor:
    return v._ref() if hasattr(v, "_ref") else v  # type: ignore[no-any-return]


def _update(shadow: Variable, v: Any, decay: Any, debias: bool) -> Operation:
    with get_default_graph().name_scope("AssignMovingAvg") as scope:
        rate = cast(1.0 - _as_tensor(decay), shadow.dtype)
        value = v.read_value() if isinstance(v, Variable) else v
        if debias:
            return _debiased(shadow, value, rate, scope)
        return assign_sub(shadow, (shadow - value) * rate, name=scope).op


def _debiased(shadow: Variable, value: Tensor, rate: Tensor, scope: str) -> Operation:
    """shadow = biased / (1 − decay^n): the average without the pull of the first 0."""
    graph, shape = get_default_graph(), shadow.shape.as_list()
    with graph.control_dependencies(None), graph.name_scope(None):
        name = shadow.op.name
        biased = Variable(zeros(shape, shadow.dtype), trainable=False, name=f"{name}/biased")
        step = Variable(zeros([], shadow.dtype), trainable=False, name=f"{name}/local_step")
    new = assign_sub(biased, (biased - value) * rate)
    count = assign_add(step, 1.0)
    factor = 1.0 - (1.0 - rate) ** count
    return assign(shadow, new / factor, name=scope).op


def _as_tensor(decay: Any) -> Any:
    return decay if isinstance(decay, (float, Tensor)) else cast(decay, "float32")
