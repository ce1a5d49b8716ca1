"""``flowc bench``: how long a run takes."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from .. import driver
from ..analysis import cost_analysis
from . import inputs, run_command
from .failures import compiling


def run(a: argparse.Namespace) -> None:
    """Print the time of a call: least, median, and what that is in operations and bytes."""
    if a.program.endswith((".so", ".o")):
        report(measure(run_command.artifact_call(a)[1], a.seconds))
        return
    options, loaded = inputs.options(a), inputs.program(a)
    with compiling(options, loaded.function):
        start = time.perf_counter()
        _, call = run_command.compiled_call(loaded, options, a)
        print(f"compiled in {time.perf_counter() - start:.3f} s")
        times = measure(call, a.seconds)
        report(times)
        work(loaded, options, a, min(times))


def measure(call: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each of many calls (at least 3, after one that is not counted)."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if len(times) >= 1_000_000:
            break
    return times


def report(times: list[float]) -> None:
    """The figures."""
    best, middle = min(times), statistics.median(times)
    print(f"{len(times)} calls: least {scaled(best)}, median {scaled(middle)}")


def scaled(seconds: float) -> str:
    """A time with its unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def work(loaded: inputs.Loaded, options: Any, a: argparse.Namespace, best: float) -> None:
    """Operations and bytes a second, by the compiler's count."""
    compiled = driver.compile_function(loaded.function, options)
    symbols = {s: inputs.sizes(a.dim).get(s, 4) for s in compiled.manifest["dims"]}
    cost = cost_analysis(compiled.program, symbols)
    print(f"{cost.kernels} kernels, {cost.flops} operations ({cost.flops / best / 1e9:.3g} G/s), "
          f"{cost.bytes} bytes moved ({cost.bytes / best / 1e9:.3g} GB/s)")
