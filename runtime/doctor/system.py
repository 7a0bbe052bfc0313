"""A machine that can be asked: files, a few commands, device nodes, the user, and pyxrt in a Python of its own."""

from __future__ import annotations

import glob
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "dmesg": ("dmesg",),
    "journalctl": ("journalctl", "-k", "-b", "--no-pager", "-o", "short-monotonic"),
    "modinfo": ("modinfo", "amdxdna"),
    "dkms": ("dkms", "status"),
    "lspci": ("lspci", "-nn"),
}
"""All that is ever run, besides pyxrt_probe.py; `uname` is asked of Python."""

COMMAND_SECONDS = 20.0
MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class Output:
    """What a command printed, both streams together, and its exit code."""

    code: int
    text: str


@dataclass(frozen=True)
class Node:
    """A device node. gid, mode: of the file, None where they are not known.

    tried: whether it was opened. error: name of the errno of opening it. driver, version: the DRM driver's. answers:
    what the driver said of the device (opening.py). refused, remedy: why the node does not serve a client of npuc's
    (its heap included), and what helps.
    """

    path: str
    mode: int | None = None
    gid: int | None = None
    tried: bool = False
    error: str | None = None
    driver: str | None = None
    version: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class User:
    """gids: groups of this process. listed: groups that the user database gives the user. root: whether uid 0."""

    gids: frozenset[int] | None
    listed: frozenset[int] | None
    root: bool | None


class System(Protocol):
    """What the subjects ask. Nothing of it raises: what is not there, or may not be read, is None or empty."""

    def read(self, path: str) -> str | None:
        """The text of a file."""

    def files(self, pattern: str) -> list[str]:
        """The paths that match, sorted."""

    def is_folder(self, path: str) -> bool: ...

    def link(self, path: str) -> str | None:
        """The last name of where a symbolic link leads."""

    def run(self, command: str) -> Output | None:
        """What one of COMMANDS, or `uname` (system, release, machine), prints; None where there is no such command."""

    def node(self, path: str) -> Node: ...

    def user(self) -> User: ...

    def pyxrt(self) -> Mapping[str, Any] | None:
        """What pyxrt_probe.py prints."""


class LiveSystem:
    """This machine."""

    def read(self, path: str) -> str | None:
        return end_of(path)

    def files(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern))

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def link(self, path: str) -> str | None:
        try:
            return os.path.basename(os.readlink(path))
        except OSError:
            return None

    def run(self, command: str) -> Output | None:
        if command == "uname":
            return Output(0, f"{platform.system()} {platform.release()} {platform.machine()}")
        return _run(COMMANDS[command])

    def node(self, path: str) -> Node:
        from npuc.runtime.doctor.opening import opened

        return opened(path)

    def user(self) -> User:
        if not hasattr(os, "getgroups"):
            return User(None, None, None)
        gids = frozenset(os.getgroups()) | {os.getegid()}
        return User(gids, _listed_groups(), os.geteuid() == 0)

    def pyxrt(self) -> Mapping[str, Any] | None:
        from npuc.runtime.doctor import pyxrt_probe

        output = _run((sys.executable, pyxrt_probe.__file__))
        return None if output is None else pyxrt_probe.parsed(output.code, output.text)


def end_of(path: str) -> str | None:
    """The text of a file, of a long one its last MOST_BYTES (of logs the newest part); None where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                stream.seek(-MOST_BYTES, os.SEEK_END)
                data = stream.read(MOST_BYTES)
    except (OSError, ValueError):
        return None
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def _run(words: tuple[str, ...]) -> Output | None:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS, check=False, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        return Output(124, f"{text}no end after {COMMAND_SECONDS:g} s")
    except OSError:
        return None
    return Output(done.returncode, done.stdout)


def _listed_groups() -> frozenset[int] | None:
    """The groups that a new login would have."""
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid())
        return frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (ImportError, KeyError, OSError):
        return None
