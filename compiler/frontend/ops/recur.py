"""Loops over a leading axis: `tf.map_fn`, `tf.scan`, `tf.foldl`, and what recurrent nets run on.

They become the primitive `scan`, whose gradient keeps what it needs in arrays of a known size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.types import TensorType

from .. import dtypes as dt
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander
from ..subexpand import SubExpansion, current
from ..tensor import Operation, Tensor
from .control import Branch, Nest, part_name, state_of, steady
from .convert import Like, convert
from .index import getitem
from .shape import concat, expand_dims

Body = Callable[[list[Tensor], list[Tensor]], tuple[Sequence[Any], Sequence[Any]]]


def recur(
    body: Body, states: Sequence[Like], xs: Sequence[Like], name: str, reverse: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """states, ys = body(states, elements of xs) for each index of the first axis of xs.

    Returns the last states, and each y of all rounds stacked. reverse: the rounds go from the last
    index to the first. Raises TypeError and ValueError where a state changes its type or shape.
    """
    graph = get_default_graph()
    with graph.name_scope(name) as scope:
        start = [graph.capture(convert(v)) for v in states]
        arrays = [graph.capture(convert(v)) for v in xs]
        if not arrays:
            raise ValueError("elems must be provided")
        types = [_type(graph, t) for t in start] + [_element(graph, t) for t in arrays]
        n = len(start)

        def call() -> Any:
            part: Any = get_default_graph()
            inside = [part.parameter(t, k) for t, k in zip([*start, *arrays], types, strict=True)]
            part.loop_vars = inside
            now, ys = body(inside[:n], inside[n:])
            return [[convert(v) for v in now], [convert(v) for v in ys]]

        part = Branch(graph, "body", call)
        _check(start, part.outputs[:n])
        state = state_of([part])
        captures = part.graph.sources()
        refs = [k.outputs[0] for k in state if "key0" not in k.attrs]
        outs = [t.dtype for t in part.outputs]
        op = graph.create_op(
            "Recurrence", [*start, *arrays, *captures, *refs], outs, scope, count=n, xs=len(arrays),
            graphs=[(part.graph, part.roots)], part=part, captures=captures, state=state,
            reverse=reverse,
        )  # fmt: skip
    return op.outputs[:n], op.outputs[n:]


def _type(graph: Any, t: Tensor) -> TensorType | None:
    value = graph.scratch.memo.get(t)
    return None if value is None else value.ty


def _element(graph: Any, t: Tensor) -> TensorType | None:
    found = _type(graph, t)
    if found is not None and not found.rank:
        raise ValueError(f"{t} is a scalar: a loop goes over the elements of a first axis")
    return None if found is None else found.with_shape(found.shape[1:])


def _check(start: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    if len(start) != len(after):
        raise ValueError(f"{len(start)} states go in, {len(after)} come out")
    for a, b in zip(start, after, strict=True):
        if a.dtype is not b.dtype:
            raise TypeError(f"state {a.name} is {a.dtype.name}, a round makes it {b.dtype.name}")
        if not a.shape.is_compatible_with(b.shape):
            raise ValueError(f"state {a.name} has shape {a.shape}, a round makes it {b.shape}")


@expander("Recurrence", lazy=True)
def _recurrence(x: Any, node: Operation) -> Any:
    a = node.attrs
    n, part = a["count"], a["part"]
    if x.scratch:
        _scratch(x, node)
        return NotImplemented
    written = [k for k, w in a["state"].items() if w]
    fixed = [k for k, w in a["state"].items() if not w]
    carried = [*(x.value(t) for t in node.inputs[:n]), *current(x, written)]
    xs = [x.value(t) for t in node.inputs[n : n + a["xs"]]]
    for other in xs[1:]:
        x.agree(xs[0].ty.shape[0], other.ty.shape[0], "the arrays of a loop differ in length")
    invariant = [*(x.value(t) for t in a["captures"]), *current(x, fixed)]
    sub = _round(x, node, carried, xs, invariant)
    after = steady(x, part.outputs[:n], sub, carried[:n])
    ys = [sub.value(t) for t in part.outputs[n:]]
    f = sub.function([*after, *(sub.current_state(k) for k in written), *ys])
    trip = dims.substitute(xs[0].ty.shape[0], x.b.merged)
    out = x.b.scan(
        *carried, *xs, *invariant, body=f, carried=len(carried), xs=len(xs), trip=trip,
        reverse=a["reverse"],
    )  # fmt: skip
    out = out if isinstance(out, tuple) else (out,)
    for key, value in zip(written, out[n:], strict=False):
        x.set_state(key, value)
    return (*out[:n], *out[len(carried) :])


def _scratch(x: Any, node: Operation) -> None:
    n, part = node.attrs["count"], node.attrs["part"]
    array = x.memo.get(node.inputs[n])
    for i, t in enumerate(node.outputs):
        value = x.memo.get(node.inputs[i]) if i < n else None
        inner = part.graph.scratch.memo.get(part.outputs[i])
        if value is not None:
            x.memo[t] = x.leaf(value.ty, t.name)
        elif i >= n and inner is not None and array is not None:
            shape = (array.ty.shape[0], *inner.ty.shape)
            x.memo[t] = x.leaf(inner.ty.with_shape(shape), t.name)


def _round(
    x: Expansion, node: Operation, carried: list[Value], xs: list[Value], invariant: list[Value]
) -> SubExpansion:
    """The body as a function of states, elements and invariants."""
    a = node.attrs
    n, part = a["count"], a["part"]
    sub = SubExpansion(x, part_name(part))
    inside = part.graph.loop_vars
    elements = [v.ty.with_shape(v.ty.shape[1:]) for v in xs]

    def bind(t: Tensor, type: TensorType) -> None:
        sub.memo[t] = sub.b.param(type, t.op.name.split("/")[-1])
        sub.owned.add(sub.memo[t])

    for t, v in zip(inside[:n], carried[:n], strict=True):
        bind(t, v.ty)
    sub.bind_state([k for k, w in a["state"].items() if w], carried[n:])
    for t, type in zip(inside[n:], elements, strict=True):
        bind(t, type)
    stand_ins = {t.op.attrs["source"]: t for t in part.graph.stand_ins()}
    captures = a["captures"]
    sub.bind([stand_ins.get(c, c) for c in captures], invariant[: len(captures)])
    sub.bind_state([k for k, w in a["state"].items() if not w], invariant[len(captures) :])
    sub.run(part.roots)
    return sub


# ---- The functions that users call.


def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
) -> Any:
    """fn of each element of the first axis, stacked; elems may be nested, dtype then is.

    dtype: the results' types, by default those (and the structure) of elems. Raises TypeError for
    other types.
    """
    if not callable(fn):
        raise TypeError("fn must be callable.")
    nest = Nest(elems)
    made: list[Nest] = []

    def body(_: list[Tensor], inside: list[Tensor]) -> Any:
        result = Nest(fn(nest.rebuild(inside)))
        made.append(result)
        return [], _typed(result.leaves, nest if dtype is None else Nest(dtype))

    _, ys = recur(body, [], nest.leaves, name or "map")
    return made[0].rebuild(ys)


def _typed(values: list[Any], like: Nest) -> list[Tensor]:
    if len(values) != len(like.leaves):
        raise ValueError(
            f"fn returns {len(values)} tensors, but {len(like.leaves)} were to be expected: "
            "give dtype the structure of what it returns"
        )
    return [convert(v, _dtype(t)) for v, t in zip(values, like.leaves, strict=True)]


def _dtype(of: Any) -> dt.DType:
    if isinstance(of, dt.DType) or not hasattr(of, "dtype"):
        try:
            return dt.as_dtype(of)
        except TypeError:
            return convert(of).dtype
    return dt.as_dtype(of.dtype)


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """All of a = fn(a, element), for the elements of the first axis in order, stacked.

    a begins with initializer, or with the first element, which then also begins the result.
    """
    return _folded(fn, elems, initializer, reverse, name or "scan", True)


def foldl(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """The last of a = fn(a, element), from the first element to the last."""
    return _folded(fn, elems, initializer, False, name or "foldl", False)


def foldr(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """The last of a = fn(a, element), from the last element to the first."""
    return _folded(fn, elems, initializer, True, name or "foldr", False)


def _folded(fn: Any, elems: Any, initializer: Any, reverse: bool, name: str, all_: bool) -> Any:
    if not callable(fn):
        raise TypeError("fn must be callable.")
    nest = Nest(elems)
    arrays = [convert(v) for v in nest.leaves]
    whole = Nest(initializer) if initializer is not None else nest
    first: list[Any] = whole.leaves
    if initializer is None:
        end = -1 if reverse else 0
        first = [getitem(a, end) for a in arrays]
        arrays = [getitem(a, slice(0, -1) if reverse else slice(1, None)) for a in arrays]

    def body(states: list[Tensor], inside: list[Tensor]) -> Any:
        now = Nest(fn(whole.rebuild(states), nest.rebuild(inside))).leaves
        return now, now if all_ else []

    last, ys = recur(body, first, arrays, name, reverse)
    if not all_:
        return whole.rebuild(last)
    if initializer is None:
        ends = [expand_dims(f, 0) for f in first]
        pairs = zip(ends, ys, strict=True)
        ys = [concat([y, e] if reverse else [e, y], 0) for e, y in pairs]
    return whole.rebuild(ys)
