"""Imports run one way: frontend → compiler → backends → ir, runtime; and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import networkx as nx
import pytest

from house import tree

ALLOWED = {
    "flowc": {"flowc", "flowc.compiler", "flowc.backends", "flowc.ir", "flowc.runtime"},
    "flowc.compiler": {"flowc.compiler", "flowc.backends", "flowc.ir", "flowc.runtime"},
    "flowc.backends": {"flowc.backends", "flowc.ir", "flowc.runtime"},
    "flowc.ir": {"flowc.ir"},
    "flowc.runtime": {"flowc.runtime"},
}

# What may be imported inside a function: each is optional, or slow and needed by one command.
OPTIONAL = {"cuda", "matplotlib", "networkx", "onnx", "rich", "sklearn", "tqdm", "ziglang"}


def every_import() -> list[tree.Import]:
    return [i for file in tree.sources() for i in tree.imports_of(file)]


def listing(found: Iterable[object]) -> str:
    return "\n".join(str(f) for f in found)


def test_direction() -> None:
    wrong = []
    for imported in every_import():
        room = tree.room_of_module(imported.module)
        if room is not None and room not in ALLOWED[tree.room_of_file(imported.file)]:
            wrong.append(imported)
    assert not wrong, f"imports against the direction:\n{listing(wrong)}"


def test_relative_inside_a_folder_absolute_across() -> None:
    wrong = []
    for imported in every_import():
        room = tree.room_of_module(imported.module)
        if room is not None and (room == tree.room_of_file(imported.file)) != imported.relative:
            wrong.append(imported)
    assert not wrong, f"relative inside a folder, absolute across folders:\n{listing(wrong)}"


def test_folders_are_imported_by_their_installed_names() -> None:
    """`import compiler`, `from ir import …`, `flowc.compiler.frontend` would be second copies."""
    bare = {"backends", "compiler", "ir", "runtime"}
    code = [f for f in tree.tracked() if f.suffix == ".py"]
    wrong = []
    for file in code:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module in _named(node):
                if module.split(".")[0] in bare or module.startswith("flowc.compiler.frontend"):
                    wrong.append(f"{file.relative_to(tree.ROOT)}: {module}")
    assert not wrong, listing(wrong)


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{a.name}" for a in node.names]
        return [*names, node.module or ""]
    return []


def test_no_cycles() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for imported in every_import():
        importer = tree.module_of(imported.file)
        if imported.module in tree.modules() and not imported.typing_only:
            graph.add_edge(importer, imported.module)
    # a package's __init__ collects its modules, and a module names its package to reach a sibling
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    cycles = [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1]
    assert not cycles, f"modules that import each other:\n{listing(cycles)}"


def test_no_late_imports_but_optional_ones() -> None:
    wrong = [i for i in every_import() if i.late and i.module.split(".")[0] not in OPTIONAL]
    assert not wrong, f"imports inside functions:\n{listing(wrong)}"


def test_importing_flowc_starts_no_optional_module() -> None:
    """Optional modules are never imported at the top of an installed file."""
    never = OPTIONAL - {"networkx", "rich"}
    wrong = [i for i in every_import() if not i.late and i.module.split(".")[0] in never]
    assert not [i for i in wrong if not i.typing_only], listing(wrong)


@pytest.mark.parametrize(
    ("source", "module", "late"),
    [
        ("from . import dims\n", "flowc.ir.dims", False),
        ("from .dims import Dim\n", "flowc.ir.dims", False),
        ("from .ops.shape import Reshape\n", "flowc.ir.ops.shape", False),
        ("import flowc.runtime\n", "flowc.runtime", False),
        ("def f():\n    import onnx\n", "onnx", True),
    ],
)
def test_imports_are_read_as_python_reads_them(
    source: str, module: str, late: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    monkeypatch.setattr(tree, "modules", lambda: frozenset({"flowc.ir.dims"}))
    file = tmp_path / "ir" / "core.py"
    file.parent.mkdir()
    file.write_text(source)
    (found,) = tree.imports_of(file)
    assert (found.module, found.late) == (module, late)
