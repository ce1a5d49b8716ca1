"""Ops that call back into Python: `tf.Print`, `tf.py_func`, `tf.Assert` and its family."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowc.ir.core import Value
from flowc.ir.ops.state import HOST_FUNCTIONS

from .. import dtypes as dt
from .. import errors
from ..dtypes import DType, as_dtype
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander
from ..tensor import Operation, Tensor
from .binary import equal, greater, greater_equal, less, less_equal, not_equal
from .convert import Like, convert, scope
from .reduce import reduce_all

_keys = itertools.count()
Piece = Any  # a text, or None for the next operand


def _register(node: Operation, function: Callable[..., Any]) -> str:
    """The key by which compiled code finds the function, as long as the operation lives."""
    key = f"{node.type}_{next(_keys)}"
    HOST_FUNCTIONS[key] = function
    weakref.finalize(node, HOST_FUNCTIONS.pop, key, None).atexit = False
    return key


def _called(
    x: Any, node: Operation, operands: Sequence[Value], types: Sequence[tuple[DType, Any]] = ()
) -> tuple[Value, ...]:
    """The call of the node's function."""
    key = node.attrs["key"]
    out = x.b.host_call(
        *operands, key=key, dtypes=tuple(t.element for t, _ in types),
        shapes=tuple(shape for _, shape in types),
    )  # fmt: skip
    return out if isinstance(out, tuple) else (out,)


def _pieces(data: Any) -> tuple[list[Piece], list[Tensor]]:
    """Texts, which are known now, and the tensors between them."""
    pieces: list[Piece] = []
    tensors: list[Tensor] = []
    for item in data:
        t = convert(item)
        if t.dtype is dt.string:
            if t.op.type != "Const":
                raise TypeError("strings that are printed must be constants")
            values = np.asarray(t.op.attrs["value"], dtype=object).reshape(-1)
            pieces.append(" ".join(v.decode(errors="replace") for v in values))
        else:
            pieces.append(None)
            tensors.append(t)
    return pieces, tensors


def _text(pieces: Sequence[Piece], arrays: Sequence[Any], most: int, between: str = "") -> str:
    rest = iter(arrays)
    return between.join(f"[{_shown(next(rest), most) if p is None else p}]" for p in pieces)


def _shown(array: Any, most: int) -> str:
    """The first elements, nested in brackets."""
    array = np.asarray(array)
    if not array.ndim:
        return str(array)
    if array.ndim == 1:
        cut = 0 <= most < array.size
        return " ".join(map(str, array[:most] if cut else array)) + ("..." if cut else "")
    rows, left = "", most
    for row in array:
        if most >= 0 and left <= 0:
            return rows + "..."
        rows += f"[{_shown(row, left if most >= 0 else -1)}]"
        left -= row.size
    return rows


# ---- Print.


