"""Scheduled kernels to CPU functions: one LLVM function a phase, with the arguments of `abi.py`."""

from __future__ import annotations

from functools import partial

from flowc.ir.kernel.form import Alloc, Buffer, For, LoopKernel, Phase, Stmt, Store
from flowc.runtime.abi import field_pointer
from flowc.runtime.errors import InternalError

from . import abi
from .calls import call, kept_ops
from .emit import Function, Target, Unit, V
from .legalize import legalize_body
from .memory import Place
from .statements import Lowerer, used_buffers, written_buffers
from .streams import store_to_stream, to_stream

MAX_CLASSES = 64  # of memory that is told apart: each names all others, LLVM's time is their square
ARGS = "ptr %args, i64 %chunk, i32 %worker"
TILED = "flowc-tiled"  # attribute of functions that are unrolled tiles: few passes find more to do


def lower_phase(
    kernel: LoopKernel, phase: Phase, name: str, target: Target, unit: Unit | None = None
) -> str:
    """The text of ``void @name(ptr %args, i64 %chunk, i32 %worker)``, one chunk of a phase.

    With a `unit` the function is internal and added to it, the unit's text being the module. With
    none, the result is a whole module in which the function is exported (tests, `flowc opt`).
    Raises UnimplementedError for element types without code, InternalError for kernels that break
    the grammar.
    """
    whole = unit is None
    unit = unit or Unit(target)
    linkage = "" if whole else "internal "
    width = f' "prefer-vector-width"="{target.vector_bits}"' if target.vector_bits else ""
    tiled = f' "{TILED}"' if kernel.note.startswith(("contract", "attention")) else ""
    header = f'define {linkage}void @{name}({ARGS}) nounwind{width}{tiled}'
    fn = Function(unit, header)
    kept = kept_ops(phase.body, unit)
    body = legalize_body(phase.body, target, kept)
    lowerer = CpuLowerer(fn, kernel, phase, body)
    lowerer.values.called = kept
    lowerer.values.call = partial(call, fn)
    lowerer.block(body)
    lowerer.fence()
    fn.emit("ret void")
    unit.functions.append(fn.text())
    return unit.text() if whole else unit.functions[-1]


