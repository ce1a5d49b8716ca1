"""LLVM IR text to machine code: parse, verify, optimize, emit."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm

from flowc.runtime.errors import InternalError
from flowc.runtime.jit import initialize
from flowc.runtime.timings import Timings

from ..llvm.lower import TILED
from .target import CpuTarget

OPT_LEVELS = (0, 1, 2, 3)


def parse(text: str) -> Any:
    """A verified LLVM module; InternalError, with the line, where the text is not one.

    Text comes from our code generators alone: names in it are made by them, never the user's.
    """
    initialize()
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"generated LLVM IR is wrong: {error}") from error
    return module


def optimize(module: Any, machine: Any, opt_level: int, vectorize: bool = False) -> None:
    """LLVM's pass pipeline. Kernels bring their own vectors, so the vectorizers are off.

    At level 1 each function gets LLVM's own simplification passes, tiles of contractions a few:
    they are unrolled, and loads, sums and splats written once (`llvm/emit.py`, `llvm/cells.py`), so
    that loop passes find nothing more and take half of the time.
    """
    if opt_level not in OPT_LEVELS:
        raise InternalError(f"optimization level {opt_level}")
    if opt_level == 0:
        return
    options = llvm.create_pipeline_tuning_options(speed_level=opt_level)
    options.loop_vectorization = vectorize
    options.slp_vectorization = vectorize
    options.loop_unrolling = opt_level > 1
    builder = llvm.create_pass_builder(machine, options)
    if opt_level > 1 or vectorize:
        manager = builder.getModulePassManager()
        manager.run(module, builder)
        return
    every, few = builder.getFunctionPassManager(), llvm.create_new_function_pass_manager()
    few.add_sroa_pass()
    few.add_instruction_combine_pass()
    few.add_simplify_cfg_pass()
    for f in module.functions:
        if not f.is_declaration:
            tiled = any(TILED.encode() in a for a in f.attributes)
            (few if tiled else every).run(f, builder)


def _prepare(
    text: str, target: CpuTarget, opt_level: int, vectorize: bool, spent: Timings
) -> tuple[Any, Any]:
    with spent.part("llvm, reading"):
        module = parse(text)
    machine = target.machine(max(1, min(opt_level, 2)))
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    with spent.part("llvm, passes"):
        optimize(module, machine, opt_level, vectorize)
    return module, machine


def compile_ir(
    text: str, target: CpuTarget, opt_level: int = 1, vectorize: bool = False,
    spent: Timings | None = None,
) -> bytes:
    """The object file of a module: position independent, for LLJIT and for linkers alike.

    opt_level: 0 none, 1 enough for explicit vectors (GEMM tiles run as fast as with 3), 3 all.
    spent: gets the seconds. Raises InternalError where the text is no valid module.
    """
    spent = spent or Timings()
    module, machine = _prepare(text, target, opt_level, vectorize, spent)
    with spent.part("llvm, code"):
        out: bytes = machine.emit_object(module)
    return out


def as_assembly(
    text: str, target: CpuTarget, opt_level: int = 1, vectorize: bool = False
) -> str:
    """The assembly of what `compile_ir` emits, for people and tests."""
    module, machine = _prepare(text, target, opt_level, vectorize, Timings())
    out: str = machine.emit_assembly(module)
    return out


def optimized_ir(text: str, target: CpuTarget, opt_level: int = 1) -> str:
    """The module's text after LLVM's passes."""
    return str(_prepare(text, target, opt_level, False, Timings())[0])
