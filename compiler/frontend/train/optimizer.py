"""The base of all optimizers: gradients, slots, and the operation that applies an update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..graph import GraphKeys, get_default_graph
from ..ops.convert import convert
from ..ops.creation import fill, zeros
from ..ops.gradients import gradients
from ..ops.state import assign_add, group, no_op
from ..ops.unary import cast
from ..tensor import Operation, Tensor
from ..variables import Variable, trainable_variables

Hyper = Any  # a number, a tensor, or a function that returns one


class Optimizer:
    """Computes gradients of a loss and applies them to variables.

    A subclass defines `_apply` (one variable's update) and, where it has state, `_create_slots`,
    `_prepare` and `_finish`.
    """

    GATE_NONE, GATE_OP, GATE_GRAPH = 0, 1, 2

    def __init__(self, use_locking: bool = False, name: str = "Optimizer") -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking, self._name = use_locking, name
        self._slots: dict[str, dict[Operation, Variable]] = {}
        self._others: dict[tuple[str, Any], Variable] = {}
        self._hyper: dict[str, Tensor] = {}

    def get_name(self) -> str:
        return self._name

    def minimize(
        self,
        loss: Tensor,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """An operation that changes the variables so that the loss gets smaller.

        global_step: a variable that it increments. var_list: default the trainable ones. Raises
        ValueError where no variable has a gradient.
        """
        pairs = self.compute_gradients(loss, var_list, grad_loss=grad_loss)
        if not any(g is not None for g, _ in pairs):
            names = [str(v) for _, v in pairs]
            raise ValueError(
                "No gradients provided for any variable, check your graph for ops that do not "
                f"support gradients, between variables {names} and loss {loss}."
            )
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self,
        loss: Tensor,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Any]]:
        """(gradient, variable) pairs; a gradient is None where the loss does not depend on it."""
        chosen = trainable_variables() if var_list is None else _flat(var_list)
        if not chosen:
            raise ValueError("No variables to optimize.")
        return list(zip(gradients(loss, chosen, grad_loss), chosen, strict=True))

    def apply_gradients(
        self, grads_and_vars: Any, global_step: Any = None, name: str | None = None
    ) -> Operation:
        """An operation that applies the gradients, and increments global_step if given."""
        pairs = [(g, v) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ValueError("No gradients provided for any variable: "
                             f"{[str(v) for _, v in grads_and_vars]}.")
        graph = get_default_graph()
        with graph.control_dependencies(None), graph.name_scope(None):
            self._create_slots([v for _, v in pairs])
        with graph.name_scope(name or self._name) as scope:
            self._prepare()
            updates = [self._update(g, v) for g, v in pairs]
            if global_step is None:
                done = self._finished(updates, scope)
            else:
                with graph.control_dependencies([self._finished(updates, "update")]):
                    done = assign_add(global_step, convert(1, _dtype(global_step)), name=scope).op
        graph.add_to_collection(GraphKeys.TRAIN_OP, done)
        return done

    def _update(self, grad: Any, var: Any) -> Operation:
        with get_default_graph().name_scope(f"update_{var.op.name}".replace(":", "_")):
            return self._apply(convert(grad, var.dtype), var)

    def _finished(self, updates: list[Operation], name: str) -> Operation:
        with get_default_graph().control_dependencies(updates):
            last = self._finish()
        return group(*updates, *last, name=name) if updates else no_op(name)

    # For subclasses.

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        """Make the state of the variables."""

    def _prepare(self) -> None:
        """Make tensors of the hyperparameters."""

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        raise NotImplementedError

    def _finish(self) -> Sequence[Operation]:
        """What runs after all updates."""
        return ()

    def _set(self, name: str, value: Hyper) -> None:
        value = value() if callable(value) else value
        self._hyper[name] = convert(value, name=name)

    def _get(self, name: str, var: Any) -> Tensor:
        """A hyperparameter in the variable's type."""
        return cast(self._hyper[name], var.dtype)

    def _node(
        self, op: str, refs: Sequence[Any], inputs: Sequence[Tensor], **attrs: Any
    ) -> Operation:
        """The operation that updates the first of `refs` (variables)."""
        tensors = [r._ref() for r in refs]
        graph = get_default_graph()
        return graph.create_op(op, [*tensors, *inputs], [], op, refs=len(refs), **attrs)

    # Slots.

    def get_slot(self, var: Any, name: str) -> Any:
        """The state called `name` that belongs to the variable, or None."""
        return self._slots.get(name, {}).get(var.op)

    def get_slot_names(self) -> list[str]:
        return sorted(self._slots)

    def variables(self) -> list[Any]:
        """All of the optimizer's own variables."""
        slots = [v for table in self._slots.values() for v in table.values()]
        return sorted([*self._others.values(), *slots], key=lambda v: v.name)

    def _slot(
        self, var: Any, name: str, op_name: str, value: float | Callable[[], Any] = 0.0
    ) -> Any:
        table = self._slots.setdefault(name, {})
        if var.op not in table:
            table[var.op] = make_slot(var, f"{var.op.name}/{op_name}", value)
        return table[var.op]

    def _zeros_slot(self, var: Any, name: str, op_name: str) -> Any:
        return self._slot(var, name, op_name)

    def _shared(self, name: str, initial: Any, like: Any) -> Variable:
        """A variable of the optimizer that belongs to none of the model's."""
        graph = like.op.graph
        found = self._others.get((name, graph))
        if found is None:
            found = Variable(initial, trainable=False, name=name)
            self._others[name, graph] = found
        return found

    def _get_shared(self, name: str) -> Variable:
        return self._others[name, get_default_graph().root]


def make_slot(var: Any, name: str, value: float | Callable[[], Any] = 0.0) -> Variable:
    """A variable of another one's shape and type, not trained, all of one value at first."""
    shape, dtype = var.shape.as_list(), var.dtype

    def initial() -> Tensor:
        if callable(value):
            return value()  # type: ignore[no-any-return]
        return fill(shape, convert(value, dtype)) if value else zeros(shape, dtype)

    return Variable(initial, trainable=False, name=name)


def _flat(items: Any) -> list[Any]:
    out: list[Any] = []
    for item in items if isinstance(items, (list, tuple)) else [items]:
        out += _flat(item) if isinstance(item, (list, tuple)) else [item]
    return out


def _dtype(variable: Any) -> Any:
    return variable.dtype