class CpuLowerer(Lowerer):
    """A phase as a function of a chunk."""

    def __init__(
        self, fn: Function, kernel: LoopKernel, phase: Phase, body: tuple[Stmt, ...]
    ) -> None:
        super().__init__(fn, body)
        self.kernel, self.phase = kernel, phase
        self._symbols = {s: abi.dim_word(kernel, s) for s in abi.symbols(kernel)}
        self._loaded: dict[str, V] = {}
        self._scratch, _ = abi.scratch_layout(phase)
        self._scratch_base: V | None = None
        self._stack: dict[Buffer, Place] = {}
        self._cancel: V | None = None
        self.started = False
        self._alias = self._alias_classes(body)
        self._streams = to_stream(kernel, phase, self.fn.unit.target)
        used = set(used_buffers(body))
        for n, b in enumerate(kernel.params):
            if b in used:
                pointer = self._word(abi.buffer_word(kernel, n), "ptr")
                self.memory.places[b] = Place(pointer, b.strides(), self._metadata(b))

    # ---- arguments

    def _word(self, n: int, ty: str) -> V:
        at = self.fn.op("ptr", 0, f"getelementptr inbounds i8, ptr %args, i64 {8 * n}", entry=True)
        once = self.fn.unit.metadata("!{}")
        return self.fn.op(ty, 0, f"load {ty}, {at}, !invariant.load {once}", entry=True)

    def symbol(self, name: str) -> V:
        if name not in self._loaded:
            if name not in self._symbols:
                raise InternalError(f"symbol {name} is not among the kernel's")
            self._loaded[name] = self._word(self._symbols[name], "i64")
        return self._loaded[name]

    # ---- aliasing

    def _alias_classes(self, body: tuple[Stmt, ...]) -> dict[Buffer, int]:
        """Buffer → class; buffers of one class may be the same memory. Class 0 is only read."""
        written = set(written_buffers(body))
        group = {b: b for b in self.kernel.params}
        members = {b: [b] for b in self.kernel.params}
        for a, b in self.kernel.inplace:
            old, new = group[a], group[b]
            if old is not new:
                group.update(dict.fromkeys(members[old], new))
                members[new] += members.pop(old)
        changing = {group[b] for b in self.kernel.params if b in written}
        numbers: dict[Buffer, int] = {}
        for g in group.values():
            if g in changing and g not in numbers:
                numbers[g] = len(numbers) + 1
        return {b: numbers.get(g, 0) for b, g in group.items()}

    def _metadata(self, b: Buffer) -> str:
        unit = self.fn.unit
        classes = sorted({*self._alias.values()})
        if not 2 <= len(classes) <= MAX_CLASSES:
            return ""
        if not hasattr(self, "_scopes"):
            domain = unit.metadata("!{SELF}", distinct=True)
            self._scopes = {c: unit.metadata(f"!{{SELF, {domain}}}", True) for c in classes}
        own = self._alias[b]
        scope = unit.metadata(f"!{{{self._scopes[own]}}}")
        others = ", ".join(self._scopes[c] for c in classes if c != own)
        return f", !alias.scope {scope}, !noalias {unit.metadata(f'!{{{others}}}')}"

    # ---- loops and buffers

    def other_loop(self, s: For) -> None:
        if s.kind != "parallel":
            super().other_loop(s)
        if self.fn.lines or self.started:
            raise InternalError("a parallel loop that is not the outermost of its phase")
        self.started = True
        self.values.bind(s.var, V("i64", 0, "%chunk"))
        self.block(s.body)

    def other_alloc(self, s: Alloc) -> Place:
        b = s.buffer
        if b.scope != "local":
            return super().other_alloc(s)
        if b not in self._stack:
            self._stack[b] = self._in_scratch(b) if b in self._scratch else self._on_stack(b)
        return self._stack[b]

    def _on_stack(self, b: Buffer) -> Place:
        size = abi.footprint(b)
        text = f"alloca [{max(1, int(str(size)))} x i8], align 64"
        return Place(self.fn.op("ptr", 0, text, entry=True), b.strides())

    def _in_scratch(self, b: Buffer) -> Place:
        if self._scratch_base is None:
            base = self._word(abi.SCRATCH, "ptr")
            stride = self._word(abi.SCRATCH_STRIDE, "i64")
            worker = self.fn.op("i64", 0, "zext i32 %worker to i64", entry=True)
            offset = self.fn.op("i64", 0, f"mul {worker}, {stride.s}", entry=True)
            self._scratch_base = self.fn.op(
                "ptr", 0, f"getelementptr i8, {base}, {offset}", entry=True
            )
        offset = self.values.dim(self._scratch[b])
        text = f"getelementptr i8, {self._scratch_base}, {offset}"
        return Place(self.fn.op("ptr", 0, text, entry=True), b.strides())

    # ---- stores past the caches

    def streamed(self, s: For) -> Store | None:
        return store_to_stream(s, self._streams) if self._streams else None

    def fence(self) -> None:
        """Makes streamed stores visible before the chunk counts as done."""
        if self.memory.streamed:
            name = "@llvm.x86.sse.sfence"
            self.fn.unit.declare(name, f"declare void {name}() nounwind")
            self.fn.emit(f"call void {name}()")

    # ---- errors and cancelling

    def report(self, code: int, op: str, loc: str, d0: V, d1: V) -> None:
        site = self.fn.unit.site(code, op, loc)
        self.fn.emit(
            f"call void @flowc_report(ptr %args, i32 {code}, i32 {site}, {d0}, {d1})"
        )

    def cancelled(self) -> V | None:
        if self._cancel is None:
            ctx = self._word(abi.CTX, "ptr")
            name = self.fn.fresh()
            self.fn.entry.append("  " + field_pointer(name, ctx.s, "cancel"))
            null = self.fn.op("i1", 0, f"icmp eq {ctx}, null", entry=True)
            zero = self.memory.zero_place()
            self._cancel = self.fn.op(
                "ptr", 0, f"select {null}, {zero}, ptr {name}", entry=True
            )
        word = self.fn.op("i32", 0, f"load volatile i32, {self._cancel}, align 4")
        return self.fn.op("i1", 0, f"icmp ne {word}, 0")
