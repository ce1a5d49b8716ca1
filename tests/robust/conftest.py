"""Each test has a default graph of its own, on the compiled path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import flowc as tf


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()
