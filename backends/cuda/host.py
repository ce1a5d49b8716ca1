"""The host function of a program for the emulated GPU: the CPU's, but for launches.

Device memory is host memory here. A launch fills the argument words and a launch record
(`emulator_ir.py`) and hands the blocks to the context's threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowc.ir import dims
from flowc.ir.kernel.form import Buffer, LoopKernel, Phase
from flowc.ir.plan import Launch, Program, Variant, launch_params, launches
from flowc.runtime.abi import error_helper
from flowc.runtime.errors import InternalError

from ..cpu.host import HostFunction
from ..llvm.emit import Unit
from .emulator import scratch_bytes, shared_bytes
from .emulator_ir import LAUNCH_WORDS
from .lower import DeviceKernel, DeviceModule
from .retarget import trampoline_name
from .target import CudaTarget

PARTS = 64  # at most so many pieces does a grid make for the thread pool
MARK = ";| "  # begins the lines of the device module in a program's text


def program_text(p: Program, unit: Unit, target: CudaTarget) -> str:
    """The host module, which holds the device module in comments."""
    host = _CudaHost(p, unit, target)
    host.make()
    device = "".join(f"{MARK}{line}\n" for line in host.device.text().splitlines())
    return f"{unit.text()}\n; the kernels, for {target.cpu}\n{device}"


def device_text(text: str) -> str:
    """The device module in a program's text."""
    lines = (x[len(MARK) :] for x in text.splitlines() if x.startswith(MARK))
    return "".join(f"{x}\n" for x in lines)


class _CudaHost(HostFunction):
    """Launches kernels of a device module that it makes."""

    def __init__(self, p: Program, unit: Unit, target: CudaTarget) -> None:
        super().__init__(p, unit)
        self.device = DeviceModule(target, unit)
        self.lowered: dict[Any, list[DeviceKernel]] = {}
        words = self.words
        for launch in launches(p.steps):
            for n, v in enumerate(launch.variants):
                for made in self._lower(v.kernel, launch_params(launch, n)):
                    self.scratch = dims.maximum(self.scratch, scratch_bytes(made))
                    words = max(words, made.words)
        self.words = words
        if any(k.checked for k in self.device.kernels):
            unit.globals.append(error_helper())

    def _lower(self, k: LoopKernel, given: Sequence[Buffer]) -> list[DeviceKernel]:
        """The phases of a kernel on these buffers; those that share memory are told apart."""
        aliased = shared_memory(self.p, given)
        key = id(k), aliased
        if key not in self.lowered:
            self.lowered[key] = [self._add(k, phase, aliased) for phase in k.phases if phase.body]
        return self.lowered[key]

    def _add(self, k: LoopKernel, phase: Phase, aliased: tuple[int, ...]) -> DeviceKernel:
        name = f"{_word(self.p.name)}_{_word(k.name)}_{len(self.device.kernels)}"
        made = self.device.add(k, phase, name, [k.params[i] for i in aliased])
        entry = trampoline_name(made.name)
        self.unit.declare(entry, f"declare void {entry}(ptr, ptr)")
        return made

    def _phases(self, s: Launch, v: Variant) -> None:
        given = launch_params(s, s.variants.index(v))
        for d in self._lower(v.kernel, given):
            self._launch_phase(s, given, d)

    def _launch_phase(self, s: Launch, given: Sequence[Buffer], d: DeviceKernel) -> None:
        f = self.f
        self.unit.declare(
            "@flowc_emu_chunk", "declare void @flowc_emu_chunk(ptr, i64, i32)"
        )
        for n, b in enumerate(given):
            self._store(n, "ptr", self._where(b))
        for n, name in enumerate(d.symbols):
            self._store(len(given) + n, "i64", self._symbol(name))
        if d.checked:
            record = self._record()
            f.emit(f"store i128 0, ptr {record}, align 16")
            self._store(d.words - 1, "ptr", record)
        grid = self.sizes.index(d.grid)
        per = self._per_chunk(grid)
        words = (
            f"ptr {trampoline_name(d.name)}", "ptr %args", f"i64 {grid}",
            f"i64 {d.threads | int(d.barriers) << 32}", f"i64 {shared_bytes(d)}",
            f"i64 {d.stack}", "ptr null", f"i64 {per}", f"ptr {self.scratch_base}",
            f"i64 {self.stride}",
        )
        record = self._launch_record()
        for n, text in enumerate(words):
            f.emit(f"store {text}, ptr {self._gep(record, n)}")
        last = self.sizes.arith("add", grid, f"{self.sizes.arith('sub', per, '1')}")
        chunks = self.sizes.binary("floordiv", last, per)
        f.emit(f"call void @flowc_run(ptr %ctx, i64 {chunks}, ptr @flowc_emu_chunk, ptr {record},"
               f" i32 {self.kernel_ids[id(s.kernel)]})")
        if d.checked:
            self._check_record(self._record())

    def _per_chunk(self, grid: str) -> str:
        more = self.sizes.arith("add", grid, str(PARTS - 1))
        return self.sizes.binary("max", self.sizes.binary("floordiv", more, str(PARTS)), "1")

    def _record(self) -> str:
        """Where kernels report errors: {i64 key, i64 detail}."""
        return self._once("%errors", "alloca i128, align 16")

    def _launch_record(self) -> str:
        return self._once("%launch", f"alloca [{LAUNCH_WORDS} x i64], align 16")

    def _once(self, name: str, text: str) -> str:
        line = f"  {name} = {text}"
        if line not in self.f.entry:
            self.f.entry.append(line)
        return name

    def _check_record(self, record: str) -> None:
        """Tell the context, and return the code, where a kernel has reported an error."""
        f = self.f
        key = self._load("i64", record)
        bad, fail, ok = f.fresh("t"), f.label("fail"), f.label("ok")
        f.emit(f"{bad} = icmp ne i64 {key}, 0")
        f.branch(bad, fail, ok)
        f.start(fail)
        v, high, code, site, low = (f.fresh("e") for _ in range(5))
        f.emit(f"{v} = xor i64 {key}, -1")
        f.emit(f"{high} = lshr i64 {v}, 32")
        f.emit(f"{low} = shl i64 {v}, 32")
        d0, code32, site32 = f.fresh("e"), f.fresh("e"), f.fresh("e")
        f.emit(f"{d0} = ashr i64 {low}, 32")
        f.emit(f"{code} = and i64 {high}, 255")
        f.emit(f"{code32} = trunc i64 {code} to i32")
        f.emit(f"{site} = lshr i64 {high}, 8")
        f.emit(f"{site32} = trunc i64 {site} to i32")
        d1 = self._load("i64", self._gep(record, 1))
        f.emit(f"call void @flowc_fail(ptr %ctx, i32 {code32}, i32 {site32}, i64 {d0}, i64 {d1},"
               " i64 0, i64 0)")
        f.emit(f"ret i32 {code32}")
        f.start(ok)

    def _phase_name(self, k: LoopKernel, n: int) -> str:
        raise InternalError("the GPU's host function calls no CPU phases")


def shared_memory(p: Program, given: Sequence[Buffer]) -> tuple[int, ...]:
    """The positions of buffers whose memory is also another one's."""
    roots = [p.root(b) for b in given]
    return tuple(i for i, r in enumerate(roots) if roots.count(r) > 1)


def _word(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) or "f"


__all__ = ["device_text", "program_text", "shared_memory"]
