"""Ops on variables, and the nodes behind placeholders and identities."""

from __future__ import annotations

from typing import Any

from flowc.ir.core import Value

from .. import dtypes as dt
from ..dtypes import as_dtype
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander
from ..shapes import as_shape
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, scope

# ---- Placeholders and identities.


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor that each run must feed; sizes that are None may differ from run to run."""
    return apply("Placeholder", [], as_dtype(dtype), name, shape=as_shape(shape))


@expander("Placeholder", differentiable=False)
def _placeholder(x: Any, node: Operation) -> Any:
    text = node.outputs[0].dtype.ir is None
    if x.scratch and (node.attrs["shape"].sizes is None or text):
        return NotImplemented
    return x.placeholder(node)


def placeholder_with_default(input: Like, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor that a run may feed; where it does not, the value is `input`'s."""
    with scope(name, "PlaceholderWithDefault") as s:
        t = convert(input, name="input")
        found = t.shape if shape is None else as_shape(shape)
        if not found.is_compatible_with(t.shape):
            raise ValueError(f"the default has shape {t.shape}, the placeholder {found}")
        return apply("PlaceholderWithDefault", [t], t.dtype, s, shape=found)


@expander("PlaceholderWithDefault")
def _with_default(x: Any, node: Operation, a: Value) -> Any:
    if x.scratch:
        return NotImplemented if node.attrs["shape"].sizes is None else x.placeholder(node)
    return a


def identity(input: Like, name: str | None = None) -> Tensor:
    """The same value under another name; of a variable, its value at this point."""
    with scope(name, "Identity") as s:
        t = convert(input, name="input")
        return apply("Identity", [t], t.dtype, s)


def stop_gradient(input: Like, name: str | None = None) -> Tensor:
    """The same value, through which no gradient goes."""
    with scope(name, "StopGradient") as s:
        t = convert(input, name="input")
        return apply("StopGradient", [t], t.dtype, s)


def prevent_gradient(input: Like, message: str = "", name: str | None = None) -> Tensor:
    """The same value; no gradient goes through it."""
    return stop_gradient(input, name)


@expander("Identity")
def _identity(x: Expansion, node: Operation, a: Value) -> Any:
    return x.alias(a)


@expander("StopGradient", differentiable=False)
def _stop(x: Expansion, node: Operation, a: Value) -> Any:
    out = x.b.stop_gradient(a)
    x.known.same(out, a)
    return out


# ---- Variables.


@expander("VariableV2")
def _variable(x: Any, node: Operation) -> Any:
    if x.scratch and node.attrs["shape"].sizes is None:
        return NotImplemented
    return x.variable(node)


@expander("Assign", refs=(0,))
def _assign(x: Expansion, node: Operation, ref: None, value: Value) -> Any:
    variable = node.inputs[0].op
    sizes = variable.attrs["shape"].sizes
    if sizes is None:
        return x.write(variable, value)
    own = tuple(value.ty.shape)
    if len(own) != len(sizes):
        raise x.fail(f"cannot assign a value of shape {list(own)} to {variable.name}, of {sizes}")
    for have, want in zip(own, sizes, strict=True):
        x.agree(have, want, f"cannot assign a value of shape {list(own)} to {variable.name}, of "
                f"shape {list(sizes)}")
    return x.write(variable, x.conform(value, sizes))


def _update(op: str, primitive: str) -> None:
    @expander(op, refs=(0,), differentiable=False)
    def _expand(x: Expansion, node: Operation, ref: None, value: Value) -> Any:
        variable = node.inputs[0].op
        old = x.read(variable)
        joined = x.joined([old.ty.shape, value.ty.shape])
        if joined != old.ty.shape:
            raise x.fail(f"cannot update {variable.name}, {old.type}, with {value.type}")
        value = x.broadcast_to(value, joined)
        return x.write(variable, getattr(x.b, primitive)(old, value))


_update("AssignAdd", "add")
_update("AssignSub", "sub")


def _ref(variable: Any) -> Tensor:
    """The tensor that stands for the variable itself."""
    if hasattr(variable, "_ref"):
        return variable._ref()  # type: ignore[no-any-return]
    if isinstance(variable, Tensor) and variable.op.type == "VariableV2":
        return variable
    if isinstance(variable, Tensor) and "variable" in variable.op.attrs:
        return variable.op.attrs["variable"]  # type: ignore[no-any-return]
    raise TypeError(f"expected a variable, got {variable!r}")


def _changing(op: str, ref: Any, value: Like, name: str | None, **attrs: Any) -> Tensor:
    target = _ref(ref)
    with scope(name, op) as s:
        v = convert(value, target.dtype, "value")
        return apply(op, [target, v], target.dtype, s, variable=target, **attrs)


def assign(
    ref: Any,
    value: Like,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,
    name: str | None = None,
) -> Tensor:
    """Give a variable a value when it runs; its own value is the new one."""
    return _changing("Assign", ref, value, name)


