"""Exceptions of flowc, named as in `tf.errors`.

Every class may carry the operation that failed (`op`), the user's line (`loc`) and the shapes
involved (`shapes`), so that a caller can build its own message; `str()` already holds them all.
"""

from __future__ import annotations

from collections.abc import Sequence

Shape = Sequence["int | str"]


def format_shape(shape: Shape) -> str:
    """`[784,B]`: the text form of a shape of ints and symbols."""
    return "[" + ",".join(str(d) for d in shape) + "]"


class FlowcError(Exception):
    """Base of all errors raised by flowc.

    `op`: name of the failing operation; `loc`: the user's line, `file:line`; `shapes`: the shapes
    involved, in the order in which the message speaks of them.
    """

    def __init__(
        self,
        message: str,
        *,
        op: str | None = None,
        loc: str | None = None,
        shapes: Sequence[Shape] = (),
    ) -> None:
        self.message, self.op, self.loc, self.shapes = message, op, loc, tuple(shapes)
        super().__init__(message)

    def __str__(self) -> str:
        where = [f"op {self.op}"] if self.op else []
        where += [f"at {self.loc}"] if self.loc else []
        return f"{self.message} ({', '.join(where)})" if where else self.message


class CancelledError(FlowcError):
    """The run was cancelled."""


class UnknownError(FlowcError):
    """A return code that the runtime does not know."""


class InvalidArgumentError(FlowcError, ValueError):
    """A wrong dtype, rank, shape or value was given."""


class DeadlineExceededError(FlowcError):
    """A deadline passed."""


class NotFoundError(FlowcError):
    """A file, function or symbol does not exist."""


class AlreadyExistsError(FlowcError):
    """The thing to create exists."""


class PermissionDeniedError(FlowcError):
    """The caller may not do that."""


class UnauthenticatedError(FlowcError):
    """The caller did not prove who it is."""


class ResourceExhaustedError(FlowcError, MemoryError):
    """No memory, or another resource, is left."""


class FailedPreconditionError(FlowcError):
    """The system is not in the state that the call needs (an uninitialized variable, ...)."""


class AbortedError(FlowcError):
    """The run was aborted by a conflict."""


class OutOfRangeError(FlowcError, IndexError):
    """An index or an iteration is past the end."""


class UnimplementedError(FlowcError, NotImplementedError):
    """The operation is not implemented for these types or this target."""


class InternalError(FlowcError):
    """An invariant of flowc is broken: a bug."""


class UnavailableError(FlowcError):
    """A service is not reachable now."""


class DataLossError(FlowcError):
    """Stored data is corrupt or truncated."""
