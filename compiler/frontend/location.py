"""Where in the user's program a call came from."""

from __future__ import annotations

import os
import sys
from types import FrameType

from flowc.ir.core import Loc

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_EXAMPLES = _HERE + "examples" + os.sep
_ours: dict[str, bool] = {"<string>": False}


def _is_ours(file: str) -> bool:
    found = _ours.get(file)
    if found is None:
        full = os.path.abspath(file)
        found = full.startswith(_HERE) and not full.startswith(_EXAMPLES)
        found = found or file.endswith("contextlib.py")
        _ours[file] = found
    return found


def user_location() -> Loc | None:
    """The innermost line outside flowc's frontend, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not _is_ours(frame.f_code.co_filename):
            return Loc(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None
