"""Link the package folders under the names that they are imported by, for mypy and pyright.

Neither follows the package-dir mapping of `pyproject.toml`. `tests/typing/flowc` holds a link for
every entry of `compiler/frontend` (which is `flowc` itself) and one for each folder beside it. Run
this after adding a module to `compiler/frontend`; `--check` only says what differs.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDERS = ("backends", "compiler", "ir", "runtime")


def wanted() -> dict[str, str]:
    """The links that belong in `tests/typing/flowc`: name → relative target."""
    links = {folder: f"../../../{folder}" for folder in FOLDERS}
    for entry in sorted((ROOT / "compiler" / "frontend").iterdir()):
        if entry.name.startswith((".", "__pycache__")) or entry.suffix == ".pyc":
            continue
        if entry.is_dir() and not any(entry.rglob("*.py")):
            continue
        links[entry.name] = f"../../../compiler/frontend/{entry.name}"
    return links


def present() -> dict[str, str]:
    """The links that are there now."""
    folder = HERE / "flowc"
    if not folder.is_dir():
        return {}
    return {entry.name: os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink()}


def main() -> int:
    """Bring the links up to date, or with `--check` report the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if stale")
    check = parser.parse_args().check
    want, have = wanted(), present()
    stale = sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name))
    for name in stale:
        print(f"{'stale' if check else 'linked'}: {name}")
    if check:
        return 1 if stale else 0
    (HERE / "flowc").mkdir(exist_ok=True)
    for name in stale:
        link = HERE / "flowc" / name
        link.unlink(missing_ok=True)
        if name in want:
            link.symlink_to(want[name])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
