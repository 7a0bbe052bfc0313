"""What a command may write: never one of its inputs, no file twice, and in a folder nothing but its own files."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping

from npuc.compiler import interrupts
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.files import beside, reason


def check_outputs(inputs: Iterable[str], outputs: Mapping[str, str | None]) -> None:
    """Every command calls this before it reads or writes anything.

    inputs: paths; outputs: option -> path, None where it is not given (`--json` is an output to `-`). Raises UsageError
    where an output is an input, by whatever name or link, where two outputs are one file, and where several want
    standard input or standard output.
    """
    read = list(inputs)
    if read.count("-") > 1:
        raise UsageError("standard input can be one input only", remedy="give the others as files")
    sources = {identity: path for path in read if (identity := _identity(path, sys.stdin)) is not None}
    taken: dict[object, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        identity = "-" if path == "-" else _identity(path, None)
        if identity is None:
            continue
        if identity in sources:
            name = "standard input" if sources[identity] == "-" else sources[identity]
            raise UsageError(f"{option} {path} would overwrite its input {name}", remedy="give another name")
        if identity in taken:
            one = "standard output" if path == "-" else path
            raise UsageError(f"{taken[identity]} and {option} would both write {one}", remedy="give one another name")
        taken[identity] = option


def _identity(path: str, standard: object) -> object:
    """What two names of one file have in common; None for what is no file (devices, pipes), which many may use."""
    try:
        status = os.fstat(standard.fileno()) if path == "-" else os.stat(path)  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):  # not there yet; no real standard input
        return None if path == "-" else ("path", os.path.realpath(path))
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def write_folder(
    path: str, files: Mapping[str, bytes], inputs: Iterable[str] = (), parts: re.Pattern[str] | None = None
) -> None:
    """Files into a folder, which is made where it is not there; all of them, or none and the folder is as it was.

    Other files of the folder are left alone. inputs: of the command. parts: names that belong to a set of files such as
    this; where one of an earlier set would stay among them that is an error. Raises InputError, UsageError.
    """
    interrupts.check()
    target = os.path.realpath(path)
    try:
        if not os.path.lexists(target):
            _new_folder(target, files)
            return
        if not os.path.isdir(target):
            raise InputError("is a file, but a folder is to be written", place=path)
        for name in sorted(os.listdir(target)):
            if parts is not None and parts.fullmatch(name) and name not in files:
                raise InputError(
                    f"folder holds {name}, which would be taken for a part of the output",
                    place=path,
                    remedy="delete it, or give another folder",
                )
        check_outputs(inputs, {f"{name} in": os.path.join(path, name) for name in files})
        _into_folder(target, files)
    except OSError as error:
        raise InputError(f"cannot write: {reason(error)}", place=path) from error


def _new_folder(target: str, files: Mapping[str, bytes]) -> None:
    temporary = beside(target)
    try:
        os.mkdir(temporary)
        for name, data in files.items():
            _write(os.path.join(temporary, name), data)
        os.rename(temporary, target)
    except BaseException:
        import shutil

        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _into_folder(folder: str, files: Mapping[str, bytes]) -> None:
    """Each file beside its place first; then all are renamed there, and back again should that fail."""
    made: list[str] = []
    places: list[tuple[str, str, str | None]] = []
    done = 0
    try:
        for name, data in files.items():
            target = os.path.realpath(os.path.join(folder, name))
            places.append((beside(target), target, beside(target) if os.path.lexists(target) else None))
            made.append(places[-1][0])
            _write(places[-1][0], data)
        for _, target, old in places:
            if old is not None:
                made.append(old)
                _copy(target, old)
        for done, (new, target, _) in enumerate(places, 1):  # noqa: B007 (for the case below)
            os.replace(new, target)
    except BaseException:
        for _, target, old in places[:done]:
            with contextlib.suppress(OSError):
                if old is None:
                    os.unlink(target)
                else:
                    os.replace(old, target)
        raise
    finally:
        for leftover in made:
            with contextlib.suppress(OSError):
                os.unlink(leftover)


def _copy(target: str, old: str) -> None:
    try:
        os.link(target, old)
    except (OSError, NotImplementedError):
        import shutil

        shutil.copy2(target, old)


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as stream:
        stream.write(data)