def Print(
    input_: Like,
    data: Any,
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Tensor:
    """input_; a run also writes message and data to standard error.

    first_n: how often it writes at most (−1: always); summarize: elements shown of each, 3 by
    default, all if negative. Gradients go through.
    """
    with scope(name, "Print") as s:
        t = convert(input_, name="input")
        pieces, tensors = _pieces(data)
        op = get_default_graph().create_op("Print", [t, *tensors], [t.dtype], s, key="")
        most = 3 if summarize is None else summarize
        op.attrs["key"] = _register(op, _printer(message or "", pieces, first_n, most))
        return op.outputs[0]


def _printer(message: str, pieces: list[Piece], first_n: int | None, most: int) -> Any:
    left = [-1 if first_n is None else first_n]

    def write(*arrays: Any) -> tuple[()]:
        if left[0] != 0:
            left[0] -= 1
            sys.stderr.write(message + _text(pieces, arrays, most) + "\n")
        return ()

    return write


@expander("Print")
def _print(x: Expansion, node: Operation, a: Value, *data: Value) -> Any:
    if not x.scratch and not x.ghost:
        _called(x, node, data)
    return x.alias(a)


# ---- py_func.


def py_func(
    func: Callable[..., Any],
    inp: Any,
    Tout: Any,
    stateful: bool = True,
    name: str | None = None,
) -> Any:
    """What a Python function returns for arrays: tensors of the types Tout (one, or a list).

    Compiled code lays out its memory before it runs: call `set_shape` on each result. Errors of
    the function come out of the run: of types and values as InvalidArgumentError, others as
    UnknownError. No gradient goes through.
    """
    single = not isinstance(Tout, (list, tuple))
    types = [as_dtype(t) for t in ([Tout] if single else Tout)]
    with scope(name, "PyFunc" if stateful else "PyFuncStateless") as s:
        inputs = [convert(v) for v in inp]
        op = get_default_graph().create_op("PyFunc", inputs, types, s, key="")
        where = str(op.loc) if op.loc else None
        shapes: list[Any] = [None] * len(types)
        op.attrs["shapes"] = shapes
        op.attrs["key"] = _register(op, _python(func, types, shapes, op.name, where))
    if not types:
        return op
    return op.outputs[0] if single else list(op.outputs)


_KINDS: list[tuple[Any, Any]] = [
    (StopIteration, errors.OutOfRangeError), (MemoryError, errors.ResourceExhaustedError),
    (NotImplementedError, errors.UnimplementedError),
    ((TypeError, ValueError), errors.InvalidArgumentError), (Exception, errors.UnknownError),
]  # fmt: skip


def _python(
    func: Callable[..., Any], types: list[DType], shapes: list[Any], name: str, where: str | None
) -> Callable[..., Any]:
    def call(*arrays: Any) -> tuple[Any, ...]:
        try:
            out = func(*(a if a.ndim else a[()] for a in arrays))
        except errors.OpError:
            raise
        except Exception as e:
            kind = next(k for kinds, k in _KINDS if isinstance(e, kinds))
            raise kind(f"{type(e).__name__}: {e}", op=name, loc=where) from e
        several = out if isinstance(out, (list, tuple)) else () if out is None else (out,)
        if len(types) == 1 and isinstance(out, (list, tuple)) and len(out) != 1:
            several = (out,)
        given = [np.asarray(v) for v in (several if types else ())]
        found = [v.astype(t.np) if _plain(v, t) else v for v, t in zip(given, types, strict=False)]
        if [v.dtype for v in found] != [t.np for t in types]:
            raise errors.InvalidArgumentError(
                f"pyfunc returned {[str(v.dtype) for v in given]}, expected "
                f"{[t.name for t in types]}", op=name, loc=where,
            )  # fmt: skip
        for v, shape in zip(found, shapes, strict=True):
            if shape is not None and v.shape != shape:
                raise errors.InvalidArgumentError(
                    f"pyfunc returned shape {v.shape}, set_shape said {shape}", op=name, loc=where
                )
        return tuple(found)

    return call


def _plain(v: Any, t: DType) -> bool:
    """Whether Python's numbers can be what was meant: ints and floats have 64 bits there."""
    return bool(v.ndim == 0 and v.dtype.kind == t.np.kind and v.dtype.itemsize == 8)


@expander("PyFunc", differentiable=False)
def _py_func(x: Expansion, node: Operation, *inputs: Value) -> Any:
    if x.scratch:
        return NotImplemented
    types = []
    for t in node.outputs:
        sizes = t.shape.sizes
        if sizes is None or None in sizes:
            raise x.fail(f"{t.name} needs a shape before it can run, but has {t.shape}: call "
                         "set_shape on the result of py_func")
        types.append((t.dtype, sizes))
        node.attrs["shapes"][t.value_index] = sizes
    out = _called(x, node, inputs, types)
    return out if types else None


# ---- Assert.


def Assert(
    condition: Like, data: Any, summarize: int | None = None, name: str | None = None
) -> Operation:
    """An operation that raises InvalidArgumentError, with the data, unless condition is true."""
    with scope(name, "Assert") as s:
        c = convert(condition, name="condition")
        if not c.dtype.is_bool:
            raise TypeError(f"the condition of Assert is {c.dtype.name}, not bool")
        pieces, tensors = _pieces(data)
        op = get_default_graph().create_op("Assert", [reduce_all(c), *tensors], [], s, key="")
        where = str(op.loc) if op.loc else None
        most = 3 if summarize is None else summarize
        op.attrs["key"] = _register(op, _checker(pieces, most, op.name, where))
        return op


def _checker(pieces: list[Piece], most: int, name: str, where: str | None) -> Any:
    def check(ok: Any, *arrays: Any) -> tuple[()]:
        if not ok:
            text = _text(pieces, arrays, most, " ")
            raise errors.InvalidArgumentError(f"assertion failed: {text}", op=name, loc=where)
        return ()

    return check


@expander("Assert", differentiable=False)
def _assert(x: Expansion, node: Operation, ok: Value, *data: Value) -> None:
    if not x.scratch and not x.ghost:
        _called(x, node, (ok, *data))


def _family(name: str, test: Any, sign: str) -> Any:
    def check(
        x: Like, y: Like, data: Any = None, summarize: int | None = None,
        message: str | None = None, name: str | None = None,
    ) -> Operation:  # fmt: skip
        with scope(name, check.__name__):
            a = convert(x)
            b = convert(y, None if isinstance(y, Tensor) or hasattr(y, "_ref") else a.dtype)
            if data is None:
                data = [message or "", f"Condition x {sign} y did not hold element-wise:",
                        f"x ({a.name}) = ", a, f"y ({b.name}) = ", b]
            return Assert(test(a, b), data, summarize)

    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"InvalidArgumentError in a run unless x {sign} y for all elements."
    return check


assert_equal = _family("assert_equal", equal, "==")
assert_none_equal = _family("assert_none_equal", not_equal, "!=")
assert_less = _family("assert_less", less, "<")
assert_less_equal = _family("assert_less_equal", less_equal, "<=")
assert_greater = _family("assert_greater", greater, ">")
assert_greater_equal = _family("assert_greater_equal", greater_equal, ">=")


def assert_positive(
    x: Like, data: Any = None, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> Operation:  # fmt: skip
    """InvalidArgumentError in a run unless x > 0 for all elements."""
    a = convert(x)
    return assert_less(convert(0, a.dtype), a, data, summarize, message, name)  # type: ignore[no-any-return]


def assert_non_negative(
    x: Like, data: Any = None, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> Operation:  # fmt: skip
    """InvalidArgumentError in a run unless x ≥ 0 for all elements."""
    a = convert(x)
    return assert_less_equal(convert(0, a.dtype), a, data, summarize, message, name)  # type: ignore[no-any-return]