def assign_add(
    ref: Any, value: Like, use_locking: bool | None = None, name: str | None = None
) -> Tensor:
    """Add to a variable when it runs."""
    return _changing("AssignAdd", ref, value, name)


def assign_sub(
    ref: Any, value: Like, use_locking: bool | None = None, name: str | None = None
) -> Tensor:
    """Subtract from a variable when it runs."""
    return _changing("AssignSub", ref, value, name)


def _scatter(name: str, op: str, how: str) -> Any:
    @expander(op, refs=(0,), differentiable=False)
    def _expand(x: Expansion, node: Operation, ref: None, indices: Value, updates: Value) -> Any:
        variable = node.inputs[0].op
        old, b = x.read(variable), x.b
        shape = (*indices.ty.shape, *old.ty.shape[1:])
        updates = x.broadcast_to(updates, x.joined([shape, updates.ty.shape]))
        if how == "sub":
            updates = b.neg(updates)
        at = b.reshape(indices, shape=(*indices.ty.shape, 1))
        kind = {"sub": "add", "update": "set"}.get(how, how)
        new = b.scatter(old, at, updates, op=kind, batch=0, bounds="check")
        return x.write(variable, new)

    def public(
        ref: Any,
        indices: Like,
        updates: Like,
        use_locking: bool | None = None,
        name: str | None = None,
    ) -> Tensor:
        target = _ref(ref)
        with scope(name, op) as s:
            at = convert(indices, name="indices")
            v = convert(updates, target.dtype, "updates")
            return apply(op, [target, at, v], target.dtype, s, variable=target)

    public.__name__ = public.__qualname__ = name
    public.__doc__ = f"{how} rows of a variable, by index along its first axis."
    return public


scatter_update = _scatter("scatter_update", "ScatterUpdate", "update")
scatter_add = _scatter("scatter_add", "ScatterAdd", "add")
scatter_sub = _scatter("scatter_sub", "ScatterSub", "sub")
scatter_mul = _scatter("scatter_mul", "ScatterMul", "mul")
scatter_max = _scatter("scatter_max", "ScatterMax", "max")
scatter_min = _scatter("scatter_min", "ScatterMin", "min")


def is_variable_initialized(variable: Any, name: str | None = None) -> Tensor:
    """Whether the variable had a value when the run began."""
    target = _ref(variable)
    return apply("IsVariableInitialized", [target], dt.bool_, name, shape=as_shape([]))


@expander("IsVariableInitialized", refs=(0,), differentiable=False)
def _is_initialized(x: Any, node: Operation, ref: None) -> Any:
    return x.leaf_state(node, "bool")


def initialized_value(variable: Any, initial: Tensor) -> Tensor:
    """The variable's value where it has one, else the tensor that initializes it."""
    flag = is_variable_initialized(variable)
    return apply("InitializedValue", [_ref(variable), initial, flag], initial.dtype)


@expander("InitializedValue", refs=(0,), differentiable=False)
def _initialized_value(
    x: Expansion, node: Operation, ref: None, initial: Value, flag: Value
) -> Any:
    old = x.read(node.inputs[0].op, check=False)
    wide = x.b.broadcast_to(flag, old.ty.shape)
    return x.b.select(wide, old, x.conform(initial, old.ty.shape))


def report_uninitialized(variables: Any, name: str | None) -> Tensor:
    """A string vector: the names of the variables that have no value in the session."""
    ops = [_ref(v).op for v in variables]
    return apply("ReportUninitialized", [], dt.string, name, variables=ops)


@expander("ReportUninitialized", differentiable=False)
def _report(x: Expansion, node: Operation) -> Any:
    return NotImplemented


# ---- Ops for their effects.


@expander("NoOp", differentiable=False)
def _no_op(x: Expansion, node: Operation) -> None:
    return None


def no_op(name: str | None = None) -> Operation:
    """Does nothing; it may carry control dependencies."""
    return get_default_graph().create_op("NoOp", [], [], name)


def group(*inputs: Any, **kwargs: Any) -> Operation:
    """An operation that has run when all inputs have (tensors, operations, variables, lists)."""
    name = kwargs.pop("name", None)
    if kwargs:
        raise ValueError(f"Unknown keyword arguments: {', '.join(kwargs)}")
    ops = list(_flat(inputs))
    with get_default_graph().control_dependencies(ops):
        return no_op(name or "group_deps")


def _flat(items: Any) -> Any:
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from _flat(item)
        elif item is not None:
            if not hasattr(item, "op"):
                raise TypeError(f"Expected tf.group() expected Tensor objects not {item!r}")
            yield item.op


def tuple_(tensors: Any, name: str | None = None, control_inputs: Any = None) -> list[Any]:
    """The tensors, each of which waits for all of them to be computed."""
    with get_default_graph().name_scope(name or "tuple"):
        gate = [t.op for t in tensors if t is not None] + list(control_inputs or ())
        if not gate:
            raise ValueError("Must have at least one Tensor")
        with get_default_graph().control_dependencies([group(*gate, name="group_deps")]):
            named = "control_dependency"
            return [None if t is None else identity(t, named) for t in tensors]
