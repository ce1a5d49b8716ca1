"""Control flow: `tf.cond`, `tf.case`, `tf.while_loop`, and what is made of loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowc.ir.core import Value
from flowc.ir.types import TensorType

from ..expand import Expansion
from ..funcgraph import FuncGraph, state_used
from ..graph import get_default_graph
from ..registry import expander
from ..shapes import TensorShape
from ..subexpand import SubExpansion, current
from ..tensor import Operation, Tensor
from .convert import Like, convert
from .creation import zeros
from .tensor_array import TensorArray


@expander("Captured", "LoopVar")
def _stand_in(x: Any, node: Operation) -> Any:
    """Only in the scratch expansion: real ones bind stand-ins to parameters."""
    source = node.attrs.get("source")
    if source is None:
        type = node.attrs["kept"]
        return NotImplemented if type is None else x.leaf(type, node.name)
    outer = source.graph.scratch
    value = outer.memo.get(source)
    if value is None:
        return NotImplemented
    out = x.leaf(value.ty, node.name)
    outer_known = outer.known.get(value)
    if outer_known is not None:
        x.known.set(out, outer_known)
    return out


class Nest:
    """A nested structure of lists, tuples and dicts, flattened."""

    def __init__(self, structure: Any) -> None:
        self.leaves: list[Any] = []
        self.rebuild = self._visit(structure)

    def _visit(self, s: Any) -> Callable[[Sequence[Any]], Any]:
        if isinstance(s, dict):
            parts = {k: self._visit(s[k]) for k in sorted(s)}
            return lambda got: type(s)((k, parts[k](got)) for k in s)
        if isinstance(s, (list, tuple)):
            several = [self._visit(v) for v in s]
            make = getattr(type(s), "_make", type(s))
            return lambda got: make([f(got) for f in several])
        index = len(self.leaves)
        self.leaves.append(s)
        if isinstance(s, TensorArray):
            return lambda got: s.with_buffer(got[index]) if got[index] is not s else s
        return lambda got: got[index]


class Branch:
    """A function of the user's, traced into a graph: its outputs and the operations it runs."""

    def __init__(self, outer: Any, name: str, fn: Callable[[], Any]) -> None:
        self.graph = FuncGraph(outer, name)
        with self.graph.as_default():
            self.nest = Nest(fn())
            self.leaves = [self._leaf(v) for v in self.nest.leaves]
        self.outputs = [v for v in self.leaves if isinstance(v, Tensor)]
        self.roots = [v.op for v in self.leaves if v is not None]

    def _leaf(self, v: Any) -> Any:
        if v is None or isinstance(v, Operation):
            return v
        t = self.graph.capture(convert(v))
        if t.graph is not self.graph:  # a variable: its value here
            t = self.graph.create_op("Identity", [t], [t.dtype]).outputs[0]
        return t


# ---- cond.


