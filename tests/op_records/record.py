"""Op records: what an op computes, said once, for the interpreter and every backend.

A record names an op and gives a builder of a function around it, an independent reference, the
shapes, element types and domain to try, rows of edge cases with their results, and a tolerance.
`cases()` makes functions with inputs and expected results of it; whoever can run a function (the
interpreter, the kernel interpreter, a backend) runs them and calls `Case.check`.

The reference sees floats as f64 arrays, integers as object arrays of Python ints (which do not
wrap), bools as they are. Where its result is an integer the harness wraps it to the result's type.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from flowc.ir import dims
from flowc.ir.builder import Builder
from flowc.ir.core import Function
from flowc.ir.dtypes import DType, dtype
from flowc.ir.types import TensorType

Array = np.ndarray[Any, Any]
Sampler = Callable[[np.random.Generator, tuple[int, ...], DType], Array]
Rows = Sequence[tuple[Any, ...]]

FLOATS = ("f32", "f64", "f16", "bf16")
F8 = ("f8e4m3fn", "f8e5m2")
SIGNED = ("i32", "i64", "i8", "i16", "i4")
UNSIGNED = ("u32", "u64", "u8", "u16", "u4")
INTS = SIGNED + UNSIGNED
ALL = (*FLOATS, *INTS, "bool")


@dataclass(frozen=True)
class Tolerance:
    """|got − want| ≤ ulp · (spacing of the dtype at want) + atol + rtol · |want|.

    Zero throughout: equal, the sign of zero included. NaN equals NaN. `narrow_ulp` holds for types
    narrower than f32, which are computed in f32 and rounded once.
    """

    ulp: float = 0.0
    atol: float = 0.0
    rtol: float = 0.0
    f64_atol: float = 0.0
    narrow_ulp: float = 1.0

    @property
    def exact(self) -> bool:
        return not (self.ulp or self.atol or self.rtol or self.f64_atol)

    def check(self, got: Array, want: Array, where: str = "") -> None:
        """AssertionError with the worst element unless `got` is close to `want` (f64 or ints)."""
        t = dtype(got.dtype)
        assert got.shape == want.shape, f"{where}: shape {got.shape}, expected {want.shape}"
        if t.is_float:
            self._floats(got.astype(np.float64), np.asarray(want, np.float64), t, where)
            return
        same = got.astype(object) == want.astype(object)
        bad = np.argwhere(~np.asarray(same, bool).reshape(got.shape))
        assert not len(bad), _worst(where, got, want, tuple(bad[0]))

    def _floats(self, got: Array, want: Array, t: DType, where: str) -> None:
        with np.errstate(all="ignore"):
            rounded = rounded_to(want, t)
            same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
            if self.exact:
                same &= (got != 0) | (np.signbit(got) == np.signbit(rounded))
            ulp = min(self.ulp, self.narrow_ulp) if t.bits < 32 else self.ulp
            atol = self.atol + (self.f64_atol if t.bits == 64 else 0)
            room = ulp * spacing(want, t) + self.rtol * np.abs(want) + atol
            top = float(ml_dtypes.finfo(t.np).max)
            edge = np.isinf(rounded) & ~np.isinf(want) & (np.abs(got) == top)  # just below overflow
            close = (np.abs(got - want) <= room) & np.isfinite(rounded)
        bad = np.argwhere(~(same | (close | edge if not self.exact else False)))
        assert not len(bad), _worst(where, got, want, tuple(bad[0]), f"; {len(bad)} differ")


def _worst(where: str, got: Array, want: Array, at: tuple[int, ...], more: str = "") -> str:
    return f"{where}: at {[int(i) for i in at]} got {got[at]!r}, expected {want[at]!r}{more}"


def rounded_to(want: Array, t: DType) -> Array:
    """f64 values as elements of t (narrow types by way of f32), in f64 again."""
    if t.bits < 32:
        return want.astype(np.float32).astype(t.np).astype(np.float64)
    return want.astype(t.np).astype(np.float64)


def spacing(want: Array, t: DType) -> Array:
    """The distance between neighbouring numbers of t around `want`."""
    info = ml_dtypes.finfo(t.np)
    size = np.maximum(np.abs(np.nan_to_num(want, posinf=0.0, neginf=0.0)), float(info.tiny))
    return np.exp2(np.floor(np.log2(size))) * float(info.eps)


# ---- domains

def as_floats(v: Any, t: DType) -> Array:
    """f64 samples as elements of t."""
    return np.asarray(v).astype(np.float32 if t.bits < 64 else np.float64).astype(t.np)


def uniform(lo: float, hi: float) -> Sampler:
    """Floats evenly in [lo, hi); integers too."""
    def sample(rng: np.random.Generator, shape: tuple[int, ...], t: DType) -> Array:
        if t.is_float:
            return as_floats(rng.uniform(lo, hi, shape), t)
        low = max(int(lo), int(t.min))
        return rng.integers(low, min(int(hi), int(t.max)), shape, endpoint=True).astype(t.np)
    return sample


def anything(rng: np.random.Generator, shape: tuple[int, ...], t: DType) -> Array:
    """Normal floats; integers of the whole range, half of them small; fair bools."""
    if t.is_bool:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if t.is_float:
        return as_floats(rng.standard_normal(shape) * 2, t)
    full = rng.integers(int(t.min), int(t.max), shape, endpoint=True, dtype=np.dtype(
        f"{'u' if t.kind == 'u' else 'i'}8"))
    small = rng.integers(max(int(t.min), -9), 8, shape)
    return np.where(rng.random(shape) < 0.5, full, small.astype(full.dtype)).astype(t.np)


def distinct(rng: np.random.Generator, shape: tuple[int, ...], t: DType) -> Array:
    """Floats a quarter apart in random order; other types as `anything`."""
    if not t.is_float:
        return anything(rng, shape, t)
    n = int(np.prod(shape))
    return as_floats((rng.permutation(n) - n / 2).reshape(shape) / 4 + 0.1, t)


def away_from_zero(lo: float = 0.5, hi: float = 3.0) -> Sampler:
    """Of either sign (if the type has one), |x| in [lo, hi]; nonzero integers."""
    def sample(rng: np.random.Generator, shape: tuple[int, ...], t: DType) -> Array:
        if t.is_float:
            v = rng.uniform(lo, hi, shape) * rng.choice([-1.0, 1.0], shape)
            return as_floats(v, t)
        v = anything(rng, shape, t)
        return np.where(v == t.np.type(0), t.np.type(1), v).astype(t.np)
    return sample


# ---- records

@dataclass(frozen=True)
class Record:
    """One way to use an op.

    op: the primitive that it is about. label: tells several records of an op apart.
    build(b, *values): emits it, returns the result or a tuple. reference(*arrays): see the module.
    shapes: for each case the operands' shapes; a string in them is a symbol, which `sizes` bind.
    dtypes: the element types to try, for all operands that `operand_dtypes` does not fix.
    samples: the domain, one for all operands or one each. edges: rows (operands…, results…) for the
    elements of one more case, or a function from the element type to such rows, of `edge_dtypes`
    (all if empty). wrt: operands to differentiate by (None: all floats; (): no gradient).
    kernel: whether it lowers to stages. run: whether it can be evaluated at all.
    """

    op: str
    build: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: Sequence[tuple[tuple[Any, ...], ...]]
    label: str = ""
    dtypes: tuple[str, ...] = FLOATS
    operand_dtypes: tuple[str | None, ...] = ()
    samples: Sampler | tuple[Sampler, ...] = anything
    tolerance: Tolerance = field(default_factory=Tolerance)
    edges: Rows | Callable[[DType], Rows] = ()
    edge_dtypes: tuple[str, ...] = ()
    sizes: tuple[dict[str, int], ...] = ({"B": 5, "C": 3}, {"B": 1, "C": 0}, {"B": 0, "C": 2})
    wrt: tuple[int, ...] | None = None
    second: bool = True
    kernel: bool = True
    run: bool = True

    @property
    def id(self) -> str:
        return f"{self.op}:{self.label}" if self.label else self.op

    def cases(self, dtypes: Sequence[str] | None = None) -> Iterator[Case]:
        """All cases: dtypes × shapes × sizes of symbols, and the edges."""
        if not self.run:
            return
        for name in self.dtypes:
            if dtypes is not None and name not in dtypes:
                continue
            for n, shapes in enumerate(self.shapes):
                symbolic = any(not isinstance(d, int) for s in shapes for d in s)
                function = self.function(dtype(name), shapes)
                for m, env in enumerate(self.sizes if symbolic else ({},)):
                    yield self._case(function, f"{name}-{n}" + f"-{m}" * symbolic, shapes, env)
            yield from self._edge_case(dtype(name))

    def function(self, t: DType, shapes: Sequence[tuple[Any, ...]]) -> Function:
        """The op in a function of its own; strings among the shapes are symbols."""
        b = Builder("main")
        params = [b.param(p, f"x{i}") for i, p in enumerate(self.operand_types(t, shapes))]
        out = self.build(b, *params)
        return b.finish(out if isinstance(out, tuple) else () if out is None else (out,))

    def operand_types(self, t: DType, shapes: Sequence[tuple[Any, ...]]) -> list[TensorType]:
        fixed = self.operand_dtypes or (None,) * len(shapes)
        return [
            TensorType(dtype(f or t), tuple(dims.parse(d) if isinstance(d, str) else d for d in s))
            for s, f in zip(shapes, fixed, strict=True)
        ]

    def inputs(self, f: Function, env: dict[str, int], key: str) -> list[Array]:
        """Sampled arguments; the same ones at each run."""
        rng = np.random.default_rng(zlib.crc32(f"{self.id} {key}".encode()))
        kinds = self.samples if isinstance(self.samples, tuple) else (self.samples,) * len(f.params)
        out = []
        for p, sample in zip(f.params, kinds, strict=True):
            shape = tuple(int(d) for d in p.ty.substitute(dict(env)).shape)  # type: ignore[arg-type]
            out.append(np.asarray(sample(rng, shape, p.ty.dtype)).astype(p.ty.dtype.np))
        return out

    def _case(self, f: Function, key: str, shapes: Any, env: dict[str, int]) -> Case:
        inputs = self.inputs(f, env, key)
        with np.errstate(all="ignore"):
            out = self.reference(*(view(x) for x in inputs))
        wants = out if isinstance(out, tuple) else () if out is None else (out,)
        arrays = tuple(np.asarray(w, object if isinstance(w, int) else None) for w in wants)
        return Case(f"{self.id}-{key}", self, f, inputs, arrays)

    def _edge_case(self, t: DType) -> Iterator[Case]:
        if self.edge_dtypes and t.name not in self.edge_dtypes:
            return
        rows = self.edges(t) if callable(self.edges) else self.edges
        if not rows:
            return
        count = len(rows[0]) if not self.shapes else len(self.shapes[0])
        f = self.function(t, [(len(rows),)] * count)
        columns = [_column(c) for c in zip(*rows, strict=True)]
        with np.errstate(all="ignore"):
            inputs = [
                c.astype(p.ty.dtype.np) for c, p in zip(columns[:count], f.params, strict=True)
            ]
        yield Case(f"{self.id}-{t}-edges", self, f, inputs, tuple(columns[count:]))


def _column(values: tuple[Any, ...]) -> Array:
    kind = float if any(isinstance(v, float) for v in values) else object
    return np.array(values, dtype=kind)


def view(x: Array) -> Array:
    """An input as the reference sees it."""
    t = dtype(x.dtype)
    if t.is_float:
        return x.astype(np.float64)
    if t.is_int:
        out = np.empty(x.shape, object)
        out.reshape(-1)[:] = [int(v) for v in x.reshape(-1)]
        return out
    return x


def wrapped(want: Any, t: DType) -> Array:
    """A reference's result for an integer type: Python ints modulo 2^bits."""
    v = np.asarray(want, dtype=object)
    half = 1 << (t.bits - 1) if t.kind == "i" else 0
    out = np.empty(v.shape, object)
    out.reshape(-1)[:] = [((int(n) + half) % (1 << t.bits)) - half for n in v.reshape(-1)]
    return out


@dataclass(frozen=True)
class Case:
    """A function, arguments, and what it gives."""

    id: str
    record: Record
    function: Function
    inputs: list[Array]
    expected: tuple[Array, ...]

    @property
    def tolerance(self) -> Tolerance:
        return self.record.tolerance

    def check(self, results: Sequence[Any]) -> None:
        """AssertionError unless the results are the expected ones."""
        assert len(results) == len(self.expected), f"{self.id}: {len(results)} results"
        types = self.function.result_types
        for n, (got, want) in enumerate(zip(results, self.expected, strict=True)):
            t = types[n].dtype  # type: ignore[union-attr]
            got = np.asarray(got)
            assert dtype(got.dtype) == t, f"{self.id}: result {n} is {got.dtype}, not {t}"
            exact = wrapped(want, t) if t.is_int else np.asarray(want)
            self.tolerance.check(got, exact, f"{self.id} result {n}")
