"""Settings that all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# a loaded machine is no reason for a property test to fail
settings.register_profile("flowc", deadline=None, print_blob=True)
settings.load_profile("flowc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true",
                     help="rewrite what file tests and documents expect")
    parser.addoption("--large", action="store_true", help="graphs of 50,000 operations too")


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether expectations are to be rewritten."""
    return bool(request.config.getoption("--bless"))
