"""Programs that the command line names, and values to run them on."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any

import numpy as np

from flowc.ir import dims, parser
from flowc.ir.core import Function, Module
from flowc.ir.dtypes import dtype
from flowc.ir.types import TensorType
from flowc.ir.verifier import verify

from ..options import Options
from .failures import ProgramError, UserError

Array = np.ndarray[Any, Any]
_TYPE = re.compile(r"(\w+)\[([^\]]*)\]")


@dataclass
class Loaded:
    """A program to compile: a function, and the values of its state where they are known."""

    function: Function
    initial: dict[str, Array] = field(default_factory=dict)


def options(a: argparse.Namespace) -> Options:
    """The compiler options of a command line. UserError for a bad value."""
    given = {
        f.name: value for f in fields(Options)
        if (value := getattr(a, f"option_{f.name}", None)) is not None
    }
    try:
        return Options.read(**given)
    except ValueError as error:
        raise UserError(str(error)) from None


def program(a: argparse.Namespace) -> Loaded:
    """The program that a command line names."""
    path, name = split(a.program)
    if path.endswith(".py"):
        return python_program(path, name, a)
    return Loaded(flow_function(path, a.function or name))


def split(text: str) -> tuple[str, str]:
    """``dir/file.py:name`` → (``dir/file.py``, ``name``)."""
    path, colon, name = text.rpartition(":")
    return (path, name) if colon and not os.path.exists(text) else (text, "")


def flow_module(path: str) -> Module:
    """A .flow file, verified."""
    module = parser.load(path)
    verify(module)
    return module


def flow_function(path: str, name: str | None = None) -> Function:
    """A function of a .flow file: the one named, the only one, or main."""
    return chosen(flow_module(path), name, path)


def chosen(module: Module, name: str | None, path: str) -> Function:
    """The function of a module that is meant."""
    functions = module.functions
    found = functions.get(name or ("main" if len(functions) > 1 else next(iter(functions), "")))
    if found is None:
        known = ", ".join(f"@{n}" for n in functions) or "none"
        what = f"no function @{name}" if name else "several functions and no @main"
        raise UserError(f"{path} has {what}; it has {known}. Choose by --function")
    return found


# ---- Python files

def python_module(path: str) -> Any:
    """Import a Python file under the name of its stem. ProgramError where it raises."""
    if not os.path.exists(path):
        raise UserError(f"there is no file {path}")
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ProgramError(f"{path} raised {type(error).__name__}") from error
    return module


def python_program(path: str, name: str, a: argparse.Namespace) -> Loaded:
    """A flowc.function, a session or a graph of a Python file."""
    module = python_module(path)
    value = getattr(module, name, None) if name else _default(a)
    if value is None:
        offered = [n for n, v in vars(module).items() if not n.startswith("_") and _usable(v)]
        asked = f"has no {name!r}" if name else f"needs a name, {path}:NAME"
        raise UserError(
            f"{path} {asked}; it has {', '.join(offered) or 'nothing that can be compiled'}"
        )
    if hasattr(value, "as_graph_element") or hasattr(value, "graph"):
        return graph_program(value, a)
    if hasattr(value, "lower"):
        return function_program(value, a)
    raise UserError(f"{path}:{name} is a {type(value).__name__}: neither a flowc.function, a"
                    " session nor a graph")


def _default(a: argparse.Namespace) -> Any:
    """What --fetch speaks of where no name is given: the default session or graph."""
    if not a.fetch:
        return None
    front = frontend()
    session = front.get_default_session()
    return session if session is not None else front.get_default_graph()


def _usable(v: Any) -> bool:
    if isinstance(v, type | ModuleType):
        return False
    graph = hasattr(v, "as_graph_element") or hasattr(v, "store")
    return graph or (hasattr(v, "lower") and callable(v))


def frontend(part: str = "") -> Any:
    """flowc itself, which lies above this package: commands are its users, found by name."""
    return importlib.import_module("flowc" + part)


def function_program(value: Any, a: argparse.Namespace) -> Loaded:
    """A flowc.function, specialized to --input."""
    if not a.input:
        raise UserError("the inputs of a flowc.function are given by --input name:f32[B,784]")
    make = frontend().TensorSpec
    named: dict[str, Any] = {}
    for text in a.input:
        name, _, kind = text.rpartition(":")
        t = parse_type(kind)
        shape = tuple(d if isinstance(d, int) else str(d) for d in t.shape)
        named[name or str(len(named))] = make(shape, t.dtype.np)
    try:
        known = set(inspect.signature(value).parameters)
        by_name = set(named) <= known
        lowered = value.lower(**named) if by_name else value.lower(*named.values())
    except Exception as error:
        raise ProgramError(f"the function raised {type(error).__name__}") from error
    function: Function = lowered.function
    return Loaded(function, dict(getattr(lowered, "initial", {})))


def graph_program(value: Any, a: argparse.Namespace) -> Loaded:
    """What --fetch and --feed cut out of a graph; the session's values of variables with it."""
    session = value if hasattr(value, "store") else None
    graph = value.graph if session is not None else value
    if not a.fetch:
        raise UserError("results of a graph are chosen by --fetch, like --fetch prediction:0")
    feeds, ranks = [], []
    try:
        fetches = [graph.as_graph_element(f) for f in a.fetch]
        for text in a.feed:
            key, _, kind = text.partition("=")
            tensor = graph.as_graph_element(key, allow_operation=False)
            rank = parse_type(kind).rank if kind else tensor.shape.ndims
            if rank is None:
                raise UserError(f"{key} has no static rank: --feed {key}=f32[B,784] says it")
            feeds.append(tensor)
            ranks.append(rank)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(str(error.args[0] if error.args else error)) from None
    build = frontend(".build").Build
    made = build(graph, fetches, feeds, ranks, {}, "main").program()
    initial = {}
    if session is not None:
        for op in made.reads:
            if not session.store.is_initialized(op):
                raise UserError(f"variable {op.name} has no value: run its initializer first")
        initial = {op.name: np.array(session.store.array(op)) for op in made.state}
    return Loaded(made.function, initial)


