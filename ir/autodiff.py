"""Reverse-mode differentiation over a builder's instructions.

The chain rule walks the instructions that are already in the builder from the last to the first
and appends the gradient's instructions behind them, so it can be applied to its own output. It
knows no op: each brings `Op.grad`. Control flow (`ops/control.py`) uses the same functions on its
sub-functions, which is why they live in this room; `compiler/passes/gradient.py` is the pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import dims
from .core import Function, Instr, IRError, Value
from .types import TensorType, Type

if TYPE_CHECKING:
    from .builder import Builder


def differentiable(t: Type) -> bool:
    """Whether values of the type have gradients: floats and complex numbers do."""
    return isinstance(t, TensorType) and t.dtype.kind in "fc"


def varied(instrs: Iterable[Instr], xs: Iterable[Value]) -> set[Value]:
    """xs, and the differentiable results of the instructions that depend on them."""
    out = {x for x in xs if differentiable(x.type)}
    for instr in instrs:
        if not out.isdisjoint(instr.operands):
            out.update(r for r in instr.results if differentiable(r.type))
    return out


def live(instrs: Sequence[Instr], roots: Iterable[Value]) -> list[Instr]:
    """The instructions that the roots depend on, in order. Effects keep nothing alive here.

    An instruction that defines a dimension symbol stays where another one speaks of it.
    """
    wanted = set(roots)
    defined = {name for i in instrs for name, _ in i.op.defines()}
    sizes: set[str] = set()
    kept: list[Instr] = []
    for instr in reversed(instrs):
        if not wanted.isdisjoint(instr.results) or any(s in sizes for s, _ in instr.op.defines()):
            kept.append(instr)
            wanted.update(instr.operands)
            if defined:
                sizes |= defined & symbols_of(instr)
    kept.reverse()
    return kept


def symbols_of(instr: Instr) -> set[str]:
    """The dimension symbols in an instruction's attributes and result types, nested ones too."""
    out: set[str] = set()
    stack: list[Any] = [*instr.op.attrs().values(), *(r.type for r in instr.results)]
    while stack:
        v = stack.pop()
        if isinstance(v, dims.Expr):
            out |= dims.symbols(v)
        elif isinstance(v, TensorType):
            stack.extend(v.shape)
        elif isinstance(v, tuple):
            stack.extend(v)
        elif isinstance(v, Function):
            stack.extend(p.type for p in v.params)
            for inner in v.instrs:
                out |= symbols_of(inner)
    return out


def gradients(
    b: Builder,
    ys: Sequence[Value],
    xs: Sequence[Value],
    gys: Sequence[Value | None] | None = None,
) -> list[Value | None]:
    """The gradients of Σ ys · gys towards each of xs, emitted into the builder b.

    ys, xs: values of b (parameters or results of its instructions). gys: of the types of ys; None
    stands for ones. The gradient of x has x's type; it is None where no differentiable path leads
    from x to a y, and for integers. Where an x depends on another, each gets its total derivative.
    Instructions carry the location and source of the forward one. Does not recurse, and takes time
    linear in the number of instructions. Raises IRError where an op on the path has no gradient.
    """
    moving = varied(b.instrs, xs)
    sums = _Cotangents(b, moving)
    for n, y in enumerate(ys):
        given = gys[n] if gys is not None else None
        if y in moving:
            sums.add(y, b.const(1, y) if given is None else given)
    for instr in reversed(list(b.instrs)):
        if not any(r in sums.parts for r in instr.results):
            continue
        needed = tuple(v in moving for v in instr.operands)
        if not any(needed):
            continue
        with b.at(instr.loc, instr.source):
            gs = tuple(sums.take(r) for r in instr.results)
            _propagate(b, instr, gs, needed, sums)
    return [sums.take(x) for x in xs]


def _propagate(
    b: Builder,
    instr: Instr,
    gs: tuple[Value | None, ...],
    needed: tuple[bool, ...],
    sums: _Cotangents,
) -> None:
    operands = instr.operands  # a loop may change them while its gradient is made
    try:
        towards = instr.op.grad_needed(b, operands, instr.results, gs, needed)
    except NotImplementedError as e:
        raise IRError(str(e), instr.source or instr.op.name, instr.loc) from None
    if len(towards) != len(operands):
        name, n = instr.op.name, len(operands)
        raise IRError(f"{len(towards)} gradients for {n} operands", name, instr.loc)
    for v, g, wants in zip(operands, towards, needed, strict=True):
        if g is not None and wants:
            sums.add(v, g)


class _Cotangents:
    """What has been found so far of each value's gradient; summed once, when it is taken."""

    def __init__(self, b: Builder, moving: set[Value]) -> None:
        self.b, self.moving = b, moving
        self.parts: dict[Value, list[Value]] = {}

    def add(self, v: Value, g: Value) -> None:
        if g.type != v.type:
            raise IRError(f"gradient of type {g.type} for a value of type {v.type}", "gradient")
        self.parts.setdefault(v, []).append(g)

    def take(self, v: Value) -> Value | None:
        parts = self.parts.pop(v, None)
        if parts is None:
            return None
        total = parts[0]
        for part in parts[1:]:
            total = self.b.add(total, part)
        self.parts[v] = [total]
        return total


def inline(b: Builder, f: Function, args: Sequence[Value]) -> dict[Value, Value]:
    """Copy f's instructions into b; returns what each value of f became."""
    env: dict[Value, Value] = dict(zip(f.params, args, strict=True))
    for instr in f.instrs:
        with b.at(instr.loc, instr.source):
            out = b.emit(instr.op, *(env[v] for v in instr.operands))
        outs = out if isinstance(out, tuple) else (out,)
        env.update(zip(instr.results, outs, strict=True))
    return env


def vector_jacobian(
    b: Builder, f: Function, wrt: Sequence[int], towards: Sequence[int]
) -> tuple[Function, tuple[bool, ...]]:
    """The function (params of f…, cotangents of results `towards`…) → gradients of `wrt`.

    wrt, towards: positions among f's parameters and results. The second value tells which of the
    gradients depend on anything; the others are constant zeros. b is the builder of the function
    around f, whose symbols f may use.
    """
    inner = b.child(f"{f.name}_grad")
    params = [inner.param(p.type, p.name) for p in f.params]
    env = inline(inner, f, params)
    cots = [inner.param(f.results[i].type, f"g{i}") for i in towards]
    ys = [env[f.results[i]] for i in towards]
    gs = gradients(inner, ys, [params[i] for i in wrt], cots)
    pairs = zip(wrt, gs, strict=True)
    results = tuple(inner.const(0, params[i]) if g is None else g for i, g in pairs)
    instrs = tuple(live(inner.instrs, results))
    made = Function(inner.name, tuple(inner.params), instrs, results)
    return made, tuple(g is not None for g in gs)
