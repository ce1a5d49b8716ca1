"""``flowc tf1``: TensorFlow 1 programs, as they are."""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import os
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .failures import ProgramError, UserError
from .inputs import frontend

NAME = "tensorflow"


class Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports ``tensorflow`` and what is in it as ``flowc`` and what is in that."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for names that begin with ``tensorflow``."""
        if name != NAME and not name.startswith(NAME + "."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        """The module of flowc, or what an attribute path leads to."""
        path = spec.name[len(NAME) :]
        for prefix in (".compat.v1", ".python"):
            path = path.removeprefix(prefix)
        try:
            return frontend(path)
        except ModuleNotFoundError:
            found: Any = frontend()
            for part in filter(None, path.split(".")):
                found = getattr(found, part, None)
            if found is None:
                raise ModuleNotFoundError(
                    f"flowc has no {spec.name}", name=spec.name
                ) from None
            return found

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed under its own name."""


def run(a: argparse.Namespace) -> int:
    """Run a script as `python script arguments` would."""
    if not os.path.exists(a.script):
        raise UserError(f"there is no file {a.script}")
    sys.meta_path.insert(0, Alias())
    sys.modules[NAME] = frontend()
    sys.argv = [a.script, *a.arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(a.script)))
    try:
        runpy.run_path(a.script, run_name="__main__")
    except SystemExit as leaving:
        return _code(leaving.code)
    except Exception as error:
        raise ProgramError(f"{a.script} raised {type(error).__name__}") from error
    return 0


def _code(code: Any) -> int:
    """What a program's exit means, as Python takes it."""
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1
