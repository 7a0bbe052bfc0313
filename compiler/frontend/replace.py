"""Values of operations in place of others."""

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
