"""Runs the .flow files of this folder and those below it; see filecheck.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from filecheck import FileTest

FOLDER = Path(__file__).parent
FILES = {f.relative_to(FOLDER).as_posix(): f for f in sorted(FOLDER.rglob("*.flow"))}


@pytest.mark.parametrize("name", FILES)
def test_file(name: str, bless: bool) -> None:
    test = FileTest(FILES[name])
    if bless:
        test.bless()
        test = FileTest(FILES[name])
    test.check()
