"""Constants, and turning what users pass into tensors."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes as dt
from ..dtypes import DType, as_dtype
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import CONVERTERS, expander
from ..shapes import Dimension, TensorShape, as_shape
from ..tensor import Operation, Tensor

Like = Any  # what converts to a tensor: numbers, arrays, nested lists, tensors, variables


def apply(
    type: str, inputs: Sequence[Tensor], dtype: DType, name: str | None = None, **attrs: Any
) -> Tensor:
    """An operation with one output, in the default graph."""
    return get_default_graph().create_op(type, inputs, [dtype], name, **attrs).outputs[0]


def scope(name: str | None, default: str) -> Any:
    """The name scope of an op: its value, "name/", as the op's name takes exactly that."""
    return get_default_graph().name_scope(name or default)


# ---- Constants.


def constant(
    value: Any,
    dtype: Any = None,
    shape: Any = None,
    name: str | None = "Const",
    verify_shape: bool = False,
) -> Tensor:
    """A constant tensor: Python floats are float32 and ints int32 unless dtype says otherwise.

    With `shape`, a value with fewer elements is filled up with its last one. Raises TypeError for
    a value that the dtype cannot hold, ValueError for too many elements or, with verify_shape,
    another shape.
    """
    t = None if dtype is None else as_dtype(dtype)
    array = to_array(value, t)
    if shape is not None:
        array = _filled(array, as_shape(shape), verify_shape)
    t = t or as_dtype(array.dtype)
    array = np.array(array, order="C", copy=True)
    array.flags.writeable = False
    return apply("Const", [], t, name or "Const", value=array)


def _filled(array: Any, shape: TensorShape, verify: bool) -> Any:
    if not shape.is_fully_defined():
        raise ValueError(f"the shape of a constant must be fully defined, not {shape}")
    sizes: Any = shape.sizes
    if array.shape == sizes:
        return array
    if verify:
        raise TypeError(f"Expected Tensor's shape: {shape}, got {array.shape}.")
    count = int(np.prod(sizes, dtype=np.int64))
    if array.size > count or not array.size:
        raise ValueError(
            f"Too many elements provided. Needed at most {count}, but received {array.size}"
        )
    flat = array.reshape(-1)
    return np.concatenate([flat, np.repeat(flat[-1:], count - flat.size)]).reshape(sizes)


def to_array(value: Any, t: DType | None) -> Any:
    """A value as an array, with TensorFlow's default types and checks.

    NumPy's arrays and scalars keep their types and are cast freely; Python's are checked.
    """
    if isinstance(value, TensorShape):
        value = shape_list(value)
    if isinstance(value, (np.ndarray, np.generic)) or _is_foreign(value):
        array = np.asarray(value)
        if array.dtype.kind in "SUO" or t is dt.string:
            return _text(array)
        return array if t is None else array.astype(t.np)
    plain = _plain(value)
    if t is not None and t is not dt.string:
        _check(plain, t)
        try:
            return np.array(plain, dtype=t.np)
        except OverflowError:
            raise TypeError(f"{_short(plain)} is out of the range of {t.name}") from None
    array = np.array(plain)
    if array.dtype.kind in "SU" or t is dt.string:
        return _text(array)
    if array.dtype == object:
        raise ValueError(f"cannot make a tensor of {_short(value)}: rows differ in length or type")
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64:
        narrow = array.astype(np.int32)
        return narrow if np.array_equal(narrow, array) else array
    return array


def _is_foreign(value: Any) -> bool:
    """An array of another library."""
    known = (list, tuple, numbers.Number, str, bytes)
    return hasattr(value, "__array__") and not isinstance(value, known)


def _plain(value: Any) -> Any:
    if isinstance(value, Dimension):
        return int(value.__index__())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None:
        raise ValueError("None values not supported.")
    return value


def _text(array: Any) -> Any:
    out = np.empty(array.shape, dtype=object)
    flat = [v.encode() if isinstance(v, str) else v for v in array.reshape(-1).tolist()]
    out.reshape(-1)[:] = flat
    return out


def shape_list(shape: TensorShape) -> list[int]:
    if not shape.is_fully_defined():
        raise ValueError(f"Cannot convert a partially known TensorShape to a Tensor: {shape}")
    return [int(d) for d in shape.sizes or ()]  # type: ignore[arg-type]


_INTEGRAL, _REAL = (numbers.Integral, np.integer), (numbers.Real, np.number)


def _check(value: Any, t: DType) -> None:
    """TypeError where a Python value is no value of the type: 1.5 of int32, 1 of bool."""
    work = [value]
    while work:
        v = work.pop()
        if isinstance(v, list):
            work.extend(v)
        elif isinstance(v, np.ndarray):
            continue
        elif t.is_bool:
            ok = isinstance(v, (bool, np.bool_))
            _expect(ok, v, t)
        elif t.is_integer:
            _expect(isinstance(v, _INTEGRAL), v, t)
        elif t.is_floating:
            _expect(isinstance(v, _REAL), v, t)


