"""Files at the edge: read with one-line errors, written whole or not at all. `-` is standard input or output."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import BinaryIO

from npuc.compiler import interrupts
from npuc.compiler.diagnostics import InputError
from npuc.compiler.git_lfs import refuse_pointer

LONGEST_STREAM = 1 << 29
_PART = 1 << 20


def reason(error: OSError) -> str:
    """What the system says, without the number."""
    return error.strerror or str(error)


def read_bytes(path: str) -> bytes:
    """The bytes of a file. Raises InputError when it cannot be read, and for a Git LFS pointer in its place."""
    place = "<stdin>" if path == "-" else path
    try:
        if path == "-":
            data = _all_of(sys.stdin.buffer, place)
        else:
            with open(path, "rb") as stream:
                data = _all_of(stream, place)
    except OSError as error:
        raise InputError(f"cannot read: {reason(error)}", place=place) from error
    try:
        refuse_pointer(data)
    except InputError as error:
        raise InputError(error.message, place=place, remedy=error.remedy) from None
    return data


def _all_of(stream: BinaryIO, place: str) -> bytes:
    """Up to the end, which devices and pipes need not have: of these at most LONGEST_STREAM bytes."""
    try:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream.read()
    except io.UnsupportedOperation:  # it lies in memory
        return stream.read()
    parts, left = [], LONGEST_STREAM
    while part := stream.read(_PART):
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise InputError(f"has no end within {LONGEST_STREAM:,} bytes", place=place, remedy="give a regular file")
    return b"".join(parts)


def write_bytes(path: str, data: bytes) -> None:
    """Write a file beside its place and rename it there, so that a reader sees the old file or the new one.

    Devices and pipes are written directly. Raises InputError when it cannot be written; an existing file is kept then.
    """
    interrupts.check()
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        target = os.path.realpath(path)
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            with open(target, "wb") as stream:
                stream.write(data)
            return
        _replace_file(target, data)
    except OSError as error:
        raise InputError(f"cannot write: {reason(error)}", place=path) from error


def require_writable(path: str) -> None:
    """Raises InputError as `write_bytes` would, for what takes long before it writes."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if path == "-" or (os.path.exists(target) and not os.path.isdir(target)):
        return
    code = (
        errno.EISDIR
        if os.path.isdir(target)
        else errno.ENOENT
        if not os.path.isdir(folder)
        else 0
        if os.access(folder, os.W_OK)
        else errno.EACCES
    )
    if code:
        raise InputError(f"cannot write: {os.strerror(code)}", place=path)


def beside(target: str) -> str:
    """A name for what is to be renamed to `target`."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name[:200]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def _replace_file(target: str, data: bytes) -> None:
    temporary = beside(target)
    try:
        # Not tempfile: its files are private, an output should have the user's usual permissions.
        with open(temporary, "xb") as stream:
            stream.write(data)
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
