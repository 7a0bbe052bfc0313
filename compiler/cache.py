"""The compile cache: whole results in one folder, keyed by content.

An entry is one file, written beside its place and renamed there, and it carries a checksum that is verified on
reading: concurrent processes and a kill at any moment leave either a good entry or none.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.files import write_bytes

MAGIC = b"NPUCACH1"
DIGEST_SIZE = hashlib.sha256().digest_size
# Old entries go when the folder grows beyond this; one compiled kernel takes well under a megabyte.
SIZE_LIMIT = 512 << 20
ENTRY_NAME = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\..*\.tmp")

logger = logging.getLogger("npuc.cache")


@dataclass(frozen=True)
class Entry:
    """files: output files by name; summary: what `compile --json` reports of the kernels."""

    files: Mapping[str, bytes]
    summary: Mapping[str, Any]


def cache_folder() -> Path:
    """NPUC_CACHE_DIR, else the platform's cache home."""
    chosen = os.environ.get("NPUC_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("npuc", appauthor=False))


@functools.cache
def code_fingerprint() -> str:
    """A hash over path, size and time of npuc's own source files: an edited compiler never serves old results."""
    import npuc

    root = Path(npuc.__file__).parent
    listing = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted(files):
            if name.endswith(".py"):
                status = os.stat(os.path.join(folder, name))
                listing.append((os.path.relpath(os.path.join(folder, name), root), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def cache_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of everything the result depends on, the compiler's version and code included."""
    from npuc import __version__

    everything = {
        **parts,
        "version": __version__,
        "code": code_fingerprint(),
        "source_date_epoch": os.environ.get("SOURCE_DATE_EPOCH"),
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def pack(entry: Entry) -> bytes:
    """An entry's bytes: magic, SHA-256 of the rest, then compressed: one line of JSON and the files."""
    index = {name: len(data) for name, data in entry.files.items()}
    head = json.dumps({"files": index, "summary": entry.summary}).encode() + b"\n"
    body = zlib.compress(head + b"".join(entry.files.values()), 1)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> Entry | None:
    """The entry, or None where the bytes are not a whole one."""
    digest, body = data[len(MAGIC) : len(MAGIC) + DIGEST_SIZE], data[len(MAGIC) + DIGEST_SIZE :]
    if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        return None
    head, _, rest = zlib.decompress(body).partition(b"\n")
    description = json.loads(head)
    files, offset = {}, 0
    for name, size in description["files"].items():
        files[name] = rest[offset : offset + size]
        offset += size
    return Entry(files, description["summary"])


def read(key: str) -> Entry | None:
    """The entry of that key, if a whole one is there."""
    path = cache_folder() / key
    try:
        entry = unpack(path.read_bytes())
    except OSError:
        return None
    if entry is None:
        logger.warning("cache entry %s is damaged; compiling again", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return entry


def write(key: str, entry: Entry) -> None:
    """Keep an entry. A cache that cannot be written costs time, not the result: it is only logged."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(str(folder / key), pack(entry))
        _prune(folder)
    except (OSError, InputError) as error:
        logger.warning("cache not written: %s", error)


def _prune(folder: Path) -> None:
    """Delete entries and what killed writers left, those used longest ago first, until the rest is within the limit."""
    entries = []
    for path in folder.iterdir():
        if not ENTRY_NAME.fullmatch(path.name):
            continue  # the folder may be shared with files that are not ours
        with contextlib.suppress(OSError):
            status = path.stat()
            entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries, key=lambda e: e[0]):
        if total <= SIZE_LIMIT:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