def cond(
    pred: Like,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """What true_fn returns if pred is true, else what false_fn returns: only that one runs.

    Both return the same structure of tensors, of the same types and shapes. Raises TypeError and
    ValueError where they do not.
    """
    first, second = true_fn or fn1, false_fn or fn2
    if not callable(first) or not callable(second):
        raise TypeError("true_fn and false_fn must be callable.")
    graph = get_default_graph()
    with graph.name_scope(name or "cond") as scope:
        test = convert(pred, name="pred")
        if not test.dtype.is_bool:
            raise TypeError("pred must be a bool tensor")
        branches = [Branch(graph, f"branch_{i}", f) for i, f in enumerate((first, second))]
        _check_same(*branches)
        state = state_of(branches)
        captures = list(dict.fromkeys(s for b in branches for s in b.graph.sources()))
        refs = [k.outputs[0] for k in state if not _is_step(k)]
        op = graph.create_op(
            "If", [test, *captures, *refs], [t.dtype for t in branches[0].outputs], scope,
            graphs=[(b.graph, b.roots) for b in branches], branches=branches, captures=captures,
            state=state,
        )  # fmt: skip
    outputs = iter(op.outputs)
    got = [next(outputs) if isinstance(v, Tensor) else op if v is not None else None
           for v in branches[0].leaves]  # fmt: skip
    result = branches[0].nest.rebuild(got)
    if isinstance(result, list) and len(result) == 1 and not strict:
        return result[0]
    return result


def _is_step(key: Operation) -> bool:
    return "key0" in key.attrs


def state_of(branches: Sequence[Branch]) -> dict[Operation, bool]:
    """The state that parts use → whether one of them writes it."""
    out: dict[Operation, bool] = {}
    for b in branches:
        for key, written in state_used(b.graph, b.roots).items():
            out[key] = out.get(key, False) or written
    return out


def _check_same(a: Branch, b: Branch) -> None:
    kinds = [[type(v).__name__ for v in x.leaves] for x in (a, b)]
    if kinds[0] != kinds[1]:
        raise TypeError(f"true_fn and false_fn return different structures: {kinds}")
    for p, q in zip(a.outputs, b.outputs, strict=True):
        if p.dtype is not q.dtype:
            raise TypeError(
                "Outputs of true_fn and false_fn must have the same type: "
                f"{p.dtype.name}, {q.dtype.name}"
            )


def _joined_leaf(x: Any, node: Operation, t: Tensor, values: Sequence[Any]) -> None:
    """Give an output the type that all of the values have, with symbols where they differ."""
    if any(v is None for v in values) or len({v.ty.rank for v in values}) != 1:
        return
    shapes = [v.ty.shape for v in values]
    names = x.symbols_for(node, (None,) * len(shapes[0]))
    same = [d[0] if len(set(d)) == 1 else n for d, n in zip(zip(*shapes, strict=True), names,
                                                            strict=True)]  # fmt: skip
    x.memo[t] = x.leaf(TensorType(t.dtype.element, tuple(same)), t.name)


@expander("If", lazy=True)
def _if(x: Any, node: Operation) -> Any:
    branches: list[Branch] = node.attrs["branches"]
    if x.scratch:
        for i, t in enumerate(node.outputs):
            _joined_leaf(x, node, t, [b.graph.scratch.memo.get(b.outputs[i]) for b in branches])
        return NotImplemented
    captures, state = node.attrs["captures"], node.attrs["state"]
    keys, written = list(state), [k for k, w in state.items() if w]
    pred = x.b.reshape(x.value(node.inputs[0]), shape=())
    operands = [*(x.value(t) for t in captures), *current(x, keys)]
    parts = [_traced(x, node, b, captures, keys, operands) for b in branches]
    results = _unified(x, branches, parts)
    functions = [
        p.function([*r, *(p.current_state(k) for k in written)])
        for p, r in zip(parts, results, strict=True)
    ]
    then, otherwise = functions
    out = x.b.cond(pred, *operands, then=then, otherwise=otherwise)
    out = out if isinstance(out, tuple) else (out,)
    n = len(node.outputs)
    for key, value in zip(written, out[n:], strict=True):
        x.set_state(key, value)
    return tuple(out[:n])


def _traced(
    x: Expansion, node: Operation, branch: Branch, captures: list[Tensor], keys: list[Operation],
    operands: list[Value],
) -> SubExpansion:  # fmt: skip
    part = SubExpansion(x, part_name(branch))
    inside = {t.op.attrs["source"]: t for t in branch.graph.stand_ins()}
    stand_ins = [inside.get(c, c) for c in captures]
    part.bind(stand_ins, operands[: len(captures)])
    part.bind_state(keys, operands[len(captures) :])
    part.run(branch.roots)
    return part


def part_name(part: Branch) -> str:
    """A name for the function that a part becomes."""
    return "".join(c if c.isalnum() else "_" for c in part.graph.name_stack)


def _unified(
    x: Expansion, branches: Sequence[Branch], parts: Sequence[SubExpansion]
) -> list[list[Value]]:
    """The outputs of both branches, made to agree in shape."""
    out: list[list[Value]] = [[] for _ in parts]
    for pair in zip(*(b.outputs for b in branches), strict=True):
        values = [p.value(t) for p, t in zip(parts, pair, strict=True)]
        a, b = (v.ty.shape for v in values)
        text = f"the branches of a cond give {values[0].type} and {values[1].type}"
        if len(a) != len(b):
            raise x.fail(text)
        for d, e in zip(a, b, strict=True):
            for p in parts:
                p.agree(d, e, text)
        for i, (p, v) in enumerate(zip(parts, values, strict=True)):
            out[i].append(p.conform(v, values[0].ty.shape))
    return out


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """What the function of the first true predicate returns, else what default returns."""
    pairs = list(pred_fn_pairs.items()) if isinstance(pred_fn_pairs, dict) else list(pred_fn_pairs)
    if default is None:
        *pairs, (_, default) = pairs
    last = default

    def chain(i: int) -> Any:
        if i == len(pairs):
            return last()
        return cond(pairs[i][0], pairs[i][1], lambda: chain(i + 1), strict=True)

    with get_default_graph().name_scope(name):
        return chain(0)


# ---- while.


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: Any = None,
    return_same_structure: bool = False,
) -> Any:
    """Repeat loop_vars = body(*loop_vars) while cond(*loop_vars); returns the last ones.

    Types and shapes of the loop's variables must stay the same from round to round. Raises
    TypeError and ValueError where they do not.
    """
    if not loop_vars:
        raise ValueError("No loop variables provided")
    if not callable(cond) or not callable(body):
        raise TypeError("cond and body must be callable.")
    graph = get_default_graph()
    with graph.name_scope(name or "while") as scope:
        op, nest = _loop(graph, scope, cond, body, loop_vars, shape_invariants, maximum_iterations)
    result = nest.rebuild(op.outputs)
    if not return_same_structure and isinstance(result, (list, tuple)) and len(result) == 1:
        return result[0]
    return result


