"""A folder of entries that only their owner can have written: what the caches are kept in.

The compile cache keeps results, the cache of native code machine code that is run. So a folder is used only where
nobody but its owner, who runs npuc, may write: it is made with mode 0700, looked at again on each use, and reached
through one descriptor, so that nothing can be put in its place meanwhile. An entry is a regular file of that owner,
named by its key; it carries the key and a checksum, and one that does not answer to them is as good as none. It is
written beside its place and renamed there: concurrent processes and a kill at any moment leave a whole entry or none.

A cache that cannot be used is no fault: that is said once (logger `npuc.cache`), and everything is made anew.
Where the system has neither owners nor descriptors of folders (Windows) the user's profile protects its folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"NPUCACH2"
DIGEST = hashlib.sha256().digest_size
KEY = re.compile(r"[0-9a-f]{64}")
UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.\d+\.[0-9a-f]{8}\.tmp")
GIVEN_UP = 3600
"""Seconds after which an unfinished file is one that its writer left behind."""
FREED_SHARE = 16
"""Of the limit, what trimming frees: so much may be written before all entries are looked at again."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)

_said: set[str] = set()
_held: dict[str, int] = {}
"""Bytes of all entries of a folder: what this process saw when it last looked at them, and what it has added since."""


class Unusable(Exception):
    """The folder is not to be used; the text says why and what would help."""


def cache_folder() -> str:
    """NPUC_CACHE_DIR, else the platform's cache home. Raises Unusable where the user has no home."""
    chosen = os.environ.get("NPUC_CACHE_DIR")
    if chosen:
        return os.path.abspath(chosen)
    folder = _cache_home()
    if not os.path.isabs(folder):
        raise Unusable("the user has no home folder; NPUC_CACHE_DIR names another place")
    return folder


def _cache_home() -> str:
    """Npuc's folder in the platform's cache home; no absolute path where the user has no home.

    Where Linux's environment says it (XDG Base Directory Specification) that is a line; to import platformdirs, which
    knows the other places, takes a tenth of the time in which a compiled file is found in the cache.
    """
    if sys.platform == "linux":
        chosen, home = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")
        if os.path.isabs(chosen):
            return os.path.join(chosen, "npuc")
        if os.path.isabs(home):
            return os.path.join(home, ".cache", "npuc")
    import platformdirs

    try:
        return platformdirs.user_cache_dir("npuc", appauthor=False)  # some versions: "~" as it stands
    except RuntimeError:  # neither HOME nor an entry in the user database
        return ""


@dataclass(frozen=True)
class Store:
    """Entries in the cache folder, or in a folder of it. A store that cannot be used is empty and takes nothing."""

    subfolder: str = ""

    def read(self, key: str) -> bytes | None:
        """The content of the entry with this key (64 hexadecimal digits), if a good one is there."""
        try:
            with self._opened(create=False) as folder:
                content = folder.content(key)
        except FileNotFoundError:
            return None
        except Unusable as problem:
            _say(str(problem))
            return None
        except OSError as problem:
            _say(f"{cache_folder()} cannot be read: {problem.strerror}")
            return None
        if content is None:
            say_damaged(key)
        return content

    def write(self, key: str, content: bytes, limit: int) -> None:
        """Keep an entry; where all take more than `limit` bytes those used longest ago go.

        Looking at all entries takes long where there are many: a process looks when it first writes, and when what it
        saw and added is too much. What other processes add meanwhile may go beyond the limit until somebody looks.
        """
        try:
            with self._opened(create=True) as folder:
                held = _held.get(folder.path)
                size = folder.add(key, content)
                _held[folder.path] = folder.trim(limit) if held is None or held + size > limit else held + size
        except Unusable as problem:
            _say(str(problem))
        except OSError as problem:
            _say(f"{cache_folder()} cannot be written: {problem.strerror}")

    @contextlib.contextmanager
    def _opened(self, create: bool) -> Iterator[_Folder]:
        home = cache_folder()
        try:
            if create:
                os.makedirs(os.path.dirname(home), exist_ok=True)
            with _open_folder(None, home, create) as folder:
                if not self.subfolder:
                    yield folder
                    return
                with _open_folder(folder, self.subfolder, create) as inner:
                    yield inner
        except NotADirectoryError as problem:
            raise Unusable(f"{home} is no folder; NPUC_CACHE_DIR names another place") from problem


def _say(text: str) -> None:
    """Once a process (once a place, where a process has several)."""
    try:
        place = cache_folder()
    except Unusable:
        place = ""
    if place not in _said:
        _said.add(place)
        _warn(f"working without cache: {text}")


