"""``flowc run``: a program once, on given or made-up inputs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowc.ir import dims, interpreter
from flowc.ir.core import Function, Module
from flowc.ir.dtypes import dtype
from flowc.ir.types import TensorType
from flowc.runtime import FastCall
from flowc.runtime.arrays import empty

from .. import driver, loading
from ..options import Options
from ..passes.functionalize import functionalize
from . import inputs
from .failures import compiling

Array = np.ndarray[Any, Any]


def run(a: argparse.Namespace) -> None:
    """Print (or save) the results and the updated state."""
    names, results = execute(a)
    if a.save:
        np.savez(a.save, **dict(zip(names, results, strict=True)))  # type: ignore[arg-type]
        print(f"{a.save}: {', '.join(names)}")
        return
    show(names, results)


def show(names: Sequence[str], results: Sequence[Array]) -> None:
    """Print arrays with their names and types."""
    for name, value in zip(names, results, strict=True):
        print(f"{name}: {value.dtype}{list(value.shape)}\n{value}")


def execute(a: argparse.Namespace) -> tuple[list[str], list[Array]]:
    """Names and values of the results."""
    if a.program.endswith((".so", ".o")):
        call = artifact_call(a)
        return call[0], call[1]()
    options, loaded = inputs.options(a), inputs.program(a)
    with compiling(options, loaded.function):
        if a.interpret:
            return interpreted(loaded, a)
        names, call_once = compiled_call(loaded, options, a)
        return names, call_once()


def interpreted(loaded: inputs.Loaded, a: argparse.Namespace) -> tuple[list[str], list[Array]]:
    """By the interpreter."""
    f = functionalize(loaded.function)
    state = {i.name: np.zeros((), np.int8) for i in f.infos if i.kind == "state"}
    for p, i in zip(f.params, f.infos, strict=True):
        if i.kind == "state":
            state[i.name] = initial_value(loaded, i.name, p.ty)
    names, types = signature(f)
    results = interpreter.run_module(Module.of([f]), inputs.arguments(names, types, a), state)
    updated = [i.name for i in f.infos if i.updated_by >= 0]
    outs = [r for n, r in enumerate(f.results) if n not in {i.updated_by for i in f.infos}]
    labels = [result_name(f, n) for n in range(len(outs))]
    return [*labels, *updated], [*results, *(state[n] for n in updated)]


def result_name(f: Function, n: int) -> str:
    """What a result is called."""
    return f.result_names[n] if n < len(f.result_names) and f.result_names[n] else f"out{n}"


def signature(f: Function) -> tuple[list[str], list[TensorType]]:
    """Names and types of the inputs."""
    pairs = [(i.name, p.ty) for p, i in zip(f.params, f.infos, strict=True) if i.kind == "input"]
    return [n for n, _ in pairs], [t for _, t in pairs]


def initial_value(loaded: inputs.Loaded, name: str, t: TensorType) -> Array:
    """A copy of the value that state starts with: zeros where nothing is known."""
    value = loaded.initial.get(name)
    array = empty(inputs.concrete(t, {}), t.dtype.np)
    array[...] = np.zeros((), t.dtype.np) if value is None else value
    return array


def compiled_call(loaded: inputs.Loaded, options: Options, a: argparse.Namespace) -> Any:
    """(names of results, a call without arguments): compiled, with its inputs bound."""
    compiled = driver.compile_function(loaded.function, options)
    state_types = {
        s["name"]: TensorType(dtype(s["dtype"]), tuple(s["shape"]))
        for s in compiled.manifest["state"]
    }
    state = [initial_value(loaded, n, t) for n, t in state_types.items()]
    call: FastCall = compiled.bind(state)
    names, types = signature(functionalize(loaded.function))
    values = inputs.arguments(names, types, a)
    labels = [o["name"] for o in compiled.manifest["outputs"]]
    labels += [s["name"] for s in compiled.manifest["state"] if "w" in s["mode"]]
    written = [
        array for array, s in zip(state, compiled.manifest["state"], strict=True)
        if "w" in s["mode"]
    ]
    return labels, lambda: [*call(*values), *written]


def artifact_call(a: argparse.Namespace) -> Any:
    """The same of a compiled library."""
    f = loading.load(a.program, a.function or "")
    specs = f.manifest.inputs
    types = [
        TensorType(dtype(t.dtype.name), tuple(
            d if isinstance(d, int) else dims.parse(d) for d in t.shape))
        for t in specs
    ]
    values = inputs.arguments([t.name for t in specs], types, a)

    def call() -> list[Array]:
        out = f(*values)
        return list(out) if isinstance(out, tuple) else [out]

    return list(f.output_names), call