def _loop(
    graph: Any, scope: str, cond: Any, body: Any, loop_vars: Any, invariants: Any, most: Any
) -> tuple[Operation, Nest]:
    nest = Nest(loop_vars)
    pending = {i: v for i, v in enumerate(nest.leaves) if isinstance(v, TensorArray)
               and v.is_pending}  # the loop is the first to write them
    start = [zeros([], v.dtype) if i in pending else graph.capture(convert(v))
             for i, v in enumerate(nest.leaves)]  # fmt: skip
    types = _kept_types(graph, start, invariants)
    types = [None if i in pending else t for i, t in enumerate(types)]

    def call(fn: Any, part: FuncGraph) -> Any:
        inside = [part.parameter(t, k) for t, k in zip(start, types, strict=True)]
        part.loop_vars = inside
        values = nest.rebuild(inside)
        return fn(*values) if isinstance(values, (list, tuple)) else fn(values)

    test = _LoopPart(graph, "cond", lambda part: call(cond, part))
    round_ = _LoopPart(graph, "body", lambda part: call(body, part))
    start = [pending[i].allocated() if i in pending else t for i, t in enumerate(start)]
    _check_loop(start, test, round_)
    parts = [test, round_]
    state = state_of(parts)
    captures = list(dict.fromkeys(s for b in parts for s in b.graph.sources()))
    refs = [k.outputs[0] for k in state if not _is_step(k)]
    limit = None if most is None else int(most)
    op = graph.create_op(
        "While", [*start, *captures, *refs], [t.dtype for t in start], scope, count=len(start),
        graphs=[(b.graph, b.roots) for b in parts], parts=parts, captures=captures, state=state,
        limit=limit,
    )  # fmt: skip
    return op, nest


class _LoopPart(Branch):
    """The condition or the body of a loop."""

    def __init__(self, outer: Any, name: str, fn: Callable[[FuncGraph], Any]) -> None:
        super().__init__(outer, name, lambda: fn(get_default_graph()))  # type: ignore[arg-type]


def _kept_types(graph: Any, start: list[Tensor], invariants: Any) -> list[TensorType | None]:
    """The types that the loop's variables keep: those of the first values."""
    given = [None] * len(start) if invariants is None else _flat_shapes(invariants)
    out: list[TensorType | None] = []
    for t, shape in zip(start, given, strict=True):
        value = graph.scratch.memo.get(t)
        if shape is not None and not shape.is_compatible_with(t.shape):
            raise ValueError(f"the shape invariant {shape} does not fit {t}")
        out.append(None if value is None else value.ty)
    return out


