"""From fetches and feeds to one function of the IR: slicing, expansion, cuts, clean-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowc.ir import dims
from flowc.ir.autodiff import live as depended
from flowc.ir.builder import Builder
from flowc.ir.core import Function, Guard, Instr, IRError, Op, Param, Value
from flowc.ir.dims import Dim, Shape
from flowc.ir.dtypes import u64
from flowc.ir.types import TensorType, tensor

from .errors import InvalidArgumentError
from .expand import VARIABLE_TYPES, Expansion
from .scratch import symbol_name
from .tensor import Operation, Tensor

Static = Mapping[str, int]  # symbols that a specialization fixes


@dataclass(frozen=True)
class Program:
    """A function and how a session calls it.

    inputs: which feeds are its input parameters, in order; shapes: their sizes before any were
    made to agree. implied: whether the parameters' types say all that the guards do.
    assumed: feeds whose values it takes as constants (sizes), with these. state: the operation
    behind each state parameter (a variable, or a random op for its step). reads: variables whose
    value at entry is used. outputs: number of results before the new values of state.
    """

    function: Function
    inputs: tuple[int, ...]
    shapes: tuple[Shape, ...]
    state: tuple[Operation, ...]
    reads: tuple[Operation, ...]
    guards: tuple[Guard, ...]
    outputs: int
    implied: bool
    assumed: tuple[tuple[int, bytes], ...] = ()

    def updates(self, op: Operation) -> bool:
        """Whether a run writes this state."""
        return self.function.infos[len(self.inputs) + self.state.index(op)].updated_by >= 0


def needed(roots: Iterable[Operation], cut: Any = ()) -> list[Operation]:
    """The operations that the roots depend on, in order of creation, not looking behind `cut`."""
    seen: set[Operation] = set()
    work = list(roots)
    while work:
        op = work.pop()
        if op in seen:
            continue
        seen.add(op)
        work.extend(o for o in op.control_inputs if o not in seen)
        work.extend(t.op for t in op.inputs if t.op not in seen and t not in cut)
    return sorted(seen, key=lambda o: o.id)


class Build(Expansion):
    """Expands what a call needs of a graph into one function."""

    def __init__(
        self,
        graph: Any,
        fetches: Sequence[Tensor | Operation],
        feeds: Sequence[Tensor],
        ranks: Sequence[int],
        static: Static,
        name: str = "main",
        values: Mapping[Tensor, Any] | None = None,
    ) -> None:
        super().__init__(Builder(name))
        self.graph, self.fetches, self.feeds, self.static = graph, fetches, feeds, static
        self.ranks = dict(zip(feeds, ranks, strict=True))
        self.values = values or {}
        self.memo_fed = {}
        self.params: dict[Tensor, Value] = {}  # fed tensors that are parameters
        self.missing: dict[Value, Operation] = {}  # placeholders that were not fed
        self.entry: dict[Operation, Value] = {}  # state parameters
        self.cuts: dict[Tensor, Value] = {}
        self.at_fetch: dict[Tensor, Value] = {}

    def program(self) -> Program:
        """Expand; the finished function. IRError and InvalidArgumentError name a line."""
        fed = dict.fromkeys(self.feeds)
        roots = [f.op for f in self.fetches if f not in fed]
        live = needed(roots, fed)
        self.check_fed(live)
        order, ghosts = self.uncut(live, roots, fed)
        used = {t for op in live for t in op.inputs if t in fed}
        used |= {f for f in self.fetches if isinstance(f, Tensor) and f in fed}
        for t in self.feeds:
            if t in used and t.op not in order:
                self.feed(t, self.declared(t))
        for op in sorted(order, key=lambda o: o.id):
            self.ghost = op in ghosts
            self.visit(op, fed)
        return self.finished()

    def check_fed(self, live: Iterable[Operation]) -> None:
        for op in live:
            if op.type == "Placeholder" and op.outputs[0] not in self.ranks:
                raise unfed(op)

    def uncut(self, live: list[Operation], roots: Any, fed: Any) -> tuple[set[Operation], Any]:
        """What to expand: behind fed tensors too where a gradient is taken through them."""
        order = set(live)
        order -= {t.op for t in fed if t.op.type.startswith("Placeholder")}
        if not any(op.type == "Gradients" for op in live):
            return order, set()
        sources = {t for t in fed if t.op.type.startswith("Placeholder")}
        whole = set(needed(roots, sources)) - {t.op for t in sources}
        return whole, whole - order

    def visit(self, op: Operation, fed: Mapping[Tensor, None]) -> None:
        if op.type in VARIABLE_TYPES or "snapshot_of" in op.attrs:
            tensor = op.outputs[0]
            if tensor in fed:
                self.feed(tensor, self.declared(tensor))
            elif any(f is tensor for f in self.fetches):
                self.at_fetch[tensor] = self.read(op.attrs.get("snapshot_of", op))
            return
        self.run_node(op)
        for t in op.outputs:
            if t in fed and t not in self.params:
                value = self.memo[t]
                self.cuts[t] = value
                self.feed(t, value.ty)
                self.memo[t] = self.b.cut(value, fed=True)

    # Parameters.

    def declared(self, tensor: Tensor) -> TensorType:
        """The type of a fed tensor: what its graph says, with symbols for the other sizes."""
        rank, sizes = self.ranks[tensor], tensor.shape.sizes
        if sizes is None:
            sizes = (None,) * rank
        names = [symbol_name(self.graph, tensor.op, i) for i in range(rank)]
        shape = tuple(
            self.static.get(n, dims.sym(n)) if s is None else s
            for n, s in zip(names, sizes, strict=True)
        )
        return TensorType(tensor.dtype.element, shape)

    def feed(self, tensor: Tensor, type: TensorType) -> None:
        """Make a fed tensor a parameter."""
        info = Param(tensor.name, "input", loc=tensor.op.loc)
        value = self.b.param(type, tensor.op.name, info)
        self.params[tensor] = self.memo[tensor] = value
        self.memo_fed[tensor] = value
        self.owned.add(value)
        if tensor in self.values:
            self.known.given[value] = self.values[tensor].astype(object)

    def placeholder(self, node: Operation) -> Value:
        """A placeholder that only a gradient through a fed tensor may need."""
        sizes = node.attrs["shape"].sizes
        if sizes is None:
            raise unfed(node)
        names = [symbol_name(self.graph, node, i) for i in range(len(sizes))]
        shape = tuple(
            dims.sym(n) if s is None else s for n, s in zip(names, sizes, strict=True)
        )
        value = Value(TensorType(node.outputs[0].dtype.element, shape), node.name)
        self.missing[value] = node
        return value

    def initial(self, variable: Operation) -> Value:
        fed = self.memo_fed.get(variable.outputs[0])
        if fed is not None:
            return fed
        sizes = variable.attrs["shape"].sizes
        if sizes is None or None in sizes:
            raise InvalidArgumentError(
                f"variable {variable.name} has no static shape", loc=_where(variable)
            )
        return self.entered(variable, TensorType(variable.outputs[0].dtype.element, sizes))

    def variable(self, node: Operation) -> Value:
        return self.read(node)

    def agree(self, a: Dim, c: Dim, message: str) -> Dim:
        """Assume that two sizes are equal; what fails at a run then names the operation."""
        try:
            return self.b.agree(a, c, f"{message} in op {self.b.source}")
        except IRError:
            raise self.fail(message) from None

    def entered(self, op: Operation, type: TensorType) -> Value:
        """The state parameter of a variable or random op."""
        found = self.entry.get(op)
        if found is None:
            info = Param(op.name, "state", loc=op.loc)
            found = self.entry[op] = self.b.param(type, op.name, info)
        return found

    def leaf_state(self, node: Operation, dtype: str) -> Value:
        return self.entered(node, tensor(dtype))

    def initial_step(self, node: Operation) -> Value:
        return self.entered(node, TensorType(u64, ()))

    def step(self, node: Operation) -> Value:
        value = self.current_state(node)
        if not self.ghost:
            self.state[node] = self.b.add(value, self.b.const(1, "u64"))
            self.written[node] = None
        return value

    # The finished function.

    def finished(self) -> Program:
        fetched = [f for f in self.fetches if isinstance(f, Tensor)]
        results = [self.at_fetch[f] if f in self.at_fetch else self.memo[f] for f in fetched]
        updates = list(self.written)
        for op in updates:
            self.entered(op, self.state[op].ty)
        values = self.substituted()
        every = [values.get(v, v) for v in (*results, *(self.state[u] for u in updates))]
        instrs = self.cleaned(values, every)
        self.check_missing(instrs, every)
        return self.packed(instrs, every, updates, [f.name for f in fetched])

    def substituted(self) -> dict[Value, Value]:
        """What replaces which value: parameters the fed ones, operands the identities."""
        env: dict[Value, Value] = {}
        for t, cut in self.cuts.items():
            env[self.memo[t]] = self.params[t]
            made = self.b.producer.get(cut)
            if made is not None and made.source == t.op.name and made.op.name != "constant":
                env[cut] = self.params[t]
        identities(self.b.instrs, env)
        return env

    def cleaned(self, env: Mapping[Value, Value], roots: Sequence[Value]) -> list[Instr]:
        """The instructions that matter, with values replaced."""
        renamed = [
            Instr(plain(i.op), tuple(env.get(o, o) for o in i.operands), i.results, i.loc, i.source)
            for i in self.b.instrs
        ]
        kept = set(map(id, depended(renamed, [*roots, *_effects(renamed)])))
        return [i for i in renamed if id(i) in kept or i.op.effects]

    def check_missing(self, instrs: Sequence[Instr], roots: Sequence[Value]) -> None:
        if self.missing:
            used = {v for i in instrs for v in i.operands} | set(roots)
            for value, node in self.missing.items():
                if value in used:
                    raise unfed(node)

    def packed(
        self,
        instrs: list[Instr],
        results: list[Value],
        updates: list[Operation],
        names: list[str],
    ) -> Program:
        feeds = [t for t in self.feeds if t in self.params]
        shapes = tuple(self.original(t) for t in feeds)
        states = list(self.entry)
        at = {op: len(results) - len(updates) + i for i, op in enumerate(updates)}
        infos = [self.b.infos[self.b.params.index(self.params[t])] for t in feeds]
        infos += [Param(o.name, "state", at.get(o, -1), o.loc) for o in states]
        params = [self.params[t] for t in feeds] + [self.entry[o] for o in states]
        f = Function(
            self.b.name, tuple(params), tuple(instrs), tuple(results), tuple(infos),
            tuple(self.b.guards), (*names, *(o.name for o in updates)),
        )  # fmt: skip
        used = {v for i in instrs for v in i.operands} | set(results)
        reads = [o for o in states if self.entry[o] in used and o in self.checked]
        inputs = tuple(self.feeds.index(t) for t in feeds)
        count = len(results) - len(updates)
        implied = all(
            dims.substitute(g.left, self.b.merged) == dims.substitute(g.right, self.b.merged)
            for g in f.guards
        )
        assumed = tuple(
            (i, self.values[t].tobytes())
            for i, t in enumerate(self.feeds)
            if t in self.params and self.params[t] in self.known.used
        )
        return Program(
            f, inputs, shapes, tuple(states), tuple(reads), f.guards, count,
            implied and not assumed, assumed,
        )  # fmt: skip

    def original(self, tensor: Tensor) -> Shape:
        """A parameter's sizes as they were before any were made to agree."""
        if tensor in self.cuts:
            return self.params[tensor].ty.shape
        return self.declared(tensor).shape


