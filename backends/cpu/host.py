"""The host function: a program's plan as one LLVM function, and its companions of the ABI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel.expr import walk
from flowc.ir.kernel.form import Buffer, For, LoopKernel, stmt_exprs
from flowc.ir.literal import Literal
from flowc.ir.plan import (
    Cond,
    Copy,
    Define,
    HostCall,
    Launch,
    Loop,
    Program,
    Push,
    Step,
    Variant,
    launch_params,
    launches,
    walk_steps,
)
from flowc.runtime.abi import E_HOST, field_pointer
from flowc.runtime.errors import InternalError

from ..llvm import abi
from ..llvm.companions import Companions
from ..llvm.data import global_text, outside
from ..llvm.emit import Function, Unit
from ..llvm.lower import lower_phase
from ..llvm.sizes import Sizes
from .host_base import RUN, HostBase

OPTIMIZED_LAUNCHES = 40  # a host function of more is long: cut into pieces, not optimized
SEGMENT = 50  # launches in a piece
SEGMENT_ARGS = ("%ctx", "%buffers", "%dims", "%workspace", "%args", "%flag")

def host_text(p: Program, unit: Unit) -> str:
    """The whole module's text: phases, host function, companions, constants."""
    HostFunction(p, unit).make()
    return unit.text()


def kernel_names(p: Program) -> list[str]:
    """The names of the kernels, in the order of their trace ids."""
    return [s.kernel.name for s in launches(p.steps)]


def host_calls(p: Program) -> list[HostCall]:
    """The host calls, in the order of their ids."""
    return [s for s in walk_steps(p.steps) if isinstance(s, HostCall)]


def entry_symbols(p: Program) -> list[str]:
    """The symbols of the program: those of its inputs and state, then those that loops define."""
    seen: dict[str, None] = {}
    for b in (*p.inputs, *p.state):
        for d in b.shape:
            seen.update(dict.fromkeys(sorted(dims.symbols(d))))
    seen.update(dict.fromkeys(data_symbols(p)))
    return list(seen)


def data_symbols(p: Program) -> list[str]:
    """The symbols that only the data tells: numbers of rounds, counts."""
    found = (s.symbol for s in walk_steps(p.steps) if isinstance(s, Loop | Define) and s.symbol)
    return list(dict.fromkeys(found))


def large_constants(p: Program, triple: str) -> dict[str, bytes]:
    """Symbol → bytes of the constants that `data.fill` puts into the object."""
    return {
        f"{p.name}.{b.name}": literal_bytes(v) for b, v in p.constants.items()
        if outside(v.array.nbytes, triple)
    }


def literal_bytes(value: Literal) -> bytes:
    """A constant's bytes as buffers hold them."""
    return np.ascontiguousarray(value.array).tobytes()


