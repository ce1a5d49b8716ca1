"""From a function to code that runs: passes, backend, cache, loading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowc.backends.base import Backend
from flowc.backends.cpu.backend import CpuBackend
from flowc.backends.cpu.host import entry_symbols, host_calls, kernel_names
from flowc.backends.cpu.target import LEVELS, CpuTarget, generic, host, level
from flowc.backends.llvm.companions import checked_guards
from flowc.backends.llvm.data import SHARED
from flowc.ir import dims
from flowc.ir.core import Function
from flowc.ir.literal import Literal
from flowc.ir.plan import Program, launches, step_reads
from flowc.ir.printer import print_function
from flowc.ir.types import shape_text
from flowc.runtime import Cache
from flowc.runtime.abi import ABI_VERSION
from flowc.runtime.timings import Timings, peak_bytes

from . import analysis, stored
from .hostcalls import host_functions
from .lazy import LazyModule
from .options import Options
from .passes.base import Context as PassContext
from .passes.base import Pass, Unit
from .pipeline import Observer, default_pipeline, run_passes
from .stored import Runnable, default_cache

cuda_backend = LazyModule("flowc.backends.cuda.backend")
cuda_target = LazyModule("flowc.backends.cuda.target")
plan_text = LazyModule("flowc.ir.plan_text")


def backend_for(options: Options) -> Backend:
    """The backend and target that the options name."""
    if options.target == "cuda-emu":
        chip = cuda_target.CudaTarget("sm_80" if options.cpu == "native" else options.cpu)
        emulated: Backend = cuda_backend.CudaEmuBackend(chip)
        return emulated
    return CpuBackend(cpu_target(options), options.opt_level)


def cpu_target(options: Options) -> CpuTarget:
    """The CPU that the options name. ``native`` is the host's, of another target the least one."""
    triple = host().triple if options.target == "host" else options.target
    if options.cpu in LEVELS and options.target == "host":
        base = level(options.cpu)
    elif options.cpu not in ("native", ""):
        base = CpuTarget(triple, options.cpu)
    else:
        base = host() if options.target == "host" else generic(triple)
    features = ",".join(filter(None, (base.features, options.features)))
    return CpuTarget(base.triple, base.cpu, features)


@dataclass(frozen=True)
class CompileStatistics:
    """seconds: in all, of them `llvm_seconds` in LLVM. kernels: launches of one run; distinct
    ones have code of their own (variants too). code_bytes: of the object for this process, 0 where
    an artifact was made. peak_bytes: of this process until now."""

    seconds: float
    llvm_seconds: float
    kernels: int
    distinct_kernels: int
    code_bytes: int
    peak_bytes: int

    def __str__(self) -> str:
        code = f"; {self.code_bytes} bytes of code" if self.code_bytes else ""
        return (
            f"{self.seconds:.3f} s, {self.llvm_seconds:.3f} s in LLVM; {self.kernels} kernels, "
            f"{self.distinct_kernels} distinct{code}; peak memory {self.peak_bytes / 2**20:.0f} MiB"
        )


@dataclass
class Compiled(Runnable):
    """The product: object code, manifest, and the stages that led to it."""

    program: Program
    backend: Backend
    object: bytes
    manifest: dict[str, Any]
    llvm: str
    source: Function | None = None
    timings: Timings = field(default_factory=Timings)

    def shared(self) -> dict[str, Literal]:
        """The constants that the object refers to, by symbol: it does not hold them."""
        return {
            f"{self.program.name}.{b.name}": v
            for b, v in self.program.constants.items() if v.array.nbytes >= SHARED
        }

    def constants(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: v.array for name, v in self.shared().items()}

    def host_functions(self) -> list[Any]:
        return host_functions(self.program)

    def cost_analysis(self, env: Mapping[str, int] | None = None) -> analysis.CostAnalysis:
        """Kernels, host calls, operations and bytes of one run; env: the sizes of symbols."""
        return analysis.cost_analysis(self.program, env)

    def memory_analysis(self, env: Mapping[str, int] | None = None) -> analysis.MemoryAnalysis:
        """Bytes of arguments, outputs, workspace and constants; env: the sizes of symbols."""
        return analysis.memory_analysis(self.program, env)

    def statistics(self) -> CompileStatistics:
        """What making it took."""
        seconds = self.timings.seconds
        return CompileStatistics(
            seconds=sum(seconds.values()),
            llvm_seconds=sum(s for n, s in seconds.items() if n.startswith("llvm")),
            kernels=sum(1 for _ in launches(self.program.steps)),
            distinct_kernels=self.llvm.count(f'define internal void @"{self.program.name}.k'),
            code_bytes=len(self.object), peak_bytes=peak_bytes(),
        )  # fmt: skip

    def as_text(self, stage: str = "plan") -> str:
        """The function at a stage: ``function`` (before the passes), ``plan`` (kernels, scheduled),
        ``llvm``, ``asm``. ValueError for another name."""
        if stage == "function" and self.source is not None:
            return print_function(self.source)
        if stage == "plan":
            return str(plan_text.print_program(self.program))
        if stage == "llvm":
            return self.llvm
        if stage == "asm":
            return str(self.backend.stages(self.program, self.backend.unit())["s"](self.llvm))
        raise ValueError(f"no stage {stage!r}; there are function, plan, llvm, asm")


