"""Which version this is, and of what it is built on."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version(package: str = "flowc") -> str:
    """The installed version of a package; "" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
