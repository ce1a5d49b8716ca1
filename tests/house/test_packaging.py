"""What is installed is what is in the tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from house import tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

SETTINGS = tree.ROOT / "pyproject.toml"


def packages_in_tree() -> set[str]:
    """Every folder of the tree that holds a Python file, by the name it is imported by."""
    names = set()
    for file in tree.sources():
        name = tree.module_of(file)
        names.add(name if file.name == "__init__.py" else name.rpartition(".")[0])
    return names


def listed_packages() -> list[str]:
    text = SETTINGS.read_text(encoding="utf-8")
    block = text.split("packages = [", 1)[1].split("]", 1)[0]
    return [line.strip(' ",') for line in block.splitlines() if line.strip()]


def test_packages_are_listed_in_full() -> None:
    listed = listed_packages()
    found = packages_in_tree()
    assert sorted(found - set(listed)) == [], "list these in pyproject.toml: packages"
    assert sorted(set(listed) - found) == [], "listed in pyproject.toml, not in the tree"
    assert listed == sorted(listed)


@pytest.mark.skipif(tomllib is None, reason="tomllib needs Python 3.11")
def test_the_list_is_read_as_setuptools_reads_it() -> None:
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["packages"] == listed_packages()
    folders = {name: folder for folder, name in tree.ROOMS.items()}
    assert settings["package-dir"] == folders


def test_every_package_has_a_docstring_file() -> None:
    missing = []
    for name in packages_in_tree():
        room = tree.room_of_module(name)
        folder = next(f for f, n in tree.ROOMS.items() if n == room)
        inner = name[len(room or "") :].strip(".").replace(".", "/")
        if not (tree.ROOT / folder / inner / "__init__.py").is_file():
            missing.append(name)
    assert not missing


def test_typing_links_are_up_to_date() -> None:
    """Without them mypy does not see a new module of the frontend."""
    script = tree.ROOT / "tests" / "typing" / "link.py"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert result.returncode == 0, f"run tests/typing/link.py\n{result.stdout}{result.stderr}"


@pytest.mark.slow
def test_a_wheel_contains_every_module(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for file in tree.tracked():
        path = file.relative_to(tree.ROOT)
        if path.parts[0] in {"backends", "compiler", "ir", "runtime"} or len(path.parts) == 1:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", str(tmp_path / "wheel"), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = (tmp_path / "wheel").glob("flowc-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if n.startswith("flowc/")}
    wanted = {f"{m.replace('.', '/')}" for m in tree.modules()}
    files = {n.removesuffix("/__init__.py").removesuffix(".py") for n in names if n.endswith("py")}
    assert sorted(wanted - files) == []
    assert "flowc/py.typed" in names
    assert not [n for n in names if n.startswith("flowc/compiler/frontend")]
