"""Building functions: the mutable side of the IR, which freezes once.

Every op of the registry is a method: ``b.transpose(x, perm=(1, 0))``. The builder infers result
types, stamps instructions with the current location, and merges symbols that turn out to be equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import dims
from .core import Function, Guard, Instr, IRError, Loc, Op, Param, Value
from .dims import Dim, Shape
from .dtypes import DType, dtype
from .literal import Literal
from .ops.base import REGISTRY, substituted_deep
from .types import TensorType, Type


class Builder:
    """Builds one function; `finish` freezes it."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.params: list[Value] = []
        self.infos: list[Param] = []
        self.instrs: list[Instr] = []
        self.guards: list[Guard] = []
        self.merged: dict[str, Dim] = {}  # symbols replaced by `agree`
        self.loc: Loc | None = None
        self.source = ""
        self.producer: dict[Value, Instr] = {}
        self._consts: dict[tuple[DType, Shape, bytes], Value] = {}
        self._names: set[str] = set()  # symbols in use, up to instruction number _named
        self._named = 0

    @contextlib.contextmanager
    def at(self, loc: Loc | None, source: str = "") -> Iterator[None]:
        """Instructions built inside carry this location and API op name."""
        before = self.loc, self.source
        self.loc, self.source = loc or self.loc, source or self.source
        try:
            yield
        finally:
            self.loc, self.source = before

    def param(self, type: Type, name: str = "", info: Param | None = None) -> Value:
        """Add a parameter."""
        value = Value(type, name)
        self.params.append(value)
        self.infos.append(info or Param(name or f"arg{len(self.params) - 1}", loc=self.loc))
        return value

    def emit(self, op: Op, *operands: Value) -> Any:
        """Apply an op; returns its result, or a tuple where it has several (or none)."""
        try:
            types = op.infer(*(v.type for v in operands))
        except (TypeError, ValueError, ZeroDivisionError) as e:
            kinds = ", ".join(str(v.type) for v in operands)
            name = f"{self.source} ({op.name})" if self.source else op.name
            raise IRError(f"{e} [operands: {kinds}]", name, self.loc) from None
        several = isinstance(types, tuple)
        results = tuple(Value(t) for t in (types if isinstance(types, tuple) else (types,)))
        instr = Instr(op, operands, results, self.loc, self.source)
        self.instrs.append(instr)
        for r in results:
            self.producer[r] = instr
        return results if several else results[0]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        cls = REGISTRY.get(name)
        if cls is None:
            raise AttributeError(f"no op is named {name!r}")
        return lambda *operands, **attrs: self.emit(cls(**attrs), *operands)

    # Conveniences that gradients and composites share.

    def const(self, value: Any, like: DType | TensorType | Value | str) -> Value:
        """A constant; of a Value's or type's dtype and, for a scalar, broadcast to its shape."""
        if isinstance(like, Value):
            like = like.ty
        dt = like.dtype if isinstance(like, TensorType) else dtype(like)
        array = np.asarray(value).astype(dt.np)
        key = (dt, array.shape, array.tobytes()) if array.size <= 16 else None
        out = self._consts.get(key) if key else None
        if out is None:
            out = self.emit(REGISTRY["constant"](value=Literal(array)))  # type: ignore[call-arg]
            if key:
                self._consts[key] = out
        if isinstance(like, TensorType) and like.shape != array.shape:
            out = self.broadcast_to(out, like.shape)
        return out

    def broadcast_to(self, x: Value, shape: Shape) -> Value:
        """NumPy's broadcasting of x to `shape`, axes aligned at the right."""
        shape = tuple(shape)
        if x.ty.shape == shape:
            return x
        lead = len(shape) - x.ty.rank
        keep = tuple(i for i in range(x.ty.rank) if x.ty.shape[i] == shape[lead + i])
        squeezed = tuple(x.ty.shape[i] for i in keep)
        if squeezed != x.ty.shape:
            x = self.reshape(x, shape=squeezed)
        return self.broadcast(x, shape=shape, dims=tuple(lead + i for i in keep))  # type: ignore[no-any-return]

    def sum_to(self, x: Value, shape: Shape) -> Value:
        """The transpose of `broadcast_to`: sum x over the axes that were broadcast."""
        shape = tuple(shape)
        if x.ty.shape == shape:
            return x
        lead = x.ty.rank - len(shape)
        axes = tuple(i for i in range(x.ty.rank) if i < lead or shape[i - lead] != x.ty.shape[i])
        out: Value = self.reduce(x, op="sum", axes=axes)
        return out if out.ty.shape == shape else self.reshape(out, shape=shape)

    def call_region(self, f: Function, args: Sequence[Value]) -> tuple[Value, ...]:
        """Inline a function's instructions with these arguments."""
        env: dict[Value, Value] = dict(zip(f.params, args, strict=True))
        for instr in f.instrs:
            with self.at(instr.loc, instr.source):
                out = self.emit(instr.op, *(env[v] for v in instr.operands))
            outs = out if isinstance(out, tuple) else (out,)
            env.update(zip(instr.results, outs, strict=True))
        return tuple(env[r] for r in f.results)

    # Symbols.

    def agree(self, a: Dim, c: Dim, message: str) -> Dim:
        """Assume that two dimensions are equal: merges a symbol and records a guard.

        Raises IRError with `message` where both are known and differ.
        """
        a, c = dims.substitute(a, self.merged), dims.substitute(c, self.merged)
        if a == c:
            return a
        pair = _solve(a, c)
        if pair is None:
            if isinstance(a, int) and isinstance(c, int):
                raise IRError(message, self.source, self.loc)
            self.guards.append(Guard(a, c, message, self.loc))
            return a
        self.guards.append(Guard(a, c, message, self.loc))
        self._merge(*pair)
        return dims.substitute(a, self.merged)

    def _merge(self, name: str, to: Dim) -> None:
        env = {name: to}
        self.merged = {k: dims.substitute(v, env) for k, v in self.merged.items()} | env
        for v in (*self.params, *self.producer):
            if isinstance(v.type, TensorType):
                v.type = v.type.substitute(env)
        for instr in self.instrs:
            instr.op = substituted_deep(instr.op, env)

    def extend(self, instr: Instr, op: Op, operands: Sequence[Value] | None = None) -> None:
        """Replace the op of an instruction by one with the same results and further ones behind.

        For gradients of loops, which keep more of the forward loop than the program asked for.
        operands: the new ones, if they change; all are defined before the instruction.
        """
        if operands is not None:
            instr.operands = tuple(operands)
        types = op.infer(*(v.type for v in instr.operands))
        types = types if isinstance(types, tuple) else (types,)
        n = len(instr.results)
        if types[:n] != tuple(r.type for r in instr.results):
            raise IRError(f"{instr!r} cannot become {op.name} of {types}", op.name, instr.loc)
        instr.op, instr.results = op, (*instr.results, *(Value(t) for t in types[n:]))
        for r in instr.results[n:]:
            self.producer[r] = instr
        self._names |= _instr_symbols(instr)

    def _collect_symbols(self) -> set[str]:
        for p in self.params:
            self._names |= _symbols_of(p.type)
        for instr in self.instrs[self._named :]:
            self._names |= _instr_symbols(instr)
        self._named = len(self.instrs)
        return self._names

    def fresh_symbol(self, prefix: str = "T") -> Dim:
        """A symbol that is not yet used here, nor in the functions around or inside."""
        self._collect_symbols()
        n = 0
        while f"{prefix}{n}" in self._names:
            n += 1
        self._names.add(f"{prefix}{n}")
        return dims.sym(f"{prefix}{n}")

    def child(self, name: str) -> Builder:
        """A builder for a sub-function. Both know the symbols of the other: none is used twice."""
        inner = Builder(name)
        inner._names = self._collect_symbols()
        inner.loc, inner.source = self.loc, self.source
        return inner

    def finish(
        self,
        results: Sequence[Value],
        result_names: Sequence[str] = (),
    ) -> Function:
        """Freeze. The guards keep the symbols as they were before they were merged."""
        return Function(
            self.name,
            tuple(self.params),
            tuple(self.instrs),
            tuple(results),
            tuple(self.infos),
            tuple(self.guards),
            tuple(result_names),
        )


def _symbols_of(t: Type) -> set[str]:
    if not isinstance(t, TensorType):
        return set()
    return {name for d in t.shape if not isinstance(d, int) for name in dims.symbols(d)}


def _instr_symbols(instr: Instr) -> set[str]:
    out: set[str] = set()
    for r in instr.results:
        out |= _symbols_of(r.type)
    for f in instr.op.subfunctions():
        for v in (*f.params, *(r for inner in f.walk() for r in inner.results)):
            out |= _symbols_of(v.type)
    return out


def _solve(a: Dim, c: Dim) -> tuple[str, Dim] | None:
    """A plain symbol among the two and what it equals, if the other does not mention it."""
    for x, y in ((c, a), (a, c)):
        names = dims.symbols(x)
        if len(names) == 1 and x == dims.sym(next(iter(names))):
            name = next(iter(names))
            if name not in dims.symbols(y):
                return name, y
    return None