def _expect(ok: bool, value: Any, t: DType) -> None:
    if not ok:
        kind = type(value).__name__
        raise TypeError(f"Expected {t.name}, got {_short(value)} of type {kind!r} instead.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


@expander("Const", differentiable=False)
def _const(x: Expansion, node: Operation) -> Any:
    if node.outputs[0].dtype.ir is None:
        return NotImplemented
    return x.constant(node.attrs["value"])


# ---- Conversion.


def convert(
    value: Like, dtype: Any = None, name: str | None = None, preferred: DType | None = None
) -> Tensor:
    """A tensor of what was passed: see `tf.convert_to_tensor`."""
    t = None if dtype is None else as_dtype(dtype)
    if not isinstance(value, Tensor):
        value = _converted(value, t, name, preferred)
    if t is not None and value.dtype is not t:
        raise ValueError(
            f"Tensor conversion requested dtype {t.name} for Tensor with dtype "
            f"{value.dtype.name}: {str(value)!r}"
        )
    return value  # type: ignore[no-any-return]


def _converted(value: Any, t: DType | None, name: str | None, preferred: DType | None) -> Tensor:
    for kind, make in CONVERTERS:
        if isinstance(value, kind):
            return make(value, t, name)  # type: ignore[no-any-return]
    if isinstance(value, (list, tuple)) and _holds_tensor(value):
        return _packed(value, t, name)
    if t is None and preferred is not None:
        try:
            return constant(value, preferred, name=name or "Const")
        except (TypeError, ValueError):
            pass
    return constant(value, t, name=name or "Const")


def _holds_tensor(value: Any) -> bool:
    kinds = (Tensor, *(k for k, _ in CONVERTERS))
    for v in value:
        if isinstance(v, kinds) or (isinstance(v, (list, tuple)) and _holds_tensor(v)):
            return True
    return False


def _packed(value: Any, t: DType | None, name: str | None) -> Tensor:
    """A list with tensors in it, stacked; numbers take the tensors' type."""
    if t is None:
        t = _first_dtype(value)
    with scope(name, "packed"):
        items = [convert(v, t, str(i)) for i, v in enumerate(value)]
        return apply("Pack", items, items[0].dtype, None, axis=0)


def _first_dtype(value: Any) -> DType | None:
    for v in value:
        if isinstance(v, (list, tuple)):
            found = _first_dtype(v)
            if found is not None:
                return found
        elif hasattr(v, "dtype") and isinstance(v.dtype, DType):
            return v.dtype
    return None


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
) -> Tensor:
    """Numbers, arrays, lists (of tensors too) and variables as tensors.

    Raises TypeError or ValueError where the value does not have the dtype.
    """
    hint = preferred_dtype if preferred_dtype is not None else dtype_hint
    return convert(value, dtype, name, None if hint is None else as_dtype(hint))


def convert_pair(
    x: Like, y: Like, op: str, promote: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
) -> tuple[Tensor, Tensor]:
    """Two operands of one type: numbers take the other's type, tensors must have the same.

    Raises TypeError where the types differ: there is no promotion between tensors.
    """
    kinds = (Tensor, *(k for k, _ in CONVERTERS))
    if isinstance(y, kinds) and not isinstance(x, kinds):
        y = convert(y, name="y")
        x = convert(x, y.dtype, "x")
    else:
        x = convert(x, name="x")
        y = convert(y, None, "y") if isinstance(y, kinds) else convert(y, x.dtype, "y")
    if x.dtype is not y.dtype:
        raise TypeError(
            f"Input 'y' of {op!r} Op has type {y.dtype.name} that does not match type "
            f"{x.dtype.name} of argument 'x'."
        )
    return x, y


def need(x: Tensor, kinds: str, what: str = "x") -> None:
    """TypeError unless the tensor's element type is of one of the kinds (`f i u b c`)."""
    kind = x.dtype.ir.kind if x.dtype.ir is not None else "s"
    if kind not in kinds:
        allowed = ", ".join(t.name for t in dt.ALL if t.ir is not None and t.ir.kind in kinds)
        raise TypeError(
            f"Value passed to parameter {what!r} has DataType {x.dtype.name} not in list of "
            f"allowed values: {allowed}"
        )


def shape_tensor(shape: Any, name: str = "shape") -> Tensor:
    """A shape argument as an integer vector: a list (of sizes, −1, tensors), a TensorShape, a
    tensor."""
    if isinstance(shape, Tensor):
        if not shape.dtype.is_integer:
            raise TypeError(f"a shape must be integers, not {shape.dtype.name}")
        return shape
    if isinstance(shape, TensorShape):
        if get_default_graph().array_api and not shape.is_fully_defined():
            return shape_tensor(list(shape), name)  # of a traced array: sizes as scalars
        return constant(shape_list(shape), dt.int32, name=name)
    if isinstance(shape, (list, tuple)):
        shape = [int(s) if isinstance(s, (Dimension, np.generic)) else s for s in shape]
        if any(s is None for s in shape):
            raise ValueError(f"a shape with an unknown size, {shape}: use -1 or tf.shape")
        if not _holds_tensor(shape):
            return constant(np.array(shape, np.int64 if _wide(shape) else np.int32), name=name)
    elif isinstance(shape, (int, np.integer, Dimension)):
        shape = [int(shape)]
        return constant(np.array(shape, np.int32), name=name)
    found = convert(shape, name=name)
    if not found.dtype.is_integer:
        raise TypeError(f"a shape must be integers, not {found.dtype.name}")
    return found


def _wide(shape: Any) -> bool:
    return any(abs(s) > 0x7FFFFFFF for s in shape)



def static_ints(value: Any) -> list[int] | None:
    """What a Python or constant argument says, or None for other tensors."""
    if isinstance(value, Tensor):
        if value.op.type != "Const":
            return None
        value = value.op.attrs["value"]
    if isinstance(value, TensorShape):
        value = shape_list(value)
    return [int(v) for v in np.asarray(value).reshape(-1)]
