"""Statements of a scheduled kernel as LLVM blocks; CPU and GPU lowerings derive from `Lowerer`."""

from __future__ import annotations

from collections.abc import Iterable

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    If,
    Let,
    Prefetch,
    Stmt,
    Store,
    While,
    stmt_exprs,
    walk_stmts,
)
from flowc.runtime.errors import InternalError

from .emit import Function, V, memory_type
from .memory import Memory, Place, vector_bytes
from .scalar import integer
from .values import Lanes, Values, iota

LARGE_BODY = 400  # nodes of a vector loop's body from which its tail is not a second copy


class Lowerer:
    """Emits statements into `fn`. A subclass says how a function gets its buffers and symbols
    (`symbol`, `values`, `memory.places`), what `parallel`, `block` and `thread` loops are, where
    `shared` and large `local` buffers lie, and how an error is reported.
    """

    def __init__(self, fn: Function, body: tuple[Stmt, ...]) -> None:
        self.fn = fn
        self.values = Values(fn, self.symbol)
        self.values.check = self.check
        self.values.written = frozenset(written_buffers(body))
        self.memory = Memory(self.values)
        self._stores: dict[For | While, list[Buffer]] = {}

    # ---- hooks

    def symbol(self, name: str) -> V:
        """The value of a dimension symbol, i64, in the entry block."""
        raise NotImplementedError

    def other_loop(self, s: For) -> None:
        """A parallel, block or thread loop."""
        raise InternalError(f"a {s.kind} loop in a place where this target has none")

    def other_alloc(self, s: Alloc) -> Place:
        """Where a shared or local buffer lies."""
        raise InternalError(f"a {s.buffer.scope} buffer on a target that has none")

    def report(self, code: int, op: str, loc: str, d0: V, d1: V) -> None:
        """Emits the report of an error; in a cold block."""
        raise NotImplementedError

    def streamed(self, s: For) -> Store | None:
        """The store of a vector loop that goes past the caches, if one should."""
        return None

    def cancelled(self) -> V | None:
        """Whether the run was cancelled (i1), asked at the back-edges of `While`; None: never."""
        return None

    # ---- statements

    def block(self, body: Iterable[Stmt]) -> None:
        """Emits statements in order."""
        for s in body:
            if isinstance(s, Store):
                value = self.values.value(s.value)
                self.memory.store(s.buffer, s.indices, value)
                self.values.touch(s.buffer)
            elif isinstance(s, Let):
                self.values.bind(s.var, self.values.value(s.value))
            elif isinstance(s, For):
                self._for(s)
            elif isinstance(s, If):
                self._if(s)
            elif isinstance(s, While):
                self._while(s)
            elif isinstance(s, Prefetch):
                self.memory.prefetch(s.buffer, s.indices)
            else:
                self._alloc(s)

    def _for(self, s: For) -> None:
        if s.kind == "unroll":
            self._unroll(s)
        elif s.kind == "serial" or (s.kind == "vector" and s.width <= 1):
            self.serial(s)
        elif s.kind == "vector":
            self._vector(s)
        else:
            self.other_loop(s)

    def _unroll(self, s: For) -> None:
        extent = self.known(s.extent)
        if extent is None:
            raise InternalError(f"unroll loop {s.var.attr.name} of an extent that is not constant")
        for i in range(extent):
            self.values.bind(s.var, i)
            self.block(s.body)

    def known(self, e: Expr) -> int | None:
        """An index expression's value where it is constant here."""
        terms, c = ex.linear(e)
        if not isinstance(c, int):
            return None
        total = c
        for atom, k in terms.items():
            v = self.values.env.get(atom)
            if not isinstance(v, int) or not isinstance(k, int):
                return None
            total += v * k
        return total

    def extent(self, e: Expr) -> V | int:
        """A loop's extent: a constant, or a value equal in all lanes."""
        known = self.known(e)
        if known is not None:
            return known
        v = self.values.value(e)
        if v.n:
            raise InternalError("a loop extent that differs between lanes")
        return v

    def serial(self, s: For) -> None:
        """A loop that counts up by one."""
        self.loop(s, self.extent(s.extent), 1, lambda i: self._bound(s, i))

    def _bound(self, s: For, i: V) -> None:
        self.values.bind(s.var, i)
        self.block(s.body)

    def loop(self, s: For, end: V | int, step: int, body: object) -> None:
        """``for i = 0; i < end; i += step: body(i)``, tested at the bottom."""
        if isinstance(end, int) and end <= 0:
            return
        assert callable(body)
        self.values.touch(*self._written(s))
        fn, head, done = self.fn, self.fn.label("loop"), self.fn.label("done")
        before, limit = fn.block, integer("i64", end) if isinstance(end, int) else end
        if isinstance(end, int):
            fn.jump(head)
        else:
            some = fn.op("i1", 0, f"icmp sgt {end}, 0")
            fn.branch(some.s, head, done)
        fn.start(head)
        at, i, after = len(fn.lines), V("i64", 0, fn.fresh("i")), fn.fresh("next")
        fn.emit("")  # the phi: the label of the last block is not known yet
        self.values.push()
        body(i)
        self.values.pop()
        fn.emit(f"{after} = add nuw nsw {i}, {step}")
        more = fn.op("i1", 0, f"icmp slt i64 {after}, {limit.s}")
        fn.branch(more.s, head, done, f", !llvm.loop {self._loop_metadata()}")
        fn.lines[at] = f"  {i.s} = phi i64 [ 0, %{before} ], [ {after}, %{fn.block} ]"
        fn.start(done)

    def _written(self, s: For | While) -> list[Buffer]:
        """What a loop stores to; unrolled loops ask again and again."""
        found = self._stores.get(s)
        if found is None:
            found = self._stores[s] = written_buffers(s.body)
        return found

    def _loop_metadata(self) -> str:
        """Schedules unroll; LLVM doing it again costs registers (14x32 tiles spill) and time."""
        unit = self.fn.unit
        rule = unit.metadata('!{!"llvm.loop.unroll.disable"}')
        return unit.metadata(f"!{{SELF, {rule}}}", distinct=True)

    # ---- vector loops

    def _vector(self, s: For) -> None:
        if self.values.lanes is not None:
            raise InternalError("a vector loop inside a vector loop")
        extent, w = self.extent(s.extent), s.width
        if not (isinstance(extent, int) and extent % w == 0) and self._is_large(s):
            self._masked_vectors(s, extent)
            return
        store = self.streamed(s)
        if store is not None:
            self._streaming(s, store, extent)
            return
        if isinstance(extent, int):
            self._vector_constant(s, extent)
            return
        r = ex.bounds(s.extent)
        if at_most(s.extent, w) or (r is not None and isinstance(r[1], int) and r[1] <= w):
            self._vector_once(s, extent)
            return
        rest = self.fn.op("i64", 0, f"and {extent}, {w - 1}" if w & (w - 1) == 0
                          else f"srem {extent}, {w}")
        full = self.fn.op("i64", 0, f"sub {extent}, {rest.s}")
        self._full_vectors(s, full)
        more = self.fn.op("i1", 0, f"icmp sgt {extent}, {full.s}")
        self._guarded(more, lambda: self._lanes(s, full, self._tail_mask(w, rest)))

    def _is_large(self, s: For) -> bool:
        """Whether a second copy of the body, for the tail, costs too much time to compile."""
        return len(ex.walk(*stmt_exprs(s.body))) > LARGE_BODY

    def _masked_vectors(self, s: For, extent: V | int) -> None:
        """One loop whose every round is masked."""
        def body(i: V) -> None:
            end = integer("i64", extent) if isinstance(extent, int) else extent
            rest = self.fn.op("i64", 0, f"sub {end}, {i.s}")
            rest = self.fn.intrinsic("smin", "i64", 0, [rest, integer("i64", s.width)])
            self._lanes(s, i, self._tail_mask(s.width, rest))

        self.loop(s, extent, s.width, body)

    def _vector_constant(self, s: For, extent: int) -> None:
        w = s.width
        full, rest = extent - extent % w, extent % w
        if full == w:
            self._lanes(s, 0, None)
        else:
            self._full_vectors(s, full)
        if rest > 0:
            mask = V("i1", w, f"<{', '.join(f'i1 {str(i < rest).lower()}' for i in range(w))}>")
            self._lanes(s, full, mask)

    def _vector_once(self, s: For, extent: V) -> None:
        """An extent that is at most the width: all lanes, or masked ones."""
        w = s.width
        every = self.fn.op("i1", 0, f"icmp eq {extent}, {w}")
        self._guarded(every, lambda: self._lanes(s, 0, None))
        some = self.fn.op("i1", 0, f"icmp sgt {extent}, 0")
        part = self.fn.op("i1", 0, f"icmp slt {extent}, {w}")
        both = self.ops_and(some, part)
        self._guarded(both, lambda: self._lanes(s, 0, self._tail_mask(w, extent)))

    def ops_and(self, a: V, b: V) -> V:
        """a ∧ b."""
        return self.fn.op("i1", 0, f"and {a}, {b.s}")

    def _tail_mask(self, w: int, rest: V) -> V:
        count = self.fn.op("i32", 0, f"trunc {rest} to i32")
        return self.fn.op("i1", w, f"icmp ult {iota(w, ty='i32')}, {self.fn.splat(count, w).s}")

    def _full_vectors(self, s: For, end: V | int) -> None:
        self.loop(s, end, s.width, lambda i: self._lanes(s, i, None))

    def _streaming(self, s: For, store: Store, extent: V | int) -> None:
        """Masked lanes up to an address that is aligned to a vector, whole vectors, the rest."""
        fn, w = self.fn, s.width
        end = integer("i64", extent) if isinstance(extent, int) else extent
        head = fn.intrinsic("smin", "i64", 0, [self._misaligned(s, store), end])
        self._guarded(fn.op("i1", 0, f"icmp sgt {head}, 0"),
                      lambda: self._lanes(s, 0, self._tail_mask(w, head)))
        left = fn.op("i64", 0, f"sub {end}, {head.s}")
        full = fn.op("i64", 0, f"and {left}, {-w}")
        self.memory.stream = store.buffer
        self.loop(s, full, w, lambda i: self._lanes(
            s, fn.op("i64", 0, f"add nuw nsw {i}, {head.s}"), None))
        self.memory.stream = None
        rest = fn.op("i64", 0, f"sub {left}, {full.s}")
        last = fn.op("i64", 0, f"add {head}, {full.s}")
        self._guarded(fn.op("i1", 0, f"icmp sgt {rest}, 0"),
                      lambda: self._lanes(s, last, self._tail_mask(w, rest)))

    def _misaligned(self, s: For, store: Store) -> V:
        """Elements from what the first lane stores to, to the next address that is aligned."""
        before = self.values.enter_lanes(Lanes(s.var, s.width, 0))
        self.values.push()
        at = self.memory.address(store.buffer, store.indices).base
        self.values.pop()
        self.values.enter_lanes(before)
        size = store.buffer.dtype.size
        address = self.fn.op("i64", 0, f"ptrtoint {at} to i64")
        below = self.fn.op("i64", 0, f"sub i64 0, {address.s}")
        part = self.fn.op("i64", 0, f"and {below}, {vector_bytes(s.width, size) - 1}")
        return self.fn.op("i64", 0, f"lshr {part}, {size.bit_length() - 1}")

    def _lanes(self, s: For, base: V | int, mask: V | None) -> None:
        """The body of a vector loop for the lanes base … base + width − 1."""
        before = self.values.enter_lanes(Lanes(s.var, s.width, base, mask))
        self.block(s.body)  # no region of its own: what branches around it opens one
        self.values.enter_lanes(before)

    def _guarded(self, cond: V, body: object) -> None:
        assert callable(body)
        fn, yes, done = self.fn, self.fn.label("then"), self.fn.label("done")
        fn.branch(cond.s, yes, done)
        fn.start(yes)
        self.values.push()
        body()
        self.values.pop()
        fn.jump(done)
        fn.start(done)

    # ---- branches

    def _if(self, s: If) -> None:
        cond = self.values.value(s.cond)
        if cond.n:
            self._divergent(cond, s)
            return
        self._guarded(cond, lambda: self.block(s.then))
        if s.otherwise:
            no = self.fn.op("i1", 0, f"xor {cond}, true")
            self._guarded(no, lambda: self.block(s.otherwise))

    def _divergent(self, cond: V, s: If) -> None:
        """Lanes that differ: both sides run, each under its mask."""
        lanes = self.values.lanes
        assert lanes is not None
        no = self.fn.op("i1", cond.n, f"xor {cond}, splat (i1 true)")
        for side, body in ((cond, s.then), (no, s.otherwise)):
            if not body:
                continue
            mask = side
            if lanes.mask is not None:
                mask = self.fn.op("i1", side.n, f"and {lanes.mask}, {side.s}")
            inner = Lanes(lanes.var, lanes.width, lanes.base, mask, divergent=True)
            self.values.enter_lanes(inner)
            self.values.push()
            self.block(body)
            self.values.pop()
            self.values.enter_lanes(lanes)

    def _while(self, s: While) -> None:
        self.values.touch(*self._written(s))
        fn, head, body, done = self.fn, self.fn.label("while"), self.fn.label(), self.fn.label()
        fn.jump(head)
        fn.start(head)
        self.values.push()
        cond = self.values.value(s.cond)
        if cond.n:
            raise InternalError("a While condition that differs between lanes")
        fn.branch(cond.s, body, done)
        fn.start(body)
        self.block(s.body)
        stop = self.cancelled()
        if stop is None:
            fn.jump(head)
        else:
            fn.branch(stop.s, done, head)
        self.values.pop()
        fn.start(done)

    # ---- buffers

    def _alloc(self, s: Alloc) -> None:
        if s.buffer.scope == "register":
            self.memory.places[s.buffer] = self._registers(s)
        else:
            self.memory.places[s.buffer] = self.other_alloc(s)
        self.values.touch(s.buffer)
        self.block(s.body)

    def _registers(self, s: Alloc) -> Place:
        """An alloca that SROA turns into registers; rows are padded to whole vectors."""
        b, shape = s.buffer, [d for d in s.buffer.shape if isinstance(d, int)]
        if len(shape) != b.rank:
            raise InternalError(f"register buffer {b} of a size that is not constant")
        w = max(vector_width(s.body), self.values.lanes.width if self.values.lanes else 1)
        if shape:
            shape[-1] = -(-shape[-1] // w) * w
        strides, count = [], 1
        for d in reversed(shape):
            strides.append(count)
            count *= d
        size = count + (w if w > 1 else 0)
        align = min(64, max(1, w * b.dtype.size)) if w > 1 else b.dtype.size
        align = 1 << (align.bit_length() - 1)
        text = f"alloca [{size} x {memory_type(b.dtype)}], align {align}"
        pointer = self.fn.op("ptr", 0, text, entry=True)
        return Place(pointer, tuple(reversed(strides)), private=True)

    # ---- errors

    def check(self, e: Expr, value: V, ok: V) -> V:
        """Reports where ok is false in an active lane; integers are 0 there, so no address goes
        astray before the run ends."""
        lanes, fn = self.values.lanes, self.fn
        if ok.s == "true":
            return value
        n = max(ok.n, value.n)
        bad = fn.op("i1", ok.n, f"xor {ok}, {'splat (i1 true)' if ok.n else 'true'}")
        if lanes is not None and lanes.mask is not None and (ok.n or lanes.divergent):
            bad = fn.splat(bad, lanes.width)
            bad = fn.op("i1", bad.n, f"and {bad}, {lanes.mask.s}")
        some = fn.intrinsic("vector.reduce.or", "i1", bad.n, [bad]) if bad.n else bad
        cold, on = fn.label("fail"), fn.label("ok")
        weights = fn.unit.metadata('!{!"branch_weights", i32 1, i32 1000000}')
        fn.branch(some.s, cold, on, f", !prof {weights}")
        fn.start(cold)
        code, op, loc = e.attr
        self.values.push()
        self.report(code, op, loc, *self._details(e, value, bad))
        self.values.pop()
        fn.jump(on)
        fn.start(on)
        if e.dtype.is_float or e.dtype.is_bool or e.dtype.is_complex:
            return value
        value, ok = fn.splat(value, n), fn.splat(ok, n)
        zero = integer(value.ty, 0, n)
        return fn.op(value.ty, n, f"select {ok}, {value}, {zero}")

    def _details(self, e: Expr, value: V, bad: V) -> tuple[V, V]:
        """The offending integer and, for ``… < bound``, its bound: those of the first comparison
        that fails where there are several (positions of more than one index)."""
        pairs = [x.args for x in ex.walk(e.args[1])
                 if x.op == "lt" and not x.args[1].dtype.is_float]
        if not pairs:
            zero = integer("i64", 0)
            plain = e.dtype.is_float or e.dtype.is_bool
            return (zero if plain else self._lane_of(value, bad)), zero
        found, bound = (ex.cast(x, ex.INDEX) for x in pairs[-1])
        for x, n in reversed(pairs[:-1]):
            i, end = ex.cast(x, ex.INDEX), ex.cast(n, ex.INDEX)
            inside = (i >= 0) & (i < end)
            found, bound = ex.select(inside, found, i), ex.select(inside, bound, end)
        return self._lane_of(self.values.value(found), bad), self._lane_of(
            self.values.value(bound), bad
        )

    def _lane_of(self, v: V, bad: V) -> V:
        """v in the first bad lane, as i64."""
        if v.n:
            bits = self.fn.op(f"i{bad.n}", 0, f"bitcast {bad} to i{bad.n}") if bad.n else None
            lane = V("i32", 0, "0")
            if bits is not None:
                lane = self.fn.intrinsic("cttz", bits.ty, 0, [bits, "i1 true"])
            v = self.fn.op(v.ty, 0, f"extractelement {v}, {lane}")
        if v.ty == "i64":
            return v
        return self.fn.op("i64", 0, f"sext {v} to i64")


def written_buffers(body: Iterable[Stmt]) -> list[Buffer]:
    """The buffers that statements store to, each once, in order."""
    return list(dict.fromkeys(s.buffer for s in walk_stmts(body) if isinstance(s, Store)))


def used_buffers(body: tuple[Stmt, ...]) -> list[Buffer]:
    """The buffers that statements load from or store to, each once, in order."""
    found = dict.fromkeys(written_buffers(body))
    for e in ex.walk(*stmt_exprs(body)):
        if e.op == "load":
            found[e.attr] = None
    return list(found)


def vector_width(body: Iterable[Stmt]) -> int:
    """The widest vector loop in a block."""
    widths = (s.width for s in walk_stmts(body) if isinstance(s, For) and s.kind == "vector")
    return max(widths, default=1)


def at_most(e: Expr, w: int) -> bool:
    """Whether e is visibly at most w: a minimum with a constant."""
    if e.op != "min":
        return False
    for a in e.args:
        c = ex.is_const_index(a)
        if isinstance(c, int) and c <= w:
            return True
    return False