# ---- types and values

def parse_type(text: str) -> TensorType:
    """``f32[B,784]``. UserError for other text."""
    m = _TYPE.fullmatch(text.strip())
    if m is None:
        raise UserError(f"{text!r} is no type like f32[B,784]")
    try:
        shape = tuple(dims.parse(d) for d in m[2].split(",") if d.strip())
        return TensorType(dtype(m[1]), shape)
    except (TypeError, ValueError) as error:
        raise UserError(f"{text!r}: {error}") from None


def sizes(texts: Sequence[str]) -> dict[str, int]:
    """``B=8`` …"""
    out = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value.isdigit():
            raise UserError(f"--dim {text!r} is no size like B=8")
        out[name] = int(value)
    return out


def arguments(
    names: Sequence[str], types: Sequence[TensorType], a: argparse.Namespace
) -> list[Array]:
    """A value for each input: from --arg, else random."""
    given = dict(text.partition("=")[::2] for text in a.arg)
    rng = np.random.default_rng(a.seed)
    known = sizes(a.dim)
    unknown = set(given) - set(names) - {n.removesuffix(":0") for n in names}
    if unknown:
        raise UserError(f"no input {', '.join(sorted(unknown))}; there is {', '.join(names)}")
    out = []
    for name, t in zip(names, types, strict=True):
        text = given.get(name) or given.get(name.removesuffix(":0")) or "random"
        out.append(value_of(name, text, t, known, rng))
    return out


def value_of(
    name: str, text: str, t: TensorType, known: Mapping[str, int], rng: np.random.Generator
) -> Array:
    """An input's value from its text."""
    if text.startswith("@"):
        try:
            return np.load(text[1:], allow_pickle=False)  # type: ignore[no-any-return]
        except ValueError as error:
            raise UserError(f"{text[1:]}: {error}") from None
    if text in ("random", "ones", "zeros"):
        shape = concrete(t, known)
        if text != "random":
            return np.full(shape, text == "ones").astype(t.dtype.np)
        if t.dtype.is_bool:
            return rng.integers(0, 2, shape).astype(bool)
        if t.dtype.is_int:
            return rng.integers(0, 8, shape).astype(t.dtype.np)
        return rng.standard_normal(shape).astype(t.dtype.np)
    try:
        return np.array(json.loads(text)).astype(t.dtype.np)
    except ValueError as error:
        raise UserError(f"--arg {name}: {text!r} is none of @file.npy, random, ones, zeros, JSON"
                        f" ({error})") from None


def concrete(t: TensorType, known: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with sizes for its symbols: 4 where none is given."""
    env = {s: known.get(s, 4) for d in t.shape for s in dims.symbols(d)}
    return tuple(int(d) for d in dims.shape_substitute(t.shape, env))  # type: ignore[arg-type]
