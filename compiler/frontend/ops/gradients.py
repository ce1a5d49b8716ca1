"""`tf.gradients`: a node whose expansion differentiates what has been expanded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowc.ir.autodiff import gradients as differentiate
from flowc.ir.core import Value

from ..expand import VARIABLE_TYPES, Expansion
from ..graph import get_default_graph
from ..registry import RULES, expander
from ..tensor import Operation, Tensor
from .convert import Like, convert
from .creation import zeros
from .shape import reshape, stack


class IndexedSlices:
    """Rows of a tensor: values at indices of the first axis. Gradients here are dense."""

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None) -> None:
        self.values, self.indices, self.dense_shape = values, indices, dense_shape


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: Any = False,
    aggregation_method: Any = None,
    stop_gradients: Any = None,
    unconnected_gradients: Any = None,
) -> list[Tensor | None]:
    """The gradients of Σ ys · grad_ys (ones by default) towards each x; None where none leads.

    xs: tensors or variables. stop_gradients: tensors that are taken as constants.
    """
    outs = [convert(y) for y in _list(ys)]
    ins = [_source(x) for x in _list(xs)]
    given = _list(grad_ys) if grad_ys is not None else [None] * len(outs)
    if len(given) != len(outs):
        raise ValueError("Passed different numbers of ys and grad_ys")
    graph = get_default_graph()
    with graph.name_scope(name or "gradients"):
        gys = [None if g is None else convert(g, y.dtype) for g, y in zip(given, outs, strict=True)]
        stops = [_source(x) for x in _list(stop_gradients)] if stop_gradients is not None else []
        found = connected(outs, ins, set(stops))
        wanted = [x for x in dict.fromkeys(ins) if x in found]
        results: dict[Tensor, Tensor] = {}
        if wanted:
            inputs = [*outs, *(g for g in gys if g is not None), *wanted, *stops]
            op = graph.create_op(
                "Gradients", inputs, [x.dtype for x in wanted], "grad", ys=len(outs),
                gys=[g is not None for g in gys], xs=len(wanted), stops=len(stops),
            )  # fmt: skip
            results = dict(zip(wanted, op.outputs, strict=True))
        return [results.get(x) for x in ins]


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: Any = False,
    aggregation_method: Any = None,
) -> list[Tensor]:
    """The second derivatives of Σ ys by each x, of shape x.shape + x.shape.

    Raises ValueError where ys do not depend on an x, or its shape is not known.
    """
    out = []
    with get_default_graph().name_scope(name):
        for x, first in zip(_list(xs), gradients(ys, xs), strict=True):
            if first is None:
                raise ValueError(f"the hessian by {x} does not exist: ys do not depend on it")
            out.append(_hessian(first, x))
    return out


def _hessian(first: Tensor, x: Any) -> Tensor:
    """The gradient of each element of a gradient, one after the other."""
    sizes = convert(x).shape
    count = sizes.num_elements()
    if count is None:
        raise ValueError(f"hessians need a static shape, not {sizes}")
    flat = reshape(first, [-1])
    rows = []
    for i in range(count):
        (second,) = gradients(flat[i], x)
        rows.append(zeros(sizes.as_list(), first.dtype) if second is None else second)
    return reshape(stack(rows), [*sizes.as_list(), *sizes.as_list()])


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _source(x: Like) -> Tensor:
    """What a gradient is taken towards; all readings of a variable count."""
    if hasattr(x, "_ref"):
        return x._ref()  # type: ignore[no-any-return]
    t = convert(x)
    made = t.op.attrs.get("snapshot_of")
    return made.outputs[0] if made is not None else t


def connected(ys: Sequence[Tensor], xs: Sequence[Tensor], stops: set[Tensor]) -> set[Tensor]:
    """Which xs a differentiable path leads to from some y."""
    wanted, found, seen = set(xs), set(), set()
    work = [y for y in ys if _flows(y)]
    while work:
        t = work.pop()
        if t in seen:
            continue
        seen.add(t)
        source = t.op.attrs.get("snapshot_of", t.op)
        if source.outputs[0] in wanted and source.type in VARIABLE_TYPES:
            found.add(source.outputs[0])
        if t in wanted:
            found.add(t)
        if t in stops or not RULES[t.op.type].differentiable:
            continue
        work.extend(i for i in t.op.inputs if _flows(i))
    return found


def _flows(t: Tensor) -> bool:
    return t.dtype.is_floating or t.dtype.is_complex


@expander("Gradients", lazy=True)
def _gradients(x: Any, node: Operation) -> Any:
    a = node.attrs
    ys = node.inputs[: a["ys"]]
    given = iter(node.inputs[a["ys"] :][: sum(a["gys"])])
    first = a["ys"] + sum(a["gys"])
    xs = node.inputs[first : first + a["xs"]]
    if x.scratch:
        known = [x.memo.get(t) for t in xs]
        for t, v in zip(node.outputs, known, strict=True):
            if v is not None:
                x.memo[t] = x.leaf(v.ty, t.name)
        return NotImplemented
    values = [x.value(y) for y in ys]
    groups = [_readings(x, t) for t in xs]
    stops = [v for t in node.inputs[first + a["xs"] :] for v in _readings(x, t)]
    if stops:
        env = _held(x, stops)
        values = [env.get(v, v) for v in values]
        groups = [[env.get(v, v) for v in group] for group in groups]
    gys = [x.value(next(given)) if g else None for g in a["gys"]]
    gys = [_fit(x, g, y) for g, y in zip(gys, values, strict=True)]
    return _differentiated(x, values, groups, gys)


def _held(x: Expansion, stops: list[Value]) -> dict[Value, Value]:
    """A copy of what depends on the stops, in which they are constants."""
    before = list(x.b.instrs)
    env = {v: x.b.cut(x.b.stop_gradient(v)) for v in stops}
    for instr in before:
        if any(o in env for o in instr.operands) and not instr.op.effects:
            with x.b.at(instr.loc, instr.source):
                out = x.b.emit(instr.op, *(env.get(o, o) for o in instr.operands))
            outs = out if isinstance(out, tuple) else (out,)
            env.update((r, n) for r, n in zip(instr.results, outs, strict=True) if r not in env)
    return env


def _fit(x: Expansion, g: Value | None, y: Value) -> Value | None:
    return None if g is None else x.broadcast_to(g, x.joined([y.ty.shape, g.ty.shape]))


def _readings(x: Expansion, t: Tensor) -> list[Value]:
    """The values that a tensor or variable has been used as."""
    if t.op.type in VARIABLE_TYPES:
        return list(x.reads.get(t.op, ())) or [x.read(t.op)]
    return [x.memo[t]]


def _differentiated(
    x: Expansion, ys: list[Value], xs: list[list[Value]], gys: Any
) -> tuple[Value, ...]:
    flat = [v for group in xs for v in group]
    found = iter(differentiate(x.b, ys, flat, gys))
    out = []
    for group in xs:
        parts = [g for g in [next(found) for _ in group] if g is not None]
        total = parts[0] if parts else x.b.const(0, group[0])
        for part in parts[1:]:
            total = x.b.add(total, part)
        out.append(total)
    return tuple(out)
