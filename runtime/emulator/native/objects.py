"""Machine code on disk: one entry an object, named by everything it depends on.

What is read here is run, so it comes only from a folder that nobody but its owner may write (npuc.compiler.store).
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

import npuc
from npuc.compiler.fingerprint import sources_digest
from npuc.compiler.store import Store
from npuc.runtime.emulator.native import machine

SIZE_LIMIT = 256 << 20
"""Bytes of all objects above which the oldest go."""
STORE = Store("native")
_SOURCES = (
    "runtime/emulator/*.py",
    "runtime/emulator/semantics/*.py",
    "runtime/emulator/native/*.py",
    "compiler/target/aie2/*.py",
    "compiler/asm/codec.py",
)

compile_text = machine.compile_text


@functools.cache
def _identity() -> str:
    """What the translation of a program depends on besides the program: the sources that write it, LLVM, processor."""
    root = Path(npuc.__file__).parent
    sources = sources_digest((file for pattern in _SOURCES for file in root.glob(pattern)), root)
    return f"{npuc.__version__} {sys.version_info} {sources} {machine.host_identity()}"


def _key(kind: str, name: str) -> str:
    return hashlib.sha256(f"{kind} {name} {_identity()}".encode()).hexdigest()


def read(kind: str, name: str) -> bytes | None:
    """The object of that name; None when there is none or it is damaged."""
    return STORE.read(_key(kind, name))


def write(kind: str, name: str, data: bytes) -> None:
    """Keeps an object; a folder that cannot be written is no error."""
    STORE.write(_key(kind, name), data, SIZE_LIMIT)
