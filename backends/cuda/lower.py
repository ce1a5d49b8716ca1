"""Scheduled GPU kernels to LLVM for NVPTX: one `ptx_kernel` function a phase.

    define ptx_kernel void @NAME(ptr addrspace(1) %b0, …, i64 %d0, …, ptr addrspace(1) %error)

Buffers in the order of `kernel.params`, symbols sorted by name, and, where the phase can fail, the
error record {i64 key, i64 detail}; see `ERROR`. The grid has one dimension. A thread loop is what
each thread of the block does once; between two that touch the same memory, of which one writes,
there is a barrier.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from flowc.ir import dims
from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import (
    Alloc,
    Buffer,
    For,
    If,
    LoopKernel,
    Phase,
    Stmt,
    stmt_exprs,
    walk_stmts,
)
from flowc.runtime.errors import InternalError

from ..llvm import abi
from ..llvm.emit import Function, Unit, V
from ..llvm.legalize import legalize_body
from ..llvm.memory import Address, Memory, Place, zero_of
from ..llvm.statements import Lowerer, used_buffers, written_buffers
from .fmod import FMOD
from .target import SHARED_BYTES, CudaTarget

BARRIER = "@llvm.nvvm.barrier.cta.sync.aligned.all"
TID = "@llvm.nvvm.read.ptx.sreg.tid.x"
CTAID = "@llvm.nvvm.read.ptx.sreg.ctaid.x"
STACK = 16 * 1024  # bytes of a thread's stack under emulation, beyond its own variables

# The key's upper half is the word of `emit.decode_error`, its lower half ~(low 32 bits of the
# offending value): the greatest key is the lowest site and value, whatever thread came first.
ERROR = "%error"


@dataclass(frozen=True)
class DeviceKernel:
    """A phase in a device module, and how to launch it.

    grid: blocks, an expression over the symbols; shared: (name, bytes) of its shared buffers;
    stack: bytes of a thread's stack under emulation.
    """

    name: str
    params: tuple[Buffer, ...]
    symbols: tuple[str, ...]
    grid: Expr
    threads: int
    shared: tuple[tuple[str, int], ...]
    barriers: bool
    checked: bool
    stack: int

    @property
    def words(self) -> int:
        """64-bit arguments."""
        return len(self.params) + len(self.symbols) + self.checked


def shared_size(shared: Iterable[tuple[str, int]]) -> int:
    """Bytes of shared buffers that lie one after the other, each at a multiple of 16."""
    return sum(-(-n // 16) * 16 for _, n in shared)


@dataclass
class DeviceModule:
    """A device module under construction. `sites`: the unit whose error sites it shares, if any."""

    target: CudaTarget
    sites: Unit | None = None
    kernels: list[DeviceKernel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unit = _DeviceUnit(self.target, self.sites)

    def add(
        self, kernel: LoopKernel, phase: Phase, name: str, aliased: Collection[Buffer] = ()
    ) -> DeviceKernel:
        """Lowers a phase. aliased: params that may be the same memory as others."""
        made = lower_phase(kernel, phase, name, self.unit, aliased)
        self.kernels.append(made)
        return made

    def text(self) -> str:
        """The module: what becomes PTX and what the emulator runs."""
        return self.unit.text()


def digest(text: str) -> str:
    """The hash by which PTX and emulator agree on what they were made of."""
    return hashlib.sha256(text.encode()).hexdigest()


class _DeviceUnit(Unit):
    """A unit whose error sites are another's, and with the helpers that kernels may call."""

    def __init__(self, target: CudaTarget, host: Unit | None) -> None:
        super().__init__(target)
        self.host = host

    def site(self, code: int, op: str, loc: str) -> int:
        return super().site(code, op, loc) if self.host is None else self.host.site(code, op, loc)

    def text(self) -> str:
        body = "\n".join(self.functions)
        helpers = [text for name, text in FMOD.items() if name in body]
        parts = [f'target triple = "{self.target.triple}"', *self.globals, *helpers, body]
        return "\n".join([*parts, *self._declared.values(), *self._metadata]) + "\n"


