"""Settings that all tests share."""

from __future__ import annotations

import contextlib
import signal

import pytest
from hypothesis import settings

# a loaded machine is no reason for a property test to fail
settings.register_profile("flowc", deadline=None, print_blob=True)
settings.load_profile("flowc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true",
                     help="rewrite what file tests and documents expect")
    parser.addoption("--large", action="store_true", help="graphs of 50,000 operations too")


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C reaches the programs that tests start, also where tests run in the background: a shell
    makes such jobs ignore SIGINT, which their children inherit."""
    with contextlib.suppress(ValueError):  # not the main thread: nothing can be set from here
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether expectations are to be rewritten."""
    return bool(request.config.getoption("--bless"))
