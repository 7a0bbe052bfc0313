"""A system that is asked each thing once, and remembers what it said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npuc.runtime.doctor.system import Node, Output, System, User


class Recording:
    """As System; the attributes hold the answers by question."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.texts: dict[str, str | None] = {}
        self.patterns: dict[str, list[str]] = {}
        self.folders: dict[str, bool] = {}
        self.links: dict[str, str | None] = {}
        self.outputs: dict[str, Output | None] = {}
        self.nodes: dict[str, Node] = {}
        self.users: list[User] = []
        self.modules: list[Mapping[str, Any] | None] = []

    def read(self, path: str) -> str | None:
        if path not in self.texts:
            self.texts[path] = self._system.read(path)
        return self.texts[path]

    def files(self, pattern: str) -> list[str]:
        if pattern not in self.patterns:
            self.patterns[pattern] = self._system.files(pattern)
        return list(self.patterns[pattern])

    def is_folder(self, path: str) -> bool:
        if path not in self.folders:
            self.folders[path] = self._system.is_folder(path)
        return self.folders[path]

    def link(self, path: str) -> str | None:
        if path not in self.links:
            self.links[path] = self._system.link(path)
        return self.links[path]

    def run(self, command: str) -> Output | None:
        if command not in self.outputs:
            self.outputs[command] = self._system.run(command)
        return self.outputs[command]

    def node(self, path: str) -> Node:
        if path not in self.nodes:
            self.nodes[path] = self._system.node(path)
        return self.nodes[path]

    def user(self) -> User:
        if not self.users:
            self.users.append(self._system.user())
        return self.users[0]

    def pyxrt(self) -> Mapping[str, Any] | None:
        if not self.modules:
            self.modules.append(self._system.pyxrt())
        return self.modules[0]