def compile_program(
    f: Function | Program, options: Options | None = None, *,
    passes: Iterable[Pass] | None = None, observers: Iterable[Observer] = (),
    cache: Cache | None = None, assemble: bool = True, timings: Timings | None = None,
) -> Compiled:
    """Compile a function (or a program that some passes have made already).

    assemble: make the object code for this process; artifacts make their own. timings: gets the
    seconds.
    """
    options, timings = options or Options(), timings or Timings()
    with timings.part("target"):
        backend = backend_for(options)
        ctx = PassContext(backend, options, limit=options.rewrite_limit)
    todo = default_pipeline() if passes is None else list(passes)
    unit = run_passes(Unit({f.name: f}), ctx, todo, observers, timings)
    program = unit.items[f.name]
    if not isinstance(program, Program):
        raise TypeError("the pipeline ended before the plan")
    module = backend.unit()
    stages = backend.stages(program, module)
    text, manifest = _generate(stages, program, backend, module, timings)
    code = b""
    if assemble:
        code = _assemble(stages, text, backend, module, cache, timings)
    stored.compiles += 1
    source = f if isinstance(f, Function) else None
    return Compiled(program, backend, code, manifest, text, source, timings)


def _generate(
    stages: dict[str, Any], p: Program, backend: Backend, module: Any, timings: Timings
) -> tuple[str, dict[str, Any]]:
    with timings.part("generate"):
        text = stages["ll"](None)
        return text, make_manifest(p, backend, module.sites)


def _assemble(
    stages: dict[str, Any], text: str, backend: Backend, module: Any, cache: Cache | None,
    timings: Timings,
) -> bytes:
    """The object of the module's text, from the cache where it has it."""
    with timings.part("cache"):
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = {"name": "module", "form": "jit", "source": digest, "backend": backend.fingerprint()}
        found = cache.get(key) if cache is not None else None
    if found is not None:
        return found
    with timings.part("llvm, other"):
        code: bytes = stages.get("jit", stages["o"])(text)
        timings.merge(module.spent)
    with timings.part("cache"):
        if cache is not None:
            cache.put(key, code)
    return code


def make_manifest(
    p: Program, backend: Backend, sites: Sequence[tuple[int, str, str]]
) -> dict[str, Any]:
    """The manifest that the runtime and artifacts read; see `flowc.runtime.manifest`."""
    params = [*p.inputs, *p.state]
    roots = {p.root(b) for s in p.steps for b in step_reads(s)}

    def spec(n: int) -> dict[str, Any]:
        b, info = params[n], p.infos[n]
        shape = [d if isinstance(d, int) else str(d) for d in b.shape]
        loc = str(info.loc) if info.loc else None
        return {"name": info.name, "dtype": b.dtype.name, "shape": shape, "loc": loc}

    inputs = [spec(n) for n in range(len(p.inputs))]
    state = []
    for n in range(len(p.inputs), len(params)):
        mode = ("r" if params[n] in roots else "") + ("w" if params[n] in p.updates else "")
        state.append({**spec(n), "mode": mode or "r"})
    names = list(p.output_names) + [""] * len(p.outputs)
    outputs = [
        {"name": names[n] or f"out{n}", "dtype": b.dtype.name, "rank": len(b.shape)}
        for n, b in enumerate(p.outputs)
    ]
    t = backend.target
    return {
        "name": p.name, "abi": ABI_VERSION, "target": t.triple, "cpu": t.cpu,
        "features": t.features, "inputs": inputs, "state": state, "outputs": outputs,
        "dims": entry_symbols(p), "checks": _checks(p),
        "ops": [
            {"id": n, "op": op, "loc": loc or None} for n, (_, op, loc) in enumerate(sites)
        ],
        "kernels": kernel_names(p), "host_calls": [c.name for c in host_calls(p)],
        "data_dims": any(dims.symbols(d) & set(p.bounds) for b in p.outputs for d in b.shape),
    }


def _checks(p: Program) -> list[dict[str, Any]]:
    """What `NAME_bind` checks, in its order: each input's axes, then the guards."""
    out: list[dict[str, Any]] = []
    why = "".join(f"; {g.message}" for g in p.guards)
    for b, info in zip(p.inputs, p.infos, strict=False):
        loc = str(info.loc) if info.loc else None
        for axis, d in enumerate(b.shape):
            text = f"input '{info.name}': axis {axis} of {shape_text(b.shape)} must be {d}{why}"
            out.append({"message": text, "loc": loc})
    for g in checked_guards(p):
        text = f"{g.message} ({g.left} must equal {g.right})"
        out.append({"message": text, "loc": str(g.loc) if g.loc else None})
    return out


def compile_function(f: Function, options: Options | None = None) -> Compiled:
    """`compile_program` with this user's cache of modules; sessions ask `stored` before."""
    return compile_program(f, options, cache=default_cache())