def say_damaged(key: str) -> None:
    """An entry does not hold what its key stands for."""
    _warn(f"entry {key} in the cache is damaged; it is made anew")


def _warn(text: str) -> None:
    import logging  # a tenth of the time in which a compiled file is found in the cache

    logging.getLogger("npuc.cache").warning("%s", text)


@contextlib.contextmanager
def _open_folder(parent: _Folder | None, name: str, create: bool) -> Iterator[_Folder]:
    place = name if parent is None else os.path.join(parent.path, name)
    where = {} if parent is None else parent.where()
    name = name if parent is None else parent.at(name)
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, **where)
    if os.open not in os.supports_dir_fd:
        _require_ours(os.lstat(name), place)
        yield _Folder(place, None)
        return
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS | _BINARY, **where)
    except OSError as problem:
        if os.path.islink(place):
            raise Unusable(f"{place} is a link; NPUC_CACHE_DIR names the folder itself") from problem
        raise
    try:
        _require_ours(os.fstat(descriptor), place)
        yield _Folder(place, descriptor)
    finally:
        os.close(descriptor)


def _require_ours(status: os.stat_result, place: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Unusable(f"{place} is a link; NPUC_CACHE_DIR names the folder itself")
    if not stat.S_ISDIR(status.st_mode):
        raise Unusable(f"{place} is no folder; NPUC_CACHE_DIR names another place")
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid():
        raise Unusable(f"{place} belongs to another user; NPUC_CACHE_DIR names another place")
    if status.st_mode & _OTHERS_WRITE:
        raise Unusable(f"others may write {place}: delete it, or give NPUC_CACHE_DIR a folder of your own")


def _is_ours(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE)


@dataclass(frozen=True)
class _Folder:
    """An open folder. descriptor: None where the system opens none, and names are paths."""

    path: str
    descriptor: int | None

    def at(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def where(self) -> dict[str, Any]:
        return {} if self.descriptor is None else {"dir_fd": self.descriptor}

    def _open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return os.open(self.at(name), flags | _NO_LINKS | _BINARY, mode, **self.where())

    def content(self, key: str) -> bytes | None:
        """What the entry of this key holds, None where it is not one of ours. Raises FileNotFoundError."""
        try:
            descriptor = self._open(key, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            raise
        except OSError:  # a link, a folder, a file of somebody else
            return None
        with os.fdopen(descriptor, "rb") as stream:
            if not _is_ours(os.fstat(descriptor)):
                return None
            data = stream.read()
            with contextlib.suppress(OSError):
                os.utime(descriptor if os.utime in os.supports_fd else self.at(key))
        return opened(key, data)

    def add(self, key: str, content: bytes) -> int:
        """The bytes that the new entry takes."""
        data = sealed(key, content)
        unfinished = f".{key}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        try:
            with os.fdopen(self._open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as stream:
                stream.write(data)
            both = {} if self.descriptor is None else {"src_dir_fd": self.descriptor, "dst_dir_fd": self.descriptor}
            os.replace(self.at(unfinished), self.at(key), **both)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self.at(unfinished), **self.where())
            raise
        return len(data)

    def trim(self, limit: int) -> int:
        """Remove what killed writers left, and, where entries take more than `limit` bytes, the oldest until a share
        of it is free. Nothing else is touched. The bytes that the entries take."""
        entries = []
        for name in os.listdir(self.path if self.descriptor is None else self.descriptor):
            finished = KEY.fullmatch(name) is not None
            if not finished and UNFINISHED.fullmatch(name) is None:
                continue
            with contextlib.suppress(OSError):
                status = os.stat(self.at(name), follow_symlinks=False, **self.where())
                if stat.S_ISREG(status.st_mode) and (finished or status.st_mtime < time.time() - GIVEN_UP):
                    entries.append((finished, status.st_mtime_ns, status.st_size, name))
        total = sum(size for finished, _, size, _ in entries if finished)
        kept = limit if total <= limit else limit - limit // FREED_SHARE
        for finished, _, size, name in sorted(entries):
            if finished and total <= kept:
                break
            with contextlib.suppress(OSError):
                os.unlink(self.at(name), **self.where())
            total -= size if finished else 0
        return total


def sealed(key: str, content: bytes) -> bytes:
    """An entry as it lies in its file: magic, the key, SHA-256 of the content, the content."""
    return MAGIC + bytes.fromhex(key) + hashlib.sha256(content).digest() + content


def opened(key: str, data: bytes) -> bytes | None:
    """The content of an entry's file; None where it is damaged or another key's."""
    head, content = data[: len(MAGIC) + 2 * DIGEST], data[len(MAGIC) + 2 * DIGEST :]
    return content if head + content == sealed(key, content) else None
