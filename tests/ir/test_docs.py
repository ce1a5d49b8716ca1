"""docs/ir.md says what is so: its programs run, every op has a section with a worked example."""

from __future__ import annotations

import pytest

from flowc.ir import interpreter, parser, printer, verifier
from flowc.ir.datatext import DataScanner, literal_text
from flowc.ir.kernel.parse import parse_kernel
from flowc.ir.kernel.text import print_kernel
from flowc.ir.kernel.verify import verify_kernel
from flowc.ir.literal import Literal
from flowc.ir.ops.base import REGISTRY

from .ir_doc import DOCUMENT, Example, examples, regenerated, sections

TEXT = DOCUMENT.read_text(encoding="utf-8")
EXAMPLES = {f"line{e.line}": e for e in examples(TEXT)}


def test_every_op_has_a_section_and_no_other_has() -> None:
    assert set(sections(TEXT)) == set(REGISTRY)


def test_every_section_has_an_example_of_its_op() -> None:
    for name, body in sections(TEXT).items():
        found = [e for e in examples(body) if f" {name}(" in e.text]
        assert found, f"docs/ir.md: {name} has no example"
        assert all(e.ins or e.outs for e in found), f"docs/ir.md: {name} has no values"


def test_sections_are_the_docstrings(bless: bool) -> None:
    new = regenerated(TEXT)
    if bless:
        DOCUMENT.write_text(new, encoding="utf-8")
    assert new == TEXT or bless, "run: pytest tests/ir/test_docs.py --bless"


@pytest.mark.parametrize("key", EXAMPLES)
def test_example(key: str) -> None:
    example = EXAMPLES[key]
    if example.kind == "kernel":
        k = parse_kernel(example.text)
        verify_kernel(k)
        assert print_kernel(k) == example.text
    else:
        check_function(example)


def check_function(example: Example) -> None:
    m = parser.parse_module(example.text)
    verifier.verify(m)
    program = "".join(line for line in example.text.splitlines(True) if line[0] != ";")
    assert printer.print_module(m) == program
    args = [DataScanner(t, "in", {}).literal().array for t in example.ins]
    try:
        outs = [literal_text(Literal(r)) for r in interpreter.run(m.main, args)]
    except interpreter.RunError as e:
        outs = [f"error {e.code}"]
    assert outs == example.outs
