"""The slides and their edits fit together; nothing here needs more than Python."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from deck import extract
from deck.edits import EDITS, NO_PROGRAM, PROGRAMS

SCRIPT = Path(extract.__file__)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_is_python_and_imports_flowc(name: str) -> None:
    source = extract.assemble(name)
    ast.parse(source)
    assert "import flowc as tf" in source
    assert "tensorflow" not in source


def test_every_slide_is_used() -> None:
    used = {piece for pieces in PROGRAMS.values() for piece in pieces if isinstance(piece, str)}
    assert set(extract.read_slides()) == used | NO_PROGRAM
    assert not used & NO_PROGRAM


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.slide}:{edit.old.strip()}")
def test_every_edit_fits_once_and_has_a_reason(edit: extract.Edit) -> None:
    slide = extract.read_slides()[edit.slide]
    assert slide.text.count(edit.old) == 1
    assert edit.reason


def test_an_edit_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"slide line-3: 'name=\"W\"\)' stands 0 times"):
        extract.edit_slide("line-3", "import tensorflow as tf")


def test_the_command_prints_programs(tmp_path: Path) -> None:
    def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)

    assert command().stdout.split() == list(PROGRAMS)
    printed = command("line-3").stdout
    assert printed.startswith("# edited: ")
    assert printed.endswith(extract.assemble("line-3"))
    talk = tmp_path / "talk.txt"
    talk.write_text("import tensorflow as tf\n")
    compared = command("--against", talk)
    assert compared.returncode == 1
    assert "my_var = tf.Variable(0)" in compared.stdout
