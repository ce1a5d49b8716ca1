"""Bring up to date what the tests of this folder compare: packages, links for mypy, line ends.

    python tests/house/tidy.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from house import tree
from house.test_packaging import SETTINGS, listed_packages, packages_in_tree
from house.test_style import text_files


def packages() -> None:
    """List every package in pyproject.toml."""
    found = sorted(packages_in_tree())
    if found == listed_packages():
        return
    text = SETTINGS.read_text(encoding="utf-8")
    listing = "".join(f'    "{name}",\n' for name in found)
    new = re.sub(r"packages = \[\n.*?\]", f"packages = [\n{listing}]", text, count=1, flags=re.S)
    SETTINGS.write_text(new, encoding="utf-8")
    print("pyproject.toml: packages")


def line_ends() -> None:
    """One newline at the end of each text."""
    for file in text_files():
        text = file.read_text(encoding="utf-8")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
            print(f"{file.relative_to(tree.ROOT)}: line end")


def main() -> None:
    packages()
    line_ends()
    subprocess.run([sys.executable, tree.ROOT / "tests" / "typing" / "link.py"], check=True)


if __name__ == "__main__":
    main()
