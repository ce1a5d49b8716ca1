"""The process of one framework in `compare.py`: loads cases, answers with times."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from _cases import CASES
from _frameworks import FRAMEWORKS, NumPy


def check(case: Any, got: dict[str, Any]) -> dict[str, Any]:
    """The relative L2 distance from NumPy's float64 result; of training, how far each went."""
    if case.train:
        _, start = case.arrays()
        return {"moved": {n: float(np.abs(a - start[n]).sum()) for n, a in got.items()}}
    step, outputs = NumPy(1, np.float64).build(case)
    step()
    want = outputs()["result"]
    return {"err": float(np.linalg.norm(got["result"] - want) / np.linalg.norm(want))}


def load(framework: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """The case's step, after its first call has been checked."""
    start = time.perf_counter()
    step, outputs = framework.build(CASES[name])
    step()
    first = time.perf_counter() - start
    return step, {"first": first, **check(CASES[name], outputs())}


def timed(step: Any, seconds: float) -> float:
    """Mean seconds of a call, over as many as fit."""
    count, start = 0, time.perf_counter()
    while True:
        step()
        count += 1
        now = time.perf_counter()
        if now - start >= seconds and count >= 3:
            return (now - start) / count


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    out, sys.stdout = sys.stdout, sys.stderr  # what frameworks print is no answer

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=out, flush=True)

    try:
        framework: Any = FRAMEWORKS[name](threads)
    except ImportError as missing:
        say(error=str(missing))
        return
    say()
    step: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                step, answer = load(framework, request["load"])
                timed(step, 0.3)
            else:
                answer = {"call": timed(step, request["seconds"])}
        except Exception as failure:
            traceback.print_exc()
            answer = {"error": f"{type(failure).__name__}: {failure}"}
        say(**answer)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
