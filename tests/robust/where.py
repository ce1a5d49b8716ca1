"""The line of a test, as error messages name it."""

from __future__ import annotations

import sys


def here() -> str:
    """``file:line`` of the caller."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
