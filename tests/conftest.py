"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# a loaded machine is no reason for a property test to fail
settings.register_profile("flowc", deadline=None, print_blob=True)
settings.load_profile("flowc")
