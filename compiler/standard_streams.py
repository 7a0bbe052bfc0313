"""The standard streams of a command, whatever its caller made of them."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def prepare() -> None:
    """Put streams in the place of those that are closed, and one that raises nothing in that of standard error.

    A file that a command opens would otherwise get the number of a closed one, and with it what is meant for that.
    Reading or writing a closed one is an error as it is in other commands; what standard error does not take is lost,
    and the work goes on.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free
        _wait_for_others(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None or (sys.stderr is sys.__stderr__ and _is_plain(sys.stderr)):
        encoding = None if sys.stderr is None else sys.stderr.encoding
        sys.stderr = _Lossy(open(2, "wb", closefd=False), encoding, "backslashreplace", line_buffering=True)


def _is_plain(stream: object) -> bool:
    """Whether what is written goes to the descriptor as it is, which a console of Windows needs otherwise."""
    buffer = getattr(stream, "buffer", None)
    return type(getattr(buffer, "raw", buffer)) is io.FileIO


def _wait_for_others(number: int) -> None:
    """Of a pipe that does not wait, Python drops what it does not take at once and reads None where nothing is."""
    if hasattr(os, "set_blocking"):
        with contextlib.suppress(OSError):
            os.set_blocking(number, True)


class _Lossy(io.TextIOWrapper):
    """Leaves out what cannot be written.

    Text, not bytes: Python's code between the system's call and the buffer may be interrupted, and the buffer would
    write again what the system had taken.
    """

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()