def lower_phase(
    kernel: LoopKernel, phase: Phase, name: str, unit: Unit, aliased: Collection[Buffer] = ()
) -> DeviceKernel:
    """Adds ``ptx_kernel @name`` to the unit. InternalError for what breaks the grammar."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise InternalError(f"{name!r} is no name of a PTX function")
    body = legalize_body(phase.body, unit.target)
    if len(body) != 1 or not isinstance(body[0], For) or body[0].kind != "block":
        raise InternalError(f"a phase of {kernel.name} is not one loop over blocks")
    checked = any(e.op == "check" for e in ex.walk(*stmt_exprs(body)))
    symbols = abi.symbols(kernel)
    aliased = {*aliased, *(b for pair in kernel.inplace for b in pair)}
    params = [
        f"ptr addrspace(1){'' if b in aliased else ' noalias'} %b{n}"
        for n, b in enumerate(kernel.params)
    ]
    params += [f"i64 %d{n}" for n in range(len(symbols))]
    params += [f"ptr addrspace(1) {ERROR}"] if checked else []
    header = (f'define ptx_kernel void @{name}({", ".join(params)}) nounwind'
              f' "nvvm.maxntid"="{phase.threads}"')
    fn = Function(unit, header)
    lowerer = CudaLowerer(fn, kernel, phase, body, name)
    lowerer.block(body)
    fn.emit("ret void")
    text = _fmod_calls(fn.text())
    unit.functions.append(text)
    shared = tuple(lowerer.shared)
    used = shared_size(shared)
    if used > SHARED_BYTES:
        raise InternalError(f"{kernel.name} needs {used} bytes of shared memory a block")
    return DeviceKernel(
        name, kernel.params, symbols, body[0].extent, phase.threads, shared,
        lowerer.barriers > 0, checked, -(-(STACK + _alloca_bytes(text)) // 64) * 64,
    )


def _alloca_bytes(text: str) -> int:
    sizes = {"i8": 1, "i16": 2, "i32": 4, "float": 4}
    found = re.findall(r"alloca \[(\d+) x (\w+)\]", text)
    return sum(int(n) * sizes.get(ty, 8) + 16 for n, ty in found)


def _fmod_calls(text: str) -> str:
    """NVPTX's own `frem` is x − trunc(x/y)·y, which is not exact; see `fmod.py`."""
    for ty, name in (("float", "@flowc_fmodf"), ("double", "@flowc_fmod")):
        text = re.sub(rf"frem {ty} (\S+), (\S+)", rf"call {ty} {name}({ty} \1, {ty} \2)", text)
    return text


@dataclass
class _Touched:
    """What thread loops since the last barrier have read and written."""

    reads: set[Buffer] = field(default_factory=set)
    writes: set[Buffer] = field(default_factory=set)

    def conflicts(self, o: _Touched) -> bool:
        return bool(self.writes & (o.reads | o.writes) or self.reads & o.writes)

    def add(self, o: _Touched) -> None:
        self.reads |= o.reads
        self.writes |= o.writes


