"""Files at the edge: read with one-line errors, written whole or not at all. `-` is standard input or output."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from npuc.compiler.diagnostics import InputError


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def read_bytes(path: str) -> bytes:
    """The bytes of a file. Raises InputError when it cannot be read."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read: {_reason(error)}", place=path) from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a file beside its place and rename it there, so that a reader sees the old file or the new one.

    Devices and pipes are written directly. Raises InputError when it cannot be written; an existing file is kept then.
    """
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
        raise InputError(f"cannot write: {_reason(error)}", place=path) from error


def _beside(target: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name[:200]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _replace_file(target: str, data: bytes) -> None:
    temporary = _beside(target)
    try:
        # Not tempfile: its files are private, an output should have the user's usual permissions.
        with open(temporary, "xb") as stream:
            stream.write(data)
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def write_folder(path: str, files: Mapping[str, bytes]) -> None:
    """A folder of files, in place of an older one that holds nothing but files of the same suffixes.

    Raises InputError when it cannot be written or when the place holds something else.
    """
    target = os.path.realpath(path)
    suffixes = {Path(name).suffix for name in files}
    try:
        if os.path.exists(target):
            if not os.path.isdir(target):
                raise InputError("is a file, but a folder is to be written", place=path)
            foreign = sorted(n for n in os.listdir(target) if Path(n).suffix not in suffixes)
            if foreign:
                raise InputError(f"folder holds {foreign[0]}, which is not overwritten", place=path)
        temporary, old = _beside(target), _beside(target)
        try:
            os.mkdir(temporary)
            for name, data in files.items():
                Path(temporary, name).write_bytes(data)
            if os.path.exists(target):
                os.rename(target, old)
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if os.path.exists(old) and not os.path.exists(target):
                os.rename(old, target)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write: {_reason(error)}", place=path) from error
