"""Calls of functions of the same module, in place of which their bodies stand."""

from __future__ import annotations

from typing import Any

from npuc.compiler.frontend.replace import replace_operands

CALL = "func.call"


def inline_calls(function: Any) -> None:
    """Calls in a func.func of functions beside it that are one block of operations, and those in what then stands
    there. A function that calls itself stays called."""
    from torch_mlir import ir

    bodies = {f.attributes["sym_name"].value: f for f in _beside(function) if _is_one_block(f)}
    with ir.Location.unknown():
        for block in function.regions[0].blocks:
            for view in list(block.operations):
                if view.operation.name == CALL:
                    _inline(view.operation, bodies, (function.attributes["sym_name"].value,))


def _beside(function: Any) -> list[Any]:
    """The functions in the block that a function is in."""
    return [view.operation for view in function.block if view.operation.name == "func.func"]


def _is_one_block(function: Any) -> bool:
    blocks = list(function.regions[0].blocks)
    return len(blocks) == 1 and blocks[0].operations[len(blocks[0].operations) - 1].name == "func.return"


def _inline(call: Any, bodies: dict[str, Any], within: tuple[str, ...]) -> None:
    """within: the functions whose bodies it is in."""
    from torch_mlir import ir

    name = call.attributes["callee"].value
    if name not in bodies or name in within:
        return
    body = bodies[name].regions[0].blocks[0]
    mapped = dict(zip(body.arguments, call.operands, strict=True))
    *steps, last = [view.operation for view in body.operations]
    copies = []
    for step in steps:
        copy = step.clone(ip=ir.InsertionPoint(call))
        replace_operands(copy, mapped)
        mapped.update(zip(step.results, copy.results, strict=True))
        copies.append(copy)
    for result, returned in zip(call.results, last.operands, strict=True):
        result.replace_all_uses_with(mapped[returned])
    call.erase()
    for copy in copies:
        if copy.name == CALL:
            _inline(copy, bodies, (*within, name))
