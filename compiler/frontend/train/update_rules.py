"""Expansions of the update ops: TensorFlow's formulas, one variable an op.

The first `refs` inputs of a node are the variable and its slots; the others are scalars in the
variable's type, and the gradient last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowc.ir.core import Value

from ..expand import Expansion
from ..registry import expander
from ..tensor import Operation

Step = Callable[..., tuple[Any, ...]]


def rule(op: str, refs: int) -> Callable[[Step], Step]:
    """Register (math, *state, *inputs) → new values of the state, as the op's expansion."""

    def register(fn: Step) -> Step:
        @expander(op, refs=tuple(range(refs)), differentiable=False)
        def _expand(x: Expansion, node: Operation, *inputs: Any) -> None:
            variables = [t.op for t in node.inputs[:refs]]
            state = [x.read(v) for v in variables]
            shape = state[0].ty.shape
            fitted = [_wide(x, v, shape) for v in inputs[refs:]]
            new = fn(Math(x), node, *map(Number(x), [*state, *fitted]))
            for variable, value in zip(variables, new, strict=True):
                if value is not None:
                    x.write(variable, value.v)

        return fn

    return register


def _wide(x: Expansion, v: Value, shape: Any) -> Value:
    return x.broadcast_to(v, x.joined([v.ty.shape, shape]))


class Scalar:
    """A value with operators, so that formulas read as formulas."""

    __slots__ = ("v", "x")

    def __init__(self, x: Expansion, v: Value) -> None:
        self.x, self.v = x, v

    def _do(self, op: str, a: Any, b: Any) -> Scalar:
        return Scalar(self.x, getattr(self.x.b, op)(self._value(a), self._value(b)))

    def _value(self, a: Any) -> Value:
        return a.v if isinstance(a, Scalar) else self.x.b.const(a, self.v)

    def __add__(self, o: Any) -> Scalar:
        return self._do("add", self, o)

    __radd__ = __add__

    def __sub__(self, o: Any) -> Scalar:
        return self._do("sub", self, o)

    def __rsub__(self, o: Any) -> Scalar:
        return self._do("sub", o, self)

    def __mul__(self, o: Any) -> Scalar:
        return self._do("mul", self, o)

    __rmul__ = __mul__

    def __truediv__(self, o: Any) -> Scalar:
        return self._do("div", self, o)

    def __rtruediv__(self, o: Any) -> Scalar:
        return self._do("div", o, self)

    def __neg__(self) -> Scalar:
        return Scalar(self.x, self.x.b.neg(self.v))


def Number(x: Expansion) -> Callable[[Value], Scalar]:
    """Wraps values for formulas."""
    return lambda v: Scalar(x, v)


class Math:
    """Functions of Scalars."""

    def __init__(self, x: Expansion) -> None:
        self.x = x

    def sqrt(self, a: Scalar) -> Scalar:
        return Scalar(self.x, self.x.b.sqrt(a.v))

    def abs(self, a: Scalar) -> Scalar:
        return Scalar(self.x, self.x.b.abs(a.v))

    def sign(self, a: Scalar) -> Scalar:
        return Scalar(self.x, self.x.b.sign(a.v))

    def pow(self, a: Scalar, b: Scalar) -> Scalar:
        return Scalar(self.x, self.x.b.pow(a.v, b.v))

    def maximum(self, a: Scalar, b: Any) -> Scalar:
        return Scalar(self.x, self.x.b.max(a.v, a._value(b)))

    def where_greater(self, a: Scalar, b: Any, then: Scalar, otherwise: Any) -> Scalar:
        test = self.x.b.compare(a.v, a._value(b), op="gt")
        return Scalar(self.x, self.x.b.select(test, then.v, then._value(otherwise)))


@rule("ApplyGradientDescent", 1)
def _descent(m: Math, node: Operation, var: Any, lr: Any, g: Any) -> Any:
    return (var - lr * g,)


@rule("ApplyMomentum", 2)
def _momentum(m: Math, node: Operation, var: Any, acc: Any, lr: Any, mu: Any, g: Any) -> Any:
    acc = acc * mu + g
    if node.attrs["nesterov"]:
        return var - (g * lr + acc * mu * lr), acc
    return var - lr * acc, acc