class CudaLowerer(Lowerer):
    """A phase as what one thread does."""

    def __init__(
        self, fn: Function, kernel: LoopKernel, phase: Phase, body: tuple[Stmt, ...], name: str
    ) -> None:
        self.kernel, self.phase, self.name = kernel, phase, name
        self._symbols = {s: V("i64", 0, f"%d{n}") for n, s in enumerate(abi.symbols(kernel))}
        super().__init__(fn, body)
        self.memory = DeviceMemory(self.values)
        self.shared: list[tuple[str, int]] = []
        self.barriers = 0
        self._pending = _Touched()
        self._tid: V | None = None
        self._inside = False
        used = set(used_buffers(body))
        for n, b in enumerate(kernel.params):
            if b in used:
                self.memory.places[b] = Place(V("ptr addrspace(1)", 0, f"%b{n}"), b.strides())
        self._across = [b for b in written_buffers(body) if b.scope in ("global", "shared")]

    def symbol(self, name: str) -> V:
        return self._symbols[name]

    # ---- loops

    def other_loop(self, s: For) -> None:
        if s.kind == "block":
            self.values.bind(s.var, self._register(CTAID))
            self.block(s.body)
        elif s.kind == "thread":
            self._thread_loop(s)
        else:
            super().other_loop(s)

    def _register(self, name: str) -> V:
        self.fn.unit.declare(name, f"declare i32 {name}() nounwind memory(none)")
        v = self.fn.op("i32", 0, f"call i32 {name}()", entry=True)
        return self.fn.op("i64", 0, f"zext {v} to i64", entry=True)

    def _thread_loop(self, s: For) -> None:
        extent = self.known(s.extent)
        if extent is None or extent > self.phase.threads or self._inside:
            raise InternalError(f"a thread loop over {s.extent!r} in {self.kernel.name}")
        touched = self._touches(s)
        if self._pending.conflicts(touched):
            self._barrier()
        self._pending.add(touched)
        if self._tid is None:
            self._tid = self._register(TID)
        self.values.bind(s.var, self._tid)
        self._inside = True
        if extent == self.phase.threads:
            self.values.push()
            self.block(s.body)
            self.values.pop()
        else:
            some = self.fn.op("i1", 0, f"icmp ult {self._tid}, {extent}")
            self._guarded(some, lambda: self.block(s.body))
        self._inside = False

    def _touches(self, s: For) -> _Touched:
        """Memory that other threads may see; what the phase only reads does not matter."""
        across = set(self._across)
        reads = {e.attr for e in ex.walk(*stmt_exprs(s.body)) if e.op == "load"}
        return _Touched(reads & across, set(written_buffers(s.body)) & across)

    def _barrier(self) -> None:
        self.fn.unit.declare(BARRIER, f"declare void {BARRIER}(i32) nounwind convergent")
        self.fn.emit(f"call void {BARRIER}(i32 0)")
        self.barriers += 1
        self._pending = _Touched()
        self.values.touch(*self._across)

    def _flush(self) -> None:
        if self._pending.reads or self._pending.writes:
            self._barrier()

    def serial(self, s: For) -> None:
        """A loop that holds thread loops starts and ends each round with nothing pending."""
        if not _has_threads(s.body):
            super().serial(s)
            return
        self._flush()

        def body(i: V) -> None:
            self.values.bind(s.var, i)
            self.block(s.body)
            self._flush()

        self.loop(s, self.extent(s.extent), 1, body)

    def _if(self, s: If) -> None:
        if _has_threads((s,)):
            raise InternalError(f"a thread loop under a branch in {self.kernel.name}")
        super()._if(s)

    # ---- memory

    def other_alloc(self, s: Alloc) -> Place:
        b = s.buffer
        if b.scope != "shared":
            return super().other_alloc(s)
        size = abi.footprint(b)
        if not isinstance(size, int):
            raise InternalError(f"shared buffer {b} of a size that is not constant")
        hint = re.sub(r"\W", "_", b.name, flags=re.ASCII)
        symbol = f"@{self.name}_{hint}_{len(self.shared)}_s"
        self.shared.append((symbol, size))
        text = f"{symbol} = internal addrspace(3) global [{size} x i8] undef, align 16"
        self.fn.unit.globals.append(text)
        return Place(V("ptr addrspace(3)", 0, symbol), b.strides())

    # ---- errors

    def report(self, code: int, op: str, loc: str, d0: V, d1: V) -> None:
        fn = self.fn
        word = ~(self.fn.unit.site(code, op, loc) << 8 | code) & 0xFFFFFFFF
        low = fn.op("i64", 0, f"and {d0}, {0xFFFFFFFF}")
        inverted = fn.op("i64", 0, f"xor {low}, {0xFFFFFFFF}")
        key = fn.op("i64", 0, f"or {inverted}, {_signed64(word << 32)}")
        old = fn.op("i64", 0, f"atomicrmw umax ptr addrspace(1) {ERROR}, {key} monotonic")
        newer = fn.op("i1", 0, f"icmp ugt {key}, {old.s}")
        keep, done = fn.label("keep"), fn.label("kept")
        fn.branch(newer.s, keep, done)
        fn.start(keep)
        detail = fn.op("ptr addrspace(1)", 0, f"getelementptr i64, ptr addrspace(1) {ERROR}, i64 1")
        fn.emit(f"store {d1}, {detail}")
        fn.jump(done)
        fn.start(done)


class DeviceMemory(Memory):
    """Loads whose predicate is false branch around: there is no zero to select the address of."""

    def _load_one(self, b: Buffer, at: Address, p: V | None) -> V:
        if p is None or p.s == "true":
            return self._plain(b, at.base, 0)
        fn = self.fn
        yes, done, before = fn.label("load"), fn.label("loaded"), fn.block
        fn.branch(p.s, yes, done)
        fn.start(yes)
        out = self._plain(b, at.base, 0)
        fn.jump(done)
        fn.start(done)
        return fn.phi(out.ty, [(out.s, yes), (zero_of(out.ty, 0).s, before)])


def _has_threads(body: Iterable[Stmt]) -> bool:
    return any(isinstance(s, For) and s.kind == "thread" for s in walk_stmts(body))


def _signed64(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x


def grid_size(kernel: DeviceKernel, symbols: dict[str, int]) -> int:
    """Blocks of a launch."""
    e = kernel.grid
    if e.op != "lin" or e.args:
        raise InternalError(f"the grid of {kernel.name} is not a size")
    return int(str(dims.substitute(e.attr[1], symbols)))


__all__ = [
    "CudaLowerer", "DeviceKernel", "DeviceModule", "digest", "grid_size", "lower_phase",
    "shared_size",
]