def _flat_shapes(shapes: Any) -> list[TensorShape]:
    if isinstance(shapes, TensorShape):
        return [shapes]
    return [s for item in shapes for s in _flat_shapes(item)]


def _check_loop(start: list[Tensor], test: Branch, round_: Branch) -> None:
    if len(test.outputs) != 1 or not test.outputs[0].dtype.is_bool:
        raise TypeError("the condition of a while_loop must return a bool scalar")
    if len(round_.outputs) != len(start):
        raise ValueError(
            "The number and structure of the loop variables must stay the same: "
            f"{len(start)} go in, {len(round_.outputs)} come out"
        )
    for a, b in zip(start, round_.outputs, strict=True):
        if a.dtype is not b.dtype:
            raise TypeError(f"loop variable {a.name} is {a.dtype.name}, the body makes it "
                            f"{b.dtype.name}")
        if not a.shape.is_compatible_with(b.shape):
            raise ValueError(f"loop variable {a.name} has shape {a.shape}, the body makes it "
                             f"{b.shape}")


@expander("While", lazy=True)
def _while(x: Any, node: Operation) -> Any:
    n = node.attrs["count"]
    start = node.inputs[:n]
    if x.scratch:
        for t, s in zip(node.outputs, start, strict=True):
            value = x.memo.get(s)
            if value is not None:
                x.memo[t] = x.leaf(value.ty, t.name)
        return NotImplemented
    captures, state = node.attrs["captures"], node.attrs["state"]
    written = [k for k, w in state.items() if w]
    fixed = [k for k, w in state.items() if not w]
    carried = [*(x.value(t) for t in start), *current(x, written)]
    invariant = [*(x.value(t) for t in captures), *current(x, fixed)]
    test, round_ = node.attrs["parts"]
    made = [_round(x, p, captures, written, fixed, carried, invariant) for p in (test, round_)]
    outputs = steady(x, round_.outputs, made[1], carried[:n])
    if [v.type for v in carried] != [p.type for p in made[1].b.params[: len(carried)]]:
        raise x.fail("the loop's variables change their shapes")
    first = made[0].function([made[0].b.reshape(made[0].value(test.outputs[0]), shape=())])
    second = made[1].function([*outputs, *(made[1].current_state(k) for k in written)])
    out = getattr(x.b, "while")(
        *carried, *invariant, cond=first, body=second, carried=len(carried),
        max_trips=node.attrs["limit"],
    )  # fmt: skip
    for key, value in zip(written, out[n:], strict=True):
        x.set_state(key, value)
    return tuple(out[:n])


def _round(
    x: Expansion, part: Branch, captures: list[Tensor], written: list[Operation],
    fixed: list[Operation], carried: list[Value], invariant: list[Value],
) -> SubExpansion:  # fmt: skip
    """The condition or the body as a function of carried values, then invariants."""
    sub = SubExpansion(x, part_name(part))
    loop_vars: list[Tensor] = part.graph.loop_vars
    n = len(loop_vars)
    for t, v in zip(loop_vars, carried[:n], strict=True):
        sub.memo[t] = sub.b.param(v.type, t.op.name.split("/")[-1])
        sub.owned.add(sub.memo[t])
    sub.bind_state(written, carried[n:])
    inside = {t.op.attrs["source"]: t for t in part.graph.stand_ins()}
    sub.bind([inside.get(c, c) for c in captures], invariant[: len(captures)])
    sub.bind_state(fixed, invariant[len(captures) :])
    sub.run(part.roots)
    return sub


def steady(
    x: Expansion, outputs: Sequence[Tensor], sub: SubExpansion, carried: Sequence[Value]
) -> list[Value]:
    """The body's outputs with the shapes of the carried values."""
    out = []
    for t, c in zip(outputs, carried, strict=True):
        v = sub.value(t)
        text = f"a loop's variable is {c.type} before and {v.type} after a round"
        if v.ty.rank != c.ty.rank:
            raise x.fail(text)
        for d, e in zip(c.ty.shape, v.ty.shape, strict=True):
            sub.agree(d, e, text)
        out.append(sub.conform(v, c.ty.shape))
    return out
