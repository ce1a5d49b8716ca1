"""The repository as its own tests see it: its root, its files, its packages and their imports."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# folder → name that it is imported by; the longest folder that contains a file wins
ROOMS = {
    "compiler/frontend": "flowc",
    "compiler": "flowc.compiler",
    "backends": "flowc.backends",
    "ir": "flowc.ir",
    "runtime": "flowc.runtime",
}


@dataclass(frozen=True)
class Import:
    """One imported module of ours, or of others, as a file names it."""

    file: Path
    line: int
    module: str  # absolute
    relative: bool
    late: bool  # inside a function
    typing_only: bool  # under `if TYPE_CHECKING:`

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.module}"


def room_of_file(file: Path) -> str:
    """The room (`flowc.ir`, …; `flowc` for the frontend) that a file lies in."""
    path = file.relative_to(ROOT).as_posix()
    folder = max((f for f in ROOMS if path.startswith(f + "/")), key=len)
    return ROOMS[folder]


def room_of_module(module: str) -> str | None:
    """The room that a module belongs to; None for a module that is not ours."""
    if module != "flowc" and not module.startswith("flowc."):
        return None
    rooms = [r for r in ROOMS.values() if module == r or module.startswith(r + ".")]
    return max(rooms, key=len)


def module_of(file: Path) -> str:
    """The name that a file of ours is imported by."""
    path = file.relative_to(ROOT).as_posix()
    folder = max((f for f in ROOMS if path.startswith(f + "/")), key=len)
    parts = [ROOMS[folder], *Path(path).relative_to(folder).with_suffix("").parts]
    return ".".join(parts).removesuffix(".__init__")


@cache
def sources() -> tuple[Path, ...]:
    """Every Python file that is installed."""
    files = {f for folder in ROOMS for f in (ROOT / folder).rglob("*.py")}
    return tuple(sorted(f for f in files if "__pycache__" not in f.parts))


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks or would add; without git, every file that is not hidden."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        files = [ROOT / name for name in listing.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = {".git", ".venv", "__pycache__", "build", "dist", "out"}
        files = [f for f in ROOT.rglob("*") if not hidden & set(f.relative_to(ROOT).parts)]
    return tuple(sorted({f for f in files if f.is_file() and not _through_link(f)}))


def _through_link(file: Path) -> bool:
    """Whether a path is a link or passes through one, so that the file is seen elsewhere."""
    parents = [p for p in file.parents if p != ROOT and ROOT in p.parents]
    return file.is_symlink() or any(p.is_symlink() for p in parents)


def imports_of(file: Path) -> Iterator[Import]:
    """Every import of a file, with names resolved to modules of ours where they are such."""
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    yield from _walk(tree, file, late=False, typing_only=False)


def _walk(node: ast.AST, file: Path, late: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, False, late, typing_only)
        elif isinstance(child, ast.ImportFrom):
            for module in _targets(child, file):
                yield Import(file, child.lineno, module, child.level > 0, late, typing_only)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _walk(child, file, True, typing_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(child, file, late, True)
        else:
            yield from _walk(child, file, late, typing_only)


def _targets(node: ast.ImportFrom, file: Path) -> list[str]:
    """The modules of a `from … import …`: a submodule where a name is one, else the module."""
    module = node.module or ""
    if node.level:
        package = module_of(file).split(".")
        drop = node.level - (1 if file.name == "__init__.py" else 0)
        base = package[: len(package) - drop]
        module = ".".join([*base, module]) if module else ".".join(base)
    ours = modules()
    found = {f"{module}.{a.name}" if f"{module}.{a.name}" in ours else module for a in node.names}
    return sorted(found)


@cache
def modules() -> frozenset[str]:
    """The names of all modules of ours."""
    return frozenset(module_of(f) for f in sources())
