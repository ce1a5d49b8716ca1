"""Programs run on the interpreter: these tests are about the frontend.

A module that says `NATIVE = True` runs compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import flowc as tf
from flowc import backend
from frontend.interpreted import Interpreted


@pytest.fixture(autouse=True)
def _interpreted(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    if not getattr(request.module, "NATIVE", False):
        monkeypatch.setattr(backend.Backend, "compile", Interpreted)
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()
