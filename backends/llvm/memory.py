"""Loads and stores: addresses, lanes, predicates, aliasing.

By the vector variable's coefficient in the linear offset a vector load is one load (1), one and a
reversal (−1), a scalar load (0), or a gather. Loads whose predicate is false do not touch memory
and give 0. Distinct buffers do not alias (metadata), but for the pairs that the plan puts in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Buffer
from flowc.runtime.errors import InternalError

from .emit import V, llvm_type, memory_type
from .scalar import integer
from .values import Values, iota

_NEAR = 4  # elements from lane to lane up to which whole vectors are loaded


@dataclass
class Place:
    """Where a buffer lies: its pointer, the strides in use, and metadata of its accesses."""

    pointer: V
    strides: tuple[Dim, ...]
    meta: str = ""
    private: bool = False  # register: always readable within its padded size
    align: int = 0  # of the start, bytes; 0: of an element


@dataclass
class Address:
    """An element address per lane: `base` for lane 0 (or all), and how the lanes differ.

    step: elements from lane to lane, None where `offsets` (a vector, elements) says it. cell: the
    constant offset of lane 0 in private memory, None elsewhere or where it is not constant.
    """

    base: V
    step: int | None
    offsets: V | None = None
    cell: int | None = None
    stride: int = 0  # the constant step behind `offsets`, if there is one


@dataclass
class Memory:
    """Emits loads and stores of the buffers in `places`."""

    values: Values
    places: dict[Buffer, Place] = field(default_factory=dict)
    stream: Buffer | None = None  # whole vectors stored to it go past the caches, and are aligned
    streamed: bool = False  # whether any did
    _zero: dict[int, V] = field(default_factory=dict)
    _offsets: dict[Any, tuple[dict[Expr, Dim], Dim]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fn, self.ops = self.values.fn, self.values.ops
        self.values.load, self.values.hreduce = self.load, self.hreduce

    # ---- addresses

    def place(self, b: Buffer) -> Place:
        try:
            return self.places[b]
        except KeyError:
            raise InternalError(f"buffer {b.name} is neither a parameter nor allocated") from None

    def address(self, b: Buffer, idx: Iterable[Expr]) -> Address:
        """The address of b[idx] in the current lanes."""
        place, lanes = self.place(b), self.values.lanes
        terms, c = self._offset(place.strides, tuple(idx))
        step: Dim = 0
        if lanes is not None and lanes.var in terms:
            terms = dict(terms)
            step = terms.pop(lanes.var)
        scalar, known, vectors = self.values.linear_parts(terms, c)
        if lanes is not None and step != 0:
            scalar, known = self._add_lane_base(scalar, known, lanes.base, step)
        pointer = place.pointer if scalar is None else self._gep(b, place.pointer, scalar)
        pointer = self._gep(b, pointer, known)
        if not vectors and isinstance(step, int):
            if step in (0, 1, -1):
                cell = known if place.private and scalar is None else None
                return Address(pointer, step, cell=cell)
            ty = "i32" if abs(step) < 2**24 else "i64"
            assert lanes is not None
            return Address(pointer, None, iota(lanes.width, 0, step, ty), stride=step)
        assert lanes is not None
        total = None if step == 0 else self.values.scale(iota(lanes.width), step)
        for v in vectors:
            total = v if total is None else self.ops.inst("add", total, v)
        return Address(pointer, None, total)

    def _offset(
        self, strides: tuple[Dim, ...], idx: tuple[Expr, ...]
    ) -> tuple[dict[Expr, Dim], Dim]:
        """The linear form of an element's offset; unrolled loops ask for the same ones."""
        found = self._offsets.get((strides, idx))
        if found is None:
            offset = ex.index(0)
            for i, stride in zip(idx, strides, strict=True):
                offset = offset + ex.index(stride) * i
            found = self._offsets[strides, idx] = ex.linear(offset)
        return found

    def _add_lane_base(
        self, scalar: V | None, known: int, lane: V | int, step: Dim
    ) -> tuple[V | None, int]:
        """The sum `scalar` + `known` with lane 0's part added."""
        if isinstance(lane, int) and isinstance(step, int):
            return scalar, known + lane * step
        if isinstance(lane, int):
            if lane == 0:
                return scalar, known
            part = self.values.dim(dims.mul(step, lane))
        else:
            part = self.values.scale(lane, step)
        return part if scalar is None else self.ops.inst("add", scalar, part), known

    def _gep(self, b: Buffer, pointer: V, offset: V | int) -> V:
        if offset == 0:
            return pointer
        text = integer("i64", offset) if isinstance(offset, int) else offset
        ty = memory_type(b.dtype)
        return self.fn.op(pointer.ty, text.n, f"getelementptr {ty}, {pointer}, {text}")

    def _pointers(self, b: Buffer, at: Address) -> V:
        assert at.offsets is not None
        ty = memory_type(b.dtype)
        return self.fn.op(
            at.base.ty, at.offsets.n, f"getelementptr {ty}, {at.base}, {at.offsets}"
        )

    # ---- loads

    def load(self, e: Expr) -> V:
        """The value of a load node."""
        b, idx, pred = ex.load_parts(e)
        p = None if pred is None else self.values.value(pred)
        if p is not None and p.s in ("false", "splat (i1 false)"):
            return zero_of(llvm_type(b.dtype), 0)
        at = self.address(b, idx)
        raw = self._load(b, at, p)
        return self._from_memory(b, raw)

    def _load(self, b: Buffer, at: Address, p: V | None) -> V:
        lanes, place = self.values.lanes, self.place(b)
        if at.step == 0:
            return self._load_one(b, at, p)
        assert lanes is not None
        if p is not None and not p.n and at.step == 1 and not place.private:
            # One predicate for all lanes chooses the place: a masked load of nothing would still
            # walk the page tables, which takes thousands of cycles where a page is absent.
            nothing = self.zero_place(lanes.width * b.dtype.size)
            base = self.fn.op(at.base.ty, 0, f"select {p}, {at.base}, {nothing}")
            at, p = Address(base, 1), None
        mask = self._mask(p)
        if place.private and at.step == 1:
            out = self._cell(b, at, lanes.width)
            return out if p is None else self._zero_where_not(p, out)
        if at.step == 1 and mask is None:
            return self._plain(b, at.base, lanes.width)
        if at.step == -1:
            return self._load_reversed(b, at, mask)
        if at.step == 1:
            return self._masked_load(b, at.base, mask)
        where = self._pointers(b, at)
        if mask is None and 2 <= at.stride <= _NEAR and lanes.width >= 4:
            return self._every(b, at, lanes.width)
        n, ty = lanes.width, memory_type(b.dtype)
        active = mask or V("i1", n, "splat (i1 true)")
        args: list[V | str] = [_aligned(where, b), active, zero_of(ty, n)]
        return self._masked("masked.gather", ty, n, where, args, place)

    def _cell(self, b: Buffer, at: Address, n: int) -> V:
        """n elements from an address (0: one), without a load where private memory is known."""
        if at.cell is None:
            return self._plain(b, at.base, n)
        version = self.values.version(b)
        out = self.values.cells.find(b, version, at.cell, n)
        if out is None:
            out = self._plain(b, at.base, n)
            self.values.cells.keep(b, version, version, at.cell, out)
        return out

    def _put(self, b: Buffer, at: Address, value: V) -> None:
        """An unmasked store of a vector, or of one element."""
        align, meta = b.dtype.size, self.place(b).meta
        if b is self.stream and value.n:
            align = vector_bytes(value.n, align)
            meta += f", !nontemporal {self.fn.unit.metadata('!{i32 1}')}"
            self.streamed = True
        self.fn.emit(f"store {value}, {at.base}, align {align}{meta}")
        if at.cell is not None:  # the statement's `touch` follows
            version = self.values.version(b)
            self.values.cells.keep(b, version, version + 1, at.cell, value)

    def _plain(self, b: Buffer, pointer: V, n: int) -> V:
        ty, place = memory_type(b.dtype), self.place(b)
        full = V(ty, n, "").type
        return self.fn.op(ty, n, f"load {full}, {pointer}, align {b.dtype.size}{place.meta}")

    def _masked_load(self, b: Buffer, pointer: V, mask: V | None) -> V:
        assert mask is not None
        ty, n = memory_type(b.dtype), mask.n
        args: list[V | str] = [_aligned(pointer, b), mask, zero_of(ty, n)]
        return self._masked("masked.load", ty, n, pointer, args, self.place(b))

    def _masked(
        self, name: str, ty: str, n: int, pointer: V, args: list[V | str], place: Place
    ) -> V:
        kinds: list[V | str] = [_Passed(pointer, a) if i == _pointer_at(name) else a
                                for i, a in enumerate(args)]
        return self.fn.intrinsic(name, ty, n, kinds, place.meta)

    def _load_reversed(self, b: Buffer, at: Address, mask: V | None) -> V:
        lanes = self.values.lanes
        assert lanes is not None
        n = lanes.width
        low = self._gep(b, at.base, 1 - n)
        if mask is None:
            return self._reverse(self._plain(b, low, n))
        return self._reverse(self._masked_load(b, low, self._reverse(mask)))

    def _every(self, b: Buffer, at: Address, n: int) -> V:
        """Each stride-th element, out of whole vectors; the last one ends with the last element."""
        starts = [*range(0, n * (at.stride - 1), n), (n - 1) * (at.stride - 1)]
        parts = [self._plain(b, self._gep(b, at.base, k), n) for k in starts]
        out, first = parts[0], True
        for k, part in zip(starts[1:], parts[1:], strict=True):
            order = []
            for i in range(n):
                place = i * at.stride
                old = place if first else i
                order.append(n + place - k if k <= place < k + n and place >= n else old % n)
            text = ", ".join(f"i32 {i}" for i in order)
            out, first = self.fn.op(
                out.ty, n, f"shufflevector {out}, {part}, <{n} x i32> <{text}>"), False
        return out

    def _reverse(self, v: V) -> V:
        order = iota(v.n, v.n - 1, -1, "i32")
        return self.fn.op(v.ty, v.n, f"shufflevector {v}, {v.type} poison, {order}")

    def _load_one(self, b: Buffer, at: Address, p: V | None) -> V:
        """One element for all lanes; where its predicate is false for all, a zero is read."""
        lanes, place = self.values.lanes, self.place(b)
        needed = p
        if lanes is not None and lanes.divergent and not place.private:
            needed = self._mask(p)
        if needed is not None:
            yes, base = self._any(needed), at.base
            at = Address(self.fn.op(base.ty, 0, f"select {yes}, {base}, {self.zero_place()}"), 0)
        out = self._cell(b, at, 0)
        return out if p is None or not p.n else self._zero_where_not(p, self.fn.splat(out, p.n))

    def _zero_where_not(self, p: V, v: V) -> V:
        zero = zero_of(v.ty, v.n)
        return self.fn.op(v.ty, v.n, f"select {self.fn.splat(p, v.n)}, {v}, {zero}")

    def _any(self, p: V) -> V:
        return self.fn.intrinsic("vector.reduce.or", "i1", p.n, [p]) if p.n else p

    def zero_place(self, size: int = 16) -> V:
        """`size` bytes that are 0: read instead of memory that must not be touched."""
        found = self._zero.get(size)
        if found is None:
            found = self.fn.op("ptr", 0, f"alloca [{size} x i8], align 16", entry=True)
            self.fn.entry.append(f"  store [{size} x i8] zeroinitializer, {found}, align 16")
            self._zero[size] = found
        return found

    def _mask(self, p: V | None) -> V | None:
        """The active lanes where p holds; None for all."""
        lanes = self.values.lanes
        assert lanes is not None
        if p is None:
            return lanes.mask
        p = self.fn.splat(p, lanes.width)
        return p if lanes.mask is None else self.ops.inst("and", lanes.mask, p)

    def _from_memory(self, b: Buffer, raw: V) -> V:
        if b.dtype.is_bool:
            return self.fn.op("i1", raw.n, f"icmp ne {raw}, {zero_of('i8', raw.n).s}")
        return self.ops.canonical4(raw, b.dtype) if b.dtype.bits == 4 else raw

    def prefetch(self, b: Buffer, idx: Iterable[Expr]) -> None:
        """Asks for a line, from memory into the second cache."""
        at = self.address(b, idx)
        if at.base.ty == "ptr":
            self.fn.intrinsic("prefetch", "", 0, [at.base, "i32 0", "i32 2", "i32 1"])

    # ---- stores

    def store(self, b: Buffer, idx: Iterable[Expr], value: V) -> None:
        """``b[idx] = value`` in the active lanes (lanes that meet: the last one stays)."""
        lanes, place = self.values.lanes, self.place(b)
        at = self.address(b, idx)
        if b.dtype.is_bool:
            value = self.fn.op("i8", value.n, f"zext {value} to {V('i8', value.n, '').type}")
        if b.dtype.name == "i4":  # NumPy's form: the high half of the byte is 0
            value = self.ops.inst("and", value, integer("i8", 15, value.n))
        if at.step == 0:
            self._store_one(b, at, value)
            return
        assert lanes is not None
        value, mask = self.fn.splat(value, lanes.width), lanes.mask
        if place.private and at.step == 1 and mask is not None:
            old = self._cell(b, at, lanes.width)
            value, mask = self.ops.select(mask, value, old), None
        if at.step == -1:
            at = Address(self._gep(b, at.base, 1 - lanes.width), 1)
            value, mask = self._reverse(value), None if mask is None else self._reverse(mask)
        if at.step == 1 and mask is None:
            self._put(b, at, value)
            return
        name, where = "masked.store", at.base
        if at.step != 1:
            name, where = "masked.scatter", self._pointers(b, at)
            mask = mask or V("i1", lanes.width, "splat (i1 true)")
        assert mask is not None
        if at.step == 1 and (lane := _only_lane(mask)) is not None:
            one = self.fn.op(value.ty, 0, f"extractelement {value}, i32 {lane}")
            to = self._gep(b, at.base, lane)
            self.fn.emit(f"store {one}, {to}, align {b.dtype.size}{place.meta}")
            return
        args: list[V | str] = [value, _aligned(where, b), mask]
        self._masked(name, value.ty, value.n, where, args, place)

    def _store_one(self, b: Buffer, at: Address, value: V) -> None:
        lanes = self.values.lanes
        if lanes is not None and lanes.mask is not None and (value.n or lanes.divergent):
            value, pointer = self._last_active(lanes.mask, value), at.base
            if lanes.divergent:
                yes = self._any(lanes.mask)
                spare = self.fn.op("ptr", 0, "alloca [16 x i8], align 16", entry=True)
                pointer = self.fn.op("ptr", 0, f"select {yes}, {pointer}, {spare}")
            at = Address(pointer, 0)
        elif value.n:
            value = self.fn.op(value.ty, 0, f"extractelement {value}, i32 {value.n - 1}")
        self._put(b, at, value)

    def _last_active(self, mask: V, value: V) -> V:
        if not value.n:
            return value
        n = mask.n
        bits = self.fn.op(f"i{n}", 0, f"bitcast {self._reverse(mask)} to i{n}")
        lead = self.fn.intrinsic("cttz", f"i{n}", 0, [bits, "i1 false"])
        lane = self.fn.op(f"i{n}", 0, f"sub i{n} {n - 1}, {lead.s}")
        none = self.fn.op("i1", 0, f"icmp slt {lane}, 0")
        lane = self.fn.op(f"i{n}", 0, f"select {none}, i{n} 0, {lane}")
        return self.fn.op(value.ty, 0, f"extractelement {value}, {lane}")

    # ---- horizontal reduction

    def hreduce(self, e: Expr) -> V:
        """All elements of a register row combined by the halving tree of `expr.hreduce`."""
        op, b = e.attr
        n = b.shape[-1]
        if not isinstance(n, int) or n < 1:
            raise InternalError(f"hreduce of {b}")
        at = self.address(b, (*e.args, ex.index(0)))
        if at.step != 0:
            raise InternalError("hreduce of rows that differ by lane")
        v = self._from_memory(b, self._cell(b, at, n))
        while v.n > 1:
            half = (v.n + 1) // 2
            top = self._part(v, half, v.n - half)
            low = self._part(v, 0, v.n - half)
            both = self.ops.combine(op, b.dtype, low, top)
            rest = half - both.n
            v = both if not rest else self._join(both, v, v.n - half, rest)
        return self.fn.op(v.ty, 0, f"extractelement {v}, i32 0")

    def _part(self, v: V, start: int, n: int) -> V:
        order = iota(n, start, 1, "i32")
        return self.fn.op(v.ty, n, f"shufflevector {v}, {v.type} poison, {order}")

    def _join(self, a: V, v: V, start: int, n: int) -> V:
        """a followed by v[start : start + n], for odd n: through a as wide as v."""
        wide = ", ".join(f"i32 {i if i < a.n else 'poison'}" for i in range(v.n))
        full = self.fn.op(a.ty, v.n, f"shufflevector {a}, {a.type} poison, <{v.n} x i32> <{wide}>")
        picks = [*range(a.n), *(v.n + start + i for i in range(n))]
        order = ", ".join(f"i32 {i}" for i in picks)
        text = f"shufflevector {full}, {v}, <{len(picks)} x i32> <{order}>"
        return self.fn.op(a.ty, len(picks), text)


