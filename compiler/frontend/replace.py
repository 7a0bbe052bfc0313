"""Values that operations use, and others in their place."""

from __future__ import annotations

from typing import Any


def replace_operands(operation: Any, mapped: dict[Any, Any]) -> None:
    """In an operation and all inside it: the values of `mapped` in place of its keys."""
    waiting = [operation]
    while waiting:
        at = waiting.pop()
        for n, operand in enumerate(at.operands):
            if operand in mapped:
                at.operands[n] = mapped[operand]
        for region in at.regions:
            for block in region.blocks:
                waiting += [view.operation for view in block.operations]


def captured(operation: Any) -> list[Any]:
    """Values from around an operation that its regions use, as often as they do."""
    inside: set[Any] = set()
    found: list[Any] = []
    waiting = [operation]
    while waiting:
        at = waiting.pop()
        for region in at.regions:
            for block in region.blocks:
                inside |= set(block.arguments)
                for view in block.operations:
                    inside |= set(view.operation.results)
                    found += list(view.operation.operands)
                    waiting.append(view.operation)
    return [value for value in found if value not in inside]
