"""Compile random programs, run them, compare with the interpreter, and see what was covered."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowc.backends.cpu.target import CpuTarget
from flowc.compiler import driver
from flowc.compiler.options import Options
from flowc.compiler.passes.base import Pass, Unit
from flowc.compiler.passes.functionalize import Functionalize
from flowc.compiler.passes.fuse import Fuse
from flowc.compiler.passes.lower import Lower
from flowc.compiler.passes.plan import Plan
from flowc.compiler.passes.schedule import Schedule
from flowc.ir import plan
from flowc.ir.autodiff import live
from flowc.ir.core import Function, Value
from flowc.ir.kernel.form import Stage
from flowc.ir.kernel.patterns import classify
from flowc.ir.types import TensorType
from fuzz.values import Val, assess, difference
from guarded_call import call_guarded

Array = Any
Runner = Callable[[Sequence[Array]], list[Array]]
Backend = Callable[[Function], Runner]


class Coverage(Counter[str]):
    """How often each pair of op and type, group, and schedule was compiled."""

    def function(self, f: Function) -> None:
        """Count the ops that results depend on, by the type of their first operand or result."""
        for i in live(f.instrs, f.results):
            self._op(i)
            for sub in i.op.subfunctions():
                for inner in sub.instrs:
                    self._op(inner)

    def _op(self, i: Any) -> None:
        decides = i.op.name in ("compare", "cast", "bitcast", "nonzero")
        v = i.operands[0] if decides else i.results[-1 if i.op.name == "while" else 0]
        if i.op.name == "while":
            v = i.results[min(1, len(i.results) - 1)]
        if isinstance(v.type, TensorType):
            self[f"op {i.op.name} {v.ty.dtype}"] += 1

    def program(self, raw: plan.Program, p: plan.Program) -> None:
        """Count groups and schedules; raw: before fusion."""
        self["view"] += len(p.views) - len(p.updates)
        self["state in place"] += sum(p.views.get(new) is old for old, new in p.updates.items())
        self["state copied"] += sum(p.views.get(new) is not old for old, new in p.updates.items())
        stages = sum(isinstance(s, plan.Raw) for s in plan.walk_steps(raw.steps))
        kept = sum(len(s.kernel.stages) for s in plan.launches(p.steps))
        self["inlined producer"] += max(0, stages - kept)
        loops = [s for s in plan.walk_steps(p.steps) if isinstance(s, plan.Loop)]
        self["loop"] += len(loops)
        for loop in loops:
            self._loop(loop, p)
        self["branch"] += sum(isinstance(s, plan.Cond) for s in plan.walk_steps(p.steps))
        for launch in plan.launches(p.steps):
            kinds = [classify(s) for s in launch.kernel.stages if isinstance(s, Stage)]
            if len(kinds) > 1 and kinds[0] == "map" and set(kinds) == {"map"}:
                self["group of maps"] += 1
            if len(kinds) > 1 and kinds[0] in ("contract", "columns"):
                self[f"epilogue of {kinds[0]}"] += 1
            if len(launch.variants) > 1:
                self["variants"] += 1
            for v in launch.variants:
                count, beside, rest = v.kernel.note.partition(" parts: ")
                self["schedule side by side"] += bool(beside)
                for each in rest.split(", ") if beside else [count]:
                    self[f"schedule {note(each)}"] += 1


    def _loop(self, s: plan.Loop, p: plan.Program) -> None:
        made = {p.root(b) for x in s.body if isinstance(x, plan.Launch) for b in x.kernel.outputs}
        self["row of a stack in place"] += sum(e in made for e, _ in s.xs)
        self["carried in place"] += sum(b.name.startswith("loop") for b in made)
        self["carried copied"] += sum(isinstance(x, plan.Copy) for x in s.body)


def note(text: str) -> str:
    """A schedule without the numbers in its name."""
    for word in ("bf16 pairs", "streamed", "swept", "dot products", "k by"):
        if text.startswith("contract") and word in text:
            return f"contract, {word}"
    if text.startswith("attention"):
        return "attention"
    if text.startswith("contract"):
        return "contract, packed" if "pack" in text else "contract"
    return re.sub(r"\d+", "n", text)


@contextmanager
def least_effort() -> Iterator[None]:
    """LLVM generates code with its own level 0: in half the time."""
    usual = CpuTarget.machine
    try:
        CpuTarget.machine = lambda self, opt=0: usual(self, 0)  # type: ignore[method-assign]
        yield
    finally:
        CpuTarget.machine = usual  # type: ignore[method-assign]


def bare_passes() -> list[Pass]:
    """What no compilation can do without."""
    fuse = Fuse(cheap=0, nodes=0, rows=False, epilogues=False)
    return [Functionalize(), Lower(), fuse, Schedule(), Plan(inplace=False, reuse=False)]


def native(
    target: str = "host", optimize: bool = True, opt_level: int = 0,
    coverage: Coverage | None = None,
) -> Backend:
    """Programs compiled for a target, by all passes or by none."""
    limit = -1 if optimize else 0
    options = Options(target=target, opt_level=opt_level, rewrite_limit=limit)

    def compile_it(f: Function) -> Runner:
        raws: list[plan.Program] = []

        def see(p: Pass, before: Unit, after: Unit) -> None:
            raws.extend(x for x in after.items.values()
                        if p.name == "lower" and isinstance(x, plan.Program))

        made = driver.compile_program(
            f, options, passes=None if optimize else bare_passes(), observers=[see])
        if coverage is not None:
            coverage.program(raws[0], made.program)
        if target != "host":
            return _bound(f, made)
        exe = made.load()
        state = [n for n, info in enumerate(f.infos) if info.kind == "state"]

        sides = itertools.cycle((False, True))

        def run(args: Sequence[Array]) -> list[Array]:
            inputs = [a for n, a in enumerate(args) if n not in state]
            outs, after = call_guarded(exe, inputs, [args[n] for n in state], front=next(sides))
            return _results(f, outs, after)
        return run
    return compile_it


def _bound(f: Function, made: Any) -> Runner:
    """Through `Compiled.bind`, for targets whose memory is not the caller's."""
    state = [n for n, info in enumerate(f.infos) if info.kind == "state"]

    def run(args: Sequence[Array]) -> list[Array]:
        after = [np.array(args[n]) for n in state]
        outs = made.bind(after)(*(a for n, a in enumerate(args) if n not in state))
        return _results(f, outs, after)
    return run


