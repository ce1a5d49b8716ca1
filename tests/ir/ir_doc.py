"""docs/ir.md: its examples, and the prose of its op sections, which is the ops' docstrings.

A section is a heading `### name`, the signature, the docstring, and a hand-written example. Where a
docstring has changed, `pytest tests/ir/test_docs.py --bless` writes it into the document.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowc.ir.core import Op
from flowc.ir.ops.base import REGISTRY
from flowc.ir.text import attr_specs

DOCUMENT = Path(__file__).parents[2] / "docs" / "ir.md"
_SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^### |\Z)", re.M | re.S)
_FENCE = re.compile(r"^```(flow|kernel)\n(.*?)^```\n", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """A program of the document, with the literals that go in and come out."""

    kind: str
    text: str
    line: int

    @property
    def ins(self) -> list[str]:
        return re.findall(r"^; in:\s+(.*)$", self.text, re.M)

    @property
    def outs(self) -> list[str]:
        return re.findall(r"^; out:\s+(.*)$", self.text, re.M)


def examples(text: str) -> list[Example]:
    """All fenced programs."""
    return [Example(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in _FENCE.finditer(text)]


def sections(text: str) -> dict[str, str]:
    """Op name → the text below its heading."""
    return {m[1]: m[2] for m in _SECTION.finditer(text)}


def regenerated(text: str) -> str:
    """The document with each op's signature and docstring as they are now."""
    def section(m: re.Match[str]) -> str:
        fence = _FENCE.search(m[2])
        example = m[2][fence.start() :] if fence else ""
        cls = REGISTRY.get(m[1])
        if cls is None:
            return m[0]
        return f"### {m[1]}\n\n{signature(cls)}\n\n{prose(cls)}\n\n{example}"
    return _SECTION.sub(section, text)


def signature(cls: type[Op]) -> str:
    """``reduce(x) {op: str, axes: [int]}``."""
    params = list(inspect.signature(cls.infer).parameters.values())[1:]
    operands = ", ".join(("*" if p.kind is p.VAR_POSITIONAL else "") + p.name for p in params)
    attrs = ", ".join(f"{n}: {_kind(s)}" for n, s in attr_specs(cls).items())
    return f"`{cls.name}({operands}){f' {{{attrs}}}' if attrs else ''}`"


def _kind(spec: tuple[Any, ...]) -> str:
    if spec[0] == "list":
        return f"[{_kind(spec[1])}, …]"
    if spec[0] == "tuple":
        return f"[{', '.join(map(_kind, spec[1]))}]"
    return f"{_kind(spec[1])} or none" if spec[0] == "optional" else str(spec[0])


def prose(cls: type[Op]) -> str:
    """The docstring as Markdown."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    return doc.replace("``", "`").replace("*spatial", r"\*spatial").replace("(*op", r"(\*op")
