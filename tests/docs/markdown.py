"""The documents as their tests see them: fenced blocks, generated parts, links, named paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```\n", re.M | re.S)
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.S)
_FILE = re.compile(r"^(?:#|//|;) ([\w./]+\.(?:py|flow|c))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands behind that word, and the text."""

    language: str
    info: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, where its first line is a comment of it."""
        found = _FILE.match(self.text)
        return found[1] if found else None


def blocks(text: str) -> list[Block]:
    """The fenced blocks that have a language, in order."""
    return [Block(m[1], m[2].strip(), m[3]) for m in _FENCE.finditer(text)]


def parts(text: str) -> list[str]:
    """The names of the generated parts."""
    return [m[2] for m in _PART.finditer(text)]


def with_parts(text: str, made: dict[str, str]) -> str:
    """The text with its generated parts as they are now."""
    return _PART.sub(lambda m: f"{m[1]}\n{made[m[2]].strip()}\n\n{m[3]}", text)


def links(text: str) -> list[str]:
    """The targets of links to files."""
    found = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", _FENCE.sub("", text))
    return [t for t in found if "://" not in t]


def paths(text: str) -> list[str]:
    """What is quoted and looks like a path of the repository: with a slash, or a file's ending."""
    code = re.findall(r"`([\w./-]+)`", _FENCE.sub("", text))
    rooms = ("backends/", "benchmarks/", "compiler/", "docs/", "examples/", "ir/", "runtime/",
             "tests/", ".ci/")
    return [c for c in code if c.startswith(rooms)]


def commands(text: str) -> list[str]:
    """The lines that call `flowc`: in shell blocks and in indented ones."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    flowc ")]
    for block in blocks(text):
        if block.language == "sh":
            lines += [line for line in block.text.splitlines() if line.startswith("flowc ")]
    return [re.split(r"\s{2,}#|\s+#\s", line)[0] for line in lines]