class HostFunction(HostBase):
    """The host function under construction; a backend overrides how kernels are launched."""

    def __init__(self, p: Program, unit: Unit) -> None:
        self.p, self.unit = p, unit
        self.symbols = entry_symbols(p)
        self.loop_symbols = frozenset(data_symbols(p))
        self.rounds: list[str] = []  # of the loops around the current step
        self.kernel_ids = {id(s.kernel): n for n, s in enumerate(launches(p.steps))}
        self.call_ids = {id(s): n for n, s in enumerate(host_calls(p))}
        self.scratch: Dim = 0
        words = abi.BUFFERS
        for launch in launches(p.steps):
            for v in launch.variants:
                self.scratch = dims.maximum(self.scratch, abi.scratch_bytes(v.kernel))
                words = max(words, abi.args_words(v.kernel))
        for call in host_calls(p):
            words = max(words, len(call.inputs) + len(call.outputs))
        self.scratch = dims.mul(dims.ceildiv(self.scratch, 64), 64)
        self.words = words
        self.grown: dict[Buffer, int] = {}
        self.phase_names: dict[tuple[int, int], str] = {}
        self.checks: dict[int, bool] = {}  # by the kernel's identity
        self.launchers: dict[int, str] = {}
        self.aliased: dict[tuple[int, tuple[tuple[int, int], ...]], LoopKernel] = {}

    def make(self) -> None:
        self.unit.globals.append(RUN)
        for b, value in self.p.constants.items():
            name, triple = self.constant_name(b), self.unit.target.triple
            self.unit.globals.append(global_text(name, literal_bytes(value), triple))
        self._entry()
        beside = Companions(self.p, self.unit, self.symbols, self.loop_symbols)
        beside.bind()
        beside.workspace_size(self.scratch)
        beside.output_shapes()

    # ---- the entry

    def _entry(self) -> None:
        # A long host function is straight stores and calls: optimizing it takes long for nothing.
        self.long = len(self.kernel_ids) > OPTIMIZED_LAUNCHES
        quick = " noinline optnone" if self.long else ""
        header = (f"define i32 @{self.p.name}(ptr %ctx, ptr %buffers, ptr %dims, ptr %workspace)"
                  f" nounwind{quick}")
        f = self.f = Function(self.unit, header)
        f.entry.append(f"  %args = alloca [{self.words} x i64], align 16")
        f.entry.append("  %flag = alloca i32")
        f.emit("store i32 0, ptr %flag")
        self._begin((*self.p.inputs, *self.p.state, *self.p.outputs))
        self._common_args()
        for part, apart in self._segments(self.p.steps):
            if apart:
                self._segment(part)
            else:
                self._steps(part)
        self._poll()  # chunks of a cancelled run have been skipped: its results are none
        f.emit("ret i32 0")
        self.unit.functions.append(f.text())

    def _begin(self, used: Iterable[Buffer]) -> None:
        """Sizes and addresses at the start of a function with the host function's arguments."""
        f = self.f
        self.symbol_values: dict[str, str] = {}
        for n, name in enumerate(self.symbols):
            if name not in self.loop_symbols:
                self.symbol_values[name] = self._load("i64", self._gep("%dims", n))
        self.sizes = Sizes(f, self._symbol, volatile=self.loop_symbols)
        self.address: dict[Buffer, str] = {}
        want = set(used)
        for n, b in enumerate((*self.p.inputs, *self.p.state, *self.p.outputs)):
            if b in want:
                self.address[b] = self._load("ptr", self._gep("%buffers", n))
        for b in self.p.constants:
            self.address[b] = self.constant_name(b)
        self.stride = self.sizes.dim(self.scratch)
        self.scratch_base = self._offset("%workspace", self.sizes.dim(self.p.workspace))
        if not self.long:
            place = {at: self._offset("%workspace", self.sizes.dim(at))
                     for at in dict.fromkeys(self.p.offsets.values())}
            self.address.update((b, place[at]) for b, at in self.p.offsets.items())

    def _segments(self, steps: Sequence[Step]) -> Iterator[tuple[list[Step], bool]]:
        """The steps in parts; whether a part can be a function of its own.

        LLVM's time grows with the square of a function's length: long plans are cut.
        """
        part: list[Step] = []
        apart = False
        for s in steps:
            can = self.long and self._is_placed(s)
            if part and (can != apart or (apart and len(part) == SEGMENT)):
                yield part, apart
                part = []
            part.append(s)
            apart = can
        if part:
            yield part, apart

    def _is_placed(self, s: Step) -> bool:
        """Whether a step is a launch or copy of buffers whose places the arguments tell."""
        roots = {self.p.root(b) for b in _step_buffers(s)}
        return isinstance(s, Launch | Copy) and all(
            r in self.address or r in self.p.offsets for r in roots
        )

    def _segment(self, steps: Sequence[Step]) -> None:
        """Steps as a function of their own, and its call."""
        outer = self.f, self.sizes, self.symbol_values, self.address
        memory = self.scratch_base, self.stride
        name = f'@"{self.p.name}.steps.{len(self.unit.functions)}"'
        words = ", ".join(f"ptr {w}" for w in SEGMENT_ARGS)
        self.f = Function(
            self.unit, f"define internal i32 {name}({words}) nounwind noinline optnone"
        )
        self._begin({self.p.root(b) for s in steps for b in _step_buffers(s)})
        self._steps(steps)
        self.f.emit("ret i32 0")
        self.unit.functions.append(self.f.text())
        self.f, self.sizes, self.symbol_values, self.address = outer
        self.scratch_base, self.stride = memory
        code, bad = self.f.fresh("c"), self.f.fresh("t")
        self.f.emit(f"{code} = call i32 {name}({words})")
        self.f.emit(f"{bad} = icmp ne i32 {code}, 0")
        self._return_if(bad, code)

    def _steps(self, steps: Sequence[Step]) -> None:
        for s in steps:
            if isinstance(s, Launch):
                self._launch(s)
            elif isinstance(s, Copy):
                self._copy(s)
            elif isinstance(s, Cond):
                self._cond(s)
            elif isinstance(s, Loop):
                self._loop(s)
            elif isinstance(s, HostCall):
                self._host_call(s)
            elif isinstance(s, Push):
                self._push(s)
            elif isinstance(s, Define):
                value = self._load("i64", self._where(s.value))
                self._define(s.symbol, value)
            else:
                raise InternalError(f"a {type(s).__name__} step reached the host function")

    def _copy(self, s: Copy) -> None:
        if self.p.root(s.dst) is self.p.root(s.src):
            return
        size = self.sizes.dim(s.src.type.nbytes)
        dst, src = self._where(s.dst), self._where(s.src)
        self._memcpy(dst, src, size)

    def _cond(self, s: Cond) -> None:
        f = self.f
        pred = self._truth(s.pred)
        yes, no, end = f.label("then"), f.label("else"), f.label("join")
        f.branch(pred, yes, no)
        before = dict(self.sizes.memo)
        for label, block in ((yes, s.then), (no, s.otherwise)):
            f.start(label)
            self.sizes.memo = dict(before)
            self._steps(block)
            f.jump(end)
        self.sizes.memo = before
        f.start(end)

    def _loop(self, s: Loop) -> None:
        f = self.f
        n = f.fresh("n")
        f.entry.append(f"  {n} = alloca i64")
        f.emit(f"store i64 0, ptr {n}")
        test, body, end = f.label("test"), f.label("body"), f.label("done")
        total = self.sizes.dim(s.count) if s.count is not None else ""
        before = dict(self.sizes.memo)
        f.jump(test)
        f.start(test)
        self._poll()
        trip = self._load("i64", n)
        if s.max_trips is not None:
            total = str(s.max_trips)
        if total:
            more, go = f.fresh("t"), f.label("more")
            f.emit(f"{more} = icmp slt i64 {trip}, {total}")
            f.branch(more, go, end)
            f.start(go)
        if s.pred is not None:
            self._steps(s.test)
            f.branch(self._truth(s.pred), body, end)
        else:
            f.jump(body)
        f.start(body)
        self.sizes.memo = dict(before)
        self._round(s, n, trip, total)
        f.jump(test)
        f.start(end)
        self.sizes.memo = before
        self._finish_loop(s, self._load("i64", n))

    def _round(self, s: Loop, n: str, trip: str, total: str) -> None:
        f = self.f
        at = trip
        if s.reverse:
            left, at = f.fresh("t"), f.fresh("t")
            f.emit(f"{left} = sub i64 {total}, {trip}")
            f.emit(f"{at} = sub i64 {left}, 1")
        for element, array in s.xs:
            size = self.sizes.arith("mul", self.sizes.dim(element.type.nbytes), at)
            self.address[element] = self._offset(self._where(array), size)
        following = f.fresh("n")
        f.emit(f"{following} = add i64 {trip}, 1")
        f.emit(f"store i64 {following}, ptr {n}")
        self.rounds.append(at)
        self._steps(s.body)
        self.rounds.pop()

    def _finish_loop(self, s: Loop, total: str) -> None:
        if s.trips is not None:
            self.f.emit(f"store i64 {total}, ptr {self._where(s.trips)}")
        if s.symbol:
            self._define(s.symbol, total)

    def _push(self, s: Push) -> None:
        size = self.sizes.dim(s.value.type.nbytes)
        at = self.sizes.arith("mul", size, self.rounds[-1])
        if s.grows:
            self._grow(s.stack, self.sizes.arith("add", at, size))
        dst, src = self._offset(self._where(s.stack), at), self._where(s.value)
        self._memcpy(dst, src, size)

    # ---- launches

    def _launch(self, s: Launch) -> None:
        f = self.f
        last = len(s.variants) - 1
        variants = [v for n, v in enumerate(s.variants) if v.when is not None or n == last]
        end = f.label("next")
        before = dict(self.sizes.memo)
        for n, v in enumerate(variants):
            if v.when is not None and n + 1 < len(variants):
                take, skip = f.label("take"), f.label("skip")
                f.branch(self.sizes.index(v.when), take, skip)
                f.start(take)
                self._phases(s, v)
                f.jump(end)
                f.start(skip)
                self.sizes.memo = dict(before)
            else:
                self._phases(s, v)
                f.jump(end)
        f.start(end)
        self.sizes.memo = before

    def _common_args(self) -> None:
        """The words of the arguments that are the same for all kernels."""
        self._store(abi.CTX, "ptr", "%ctx")
        self._store(abi.ERROR_FLAG, "ptr", "%flag")
        self._store(abi.SCRATCH, "ptr", self.scratch_base)
        self._store(abi.SCRATCH_STRIDE, "i64", self.stride)

    def _phases(self, s: Launch, v: Variant) -> None:
        f, given = self.f, launch_params(s, s.variants.index(v))
        k = self._aliased(v.kernel, given)
        if self.call_ids:  # host calls use the same words
            self._common_args()
        for n, b in enumerate(given):
            self._store(abi.buffer_word(k, n), "ptr", self._where(b))
        for name in abi.symbols(k):
            self._store(abi.dim_word(k, name), "i64", self._symbol(name))
        kernel = self.kernel_ids[id(s.kernel)]
        if self.long:
            f.emit(f"call void @{self._launcher(k)}(ptr %ctx, ptr %args, i32 {kernel})")
        else:
            self._runs(k, f, self.sizes, str(kernel))
        if self._checks(k):
            self._check_flag()

    def _aliased(self, k: LoopKernel, given: Sequence[Buffer]) -> LoopKernel:
        """The kernel, told which of its parameters are one memory here (updates in place).

        Without that LLVM would take them for different memory, and could load what a store before
        it has overwritten.
        """
        roots = [self.p.root(b) for b in given]
        pairs = tuple(
            (n, m) for n in range(len(k.inputs), len(roots)) for m in range(n)
            if roots[n] is roots[m]
        )
        if not pairs:
            return k
        key = id(k), pairs
        if key not in self.aliased:
            same = tuple((k.params[n], k.params[m]) for n, m in pairs)
            self.aliased[key] = k.replace(inplace=same)
        return self.aliased[key]

    def _runs(self, k: LoopKernel, f: Function, sizes: Sizes, kernel: str) -> None:
        """Run the phases of a kernel whose arguments are set."""
        for n, phase in enumerate(k.phases):
            if not phase.body:
                continue  # over no elements
            loop = phase.body[0]
            if not isinstance(loop, For) or loop.kind != "parallel" or len(phase.body) != 1:
                raise InternalError(f"phase {n} of {k.name} is not one parallel loop")
            name = self._phase_name(k, n)
            f.emit(f"call void @flowc_run(ptr %ctx, i64 {sizes.index(loop.extent)}, ptr @{name},"
                   f" ptr %args, i32 {kernel})")

    def _launcher(self, k: LoopKernel) -> str:
        """A function that runs a kernel's phases: long host functions stay short by it."""
        if id(k) not in self.launchers:
            name = self.launchers[id(k)] = f'"{self.p.name}.{k.name}.launch.{len(self.launchers)}"'
            f = Function(self.unit, f"define internal void @{name}"
                                    "(ptr %ctx, ptr %args, i32 %kernel) nounwind noinline")

            def symbol(s: str) -> str:
                p, x = f.fresh("p"), f.fresh("x")
                f.emit(f"{p} = getelementptr i64, ptr %args, i64 {abi.dim_word(k, s)}")
                f.emit(f"{x} = load i64, ptr {p}")
                return x

            self._runs(k, f, Sizes(f, symbol), "%kernel")
            f.emit("ret void")
            self.unit.functions.append(f.text())
        return self.launchers[id(k)]

    def _checks(self, k: LoopKernel) -> bool:
        """Whether a kernel can report an error."""
        if id(k) not in self.checks:
            self.checks[id(k)] = any(
                e.op == "check" for p in k.phases for e in walk(*stmt_exprs(p.body))
            )
        return self.checks[id(k)]

    def _phase_name(self, k: LoopKernel, n: int) -> str:
        key = id(k), n
        if key not in self.phase_names:
            name = f"{self.p.name}.{k.name}.{len(self.phase_names)}"
            self.phase_names[key] = f'"{name}"'
            lower_phase(k, k.phases[n], self.phase_names[key], self.unit.target, self.unit)
        return self.phase_names[key]

    def _check_flag(self) -> None:
        """Return the error code that a kernel has put into the flag, if any."""
        f = self.f
        word = self._load("i32", "%flag")
        bad = f.fresh("t")
        f.emit(f"{bad} = icmp ne i32 {word}, 0")
        code, inverted = f.fresh("c"), f.fresh("c")
        f.emit(f"{inverted} = xor i32 {word}, -1")
        f.emit(f"{code} = and i32 {inverted}, 255")
        self._return_if(bad, code)

    def _host_call(self, s: HostCall) -> None:
        f = self.f
        self._return_if(self._is_null("%ctx"), E_HOST)
        name = f.fresh("p")
        f.emit(field_pointer(name, "%ctx", "host_call"))
        fn = self._load("ptr", name)
        self._return_if(self._is_null(fn), E_HOST)
        for n, b in enumerate((*s.inputs, *s.outputs)):
            self._store(n, "ptr", self._where(b))
        code, n = f.fresh("c"), self.call_ids[id(s)]
        f.emit(f"{code} = call i32 {fn}(ptr %ctx, i32 {n}, ptr %args, ptr %dims)")
        bad = f.fresh("t")
        f.emit(f"{bad} = icmp ne i32 {code}, 0")
        self._return_if(bad, code)


def _step_buffers(s: Step) -> set[Buffer]:
    """The buffers of a launch or copy."""
    if isinstance(s, Copy):
        return {s.dst, s.src}
    if not isinstance(s, Launch):
        return set()
    return {b for n in range(len(s.variants)) for b in launch_params(s, n)}
