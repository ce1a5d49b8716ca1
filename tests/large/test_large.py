"""What graphs of many operations cost to build, compile and run, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS, MEGABYTES = 60, 2048
SHAPES = ("chain", "wide", "residual")


def measure(shape: str, ops: int) -> dict[str, Any]:
    """What `build.py` reports, with nothing in the compile cache."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build.py")), shape, str(ops)],
        env={**os.environ, "FLOWC_CACHE": "0"}, capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures = ", ".join(
        f"{k} {v:.2f}" if isinstance(v, float) and k != "error" else f"{k} {v}"
        for k, v in found.items()
    )
    print(figures)
    return found


def check(found: dict[str, Any], ops: int, seconds: float) -> None:
    """Right results, and no more time (of the processor: the machine may be busy) and memory."""
    assert found["ops"] >= ops
    assert found["same"]
    assert found["error"] < 1e-3, found
    assert found["cpu"] < seconds, found
    assert found["megabytes"] < MEGABYTES, found


@pytest.mark.parametrize("shape", SHAPES)
def test_five_thousand_operations(shape: str) -> None:
    check(measure(shape, 5_000), 5_000, SECONDS / 3)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_fifty_thousand_operations(shape: str, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--large"):
        pytest.skip("minutes in sum: `make large` runs it")
    check(measure(shape, 50_000), 50_000, SECONDS)