def _results(f: Function, outs: list[Array], after: list[Array]) -> list[Array]:
    """Outputs and new values of variables, as the function's results are ordered."""
    infos = [i for i in f.infos if i.kind == "state"]
    updated = {i.updated_by: a for i, a in zip(infos, after, strict=True) if i.updated_by >= 0}
    rest = iter(outs)
    return [updated[n] if n in updated else next(rest) for n in range(len(f.results))]


@dataclass(frozen=True)
class Failure:
    """What went wrong: on which backend, and how."""

    backend: str
    message: str


def compare(
    f: Function, args: Sequence[Array], vals: dict[Value, Val], runner: Runner
) -> str:
    """What is wrong with a run; empty where nothing is."""
    try:
        results = runner(args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for n, (got, r) in enumerate(zip(results, f.results, strict=True)):
        wrong = difference(np.asarray(got), vals[r])
        if wrong:
            return f"result {n}, {wrong}"
    return ""


def check(
    f: Function, args: Sequence[Array], env: dict[str, int], backend: Backend
) -> str:
    """Compile and run; what is wrong, if anything, and stays so with other random errors."""
    vals = assess(f, args, env)
    try:
        runner = backend(f)
    except Exception as error:
        return f"compilation: {type(error).__name__}: {error}"
    wrong = compare(f, args, vals, runner)
    if not wrong:
        return ""
    return compare(f, args, _looser(f, args, env, vals), runner)


def _looser(
    f: Function, args: Sequence[Array], env: dict[str, int], vals: dict[Value, Val]
) -> dict[Value, Val]:
    """More samples of the random error, for programs that amplify it now and then."""
    out = dict(vals)
    for seed in range(1, 9):
        for v, x in assess(f, args, env, seed).items():
            out[v] = Val(x.a, x.b, (*out[v].noisy, *x.noisy), x.exact)
    return out
