"""The optimizers, with TensorFlow's arguments, slots and names; the formulas: `update_rules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ops.binary import multiply
from ..ops.state import assign
from ..ops.unary import cast
from ..tensor import Operation, Tensor
from . import update_rules  # noqa: F401 (registers the updates)
from .optimizer import Hyper, Optimizer


class GradientDescentOptimizer(Optimizer):
    """var −= learning_rate · gradient."""

    def __init__(
        self, learning_rate: Hyper, use_locking: bool = False, name: str = "GradientDescent"
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate

    def _prepare(self) -> None:
        self._set("learning_rate", self._learning_rate)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        return self._node("ApplyGradientDescent", [var], [self._get("learning_rate", var), grad])


class ProximalGradientDescentOptimizer(Optimizer):
    """Gradient descent followed by the proximal step of l1 and l2 regularization."""

    def __init__(
        self,
        learning_rate: Hyper,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalGradientDescent",
    ) -> None:
        super().__init__(use_locking, name)
        self._values = (learning_rate, l1_regularization_strength, l2_regularization_strength)

    def _prepare(self) -> None:
        for name, value in zip(("learning_rate", "l1", "l2"), self._values, strict=True):
            self._set(name, value)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        values = [self._get(n, var) for n in ("learning_rate", "l1", "l2")]
        return self._node("ApplyProximalGradientDescent", [var], [*values, grad])


class MomentumOptimizer(Optimizer):
    """accumulation = momentum · accumulation + gradient; var −= learning_rate · accumulation."""

    def __init__(
        self,
        learning_rate: Hyper,
        momentum: Hyper,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum = learning_rate, momentum
        self._use_nesterov = use_nesterov

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for v in var_list:
            self._zeros_slot(v, "momentum", self._name)

    def _prepare(self) -> None:
        self._set("learning_rate", self._learning_rate)
        self._set("momentum", self._momentum)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        refs = [var, self.get_slot(var, "momentum")]
        values = [self._get(n, var) for n in ("learning_rate", "momentum")]
        return self._node("ApplyMomentum", refs, [*values, grad], nesterov=self._use_nesterov)


class AdagradOptimizer(Optimizer):
    """Rates divided by the root of the sum of squared gradients (Duchi et al. 2011)."""

    def __init__(
        self,
        learning_rate: Hyper,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(
                f"initial_accumulator_value must be positive: {initial_accumulator_value}"
            )
        super().__init__(use_locking, name)
        self._learning_rate, self._initial = learning_rate, initial_accumulator_value

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for v in var_list:
            self._slot(v, "accumulator", self._name, self._initial)

    def _prepare(self) -> None:
        self._set("learning_rate", self._learning_rate)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        refs = [var, self.get_slot(var, "accumulator")]
        return self._node("ApplyAdagrad", refs, [self._get("learning_rate", var), grad])


class AdagradDAOptimizer(Optimizer):
    """Adagrad's dual averaging (Duchi et al. 2011); global_step counts from 0."""

    def __init__(
        self,
        learning_rate: Hyper,
        global_step: Any,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "AdagradDA",
    ) -> None:
        if initial_gradient_squared_accumulator_value <= 0.0:
            raise ValueError("initial_gradient_squared_accumulator_value must be positive: "
                             f"{initial_gradient_squared_accumulator_value}")
        super().__init__(use_locking, name)
        self._learning_rate, self._step = learning_rate, global_step
        self._initial = initial_gradient_squared_accumulator_value
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for v in var_list:
            self._zeros_slot(v, "gradient_accumulator", f"{self._name}/gradient_accumulator")
            name = f"{self._name}/gradient_squared_accumulator"
            self._slot(v, "gradient_squared_accumulator", name, self._initial)

    def _prepare(self) -> None:
        self._set("learning_rate", self._learning_rate)
        self._set("l1", self._l1)
        self._set("l2", self._l2)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        slots = ("gradient_accumulator", "gradient_squared_accumulator")
        refs = [var, *(self.get_slot(var, n) for n in slots)]
        values = [self._get(n, var) for n in ("learning_rate", "l1", "l2")]
        step = cast(self._step, var.dtype) + 1.0
        return self._node("ApplyAdagradDA", refs, [*values, step, grad], l1=self._l1 > 0)