class _Passed(V):
    """A pointer argument with its attributes, printed as such."""

    def __new__(cls, pointer: V, text: V | str) -> _Passed:
        return super().__new__(cls, pointer.ty, pointer.n, str(text))

    def __str__(self) -> str:
        return self.s


def _pointer_at(name: str) -> int:
    return 0 if name in ("masked.load", "masked.gather") else 1


def _only_lane(mask: V) -> int | None:
    """The lane of a literal mask that has one. LLVM 20 (X86) makes a store of the wide type of a
    masked store of truncated lanes under such a mask, past the end of the array."""
    if not mask.s.startswith("<"):
        return None
    active = [n for n, bit in enumerate(mask.s.strip("<>").split(",")) if bit.strip() == "i1 true"]
    return active[0] if len(active) == 1 else None


def _aligned(pointer: V, b: Buffer) -> str:
    return f"{pointer.type} align {b.dtype.size} {pointer.s}"


def vector_bytes(lanes: int, size: int) -> int:
    """What a streaming store of a vector is aligned to: its bytes, or a cache line."""
    return min(64, lanes * size)


def zero_of(ty: str, n: int) -> V:
    """0 of a type."""
    if n:
        return V(ty, n, "zeroinitializer")
    return V(ty, 0, "0.0" if ty in ("float", "double") else ("false" if ty == "i1" else "0"))
