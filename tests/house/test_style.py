"""Habits that a reader relies on: short files, short lines, and nothing of one machine."""

from __future__ import annotations

import re
from pathlib import Path

from house import tree

MAX_LINES = 500

# file → why it is longer: a table or one family of ops
LONGER: dict[str, str] = {}

# places of one machine, and what has no business in a project that others read
PLACES = re.compile(r"/(?:work|root|home|farm)/[\w.]|\.\./" + r"shared\b|[A-Z]:\\Users\\")

# the one script that looks beside the checkout for data
MAY_NAME_PLACES = {".ci/run"}

TEXT = {".py", ".md", ".toml", ".txt", ".flow", ".c", ".h", ".yml", ".yaml", ".cfg", ".sh", ""}


def text_files() -> list[Path]:
    return [f for f in tree.tracked() if f.suffix in TEXT and b"\0" not in f.read_bytes()]


def name(file: Path) -> str:
    return file.relative_to(tree.ROOT).as_posix()


def test_files_are_short() -> None:
    code = [f for f in tree.tracked() if f.suffix == ".py"]
    lengths = {name(f): len(f.read_text(encoding="utf-8").splitlines()) for f in code}
    long = {f: n for f, n in lengths.items() if n > MAX_LINES and f not in LONGER}
    assert not long, f"over {MAX_LINES} lines; split them, or list them in LONGER with the reason"
    needless = [f for f in LONGER if lengths.get(f, 0) <= MAX_LINES]
    assert not needless, "listed in LONGER and not longer"


def test_nothing_names_a_place_on_one_machine() -> None:
    wrong = []
    for file in text_files():
        if name(file) in MAY_NAME_PLACES:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if PLACES.search(line):
                wrong.append(f"{name(file)}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_text_ends_with_one_newline_and_has_no_tabs() -> None:
    wrong = []
    for file in text_files():
        text = file.read_text(encoding="utf-8")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            wrong.append(f"{name(file)}: does not end with one newline")
        if file.suffix == ".py" and "\t" in text:
            wrong.append(f"{name(file)}: tab")
    assert not wrong, "\n".join(wrong)
