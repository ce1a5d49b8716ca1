"""Functions to emulated GPU kernels with checks: bounds, races, order of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowc.backends.cuda.backend import CudaEmuBackend
from flowc.backends.cuda.emulator import Emulated, Finding
from flowc.backends.cuda.host import shared_memory
from flowc.backends.cuda.lower import DeviceModule, grid_size
from flowc.compiler.options import Options
from flowc.compiler.passes.base import Context, Unit
from flowc.compiler.pipeline import default_pipeline, run_passes
from flowc.ir import dims
from flowc.ir.core import Function
from flowc.ir.kernel.form import Buffer
from flowc.ir.kernel.verify import verify_kernel
from flowc.ir.plan import Copy, Launch, Program, launch_params, launches

Array = np.ndarray[Any, Any]
OPTIONS = Options(target="cuda-emu")


def plan(f: Function) -> Program:
    """The function as a plan of GPU kernels."""
    unit = run_passes(Unit({f.name: f}), Context(CudaEmuBackend(), OPTIONS), default_pipeline())
    p = unit.items[f.name]
    assert isinstance(p, Program)
    return p


def is_straight(p: Program) -> bool:
    """Whether launches and copies are all there is: what `Batch` can run."""
    return all(isinstance(s, Launch | Copy) for s in p.steps)


@dataclass
class Batch:
    """Programs whose kernels share one device module, compiled once."""

    module: DeviceModule = field(default_factory=lambda: DeviceModule(CudaEmuBackend().device))
    first: dict[Any, int] = field(default_factory=dict)
    code: Emulated | None = None

    def add(self, p: Program) -> None:
        for s in launches(p.steps):
            for i, v in enumerate(s.variants):
                k, aliased = v.kernel, shared_memory(p, launch_params(s, i))
                verify_kernel(k)
                for n, phase in enumerate(k.phases):
                    at = self.first[id(k), n, aliased] = len(self.module.kernels)
                    self.module.add(k, phase, f"k{at}", [k.params[j] for j in aliased])

    def compile(self) -> None:
        self.code = Emulated(self.module.text(), self.module.kernels, checks=True)

    def run(self, p: Program, inputs: Sequence[Array], reverse: bool = False) -> Result:
        """The program's results; blocks from last to first with `reverse`."""
        return _Run(self, p, reverse).run(inputs)


@dataclass
class Result:
    outputs: list[Array]
    findings: list[Finding]
    error: Array


class _Run:
    def __init__(self, batch: Batch, p: Program, reverse: bool) -> None:
        self.batch, self.p, self.reverse = batch, p, reverse
        self.memory: dict[Buffer, Array] = {}
        self.record = np.zeros(2, np.uint64)
        self.findings: list[Finding] = []

    def run(self, inputs: Sequence[Array]) -> Result:
        p = self.p
        self.symbols = bind(p.inputs, inputs)
        for b, x in zip(p.inputs, inputs, strict=True):
            self.memory[b] = np.array(x, order="C").reshape(-1)
        for b, value in p.constants.items():
            self.memory[b] = np.array(value.array, order="C").reshape(-1)
        for s in p.steps:
            if isinstance(s, Copy):
                self.at(s.dst)[...] = self.at(s.src)
            else:
                assert isinstance(s, Launch)
                self.launch(s)
        outputs = [self.at(b).reshape(self.shape(b)) for b in p.outputs]
        return Result(outputs, self.findings, self.record)

    def launch(self, s: Launch) -> None:
        code = self.batch.code
        assert code is not None
        last = len(s.variants) - 1
        kernel, given = s.variants[last].kernel, launch_params(s, last)
        arrays = [self.at(b) for b in given]
        for n, _ in enumerate(kernel.phases):
            at = self.batch.first[id(kernel), n, shared_memory(self.p, given)]
            order = range(grid_size(code.kernels[at], self.symbols))
            found = code.launch(
                at, arrays, self.symbols, self.record, order[::-1] if self.reverse else order
            )
            if found is not None:
                self.findings.append(found)

    def shape(self, b: Buffer) -> tuple[int, ...]:
        return tuple(int(str(dims.substitute(d, self.symbols))) for d in b.shape)

    def at(self, b: Buffer) -> Array:
        """A buffer's memory, flat; at first filled with what no result may depend on."""
        root = self.p.root(b)
        if root not in self.memory:
            count = int(np.prod(self.shape(root), dtype=np.int64))
            bits = np.full(count * root.dtype.size, 1 if root.dtype.is_bool else 0x71, np.uint8)
            self.memory[root] = bits.view(root.dtype.np)
        return self.memory[root]


def bind(buffers: Iterable[Buffer], arrays: Sequence[Array]) -> dict[str, int]:
    """The values of the symbols that stand alone in a shape."""
    out: dict[str, int] = {}
    for b, x in zip(buffers, arrays, strict=True):
        for d, n in zip(b.shape, x.shape, strict=True):
            if not isinstance(d, int) and d == dims.sym(str(d)):
                out[str(d)] = n
    return out


def run_checked(f: Function, inputs: Sequence[Array]) -> list[Array]:
    """A function's results; asserts that no kernel strays and that no order of blocks matters."""
    p, batch = plan(f), Batch()
    batch.add(p)
    batch.compile()
    return checked(batch, p, inputs)


def checked(batch: Batch, p: Program, inputs: Sequence[Array]) -> list[Array]:
    """The same for a program of a batch."""
    forward, backward = (batch.run(p, inputs, reverse) for reverse in (False, True))
    assert not forward.findings, str(forward.findings[0])
    for a, b in zip(forward.outputs, backward.outputs, strict=True):
        assert a.tobytes() == b.tobytes(), "results depend on the order of blocks"
    return forward.outputs


def notes(p: Program) -> list[str]:
    """The schedules that were chosen."""
    return [s.variants[-1].kernel.note for s in p.steps if isinstance(s, Launch)]


Symbols = Mapping[str, int]
