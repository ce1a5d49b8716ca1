"""README.md and docs/ promise nothing that does not hold: what they show is run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowc.compiler.cli.parser import parser

from . import generated
from .markdown import (
    DOCUMENTS,
    ROOT,
    Block,
    blocks,
    commands,
    links,
    parts,
    paths,
    with_parts,
)

TEXTS = {f.relative_to(ROOT).as_posix(): f.read_text(encoding="utf-8") for f in DOCUMENTS}
RUN = {
    name: found for name, text in TEXTS.items()
    if name != "docs/ir.md"  # tests/ir/test_docs.py runs its examples
    and (found := [b for b in blocks(text) if b.language in ("python", "sh") or b.file])
}
SHARED = {"cc": shutil.which("cc")}


@pytest.mark.parametrize("name", [n for n, t in TEXTS.items() if parts(t)])
def test_generated_parts_are_current(name: str, bless: bool) -> None:
    text = TEXTS[name]
    new = with_parts(text, {part: generated.PARTS[part]() for part in parts(text)})
    if bless:
        (ROOT / name).write_text(new, encoding="utf-8")
    assert new == text or bless, "run: make bless"


def test_every_generated_part_is_used() -> None:
    assert {p for t in TEXTS.values() for p in parts(t)} == set(generated.PARTS)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files(name: str) -> None:
    folder = (ROOT / name).parent
    assert [t for t in links(TEXTS[name]) if not (folder / t).exists()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_paths_exist(name: str) -> None:
    assert [p for p in paths(TEXTS[name]) if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("name", [n for n, t in TEXTS.items() if commands(t)])
def test_commands_are_understood(name: str) -> None:
    for line in commands(TEXTS[name]):
        words = shlex.split(line)[1:]
        words = words[: next((n for n, w in enumerate(words) if w in ("|", ">", "&&")), len(words))]
        try:
            parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{name}: {line}")


def test_every_command_is_described() -> None:
    text = TEXTS["docs/cli.md"]
    described = {shlex.split(line)[1] for line in commands(text)}
    assert set(generated.command_help()) <= described


def test_every_document_is_reachable_from_the_readme() -> None:
    seen, work = set(), ["README.md"]
    while work:
        name = work.pop()
        if name in seen or name not in TEXTS:
            continue
        seen.add(name)
        folder = (ROOT / name).parent
        work += [(folder / t).resolve().relative_to(ROOT).as_posix() for t in links(TEXTS[name])]
    assert seen == set(TEXTS)


@pytest.mark.parametrize("name", RUN)
def test_examples_run(name: str, tmp_path: Path) -> None:
    """A document's blocks, in order, in one folder: files are written, code and commands run.

    Python blocks of a document are one program; each block of commands is a shell script that
    stops at the first failure. `needs=cc` passes where there is no C compiler.
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "PYTHONWARNINGS": "error",
               "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    program: list[str] = []
    for block in RUN[name]:
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            program.append(block.text)
        else:
            run_commands(block, tmp_path, environ)
    if program:
        (tmp_path / "program.py").write_text("\n".join(program), encoding="utf-8")
        run([sys.executable, "program.py"], tmp_path, environ)


def run_commands(block: Block, folder: Path, environ: dict[str, str]) -> None:
    needs = block.info.removeprefix("needs=")
    if needs and not SHARED[needs]:
        return
    run(["sh", "-e", "-c", block.text], folder, environ)


def run(command: list[str], folder: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
