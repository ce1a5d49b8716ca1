"""Break the compiler on purpose, one fault at a time; the tests must notice.

python tests/mutants/run.py [WORD …] [--parallel 2]: all mutants, or those whose file or reason
holds a word. Each is made in a copy of the package; the work tree is not touched. A mutant that
survives is a gap in the tests: the command ends with 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "ir", "backends", "runtime", "tests", "docs", "examples")
LIMIT = 200  # seconds that the tests of one mutant may take


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: caught, SURVIVED, or stale (its text is no longer there)."""

    mutant: Mutant
    what: str
    seconds: float
    detail: str = ""


class Copy:
    """A copy of the package that can be imported, and its tests run, apart from the original."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__", "typing", "failures", ".*")
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", folder)
        package = folder / "site" / "flowc"
        package.mkdir(parents=True)
        for entry in (folder / "compiler" / "frontend").iterdir():
            (package / entry.name).symlink_to(entry)
        for name in ("compiler", "ir", "backends", "runtime"):
            (package / name).symlink_to(folder / name)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, (self.folder / "site", self.folder / "tests")))
        return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
                "FLOWC_CACHE": "0"}

    def python(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run Python on the copy."""
        return subprocess.run(
            [sys.executable, *args], cwd=self.folder, env=self.environment, text=True,
            capture_output=True, timeout=LIMIT, check=False)

    def tests(self, args: Sequence[str]) -> tuple[bool, str]:
        """Whether the tests pass, and the end of what they say."""
        try:
            run = self.python("-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider",
                              *args)
        except subprocess.TimeoutExpired:
            return False, "too slow"
        last = (run.stdout.strip() or run.stderr.strip()).splitlines()[-3:]
        if run.returncode == 5:
            return True, "no test was selected"
        return run.returncode == 0, " | ".join(last)

    def try_mutant(self, m: Mutant) -> Outcome:
        """Make the fault, run its tests, undo it."""
        path, start = self.folder / m.file, time.monotonic()
        text = path.read_text(encoding="utf-8")
        if text.count(m.old) != 1:
            return Outcome(m, "stale", 0.0, f"its text is there {text.count(m.old)} times")
        try:
            path.write_text(text.replace(m.old, m.new), encoding="utf-8")
            passed, said = self.tests(m.tests)
        finally:
            path.write_text(text, encoding="utf-8")
        return Outcome(m, "SURVIVED" if passed else "caught", time.monotonic() - start, said)

    def check(self) -> None:
        """SystemExit unless Python imports the copy."""
        found = self.python("-c", "import flowc.ir, flowc.compiler.driver as d; print(d.__file__)")
        if str(self.folder) not in found.stdout:
            sys.exit(f"the copy is not what is imported: {found.stdout}{found.stderr}")


def baseline(copy: Copy, mutants: Sequence[Mutant]) -> list[str]:
    """The sets of tests that fail without any fault."""
    broken = []
    for tests in dict.fromkeys(m.tests for m in mutants):
        passed, said = copy.tests(tests)
        if not passed or "no test" in said:
            broken.append(f"{' '.join(tests)}: {said}")
    return broken


def run(mutants: Sequence[Mutant], parallel: int, sound: bool) -> list[Outcome]:
    """Try all mutants in as many copies as run at once."""
    with tempfile.TemporaryDirectory(prefix="flowc-mutants-") as name:
        copies = [Copy(Path(name) / str(n)) for n in range(parallel)]
        copies[0].check()
        if sound:
            broken = baseline(copies[0], mutants)
            if broken:
                sys.exit("these fail without a mutant:\n" + "\n".join(broken))
        shares = [mutants[n::parallel] for n in range(parallel)]

        def work(n: int) -> list[Outcome]:
            out = []
            for m in shares[n]:
                out.append(copies[n].try_mutant(m))
                print(line(out[-1]), flush=True)
            return out

        with ThreadPoolExecutor(parallel) as pool:
            return [o for share in pool.map(work, range(parallel)) for o in share]


def line(o: Outcome) -> str:
    """A row of the table."""
    more = f"  [{o.detail}]" if o.what != "caught" else ""
    return f"{o.what:9}{o.seconds:6.1f} s  {o.mutant.file}: {o.mutant.why}{more}"


def main(argv: list[str] | None = None) -> int:
    """0 where every mutant is caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose file or reason holds one")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--sound", action="store_true", help="first see that all tests pass")
    args = parser.parse_args(argv)
    chosen = [m for m in MUTANTS
              if not args.words or any(w in f"{m.file} {m.why}" for w in args.words)]
    outcomes = run(chosen, max(1, args.parallel), args.sound)
    bad = [o for o in outcomes if o.what != "caught"]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} mutants caught")
    for o in bad:
        print(line(o))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
