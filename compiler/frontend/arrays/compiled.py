"""A traced function in its later stages: lowered to the IR, compiled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from flowc.compiler.options import Options
from flowc.ir.core import Function
from flowc.ir.printer import print_function
from flowc.ir.types import shape_text
from flowc.runtime import ThreadPool

from ..backend import compile_function
from ..build import Program
from ..errors import InvalidArgumentError
from ..lazy import artifact
from ..special import satisfied
from ..store import Store
from . import pytree
from .specs import Array
from .trace import Signature, Trace, environment

if TYPE_CHECKING:
    from flowc.compiler.analysis import CostAnalysis, MemoryAnalysis

STAGES = ("function", "plan", "llvm", "asm")
Flatten = Callable[[tuple[Any, ...], dict[str, Any]], tuple[list[Any], Signature]]


@cache
def pool(threads: int) -> ThreadPool | None:
    """The process's threads for functions, made at the first compilation; none for one thread."""
    count = threads or os.cpu_count() or 1
    return ThreadPool(count) if count > 1 else None


class CompiledFunction:
    """A function compiled for one signature: `f(*args, out=None)`.

    The arguments have the types, ranks and promised sizes that it was lowered for; other sizes are
    free. Threads may call it at once. Random numbers go on from call to call.
    """

    def __init__(
        self, trace: Trace, program: Program, options: Options, flatten: Flatten
    ) -> None:
        self.trace, self.program, self.options = trace, program, options
        self._flatten = flatten
        self.compiled = compile_function(program.function, options)
        store = Store()
        self._state = [store.array(op) for op in program.state]
        self.initial = {
            i.name: a.copy()
            for i, a in zip(program.function.infos[len(program.inputs) :], self._state, strict=True)
        }
        self._bound = self.compiled.bind(self._state, pool(options.threads))
        self._lock = threading.Lock() if any(map(program.updates, program.state)) else None
        self._single = trace.structure == pytree.LEAF

    @property
    def native(self) -> Any:
        """The builtin that runs it, where that checks all there is to check; else None."""
        if self._lock is not None or not self.program.implied:
            return None
        return getattr(self._bound, "native", None)

    def interrupted(self, interrupt: KeyboardInterrupt) -> BaseException:
        """What to raise for a Ctrl-C while `native` ran."""
        found: BaseException = self._bound.executable.interrupted(self._bound.ctx, interrupt)
        return found

    def failed(self, report: bytes) -> NoReturn:
        """Raise what `native` reported."""
        self._bound.fail(report)
        raise AssertionError(report)

    def finish(self, outputs: Sequence[Any]) -> Any:
        """The results as the function returned them."""
        return outputs[0] if self._single else self.trace.rebuild(outputs)

    def fits(self, arrays: Sequence[Array]) -> bool:
        """Whether these arrays, of the right types, have sizes that this was compiled for."""
        return satisfied(self.program, arrays)

    def run(self, arrays: Sequence[Array], out: Any = None) -> Any:
        """The results for arrays that fit; `out`: arrays to fill, nested as the results."""
        if self._lock is None:
            return self._run(arrays, out)
        with self._lock:
            return self._run(arrays, out)

    def _run(self, arrays: Sequence[Array], out: Any) -> Any:
        given = [arrays[i] for i in self.program.inputs]
        if out is None:
            return self.finish(self._bound(*given))
        targets, structure = pytree.flatten(out)
        if structure != self.trace.structure:
            raise InvalidArgumentError(
                f"{self.trace.title}: out= must be nested as the results are: "
                f"{self.trace.rebuild(self.trace.output_names)}"
            )
        for name, a in zip(self.trace.output_names, targets, strict=True):
            if type(a) is not np.ndarray:
                raise TypeError(f"out= for {name} is a {type(a).__name__}, no NumPy array")
        bound = self._bound
        self.finish(bound.executable.call(given, bound.state, targets, bound.ctx))
        return out

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        values, signature = self._flatten(args, kwargs)
        mine = self.trace.signature
        if signature.form() != mine.form():
            raise InvalidArgumentError(
                f"{self.trace.title} was compiled for other arguments: lower it again for these"
            )
        arrays = []
        leaves = zip(mine.names(), mine.leaves, signature.leaves, values, strict=True)
        for name, spec, given, array in leaves:
            if given.weak and array.dtype.kind == spec.dtype.np.kind:
                array = array.astype(spec.dtype.np)
            if array.dtype != spec.dtype.np or array.ndim != len(spec.dims):
                raise InvalidArgumentError(
                    f"{self.trace.title}: argument {name} is {array.dtype}"
                    f"{shape_text(array.shape)}, it was compiled for {spec}"
                )
            arrays.append(array)
        if not self.fits(arrays):
            raise InvalidArgumentError(self._misfit(arrays), shapes=[a.shape for a in arrays])
        return self.run(arrays, out)

    def _misfit(self, arrays: Sequence[Array]) -> str:
        given = ", ".join(
            f"{n} {shape_text(a.shape)}"
            for n, a in zip(self.trace.signature.names(), arrays, strict=True)
        )
        declared = ", ".join(map(shape_text, self.program.shapes))
        rules = "; ".join(f"{g.left} = {g.right} ({g.message})" for g in self.program.guards)
        return (
            f"{self.trace.title} was compiled for {declared}{' where ' + rules if rules else ''}; "
            f"given {given}"
        )

    def as_text(self, stage: str = "plan") -> str:
        """The function at a stage: ``function``, ``plan``, ``llvm``, ``asm``."""
        text: str = self.compiled.as_text(stage)
        return text

    def cost_analysis(self, sizes: Mapping[str, int] | None = None) -> CostAnalysis:
        """Kernels, host calls, operations and bytes of one call; sizes: of symbols (64 if not)."""
        found: CostAnalysis = self.compiled.cost_analysis(environment(self.program, sizes or {}))
        return found

    def memory_analysis(self, sizes: Mapping[str, int] | None = None) -> MemoryAnalysis:
        """Bytes of arguments, outputs, workspace and constants; sizes: of symbols (64 if not)."""
        found: MemoryAnalysis = self.compiled.memory_analysis(
            environment(self.program, sizes or {})
        )
        return found

    def export(self, path: str | os.PathLike[str]) -> list[str]:
        """Write it as a library with a C header: see `flowc.compiler.artifact.write`.

        The C function has the name of the Python function. Returns the paths written.
        """
        return list(artifact.write(self.compiled, path, self.initial))


class Lowered:
    """A traced function before compilation. `function`: the IR; `initial`: values of its state."""

    def __init__(
        self, trace: Trace, program: Program, options: Options, flatten: Flatten
    ) -> None:
        self.trace, self.program, self.options = trace, program, options
        self._flatten = flatten
        self.function: Function = program.function
        self.initial: dict[str, Array] = {}
        store = Store()
        for op in program.state:
            self.initial[op.name] = store.array(op)

    def as_text(self, stage: str = "function") -> str:
        """The text of a stage: ``function`` as it is now, later ones compile it first."""
        if stage == "function":
            return print_function(self.function)
        if stage not in STAGES:
            raise ValueError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
        return self.compile().as_text(stage)

    def compile(self, options: Options | None = None) -> CompiledFunction:
        """Machine code; options: target and chip, the function's own by default."""
        return CompiledFunction(self.trace, self.program, options or self.options, self._flatten)
