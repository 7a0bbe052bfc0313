"""Errors a user can cause, each with its place, its remedy and its exit code.

Raised where the fact is known, caught only at the edge (the command line and the public API).
The exit codes are those of the command-line contract.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where in a source or binary an error lies."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.file] + [str(n) for n in (self.line, self.column) if n is not None]
        return ":".join(parts)


class NpucError(Exception):
    """Base of all errors npuc raises on purpose.

    message: what is wrong, one line.  place: where.  remedy: what would help, one line.
    """

    exit_code = 5

    def __init__(self, message: str, *, place: Place | str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = Place(place) if isinstance(place, str) else place
        self.remedy = remedy

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head} ({self.remedy})" if self.remedy else head


class CheckFailed(NpucError):
    """A check or comparison says no."""

    exit_code = 1


class UsageError(NpucError):
    """A wrong option or combination of options."""

    exit_code = 2


class InputError(NpucError):
    """A file or array that cannot be used: missing, malformed, unsupported."""

    exit_code = 3


class UnsupportedError(InputError):
    """A sound attention that the kernels cannot compute; the reference can.

    place: the operation's. remedy: a way that keeps the meaning. This alone, of what is wrong with an input, may fall
    back to another backend.
    """


class ResourceError(UnsupportedError):
    """A kernel that does not fit: names the resource, its limit and what was asked for."""


class BackendError(NpucError):
    """A backend or device that is unavailable or failed."""

    exit_code = 4


class InternalError(NpucError):
    """npuc's own fault."""

    exit_code = 5
