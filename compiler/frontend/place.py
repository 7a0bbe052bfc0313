"""MLIR locations as places in a source file."""

from __future__ import annotations

from typing import Any

from npuc.compiler.diagnostics import InputError, Place

# The name MLIR gives to text that is parsed from memory.
MEMORY_BUFFER = "-"


def place_of(location: Any, file: str) -> Place:
    """file:line:col of a location; where the source names another file (`loc("model.py":3:1)`), that file's.

    A location that holds no line at all gives the file alone.
    """
    at = _file_location(location)
    if at is None:
        return Place(file)
    return Place(file if at.filename == MEMORY_BUFFER else at.filename, at.start_line, at.start_col)


def _file_location(location: Any) -> Any:
    """The first location with a line in it, through names, calls (the callee) and fused ones; None without one."""
    from torch_mlir import ir

    waiting = [ir.Location.from_attr(location.attr, location.context)]  # a diagnostic's has not its own class
    seen = set()
    while waiting:
        at = waiting.pop()
        if isinstance(at, ir.FileLineColLoc):
            return at
        if at.attr in seen:
            continue
        seen.add(at.attr)
        if isinstance(at, ir.NameLoc):
            waiting.append(at.child_loc)
        elif isinstance(at, ir.CallSiteLoc):
            waiting.append(at.callee)
        elif isinstance(at, ir.FusedLoc):
            waiting += reversed(at.locations)
    return None


def with_place(operation: Any) -> Any:
    """The operation itself, or the innermost around it that has a line: bodies of named linalg operations have none."""
    while _file_location(operation.location) is None and getattr(operation, "parent", None) is not None:
        operation = operation.parent
    return operation


class Blocked(Exception):
    """Recognition stops here: the operation and why. Becomes an InputError where the file's name is known."""

    def __init__(self, operation: Any, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.operation = operation
        self.reason = reason
        self.remedy = remedy

    def error(self, file: str) -> InputError:
        operation = with_place(self.operation)
        name = getattr(operation, "name", None)
        message = f"{name}: {self.reason}" if isinstance(name, str) else self.reason
        return InputError(message, place=place_of(operation.location, file), remedy=self.remedy)
