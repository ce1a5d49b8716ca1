"""What the host function is written with: addresses, memory that grows, calls that may fail."""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.kernel.form import Buffer
from flowc.ir.plan import Copy, Launch, Loop, Program, Push, step_writes, walk_steps
from flowc.runtime.abi import E_CANCELLED, E_MEMORY, field_pointer
from flowc.runtime.errors import InternalError

from ..llvm.emit import Function, Unit
from ..llvm.sizes import Sizes

RUN = f"""
define internal void @flowc_run(ptr %ctx, i64 %chunks, ptr %fn, ptr %args, i32 %kernel)
    nounwind noinline {{
entry:
  %none = icmp eq ptr %ctx, null
  br i1 %none, label %serial, label %known
known:
  {field_pointer("%tracep", "%ctx", "trace")}
  %trace = load ptr, ptr %tracep
  %untraced = icmp eq ptr %trace, null
  br i1 %untraced, label %choose, label %begin
begin:
  call void %trace(ptr %ctx, i32 %kernel, i32 1)
  br label %choose
choose:
  %few = icmp slt i64 %chunks, 2
  br i1 %few, label %serial, label %parallel
parallel:
  {field_pointer("%pfp", "%ctx", "parallel_for")}
  %pf = load ptr, ptr %pfp
  %nopool = icmp eq ptr %pf, null
  br i1 %nopool, label %serial, label %fork
fork:
  call void %pf(ptr %ctx, i64 %chunks, ptr %fn, ptr %args)
  br label %done
serial:
  %empty = icmp slt i64 %chunks, 1
  br i1 %empty, label %done, label %loop
loop:
  %i = phi i64 [ 0, %serial ], [ %next, %loop ]
  call void %fn(ptr %args, i64 %i, i32 0)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %chunks
  br i1 %more, label %loop, label %done
done:
  br i1 %none, label %out, label %after
after:
  {field_pointer("%tracep2", "%ctx", "trace")}
  %trace2 = load ptr, ptr %tracep2
  %untraced2 = icmp eq ptr %trace2, null
  br i1 %untraced2, label %out, label %end
end:
  call void %trace2(ptr %ctx, i32 %kernel, i32 0)
  br label %out
out:
  ret void
}}
"""


