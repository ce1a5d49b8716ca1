"""Make a failing program small, and keep it as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowc.ir.autodiff import live
from flowc.ir.core import Function, Param, Value
from flowc.ir.printer import print_function
from flowc.ir.types import TensorType
from fuzz.values import Val, assess

Array = Any
Fails = Callable[[Function, Sequence[Array]], bool]
FAILURES = Path(__file__).parent / "failures"


def trimmed(f: Function, args: Sequence[Array], results: Sequence[int] | None = None
            ) -> tuple[Function, list[Array]]:
    """f for some of its results, without what these do not need. Variables become inputs."""
    outs = tuple(f.results[n] for n in (range(len(f.results)) if results is None else results))
    instrs = tuple(live(f.instrs, outs))
    used = {v for i in instrs for v in i.operands} | set(outs)
    bound = {v for v in f.params if isinstance(v.type, TensorType) and not v.type.is_static}
    kept = [n for n, p in enumerate(f.params) if p in used or p in bound]
    g = Function(f.name, tuple(f.params[n] for n in kept), instrs, outs,
                 tuple(Param(f.infos[n].name) for n in kept), f.guards)
    return g, [args[n] for n in kept]


def minimise(
    f: Function, args: Sequence[Array], env: dict[str, int], fails: Fails, tries: int = 150
) -> tuple[Function, list[Array]]:
    """A smaller function that still fails: fewer results, then instructions become arguments."""
    best = f, list(args)
    for n in range(len(f.results)):
        one = trimmed(f, args, [n])
        if len(one[0].instrs) < len(best[0].instrs) and fails(*one):
            best = one
    vals: dict[Value, Val] = assess(*best, env)
    done: set[Any] = set()
    for _ in range(tries):
        todo = [i for i in reversed(best[0].instrs) if i not in done]
        if not todo:
            break
        done.add(todo[0])
        smaller = _cut(*best, todo[0], vals)
        if smaller is not None and _fails(fails, smaller):
            best = smaller
    return best


def _fails(fails: Fails, case: tuple[Function, list[Array]]) -> bool:
    try:
        return fails(*case)
    except Exception:
        return False


def _cut(
    f: Function, args: list[Array], instr: Any, vals: dict[Value, Val]
) -> tuple[Function, list[Array]] | None:
    """f with the instruction's results as arguments."""
    if instr.op.defines() or any(not isinstance(r.type, TensorType) for r in instr.results):
        return None
    if any(r in f.results for r in instr.results):
        return None
    names = [Param(f"v{len(f.params) + n}") for n in range(len(instr.results))]
    g = replace(
        f, params=(*f.params, *instr.results), infos=(*f.infos, *names),
        instrs=tuple(i for i in f.instrs if i is not instr))
    return trimmed(g, [*args, *(vals[r].a for r in instr.results)])


def save(name: str, f: Function, args: Sequence[Array], env: dict[str, int], why: str) -> Path:
    """Write the program and its arguments, with how to run it again."""
    FAILURES.mkdir(exist_ok=True)
    path = FAILURES / f"{name}.flow"
    np.savez(path.with_suffix(".npz"), *[np.frombuffer(np.asarray(a).tobytes(), np.uint8)
                                         for a in args])
    lines = [f"; {why}", f"; sizes: {env}", "; arguments: the .npz of this name",
             "; again: python tests/fuzz/run.py --file THIS.flow"]
    shapes = [f"; argument {p.name or n}: {list(np.shape(a))}" for n, (p, a) in
              enumerate(zip(f.params, args, strict=True))]
    path.write_text("\n".join([*lines, *shapes, print_function(f), ""]), encoding="utf-8")
    return path
