"""Files at the edge: read with one-line errors, written whole or not at all. `-` is standard input or output."""

from __future__ import annotations

import errno
import os
import stat
import sys

from npuc.compiler import interrupts
from npuc.compiler.diagnostics import InputError
from npuc.compiler.git_lfs import refuse_pointer


def reason(error: OSError) -> str:
    """What the system says, without the number."""
    return error.strerror or str(error)


def read_bytes(path: str) -> bytes:
    """The bytes of a file. Raises InputError when it cannot be read, and for a Git LFS pointer in its place."""
    place = "<stdin>" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as stream:
                data = stream.read()
    except OSError as error:
        raise InputError(f"cannot read: {reason(error)}", place=place) from error
    try:
        refuse_pointer(data)
    except InputError as error:
        raise InputError(error.message, place=place, remedy=error.remedy) from None
    return data


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
