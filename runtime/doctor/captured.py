"""A captured system tree: files at their paths below a folder, and the rest in npuc-capture.json (README.md)."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.runtime.doctor.system import COMMANDS, Node, Output, User, end_of

INDEX = "npuc-capture.json"
FORMAT = 1
LINKS = 40
"""Symbolic links that are followed on one path, as Linux does."""


_NODE: dict[str, type] = {
    "mode": int, "gid": int, "tried": bool, "error": str, "driver": str, "version": str, "answers": Mapping,
    "refused": str, "remedy": str,
}  # fmt: skip


def _is(value: object, kind: type) -> bool:
    """Whether a value of the index is of that kind, or not there."""
    return value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))


class CapturedSystem:
    """The system in the folder root; index: what INDEX holds."""

    def __init__(self, root: str, index: Mapping[str, Any]) -> None:
        self._root, self._index = root, index

    def _real(self, path: str) -> str | None:
        """Where a path of the captured system lies here: links lead to places inside of it, never out."""
        inside: list[str] = []
        left = [part for part in reversed(path.split("/")) if part]
        followed = 0
        while left:
            part = left.pop()
            if part in (".", ".."):
                inside = inside[:-1] if part == ".." else inside
                continue
            here = os.path.join(self._root, *inside, part)
            if os.path.islink(here):
                followed += 1
                target = os.readlink(here)
                if followed > LINKS:
                    return None
                inside = [] if target.startswith("/") else inside
                left += [part for part in reversed(target.split("/")) if part]
            else:
                inside.append(part)
        return os.path.join(self._root, *inside)

    def read(self, path: str) -> str | None:
        real = self._real(path)
        if real is None or not os.path.isfile(real):
            return None
        return end_of(real)

    def files(self, pattern: str) -> list[str]:
        found = [""]
        for part in pattern.strip("/").split("/"):
            found = [f"{one}/{name}" for one in found for name in self._names(one, part)]
        return sorted(found)

    def _names(self, folder: str, part: str) -> list[str]:
        real = self._real(folder)
        if real is None or not os.path.isdir(real):
            return []
        if any(character in part for character in "*?["):
            try:
                names = os.listdir(real)
            except OSError:
                return []  # it may not be read
            return [name for name in names if fnmatch.fnmatchcase(name, part) and not name.startswith(".")]
        return [part] if os.path.lexists(os.path.join(real, part)) else []

    def is_folder(self, path: str) -> bool:
        real = self._real(path)
        return real is not None and os.path.isdir(real)

    def link(self, path: str) -> str | None:
        """Of a file where links could not be kept, its text."""
        folder, _, name = path.rpartition("/")
        real = self._real(folder)
        here = os.path.join(real, name) if real is not None else ""
        if os.path.islink(here):
            return os.path.basename(os.readlink(here).rstrip("/"))
        return (self.read(path) or "").strip().rpartition("/")[2] or None if os.path.isfile(here) else None

    def run(self, command: str) -> Output | None:
        told = self._part("commands").get(command)
        if isinstance(told, str):
            return Output(0, told)
        if isinstance(told, Mapping) and isinstance(told.get("text"), str) and _is(told.get("code", 0), int):
            return Output(told.get("code", 0), told["text"])
        if told is not None:
            raise InputError(f"commands.{command} is neither text nor {{code, text}}", place=self._place())
        for path in (f"/commands/{command}", f"/commands/{command}.txt"):
            text = self.read(path)
            if text is not None:
                return Output(0, text)
        return None

    def node(self, path: str) -> Node:
        told = self._part("nodes").get(path)
        if told is None:
            word = (self.read(path) or "").strip()
            if word == "opened":
                return Node(path, tried=True, driver="amdxdna")
            return Node(path, tried=True, error=word) if re.fullmatch(r"E[A-Z0-9]{2,14}", word) else Node(path)
        fields = told if isinstance(told, Mapping) else {"mode": ""}
        known: dict[str, Any] = {name: fields[name] for name in _NODE if fields.get(name) is not None}
        if not all(_is(value, _NODE[name]) for name, value in known.items()):
            raise InputError(f"nodes[{path}] is not a node", place=self._place())
        errors = known.get("answers", {}).get("errors", {})
        if not isinstance(errors, Mapping):
            raise InputError(f"nodes[{path}].answers.errors is not an object", place=self._place())
        return Node(path, **{"tried": True, **known})

    def user(self) -> User:
        told = self._index.get("user")
        if isinstance(told, Mapping):
            try:
                gids, listed = (
                    None if told.get(name) is None else frozenset(map(int, told[name])) for name in ("gids", "listed")
                )
            except (TypeError, ValueError) as error:
                raise InputError("user has gids or listed that are no numbers", place=self._place()) from error
            return User(gids, listed, None if told.get("root") is None else bool(told["root"]))
        status = self.read("/proc/self/status") or ""
        found = re.search(r"^Groups:[ \t]*(.*)$", status, re.MULTILINE)
        user = re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE)
        gids = frozenset(map(int, re.findall(r"\d+", found[1]))) if found else None
        return User(gids, None, int(user[1]) == 0 if user else None)

    def pyxrt(self) -> Mapping[str, Any] | None:
        told = self._part("pyxrt")
        devices = told.get("devices", [])
        texts = (told.get(name) for name in ("python", "file", "error", "ended"))
        fits = isinstance(devices, list) and all(isinstance(one, Mapping) for one in devices)
        if not fits or not all(_is(one.get(name), str) for one in devices for name in ("name", "error")):
            raise InputError("pyxrt.devices is not a list of {name or error}", place=self._place())
        if not all(_is(text, str) for text in texts):
            raise InputError("pyxrt has python, file, error or ended that is no text", place=self._place())
        return told or None

    def check(self) -> None:
        """Raises InputError where the index holds what it must not."""
        self.user()
        self.pyxrt()
        for path in self._part("nodes"):
            self.node(path)
        for command in self._part("commands"):
            self.run(command)

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self._index.get(name)
        if part is not None and not isinstance(part, Mapping):
            raise InputError(f"{name} is not an object", place=self._place())
        return part or {}

    def _place(self) -> str:
        return os.path.join(self._root, INDEX)


def tree(root: str) -> CapturedSystem:
    """Raises InputError where root is not a captured system."""
    if not os.path.isdir(root):
        raise InputError("no such folder", place=root, remedy="npuc doctor --capture DIR makes one")
    path = os.path.join(root, INDEX)
    if not os.path.isfile(path):
        if not any(os.path.isdir(os.path.join(root, name)) for name in ("sys", "proc", "dev", "commands")):
            raise InputError(f"no captured system: neither {INDEX} nor sys, proc, dev", place=root)
        return CapturedSystem(root, {})
    try:
        with open(path, encoding="utf-8") as stream:
            index = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"no JSON: {' '.join(str(error).split())}", place=path) from error
    if not isinstance(index, dict) or index.get("format", FORMAT) != FORMAT:
        raise InputError(f"no capture of format {FORMAT}", place=path, remedy="capture it again with this npuc")
    found = CapturedSystem(root, index)
    unknown = set(found._part("commands")) - set(COMMANDS) - {"uname"}
    if unknown:
        raise InputError(f"unknown command {sorted(unknown)[0]}", place=path, remedy=f"known are {', '.join(COMMANDS)}")
    found.check()
    return found
