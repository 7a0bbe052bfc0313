"""The compile cache: whole results, keyed by everything they depend on (`store.py` keeps them)."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npuc.compiler.store import Store

# Old entries go when they take more; one compiled kernel takes well under a megabyte.
SIZE_LIMIT = 512 << 20
STORE = Store()

logger = logging.getLogger("npuc.cache")


@dataclass(frozen=True)
class Entry:
    """files: output files by name; summary: what `compile --json` reports of the kernels."""

    files: Mapping[str, bytes] = field(repr=False)
    summary: Mapping[str, Any] = field(repr=False)


def sources_digest(files: Iterable[str | Path], root: Path) -> str:
    """SHA-256 over names and contents of source files."""
    digest, prefix = hashlib.sha256(), os.path.join(root, "")
    for file in sorted(str(file) for file in files):
        with open(file, "rb", buffering=0) as stream:
            content = stream.read()
        name = file.removeprefix(prefix).replace(os.sep, "/")
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@functools.cache
def code_fingerprint() -> str:
    """A hash over npuc's own sources and data: an edited compiler never serves old results."""
    import npuc

    root = Path(npuc.__file__).parent
    files: list[str] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        files += [os.path.join(folder, name) for name in names if name.endswith((".py", ".json"))]
    return sources_digest(files, root)


def cache_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of everything the result depends on, the compiler's version and code included."""
    from npuc import __version__

    everything = {
        **parts,
        "version": __version__,
        "code": code_fingerprint(),
        "source_date_epoch": os.environ.get("SOURCE_DATE_EPOCH") or None,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def pack(entry: Entry) -> bytes:
    """An entry's bytes, compressed: one line of JSON and the files."""
    index = {name: len(data) for name, data in entry.files.items()}
    head = json.dumps({"files": index, "summary": entry.summary}).encode() + b"\n"
    return zlib.compress(head + b"".join(entry.files.values()), 1)


def unpack(data: bytes) -> Entry:
    """The inverse of `pack`. Raises ValueError, KeyError, TypeError or zlib.error for bytes that it did not give."""
    head, _, rest = zlib.decompress(data).partition(b"\n")
    description = json.loads(head)
    files, offset = {}, 0
    for name, size in description["files"].items():
        files[name] = rest[offset : offset + size]
        offset += size
    return Entry(files, description["summary"])


def read(key: str) -> Entry | None:
    """The entry of that key, if a good one is there."""
    content = STORE.read(key)
    if content is None:
        return None
    try:
        return unpack(content)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        logger.warning("entry %s in the cache is damaged; it is made anew", key)
        return None


def write(key: str, entry: Entry) -> None:
    """Keep an entry. A cache that cannot be written costs time, not the result."""
    STORE.write(key, pack(entry), SIZE_LIMIT)
