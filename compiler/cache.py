"""The compile cache: whole results, keyed by everything they depend on (`store.py` keeps them)."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from npuc.compiler import fingerprint
from npuc.compiler.store import Store, say_damaged

# Old entries go when they take more; one compiled kernel takes well under a megabyte.
SIZE_LIMIT = 512 << 20
STORE = Store()


@dataclass(frozen=True)
class Entry:
    """files: output files by name; summary: what `compile --json` reports of the kernels."""

    files: Mapping[str, bytes] = field(repr=False)
    summary: Mapping[str, Any] = field(repr=False)


def cache_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of everything the result depends on, the compiler's version and code included."""
    from npuc import __version__

    everything = {
        **parts,
        "version": __version__,
        "code": fingerprint.code_fingerprint(),
        "source_date_epoch": os.environ.get("SOURCE_DATE_EPOCH") or None,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


class _Files(Mapping[str, bytes]):
    """Files by name, each decompressed when it is asked for: most commands want one of twenty."""

    def __init__(self, packed: bytes, places: Mapping[str, tuple[int, int]]) -> None:
        self._packed, self._places = packed, places

    def __getitem__(self, name: str) -> bytes:
        first, last = self._places[name]
        return zlib.decompress(self._packed[first:last])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def pack(entry: Entry) -> bytes:
    """An entry's bytes: one line of JSON and the files, compressed each; equal ones, as many cores have, once."""
    places: dict[bytes, tuple[int, int]] = {}
    packed, size = [], 0
    for data in entry.files.values():
        if data not in places:
            packed.append(zlib.compress(data, 1))
            places[data] = size, size + len(packed[-1])
            size += len(packed[-1])
    index = {name: places[data] for name, data in entry.files.items()}
    return json.dumps({"files": index, "summary": entry.summary}).encode() + b"\n" + b"".join(packed)


def unpack(data: bytes) -> Entry:
    """The inverse of `pack`. Raises ValueError, KeyError, TypeError or zlib.error for bytes that it did not give."""
    head, _, packed = data.partition(b"\n")
    description = json.loads(head)
    places = {name: (first, last) for name, (first, last) in description["files"].items()}
    if not all(0 <= first <= last <= len(packed) for first, last in places.values()):
        raise ValueError("a file lies outside the entry")
    return Entry(_Files(packed, places), description["summary"])


def read(key: str) -> Entry | None:
    """The entry of that key, if a good one is there."""
    content = STORE.read(key)
    if content is None:
        return None
    try:
        return unpack(content)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        say_damaged(key)
        return None


def write(key: str, entry: Entry) -> None:
    """Keep an entry. A cache that cannot be written costs time, not the result."""
    STORE.write(key, pack(entry), SIZE_LIMIT)
