"""Assemble the programs of the talk from its slides.

    python tests/deck/extract.py                    the names of the programs
    python tests/deck/extract.py variable-loop      one program, as it runs, with its edits noted
    python tests/deck/extract.py --against deck.txt compare slides.txt with the text of the talk
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from deck.edits import EDITS, IMPORT, PROGRAMS, Edit, Given

SLIDES = Path(__file__).with_name("slides.txt")


@dataclass(frozen=True)
class Slide:
    """A slide's heading and the code or numbers on it."""

    heading: str
    text: str


def read_slides(path: Path = SLIDES) -> dict[str, Slide]:
    """The slides of `slides.txt` by key."""
    slides = {}
    for part in re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, _, text = part.partition("\n")
        key, _, heading = title.partition(" | ")
        if key in slides:
            raise ValueError(f"{path.name}: two slides called {key}")
        slides[key] = Slide(heading, text.strip("\n"))
    return slides


def edit_slide(key: str, text: str, without: Collection[Edit] = ()) -> str:
    """A slide's text with its edits, each of which has to fit exactly once."""
    for edit in EDITS:
        if edit.slide == key and edit not in without:
            if text.count(edit.old) != 1:
                raise ValueError(f"slide {key}: {edit.old!r} stands {text.count(edit.old)} times")
            text = text.replace(edit.old, edit.new)
    return text.replace(*IMPORT)


def assemble(name: str, without: Collection[Edit] = ()) -> str:
    """The source of a program; edits in `without` are left out."""
    slides = read_slides()
    parts = []
    for piece in PROGRAMS[name]:
        if isinstance(piece, Given):
            parts.append(f"# given: {piece.reason}\n{piece.source}")
        else:
            text = edit_slide(piece, slides[piece].text, without)
            parts.append(f"# slide: {slides[piece].heading}\n{text}")
    return "\n".join(parts) + "\n"


def numbers(key: str) -> list[list[int]]:
    """A slide's table of integers, row by row, without ×n, a weight beside a pixel."""
    rows = edit_slide(key, read_slides()[key].text).splitlines()
    return [[int(n) for n in re.findall(r"(?<!\S)-?\d+", row)] for row in rows]


def weights(key: str) -> list[list[int]]:
    """The numbers that a slide's table has behind ×, row by row."""
    rows = [re.findall(r"×(-?\d+)", row) for row in read_slides()[key].text.splitlines()]
    return [[int(n) for n in row] for row in rows if row]


def not_in_deck(deck: str) -> list[str]:
    """The lines of code of `slides.txt` that the text of the talk does not have."""
    plain = re.sub(r"\\text\{([^}]*)\}", r"\1", deck)  # one line is set as a formula
    have = {" ".join(line.strip("$` ").split()) for line in plain.splitlines()}
    code = [line for slide in read_slides().values() for line in slide.text.splitlines()]
    lines = [" ".join(line.split()) for line in code if "tf." in line or "=" in line]
    return [line for line in lines if line and line not in have and "×" not in line]


def main() -> int:
    """Print what was asked for; exit 1 if the slides differ from the talk."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program", nargs="?", choices=sorted(PROGRAMS))
    parser.add_argument("--against", type=Path, metavar="FILE", help="the text of the talk")
    arguments = parser.parse_args()
    if arguments.against:
        missing = not_in_deck(arguments.against.read_text(encoding="utf-8"))
        print("\n".join(missing) or "every line of code stands in the talk")
        return 1 if missing else 0
    if not arguments.program:
        print("\n".join(PROGRAMS))
        return 0
    for edit in EDITS:
        if edit.slide in PROGRAMS[arguments.program]:
            print(f"# edited: {edit.old.strip()} → {edit.new}: {edit.reason}")
    print(assemble(arguments.program), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
