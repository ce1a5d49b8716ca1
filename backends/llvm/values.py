"""Expressions as LLVM values: memoised per region, with dimensions and index arithmetic.

A value is a scalar, or a vector of the lanes of the current `vector` loop where it differs between
them. What an expression's value depends on (variables, buffers that the phase writes) has a version
that grows when it is rebound or stored to; a memo entry holds for one set of versions, and for the
blocks that the scope it was made in dominates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import INDEX, Expr
from flowc.ir.kernel.form import Buffer
from flowc.runtime.errors import InternalError

from .cells import Cells
from .emit import Function, V
from .scalar import Scalars, constant, integer


@dataclass(frozen=True)
class Lanes:
    """The vector loop that code is emitted in: lane l stands for var = base + l.

    mask: the active lanes (None: all). divergent: possibly no lane is active (under an `If`).
    """

    var: Expr
    width: int
    base: V | int
    mask: V | None = None
    divergent: bool = False


class Values:
    """Emits expressions into a function; `memory` emits the loads."""

    def __init__(self, fn: Function, dim_value: Callable[[str], V]) -> None:
        self.fn = fn
        self.ops = Scalars(fn)
        self.lanes: Lanes | None = None
        self.env: dict[Expr, V | int] = {}
        self.written: frozenset[Buffer] = frozenset()
        self.load: Callable[[Expr], V] = _no_loads
        self.hreduce: Callable[[Expr], V] = _no_loads
        self.check: Callable[[Expr, V, V], V] = _no_checks
        self.call: Callable[[Expr, list[V]], V] | None = None  # for what legalization has kept
        self.called: frozenset[str] = frozenset()
        self._version: dict[Any, int] = {}
        self._deps: dict[Expr, tuple[Any, ...]] = {}
        self._memo: dict[Any, V] = {}
        self._scopes: list[list[Any]] = [[]]  # the keys in `_memo` that each open region has made
        self.cells = Cells()
        fn.push()
        # what one call of `value` has found: nothing is rebound meanwhile, so no versions are asked
        self._now: dict[Expr, V] = {}
        self._depth = 0
        self._symbol = dim_value
        self._dims: dict[Dim, V] = {}

    # ---- names, scopes, versions

    def bind(self, var: Expr, value: V | int) -> None:
        """Gives a variable its value from here on."""
        self.env[var] = value
        self.touch(var)

    def touch(self, *changed: Any) -> None:
        """Values that depend on these variables and buffers are computed anew from here on."""
        for x in changed:
            self._version[x] = self._version.get(x, 0) + 1

    def push(self) -> None:
        """Enters a region: what is computed in it is forgotten by `pop`."""
        self._scopes.append([])
        self.cells.push()
        self.fn.push()
        self._now = {}

    def pop(self) -> None:
        """Leaves it."""
        for key in self._scopes.pop():
            del self._memo[key]
        self.cells.pop()
        self.fn.pop()
        self._now = {}

    def version(self, x: Any) -> int:
        """How often a variable or buffer was touched."""
        return self._version.get(x, 0)

    def enter_lanes(self, lanes: Lanes | None) -> Lanes | None:
        """Switches the vector context; returns the one before."""
        before, self.lanes = self.lanes, lanes
        self.touch(MASK)
        if lanes is not None:
            self.touch(lanes.var)
        return before

    def deps(self, e: Expr) -> tuple[Any, ...]:
        """What e depends on that can change."""
        known = self._deps.get(e)
        if known is not None:
            return known
        for x in ex.walk(e):  # arguments first, without recursion
            if x in self._deps:
                continue
            out: dict[Any, None] = {x: None} if x.op == "var" else {}
            if x.op in ("load", "hreduce"):
                buffer = x.attr if x.op == "load" else x.attr[1]
                if buffer in self.written:
                    out[buffer] = None
                out[MASK] = None
            if x.op == "check":
                out[MASK] = None
            for a in x.args:
                out.update(dict.fromkeys(self._deps[a]))
            self._deps[x] = tuple(out)
        return self._deps[e]

    def _key(self, e: Expr) -> Any:
        d = self.deps(e)
        if not d:
            return e
        version = self._version
        return (e, *[version.get(x, 0) for x in d])

    # ---- expressions

    def value(self, root: Expr) -> V:
        """The value of an expression, emitted where it is not known yet."""
        if self._depth == 0:
            self._now.clear()
        self._depth += 1
        try:
            return self._value(root)
        finally:
            self._depth -= 1

    def _value(self, root: Expr) -> V:
        stack = [root]
        while stack:
            e = stack[-1]
            if self._known(e) is not None:
                stack.pop()
                continue
            missing = [a for a in self.operands(e) if self._known(a) is None]
            if missing:
                stack.extend(reversed(missing))
                continue
            self._now[e] = out = self._emit(e)
            key = self._key(e)
            if key not in self._memo:
                self._memo[key] = out
                self._scopes[-1].append(key)
            stack.pop()
        return self._now[root]

    def _known(self, e: Expr) -> V | None:
        out = self._now.get(e)
        if out is None:
            out = self._lookup(e)
            if out is not None:
                self._now[e] = out
        return out

    def _lookup(self, e: Expr) -> V | None:
        if e.op == "const":
            return constant(e)
        if e.op == "var" and not self.is_lane(e):
            try:
                v = self.env[e]
            except KeyError:
                raise InternalError(f"variable {e.attr.name} has no value here") from None
            return integer("i64", v) if isinstance(v, int) else v
        return self._memo.get(self._key(e))

    def operands(self, e: Expr) -> Iterable[Expr]:
        """The expressions whose values e's instructions use."""
        if e.op == "load":
            _, idx, pred = ex.load_parts(e)
            atoms = [a for i in idx for a in ex.linear(i)[0] if a.op != "var"]
            return atoms if pred is None else [*atoms, pred]
        if e.op in ("var", "hreduce"):
            return ()
        if e.op in ex.COMPARE and self._by_lane(e):
            return [a for a in ex.linear(e.args[0] - e.args[1])[0] if a.op != "var"]
        return [a for a in e.args if a.op != "var"] if e.op == "lin" else e.args

    def _emit(self, e: Expr) -> V:
        if e.op == "load":
            return self.load(e)
        if e.op == "hreduce":
            return self.hreduce(e)
        if e.op == "var":
            return self.lane_index()
        if e.op == "lin":
            return self.linear(*ex.linear(e))
        if e.op in ex.COMPARE and self._by_lane(e):
            return self._compare_lanes(e)
        args = [self.value(a) for a in e.args]
        if e.op == "check":
            return self.check(e, args[0], args[1])
        if e.dtype is INDEX and e.op in ("floordiv", "mod", "imul"):
            return self._index_op(e, args)
        if e.op == "reduce":
            raise InternalError("a scheduled kernel holds a reduce node")
        if e.op in self.called and e.dtype.is_float and self.call is not None:
            return self.call(e, args)
        return self.ops.apply(e, args)

    # ---- index arithmetic

    def lane_index(self) -> V:
        """The vector variable's value in each lane."""
        assert self.lanes is not None
        n, base = self.lanes.width, self.lanes.base
        if isinstance(base, int):
            return iota(n, base)
        return self.ops.inst("add", self.fn.splat(base, n), iota(n))

    def linear(self, terms: dict[Expr, Dim], c: Dim) -> V:
        """Σ coefficient · atom + c."""
        out, vectors = self.linear_sum(terms, c)
        for v in vectors:
            out = self.ops.inst("add", self.fn.splat(out, v.n), v)
        return out

    def linear_sum(self, terms: dict[Expr, Dim], c: Dim) -> tuple[V, list[V]]:
        """The sum's part that is equal in all lanes, and the parts that are not."""
        scalar, known, vectors = self.linear_parts(terms, c)
        if scalar is None:
            return integer("i64", known), vectors
        return self.ops.inst("add", scalar, integer("i64", known)) if known else scalar, vectors

    def linear_parts(self, terms: dict[Expr, Dim], c: Dim) -> tuple[V | None, int, list[V]]:
        """The sum's part that is equal in all lanes (None: 0) but for its constant part, that, and
        the parts that lanes differ in. What was computed first is added first: the sums of outer
        loops' variables are loop-invariant, and many addresses differ in the constant alone."""
        known = 0
        scalars: list[V] = []
        vectors: list[V] = []
        if isinstance(c, int):
            known = c
        else:
            scalars.append(self.dim(c))
        for atom, k in terms.items():
            v = self.env.get(atom) if atom.op == "var" else None
            if isinstance(v, int) and isinstance(k, int) and not self.is_lane(atom):
                known += v * k
                continue
            value = self.value(atom)
            part = self.scale(value, k)
            (vectors if part.n else scalars).append(part)
        out: V | None = None
        for s in sorted(scalars, key=_age) if len(scalars) > 1 else scalars:
            out = s if out is None else self.ops.inst("add", out, s)
        return out, known, vectors

    def is_lane(self, e: Expr) -> bool:
        """Whether e is the variable of the vector loop."""
        return self.lanes is not None and e is self.lanes.var

    def scale(self, v: V, k: Dim) -> V:
        """v · k."""
        if k == 1:
            return v
        factor = integer("i64", k) if isinstance(k, int) else self.dim(k)
        return self.ops.inst("mul", v, self.fn.splat(factor, v.n))

    def _by_lane(self, e: Expr) -> bool:
        """Whether a comparison of indices is one of the lane's number with what lanes share."""
        a, b = e.args
        if self.lanes is None or a.dtype is not INDEX or self.lanes.var not in self.deps(e):
            return False
        diff = a - b
        terms, _ = ex.linear(diff)
        step = terms.get(self.lanes.var, 0)
        if not isinstance(step, int) or not 0 < abs(step) < 2**20 or ex.bounds(diff) is None:
            return False
        return not any(self.lanes.var in self.deps(x) for x in terms if x is not self.lanes.var)

    def _compare_lanes(self, e: Expr) -> V:
        """step · lane `op` −rest in 32 bits, the rest (in bounds, so no overflow) clamped."""
        assert self.lanes is not None
        terms, c = ex.linear(e.args[1] - e.args[0])
        step = terms.pop(self.lanes.var)
        assert isinstance(step, int)
        base, n = self.lanes.base, self.lanes.width
        known = c if isinstance(c, int) else None
        if isinstance(base, int) and known is not None:
            c, base = known + step * base, 0
        rest, _ = self.linear_sum(terms, c)
        if base != 0:
            lane0 = integer("i64", base) if isinstance(base, int) else base
            rest = self.ops.inst("add", rest, self.scale(lane0, step))
        limit, r = 2**30, ex.bounds(e.args[0] - e.args[1])
        if not (r and all(isinstance(x, int) and abs(x) < limit for x in r)):
            rest = self.fn.intrinsic("smax", "i64", 0, [rest, integer("i64", -limit)])
            rest = self.fn.intrinsic("smin", "i64", 0, [rest, integer("i64", limit)])
        narrow = self.fn.op("i32", 0, f"trunc {rest} to i32")
        ramp = iota(n, 0, -step, "i32")
        return self.ops.compare(e.op, INDEX, ramp, self.fn.splat(narrow, n))

    def _index_op(self, e: Expr, args: list[V]) -> V:
        n = max(a.n for a in args)
        a, b = (self.fn.splat(x, n) for x in args)
        if e.op == "imul":
            return self.ops.inst("mul", a, b)
        divisor = ex.is_const_index(e.args[1])
        if not isinstance(divisor, int):
            one = self.fn.op("i1", n, f"icmp slt {b}, {integer('i64', 1, n).s}")
            b = self.ops.select(one, integer("i64", 1, n), b)  # sizes may be 0, and must not trap
        r = ex.bounds(e.args[0])
        if r is not None and dims.nonnegative(r[0]):
            top = r[1]
            if n and isinstance(top, int) and isinstance(divisor, int):
                if max(top, divisor) < 2**31:
                    return self._narrow_div(e.op, a, b)
            return self.ops.inst("udiv" if e.op == "floordiv" else "urem", a, b)
        return self._floor_div(e.op, a, b)

    def _narrow_div(self, op: str, a: V, b: V) -> V:
        """In 32 bits: vectors of 64-bit integers have no fast multiplication."""
        n = a.n
        a32 = self.fn.op("i32", n, f"trunc {a} to <{n} x i32>")
        b32 = self.fn.op("i32", n, f"trunc {b} to <{n} x i32>")
        out = self.ops.inst("udiv" if op == "floordiv" else "urem", a32, b32)
        return self.fn.op("i64", n, f"zext {out} to <{n} x i64>")

    def _floor_div(self, op: str, a: V, b: V) -> V:
        rest = self.ops.inst("srem", a, b)
        zero = integer("i64", 0, a.n)
        negative = self.fn.op("i1", a.n, f"icmp slt {rest}, {zero.s}")
        if op == "mod":
            return self.ops.select(negative, self.ops.inst("add", rest, b), rest)
        quotient = self.ops.inst("sdiv", a, b)
        less = self.ops.inst("add", quotient, integer("i64", -1, a.n))
        return self.ops.select(negative, less, quotient)

    # ---- dimensions: computed once, in the entry block

    def dim(self, d: Dim) -> V:
        """A dimension's value (i64, defined in the entry block)."""
        if isinstance(d, int):
            return integer("i64", d)
        found = self._dims.get(d)
        if found is None:
            found = self._dims[d] = self._dim(d)
        return found

    def _dim(self, d: dims.Expr) -> V:
        total: V | None = None
        for mono, c in d.terms:
            term: V | None = None
            for atom, power in mono:
                v = self._symbol(atom) if isinstance(atom, str) else self._opaque(atom)
                for _ in range(power):
                    term = v if term is None else self._entry(f"mul {term}, {v.s}")
            if term is None:
                term = integer("i64", c)
            elif c != 1:
                term = self._entry(f"mul {term}, {c}")
            total = term if total is None else self._entry(f"add {total}, {term.s}")
        assert total is not None
        return total

    def _opaque(self, a: dims.Opaque) -> V:
        x, y = self.dim(a.args[0]), self.dim(a.args[1])
        if a.op in ("max", "min"):
            c = self._entry(f"icmp {'sgt' if a.op == 'max' else 'slt'} {x}, {y.s}", "i1")
            return self._entry(f"select {c}, {x}, {y}")
        if not isinstance(a.args[1], int):
            zero = self._entry(f"icmp eq {y}, 0", "i1")
            y = self._entry(f"select {zero}, i64 1, {y}")
        rest = self._entry(f"srem {x}, {y.s}")
        sign = self._entry(f"xor {rest}, {y.s}")
        wrong = self._entry(f"icmp slt {sign}, 0", "i1")
        nonzero = self._entry(f"icmp ne {rest}, 0", "i1")
        adjust = self._entry(f"and {wrong}, {nonzero.s}", "i1")
        if a.op == "mod":
            more = self._entry(f"add {rest}, {y.s}")
            return self._entry(f"select {adjust}, {more}, {rest}")
        quotient = self._entry(f"sdiv {x}, {y.s}")
        less = self._entry(f"add {quotient}, -1")
        return self._entry(f"select {adjust}, {less}, {quotient}")

    def _entry(self, text: str, ty: str = "i64") -> V:
        return self.fn.op(ty, 0, text, entry=True)


MASK = "mask"  # the version of the vector context: loads and checks depend on the active lanes


def iota(n: int, start: int = 0, step: int = 1, ty: str = "i64") -> V:
    """<start, start + step, …>."""
    lanes = ", ".join(f"{ty} {start + i * step}" for i in range(n))
    return V(ty, n, f"<{lanes}>")


def _age(v: V) -> int:
    """The serial number in a value's name: outer loops' are less."""
    digits = v.s.lstrip("%abcdefghijklmnopqrstuvwxyz")
    return int(digits) if digits.isdecimal() else 0


def _no_loads(e: Expr) -> V:
    raise InternalError(f"{e!r} in a place without memory")


def _no_checks(e: Expr, value: V, ok: V) -> V:
    raise InternalError("a check in a place without errors")
