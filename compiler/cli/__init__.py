"""The command `flowc`.

Exit codes: 0 done, 1 the input is at fault, 2 the command line is, 70 flowc is (then the program,
the options and the traceback lie in a file that the message names), 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import failures
from .parser import parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. argparse exits with 2 by itself."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    return failures.guarded(lambda: arguments.run(arguments), words)
