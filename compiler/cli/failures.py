"""Whose fault an error is, and the reproducer that is left when it is ours."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence

from flowc.ir.core import Function, IRError, Module
from flowc.ir.printer import print_module
from flowc.ir.text import ParseError
from flowc.runtime.errors import FlowcError, InternalError

from ..options import Options
from ..version import version

DONE, INPUT, USAGE, OURS, INTERRUPTED = 0, 1, 2, 70, 130
_THEIRS = (IRError, ParseError, FlowcError, OSError, UnicodeDecodeError)


class UserError(Exception):
    """The input is at fault; the message says how."""


class ProgramError(UserError):
    """The user's Python program raised: its traceback is shown."""


class _Job:
    """What is being compiled now, for the reproducer."""

    functions: tuple[Function, ...] = ()
    options: Options | None = None


@contextlib.contextmanager
def compiling(options: Options, *functions: Function) -> Iterator[None]:
    """What fails inside is our fault unless the error says otherwise."""
    before = _Job.functions, _Job.options
    _Job.functions, _Job.options = functions, options
    yield  # not undone on failure: `guarded` reports it
    _Job.functions, _Job.options = before


def guarded(work: Callable[[], int | None], argv: Sequence[str]) -> int:
    """Run a command; its exit code, or that of the error, which is told on standard error."""
    _Job.functions, _Job.options = (), None
    try:
        return work() or DONE
    except KeyboardInterrupt:
        print("flowc: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except ProgramError as error:
        traceback.print_exception(error.__cause__)
        print(f"flowc: {error}", file=sys.stderr)
        return INPUT
    except Exception as error:
        if isinstance(error, (UserError, *_THEIRS)) and not isinstance(error, InternalError):
            print(f"flowc: {error}", file=sys.stderr)
            return INPUT
        path = reproducer(error, argv)
        print(f"flowc: internal error: {type(error).__name__}: {error}\n"
              f"flowc: this is a fault of flowc. What reproduces it is in {path}; please report"
              " it with that file.", file=sys.stderr)
        return OURS


def reproducer(error: BaseException, argv: Sequence[str]) -> str:
    """Write the program, the options and the traceback to a file; its path."""
    trace = "".join(traceback.format_exception(error))
    lines = [
        f"flowc {version()}, llvmlite {version('llvmlite')}, numpy {version('numpy')},"
        f" Python {platform.python_version()} on {platform.machine()}",
        f"command: flowc {shlex.join(argv)}",
        f"options: {_Job.options}",
        *trace.splitlines(),
    ]
    text = "".join(f"; {line}\n" for line in lines)
    if _Job.functions:
        try:
            text += "\n" + print_module(Module.of(_Job.functions))
        except Exception as failed:  # whatever it is, the rest is worth keeping
            text += f"; the program cannot be printed: {failed!r}\n"
    name = f"flowc-failure-{hashlib.sha256(text.encode()).hexdigest()[:8]}.flow"
    for folder in (os.getcwd(), tempfile.gettempdir()):
        path = os.path.join(folder, name)
        try:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        except OSError:
            continue
        return path
    return "(no file could be written)\n" + text
