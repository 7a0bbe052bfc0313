"""What npuc's own sources are: a hash over their contents, so that an edited compiler never serves old results.

Reading and hashing all of them takes a tenth of the time in which a compiled file is found in the cache. So the hash is
kept there, under what the system says of the files: place, size, inode, times of the last write and of the last change.
The last of these no program can set; a file changed within the clock's step of being looked at is the exception, and
for sources that young the hash is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
from collections.abc import Iterable

from npuc.compiler.store import Store

STORE = Store("sources")
SIZE_LIMIT = 64 << 10
"""Bytes of all kept hashes above which the oldest go: each is of one state of one installation."""
SETTLED = 3
"""Seconds after which a change is sure to have another time: the coarsest clock of file systems in use steps by two."""
_HASH = re.compile(rb"[0-9a-f]{64}")


def sources_digest(files: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str]) -> str:
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
    """The hash over npuc's sources and data."""
    import npuc

    return kept_digest(os.path.dirname(npuc.__file__))


def kept_digest(root: str) -> str:
    """`sources_digest` of the Python and JSON files below a folder, from the cache where none has changed."""
    files = dict(_sources(root))
    signature = hashlib.sha256(root.encode("utf-8", "surrogateescape"))
    youngest = 0
    for file in sorted(files):
        status = files[file]
        youngest = max(youngest, status.st_mtime_ns, status.st_ctime_ns)
        facts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        signature.update(f"\n{file} {facts}".encode("utf-8", "surrogateescape"))
    if youngest > time.time_ns() - SETTLED * 10**9:
        return sources_digest(files, root)
    key = signature.hexdigest()
    kept = STORE.read(key)
    if kept is not None and _HASH.fullmatch(kept):
        return kept.decode()
    found = sources_digest(files, root)
    STORE.write(key, found.encode(), SIZE_LIMIT)
    return found


def _sources(folder: str) -> Iterable[tuple[str, os.stat_result]]:
    """Path and status of each; links are followed, as imports follow them."""
    for entry in os.scandir(folder):
        if entry.name.endswith((".py", ".json")):
            yield entry.path, os.stat(entry.path)
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry.path)