class AdadeltaOptimizer(Optimizer):
    """Rates from running averages of squared gradients and changes (Zeiler 2012)."""

    def __init__(
        self,
        learning_rate: Hyper = 0.001,
        rho: Hyper = 0.95,
        epsilon: Hyper = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:
        super().__init__(use_locking, name)
        self._values = (learning_rate, rho, epsilon)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for v in var_list:
            self._zeros_slot(v, "accum", self._name)
            self._zeros_slot(v, "accum_update", self._name)

    def _prepare(self) -> None:
        for name, value in zip(("lr", "rho", "epsilon"), self._values, strict=True):
            self._set(name, value)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        refs = [var, self.get_slot(var, "accum"), self.get_slot(var, "accum_update")]
        values = [self._get(n, var) for n in ("lr", "rho", "epsilon")]
        return self._node("ApplyAdadelta", refs, [*values, grad])


class AdamOptimizer(Optimizer):
    """Adam (Kingma and Ba 2015), with epsilon outside the correction of the bias."""

    _nesterov = False

    def __init__(
        self,
        learning_rate: Hyper = 0.001,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(use_locking, name)
        self._values = (learning_rate, beta1, beta2, epsilon)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = min(var_list, key=lambda v: v.name)
        for name, value in (("beta1_power", self._values[1]), ("beta2_power", self._values[2])):
            self._shared(name, value, first)
        for v in var_list:
            self._zeros_slot(v, "m", self._name)
            self._zeros_slot(v, "v", self._name)

    def _prepare(self) -> None:
        for name, value in zip(("learning_rate", "beta1", "beta2", "epsilon"), self._values,
                               strict=True):
            self._set(name, value)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        refs = [var, self.get_slot(var, "m"), self.get_slot(var, "v")]
        powers = [cast(self._get_shared(f"beta{i}_power"), var.dtype) for i in (1, 2)]
        values = [self._get(n, var) for n in ("learning_rate", "beta1", "beta2", "epsilon")]
        inputs = [*powers, *values, grad]
        return self._node("ApplyAdam", refs, inputs, nesterov=self._nesterov)

    def _finish(self) -> Sequence[Operation]:
        out = []
        for i in (1, 2):
            power = self._get_shared(f"beta{i}_power")
            beta = cast(self._hyper[f"beta{i}"], power.dtype)
            out.append(assign(power, multiply(power, beta)).op)
        return out


class RMSPropOptimizer(Optimizer):
    """Rates divided by the root of a running average of squared gradients (Tieleman 2012)."""

    def __init__(
        self,
        learning_rate: Hyper,
        decay: Hyper = 0.9,
        momentum: Hyper = 0.0,
        epsilon: Hyper = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(use_locking, name)
        self._values, self._centered = (learning_rate, decay, momentum, epsilon), centered

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for v in var_list:
            self._slot(v, "rms", self._name, 1.0)
            if self._centered:
                self._zeros_slot(v, "mg", self._name)
            self._zeros_slot(v, "momentum", self._name)

    def _prepare(self) -> None:
        names = ("learning_rate", "decay", "momentum", "epsilon")
        for name, value in zip(names, self._values, strict=True):
            self._set(name, value)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        slots = ["mg", "rms", "momentum"] if self._centered else ["rms", "momentum"]
        refs = [var, *(self.get_slot(var, n) for n in slots)]
        names = ("learning_rate", "decay", "momentum", "epsilon")
        values = [self._get(n, var) for n in names]
        op = "ApplyCenteredRMSProp" if self._centered else "ApplyRMSProp"
        return self._node(op, refs, [*values, grad])


class FtrlOptimizer(Optimizer):
    """Follow the regularized leader (McMahan et al. 2013)."""

    def __init__(
        self,
        learning_rate: Hyper,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
    ) -> None:
        if initial_accumulator_value < 0.0:
            raise ValueError(f"initial_accumulator_value {initial_accumulator_value} needs to be "
                             "positive or zero")
        if learning_rate_power > 0.0:
            raise ValueError(f"learning_rate_power {learning_rate_power} needs to be negative or "
                             "zero")
        super().__init__(use_locking, name)
        self._initial = initial_accumulator_value
        self._values = {
            "learning_rate": learning_rate, "l1": l1_regularization_strength,
            "l2": l2_regularization_strength, "shrinkage": l2_shrinkage_regularization_strength,
            "power": learning_rate_power,
        }  # fmt: skip
        self._names = (accum_name or name, linear_name or f"{name}_1")

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for v in var_list:
            self._slot(v, "accum", self._names[0], self._initial)
            self._zeros_slot(v, "linear", self._names[1])

    def _prepare(self) -> None:
        for name, value in self._values.items():
            self._set(name, value)

    def _apply(self, grad: Tensor, var: Any) -> Operation:
        refs = [var, self.get_slot(var, "accum"), self.get_slot(var, "linear")]
        values = [self._get(n, var) for n in self._values]
        return self._node("ApplyFtrl", refs, [*values, grad])
