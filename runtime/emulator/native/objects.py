"""Machine code on disk: one file an object in the cache folder, named by everything it depends on.

A file is written beside its place and renamed there and carries a checksum: concurrent processes and a kill at any
moment leave a good file or none, and a damaged one is compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sys
from pathlib import Path

import npuc
from npuc.compiler.cache import cache_folder
from npuc.compiler.diagnostics import InputError
from npuc.compiler.files import write_bytes
from npuc.runtime.emulator.native import machine

SIZE_LIMIT = 256 << 20
"""Bytes of the folder above which the oldest files go."""
_SOURCES = (
    "runtime/emulator/*.py",
    "runtime/emulator/semantics/*.py",
    "runtime/emulator/native/*.py",
    "compiler/target/aie2/*.py",
    "compiler/asm/codec.py",
)
_DIGEST = hashlib.sha256().digest_size

log = logging.getLogger("npuc.emulator.native")
compile_text = machine.compile_text


@functools.cache
def _identity() -> str:
    """What the translation of a program depends on besides the program: the sources that write it, LLVM, processor."""
    root = Path(npuc.__file__).parent
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for file in sorted(root.glob(pattern)):
            digest.update(f"{file.relative_to(root)} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return f"{npuc.__version__} {sys.version_info} {digest.hexdigest()} {machine.host_identity()}"


def _folder() -> Path:
    return cache_folder() / "native"


def _place(kind: str, name: str) -> Path:
    return _folder() / hashlib.sha256(f"{kind} {name} {_identity()}".encode()).hexdigest()


def read(kind: str, name: str) -> bytes | None:
    """The object of that name; None when there is none or it is damaged."""
    try:
        content = _place(kind, name).read_bytes()
    except OSError:
        return None
    data = whole(content)
    if data is None:
        log.warning("a damaged object in the cache is compiled again (%s)", _place(kind, name))
    return data


def whole(content: bytes) -> bytes | None:
    """The object in a file; None when it is damaged."""
    digest, data = content[:_DIGEST], content[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def write(kind: str, name: str, data: bytes) -> None:
    """Keeps an object; a folder that cannot be written is no error."""
    place = _place(kind, name)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(str(place), hashlib.sha256(data).digest() + data)
        _trim()
    except (OSError, InputError) as error:
        log.info("machine code is not cached: %s", error)


def _trim() -> None:
    """Removes the oldest files of a folder that has grown too large."""
    with contextlib.suppress(OSError):
        files = [(entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(_folder())]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= SIZE_LIMIT:
                return
            os.unlink(path)
            total -= size
