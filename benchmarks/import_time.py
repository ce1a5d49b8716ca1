"""The time that `import flowc` takes in a fresh process, beside that of Python and of NumPy."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

CASES = {"python": "pass", "numpy": "import numpy", "flowc": "import flowc"}


def measure(statement: str, repeats: int) -> list[float]:
    """Seconds of `repeats` fresh processes, after one that warms the file system's cache."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(f"{'process':10} {'median s':>9} {'least s':>9}")
    for name, statement in CASES.items():
        times = measure(statement, repeats)
        print(f"{name:10} {statistics.median(times):9.3f} {min(times):9.3f}")


if __name__ == "__main__":
    main()
