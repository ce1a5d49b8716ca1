"""Programs run as users run them: compiled (LLVM's passes off, which keeps the tests quick).

A module that says `INTERPRETED = True` is about graphs alone and runs on the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import flowc as tf
from flowc import backend
from frontend.interpreted import Interpreted


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setenv("FLOWC_OPT_LEVEL", "0")
    if getattr(request.module, "INTERPRETED", False):
        monkeypatch.setattr(backend.Backend, "compile", Interpreted)
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()
