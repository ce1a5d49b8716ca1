"""flowc beside other frameworks, on the same work, in one run: a table and a plot.

Each framework runs in a process of its own, and they take turns: what else the machine does meets
all of them. Each result is compared with NumPy's in float64; of a training step, how far each
parameter moved is compared between the frameworks. Those that this Python cannot import are left
out, unless --python names an interpreter that can: --python torch=/envs/torch/bin/python.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from _timing import limit_numpy, machine

HERE = Path(__file__).parent
SLICE = 0.05  # seconds of a turn
TOLERANCE = 1e-3  # relative L2
MOVED = 0.1  # Adam's epsilon lies before or behind the bias correction, as frameworks have it


class Worker:
    """A framework in its own process; requests and answers are lines of JSON."""

    def __init__(self, name: str, python: str, threads: int) -> None:
        self.name = name
        pins = {v: str(threads) for v in (
            "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
        pins["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
        self.process = subprocess.Popen(
            [python, str(HERE / "_worker.py"), name, str(threads)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **pins})
        self.missing = self.answer().get("error", "")

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the process ended"}
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        return found


def times_of(case: str, workers: list[Worker], rounds: int) -> dict[str, dict[str, Any]]:
    """By framework: the median seconds of a call, and the error; or why there are none."""
    cells = {w.name: w.ask(load=case) for w in workers}
    running = [w for w in workers if "error" not in cells[w.name]]
    samples: dict[str, list[float]] = {w.name: [] for w in running}
    for turn in range(rounds):
        for w in running[turn % len(running):] + running[:turn % len(running)]:
            samples[w.name].append(w.ask(seconds=SLICE)["call"])
    for name, found in samples.items():
        cells[name] = {**cells[name], "seconds": median(found), "all": found}
    return cells


def wrong_of(cells: dict[str, dict[str, Any]]) -> list[str]:
    """Who is far from the reference; in training, whose parameters moved otherwise than most."""
    wrong = [n for n, c in cells.items() if c.get("err", 0) > TOLERANCE]
    moved = {n: c["moved"] for n, c in cells.items() if "moved" in c}
    for parameter in next(iter(moved.values()), {}):
        usual = median(m[parameter] for m in moved.values())
        wrong += [n for n, m in moved.items() if abs(m[parameter] - usual) > MOVED * usual]
    return sorted(set(wrong))


def table(results: dict[str, dict[str, dict[str, Any]]], names: list[str]) -> str:
    """Milliseconds by framework, and how many times as long the best other one takes."""
    lines = [f"{'':34}" + "".join(f"{n:>15}" for n in names) + f"{'best other':>13}"]
    for case, cells in results.items():
        texts = [f"{cells[n]['seconds'] * 1e3:.4f} ms" if "seconds" in cells.get(n, {}) else "-"
                 for n in names]
        lines.append(f"{case:34}" + "".join(f"{t:>15}" for t in texts) + f"{_ratio(cells):>13}")
    return "\n".join(lines)


def _ratio(cells: dict[str, dict[str, Any]]) -> str:
    others = [c["seconds"] for n, c in cells.items() if n != "flowc" and "seconds" in c]
    ours = cells.get("flowc", {}).get("seconds")
    return f"{min(others) / ours:.2f} x" if others and ours else "-"


def plot(results: dict[str, dict[str, dict[str, Any]]], names: list[str], path: Path) -> None:
    """Bars: each framework's time as a multiple of flowc's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    others = [n for n in names if n != "flowc"]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.45 * len(results)), layout="constrained")
    for k, name in enumerate(others):
        at = [(i + k / (len(others) + 1), c[name]["seconds"] / c["flowc"]["seconds"])
              for i, c in enumerate(results.values())
              if "seconds" in c.get(name, {}) and "seconds" in c.get("flowc", {})]
        axes.barh([y for y, _ in at], [r for _, r in at], 0.8 / (len(others) + 1), label=name)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="time, as a multiple of flowc's", yticks=range(len(results)),
             yticklabels=list(results))
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["*"], help="patterns of names")
    parser.add_argument("--frameworks", default="flowc,numpy,torch,torch-compile,jax")
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="results as JSON")
    parser.add_argument("--plot", type=Path, help="a picture (.png, .svg); needs matplotlib")
    options = parser.parse_args()
    limit_numpy(options.threads)
    from _cases import CASES

    pythons = dict(entry.split("=", 1) for entry in options.python)
    workers = [Worker(n, pythons.get(n, sys.executable), options.threads)
               for n in options.frameworks.split(",")]
    for w in workers:
        if w.missing:
            print(f"{w.name} is left out: {w.missing}")
    workers = [w for w in workers if not w.missing]
    print(machine(options.threads))
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for case in CASES:
        if any(fnmatch.fnmatch(case, p) for p in options.cases):
            cells = results[case] = times_of(case, workers, options.rounds)
            wrong = wrong_of(cells)
            print(f"{case}: {_ratio(cells)}" + (f"  WRONG: {wrong}" if wrong else ""), flush=True)
    names = [w.name for w in workers]
    print(table(results, names))
    if options.out:
        options.out.write_text(json.dumps({"machine": machine(options.threads), "cases": results}))
    if options.plot:
        plot(results, names, options.plot)


if __name__ == "__main__":
    main()
