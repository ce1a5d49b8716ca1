"""The parts of the documents that are made from the code."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import flowc
from flowc.compiler import pipeline
from flowc.compiler.cli.parser import parser
from flowc.compiler.options import PREFIX, Options
from flowc.compiler.passes.base import PASSES
from flowc.lazy import LazyModule

from .markdown import ROOT

_FLAGS = {"cpu": "--mcpu", "features": "--mattr"}
FOLDERS = ("compiler/frontend", "compiler", "ir", "backends", "runtime")


def passes() -> str:
    """The default pipeline: a row a step, with the reason that stands beside it in the code."""
    source = inspect.getsource(pipeline.default_pipeline)
    reasons = [line.split("#", 1)[1].strip() for line in source.splitlines() if "  # " in line]
    steps = pipeline.default_pipeline()
    assert len(reasons) == len(steps), "compiler/pipeline.py: a line and a reason for each step"
    rows = [
        f"| {n} | `{p.name}` | {reason} | `{_file(type(p))}` |"
        for n, (p, reason) in enumerate(zip(steps, reasons, strict=True), 1)
    ]
    return "\n".join(["| | pass | why | where |", "|---|---|---|---|", *rows])


def pass_options() -> str:
    """Every registered pass with its options and the first sentence of its docstring."""
    rows = []
    for name, cls in sorted(PASSES.items()):
        given = ", ".join(f"{f.name}={str(f.default).lower()}" for f in fields(cls))
        text = f"`{name}{{{given}}}`" if given else f"`{name}`"
        rows.append(f"| {text} | {_first_sentence(cls)} |")
    return "\n".join(["| pass | what it does |", "|---|---|", *rows])


def options() -> str:
    """Every option: its flag, its environment variable, its default."""
    rows = []
    for f in fields(Options):
        flag = _FLAGS.get(f.name, "--" + f.name.replace("_", "-"))
        default = f"`{f.default}`" if f.default != "" else ""
        rows.append(f"| `{f.name}` | `{flag}` | `{PREFIX}{f.name.upper()}` | {default} |"
                    f" {f.metadata['help']} |")
    head = ["| option | flag | environment | default | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def commands() -> str:
    """The commands of `flowc`."""
    rows = [f"| `flowc {name}` | {about} |" for name, about in command_help().items()]
    return "\n".join(["| command | |", "|---|---|", *rows])


def command_help() -> dict[str, str]:
    """Command → what its help says in a line."""
    (sub,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return {str(c.dest): str(c.help) for c in sub._choices_actions}


def names() -> str:
    """The names that `import flowc as tf` gives, by module."""
    out = []
    work: list[tuple[str, ModuleType]] = [("tf", flowc)]
    while work:
        name, module = work.pop(0)
        listed = public(module)
        inner = {n: v for n in listed if isinstance(v := loaded(getattr(module, n)), ModuleType)}
        work += [(f"{name}.{n}", m) for n, m in inner.items() if m.__name__.startswith("flowc.")]
        own = sorted((n for n in listed if n not in inner), key=str.lower)
        if own:
            out += [f"**`{name}`** ({len(own)})", "", " ".join(f"`{n}`" for n in own), ""]
    return "\n".join(out)


def loaded(value: object) -> object:
    """The module that a lazy one stands for; anything else as it is."""
    return importlib.import_module(value._name) if isinstance(value, LazyModule) else value


def public(module: ModuleType) -> list[str]:
    """What a module offers: `__all__`, or what it defines itself without an underscore."""
    given = getattr(module, "__all__", None)
    if given is not None:
        return sorted(n for n in given if not n.startswith("__"))
    package = f"{module.__name__}."
    return sorted(
        n for n, v in vars(module).items()
        if not n.startswith("_") and (getattr(v, "__module__", "") == module.__name__ or (
            isinstance(v, ModuleType) and v.__name__.startswith(package)))
    )


def folders() -> str:
    """Every package with the first sentence of its docstring."""
    rows = []
    for folder in FOLDERS:
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            inner = init.relative_to(ROOT / folder)
            if folder == "compiler" and inner.parts[0] == "frontend":
                continue
            doc = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
            place = init.parent.relative_to(ROOT).as_posix()
            rows.append(f"| `{place}/` | {doc.splitlines()[0] if doc else ''} |")
    return "\n".join(["| folder | |", "|---|---|", *rows])


def _first_sentence(cls: type) -> str:
    text = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).replace("``", "`")
    return text.split(". ")[0].rstrip(".:;") + "."


def _file(cls: type) -> str:
    found = Path(inspect.getsourcefile(cls) or "").resolve()
    return found.relative_to(ROOT).as_posix()


PARTS = {
    "passes": passes, "pass-options": pass_options, "options": options, "commands": commands,
    "names": names, "folders": folders,
}