IDENTITIES = frozenset({"cut", "stop_gradient", "with_gradient"})


def identities(instrs: Iterable[Instr], env: dict[Value, Value]) -> None:
    """Replace the results of identities, which only gradients need, by their operands."""
    for instr in instrs:
        if instr.op.name in IDENTITIES and instr.result not in env:
            source = instr.operands[0]
            env[instr.result] = env.get(source, source)


def plain(op: Op) -> Op:
    """The op with its sub-functions free of identities."""
    subs = {k: v for k, v in op.attrs().items() if isinstance(v, Function)}
    if not subs:
        return op
    return replace(op, **{k: without_identities(f) for k, f in subs.items()})  # type: ignore[type-var]


def without_identities(f: Function) -> Function:
    """The function with the results of identities replaced by their operands."""
    env: dict[Value, Value] = {}
    identities(f.instrs, env)
    renamed = [
        Instr(plain(i.op), tuple(env.get(o, o) for o in i.operands), i.results, i.loc, i.source)
        for i in f.instrs
        if i.op.name not in IDENTITIES
    ]
    results = tuple(env.get(r, r) for r in f.results)
    kept = set(map(id, depended(renamed, [*results, *_effects(renamed)])))
    instrs = tuple(i for i in renamed if id(i) in kept or i.op.effects)
    return f.replace(instrs=instrs, results=results)


def unfed(op: Operation) -> InvalidArgumentError:
    """The error for a placeholder without a value."""
    tensor = op.outputs[0]
    return InvalidArgumentError(
        f"You must feed a value for placeholder tensor '{op.name}' with dtype "
        f"{tensor.dtype.name} and shape {tensor.shape}",
        op=op.name,
        loc=_where(op),
    )


def _where(op: Operation) -> str | None:
    return str(op.loc) if op.loc else None


def _effects(instrs: Iterable[Instr]) -> list[Value]:
    """What instructions with effects depend on."""
    return [v for i in instrs if i.op.effects for v in (*i.operands, *i.results)]


def binding(program: Program, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """What the sizes of the inputs say of the symbols."""
    env: dict[str, int] = {}
    for declared, given in zip(program.shapes, shapes, strict=True):
        for d, size in zip(declared, given, strict=True):
            names = dims.symbols(d)
            if len(names) == 1 and d == dims.sym(next(iter(names))):
                env.setdefault(next(iter(names)), size)
    return env


__all__ = ["Build", "IRError", "Program", "Static", "binding", "needed", "unfed"]