@rule("ApplyAdagrad", 2)
def _adagrad(m: Math, node: Operation, var: Any, acc: Any, lr: Any, g: Any) -> Any:
    acc = acc + g * g
    return var - lr * g / m.sqrt(acc), acc


@rule("ApplyAdagradDA", 3)
def _adagrad_da(
    m: Math, node: Operation, var: Any, acc: Any, squares: Any,
    lr: Any, l1: Any, l2: Any, step: Any, g: Any,
) -> Any:  # fmt: skip
    acc, squares = acc + g, squares + g * g
    pull = m.maximum(m.abs(acc) - l1 * step, 0.0) if node.attrs["l1"] else m.abs(acc)
    return -m.sign(acc) * lr * pull / (l2 * step * lr + m.sqrt(squares)), acc, squares


@rule("ApplyAdadelta", 3)
def _adadelta(
    m: Math, node: Operation, var: Any, acc: Any, changes: Any, lr: Any, rho: Any, eps: Any, g: Any
) -> Any:
    acc = acc * rho + g * g * (1.0 - rho)
    step = m.sqrt(changes + eps) / m.sqrt(acc + eps) * g
    return var - step * lr, acc, changes * rho + step * step * (1.0 - rho)


@rule("ApplyAdam", 3)
def _adam(
    m: Math, node: Operation, var: Any, mean: Any, square: Any,
    power1: Any, power2: Any, lr: Any, b1: Any, b2: Any, eps: Any, g: Any,
) -> Any:  # fmt: skip
    rate = lr * m.sqrt(1.0 - power2) / (1.0 - power1)
    mean = mean + (g - mean) * (1.0 - b1)
    square = square + (g * g - square) * (1.0 - b2)
    if node.attrs["nesterov"]:
        return var - rate * (g * (1.0 - b1) + b1 * mean) / (m.sqrt(square) + eps), mean, square
    return var - rate * mean / (m.sqrt(square) + eps), mean, square


@rule("ApplyRMSProp", 3)
def _rmsprop(
    m: Math, node: Operation, var: Any, ms: Any, mom: Any,
    lr: Any, rho: Any, mu: Any, eps: Any, g: Any,
) -> Any:  # fmt: skip
    ms = ms + (g * g - ms) * (1.0 - rho)
    mom = mom * mu + g * lr / m.sqrt(ms + eps)
    return var - mom, ms, mom


@rule("ApplyCenteredRMSProp", 4)
def _centered(
    m: Math, node: Operation, var: Any, mg: Any, ms: Any, mom: Any,
    lr: Any, rho: Any, mu: Any, eps: Any, g: Any,
) -> Any:  # fmt: skip
    ms = ms + (g * g - ms) * (1.0 - rho)
    mg = mg + (g - mg) * (1.0 - rho)
    mom = mom * mu + g * lr / m.sqrt(ms - mg * mg + eps)
    return var - mom, mg, ms, mom


@rule("ApplyFtrl", 3)
def _ftrl(
    m: Math, node: Operation, var: Any, acc: Any, linear: Any,
    lr: Any, l1: Any, l2: Any, shrinkage: Any, power: Any, g: Any,
) -> Any:  # fmt: skip
    shrunk = g + 2.0 * shrinkage * var
    new = acc + g * g
    linear = linear + shrunk - (m.pow(new, -power) - m.pow(acc, -power)) / lr * var
    quadratic = m.pow(new, -power) / lr + 2.0 * l2
    pulled = (m.sign(linear) * l1 - linear) / quadratic
    return m.where_greater(m.abs(linear), l1, pulled, 0.0), new, linear


@rule("ApplyProximalGradientDescent", 1)
def _proximal(m: Math, node: Operation, var: Any, lr: Any, l1: Any, l2: Any, g: Any) -> Any:
    near = var - lr * g
    return (m.sign(near) * m.maximum(m.abs(near) - lr * l1, 0.0) / (1.0 + l2 * lr),)
