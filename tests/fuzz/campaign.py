"""Seeds through all backends: what the test and the command line share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowc.ir.core import IRError
from flowc.ir.dtypes import dtype
from fuzz.execute import Backend, Coverage, check, compare, least_effort, native
from fuzz.generate import SIZES, program
from fuzz.minimise import minimise, save
from fuzz.program import Program
from fuzz.values import assess, is_bounded

ALONE_EVERY, RARE = 5, ("attention",)  # among much else it is seldom one kernel
BARE_EVERY = 5  # every so many seeds the program is compiled without optimization, too


@dataclass
class Campaign:
    """Runs seeds. Extra backends, by name: all programs go through them too."""

    extra: dict[str, Backend] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    failures: list[str] = field(default_factory=list)
    skipped: int = 0
    resized: int = 0
    keep: bool = True
    only_extra: bool = False
    quick: bool = False  # every other program with LLVM's least effort

    def run(self, seeds: Iterable[int]) -> Iterator[int]:
        """Run the seeds; yields each when it is done."""
        for seed in seeds:
            self.seed(seed)
            if seed % ALONE_EVERY == 0:
                self.seed(seed, RARE)
            yield seed

    def backends(self, seed: int) -> dict[str, Backend]:
        if self.only_extra:
            return self.extra
        out = {"optimized": native(coverage=self.coverage)}
        if seed % BARE_EVERY == 0:
            out["no passes"] = native(optimize=False)
        return {**out, **self.extra}

    def seed(self, seed: int, pick: Sequence[str] | None = None) -> None:
        """One program, on its sizes and on others. pick: of these motifs alone."""
        p = program(seed, pick)
        self.coverage.function(p.function)
        vals = assess(p.function, p.args, p.env)
        for name, backend in self.backends(seed).items():
            try:
                with least_effort() if self.quick and seed % 2 else nullcontext():
                    runner = backend(p.function)
            except Exception as error:
                self.fail(seed, name, backend, p, f"compilation: {type(error).__name__}: {error}")
                continue
            wrong = compare(p.function, p.args, vals, runner)
            if wrong and (wrong := check(p.function, p.args, p.env, backend)):
                self.fail(seed, name, backend, p, wrong)
            elif name == "optimized" and p.env:
                self.other_sizes(seed, p, backend, runner)

    def other_sizes(self, seed: int, p: Program, backend: Backend, runner: Any) -> None:
        """The same code for other sizes of the symbols, where the program is defined for them."""
        rng = np.random.default_rng(seed + 1)
        env = {k: int(rng.choice([0, *SIZES])) for k in p.env}
        try:
            args = p.other_args(env, seed)
            vals = assess(p.function, args, env)
        except (IRError, ArithmeticError, ValueError):
            self.skipped += 1
            return
        if not all(is_bounded(v, p.special) for v in vals.values() if isinstance(v.a, np.ndarray)
                   and dtype(v.a.dtype).kind != "c"):
            self.skipped += 1
            return
        self.resized += 1
        wrong = compare(p.function, args, vals, runner)
        if wrong and (wrong := check(p.function, args, env, backend)):
            other = Program(p.function, env, args, p.samplers, p.special)
            self.fail(seed, "optimized, other sizes", backend, other, wrong)

    def fail(self, seed: int, name: str, backend: Backend, p: Program, why: str) -> None:
        """Record a failure, made small."""
        text = f"seed {seed}, {name}: {why}"
        if self.keep:
            kind = why.split()[0]
            f, args = minimise(p.function, p.args, p.env,
                               lambda f, a: check(f, a, p.env, backend).startswith(kind))
            again = check(f, args, p.env, backend)
            path = save(f"seed{seed}", f, args, p.env, f"{text} | small: {again}")
            text += f"\n  {path}"
        self.failures.append(text)