class HostBase:
    """The part of the host function that knows nothing of steps; `HostFunction` sets the rest."""

    p: Program
    unit: Unit
    f: Function  # under construction
    sizes: Sizes
    symbols: list[str]
    loop_symbols: frozenset[str]  # those that only the data tells
    symbol_values: dict[str, str]
    address: dict[Buffer, str]
    grown: dict[Buffer, int]
    long: bool

    def constant_name(self, b: Buffer) -> str:
        """The symbol of a constant's data."""
        return f'@"{self.p.name}.{b.name}"'

    def _symbol(self, name: str) -> str:
        if name in self.symbol_values:
            return self.symbol_values[name]
        return self._load("i64", self._gep("%dims", self.symbols.index(name)))

    def _load(self, ty: str, ptr: str) -> str:
        name = self.f.fresh("x")
        self.f.emit(f"{name} = load {ty}, ptr {ptr}")
        return name

    def _gep(self, base: str, n: int) -> str:
        name = self.f.fresh("p")
        self.f.emit(f"{name} = getelementptr i64, ptr {base}, i64 {n}")
        return name

    def _offset(self, base: str, nbytes: str) -> str:
        name = self.f.fresh("p")
        self.f.emit(f"{name} = getelementptr i8, ptr {base}, i64 {nbytes}")
        return name

    def _where(self, b: Buffer) -> str:
        root = self.p.root(b)
        found = self.address.get(root)
        if found is not None:
            return found
        if self.long and root in self.p.offsets:  # nothing then lives through thousands of launches
            return self._offset("%workspace", self.sizes.dim(self.p.offsets[root]))
        if not any(dims.symbols(d) & self.loop_symbols for d in root.shape):
            raise InternalError(f"{b} has no memory")
        return self._load("ptr", f"%grown{self._slot(root)}")

    def _truth(self, b: Buffer) -> str:
        byte = self._load("i8", self._where(b))
        name = self.f.fresh("t")
        self.f.emit(f"{name} = icmp ne i8 {byte}, 0")
        return name

    def _define(self, symbol: str, value: str) -> None:
        """Give a data-defined symbol its value; buffers that it sizes get their memory."""
        self.f.emit(f"store i64 {value}, ptr {self._gep('%dims', self.symbols.index(symbol))}")
        if symbol in self.p.bounds:
            return
        for b in self._sized_by(symbol):
            self._grow(b, self.sizes.dim(b.type.nbytes))

    def _sized_by(self, symbol: str) -> list[Buffer]:
        """Temporaries whose size the symbol tells."""
        found: dict[Buffer, None] = {}
        for s in walk_steps(self.p.steps):
            made: list[Buffer] = []
            if isinstance(s, Launch):
                made = [*s.kernel.outputs, *(b for own in s.scratch for b in own)]
            elif isinstance(s, Copy):
                made = [s.dst]
            elif isinstance(s, Push) and not s.grows:
                made = [s.stack]
            elif isinstance(s, Loop):
                rows = dict(s.xs)
                made = [rows[b] for x in s.body for b in step_writes(x) if b in rows]
            for b in made:
                root = self.p.root(b)
                placed = root in self.address or root in self.p.offsets
                if not placed and any(symbol in dims.symbols(d) for d in root.shape):
                    found.setdefault(root)
        return list(found)

    def _slot(self, b: Buffer) -> int:
        if b not in self.grown:
            n = self.grown[b] = len(self.grown)
            self.f.entry.append(f"  %grown{n} = alloca ptr")
            self.f.entry.append(f"  store ptr %workspace, ptr %grown{n}")
            self.f.entry.append(f"  %room{n} = alloca i64")
            self.f.entry.append(f"  store i64 0, ptr %room{n}")
        return self.grown[b]

    def _grow(self, b: Buffer, nbytes: str) -> None:
        """Ask the context for memory for b; fails with FLOWC_E_MEMORY."""
        f, n = self.f, self._slot(b)
        ask, got, ok = f.label("ask"), f.label("got"), f.label("have")
        room = self._load("i64", f"%room{n}")
        enough = f.fresh("t")
        f.emit(f"{enough} = icmp sge i64 {room}, {nbytes}")
        f.branch(enough, ok, ask)
        f.start(ask)
        self._return_if(self._is_null("%ctx"), E_MEMORY)
        name = f.fresh("p")
        f.emit(field_pointer(name, "%ctx", "grow"))
        fn = self._load("ptr", name)
        self._return_if(self._is_null(fn), E_MEMORY)
        double = f.fresh("b")
        f.emit(f"{double} = mul i64 {nbytes}, 2")
        memory = f.fresh("m")
        f.emit(f"{memory} = call ptr {fn}(ptr %ctx, i32 {n}, i64 {double})")
        self._return_if(self._is_null(memory), E_MEMORY)
        f.emit(f"store ptr {memory}, ptr %grown{n}")
        f.emit(f"store i64 {double}, ptr %room{n}")
        f.jump(got)
        f.start(got)
        f.jump(ok)
        f.start(ok)

    def _store(self, word: int, ty: str, value: str) -> None:
        self.f.emit(f"store {ty} {value}, ptr {self._gep('%args', word)}")

    def _memcpy(self, dst: str, src: str, size: str) -> None:
        self.unit.declare("@llvm.memcpy", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        self.f.emit(
            f"call void @llvm.memcpy.p0.p0.i64(ptr {dst}, ptr {src}, i64 {size}, i1 false)"
        )

    def _is_null(self, ptr: str) -> str:
        name = self.f.fresh("t")
        self.f.emit(f"{name} = icmp eq ptr {ptr}, null")
        return name

    def _return_if(self, cond: str, code: int | str) -> None:
        f = self.f
        bad, ok = f.label("fail"), f.label("ok")
        f.branch(cond, bad, ok)
        f.start(bad)
        f.emit(f"ret i32 {code}")
        f.start(ok)

    def _poll(self) -> None:
        """Return FLOWC_E_CANCELLED if the context asks for it."""
        f = self.f
        ask, ok = f.label("poll"), f.label("go")
        f.branch(self._is_null("%ctx"), ok, ask)
        f.start(ask)
        name = f.fresh("p")
        f.emit(field_pointer(name, "%ctx", "cancel"))
        value = f.fresh("c")
        f.emit(f"{value} = load volatile i32, ptr {name}")
        stop = f.fresh("t")
        f.emit(f"{stop} = icmp ne i32 {value}, 0")
        self._return_if(stop, E_CANCELLED)
        f.jump(ok)
        f.start(ok)
