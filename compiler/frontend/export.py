"""Writing a part of a session's graph as a library: inference, or a whole training step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowc.compiler.options import Options
from flowc.ir.core import Function, IRError, Param

from . import errors
from .build import Build, Program
from .fetching import feed_key
from .lazy import artifact, driver, freezing, functionalize, loading
from .session import BaseSession
from .tensor import Tensor


def export(
    session: BaseSession,
    path: str | os.PathLike[str],
    fetches: Mapping[str, Any],
    feeds: Mapping[str, Tensor],
    *,
    name: str = "",
    freeze: bool = True,
    options: Options | None = None,
) -> list[str]:
    """Write what computes `fetches` from `feeds` to a library and its C header.

    path: ends in ``.so .a .o .h`` …, see `flowc.compiler.artifact.write`. fetches: result name →
    tensor; an operation (a training step) may stand among them, it gives no result. feeds: input
    name → tensor. name: of the C function, from the file's name by default. freeze: variables that
    the program only reads become constants of the library; others are state, whose values of now
    the library holds. options: target and chip. Returns the paths written.

    Raises InvalidArgumentError for a placeholder that is needed and not fed, for an unknown rank,
    and FailedPreconditionError for a variable without a value.
    """
    stem = os.path.splitext(os.path.basename(os.fspath(path)))[0].removeprefix("lib")
    name = name or "".join(c if c.isalnum() else "_" for c in stem)
    program = _program(session, fetches, feeds, name)
    f = _named(functionalize.functionalize(program.function), program, fetches, feeds)
    initial = {
        info.name: session.store.value(op) if op.type == "VariableV2" else session.store.array(op)
        for op, info in zip(program.state, f.infos[len(program.inputs) :], strict=True)
    }
    if freeze:
        f = freezing.freeze(f, initial)
    compiled = driver.compile_program(f, options or session.options)
    return list(artifact.write(compiled, path, initial))


def _program(
    session: BaseSession, fetches: Mapping[str, Any], feeds: Mapping[str, Tensor], name: str
) -> Program:
    graph = session.graph
    tensors = [feed_key(graph, t) for t in feeds.values()]
    ranks = []
    for t in tensors:
        rank = t.get_shape().ndims
        if rank is None:
            raise errors.InvalidArgumentError(f"{t.name} has no rank; give its placeholder a shape")
        ranks.append(rank)
    found = [graph.as_graph_element(f) for f in fetches.values()]
    try:
        return Build(graph, found, tensors, ranks, {}, name).program()
    except IRError as e:
        raise errors.invalid_argument(e) from None


def _named(
    f: Function, program: Program, fetches: Mapping[str, Any], feeds: Mapping[str, Tensor]
) -> Function:
    """The function with the caller's names for inputs and results."""
    keys = list(feeds)
    infos: list[Param] = list(f.infos)
    for n, i in enumerate(program.inputs):
        infos[n] = replace(infos[n], name=keys[i])
    names = [k for k, v in fetches.items() if isinstance(v, Tensor)]
    return f.replace(infos=tuple(infos), result_names=tuple(names))


def load(path: str | os.PathLike[str], name: str = "", threads: int = 1) -> Any:
    """A library that flowc has written, as a callable; see `flowc.compiler.loading.load`."""
    return loading.load(path, name, threads)
