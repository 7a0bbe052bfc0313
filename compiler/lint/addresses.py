"""Whether two memory accesses certainly touch a common byte, as far as code tells without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from npuc.compiler.lint.effects import PART_BIT, Effects, Step

_VECTOR_BYTES = 16
"""The least that a vector access touches."""


class Access(NamedTuple):
    """Bytes offset .. offset + size - 1 counted from what the pointer register holds at issue."""

    step: Step
    pointer: str
    offset: int
    size: int
    stores: bool


def accesses(effects: Effects) -> list[Access]:
    """The accesses of a bundle at constant offsets from a pointer or the stack pointer."""
    found = [_access(step) for step in effects.steps if step.timing.memory is not None and not step.timing.memory.bus]
    return [access for access in found if access is not None]


def _access(step: Step) -> Access | None:
    instruction, operands = step.decoded.instruction, step.decoded.operands
    pointer = "sp" if step.is_stack_access else None
    offset, moves = 0, False
    for operand, value in zip(instruction.operands, operands, strict=True):
        if operand.register_class == "eP":
            pointer, moves = str(value), operand.direction == "inout"
        elif isinstance(value, int):
            offset = value
        elif operand.register_class in ("eDJ", "eM", "eD", "eDS"):
            moves = moves or operand.register_class != "eDJ"
            if not moves:
                return None
    if pointer is None:
        return None
    return Access(step, pointer, 0 if moves else offset, _size(step), instruction.may_store)


def _size(step: Step) -> int:
    mnemonic = step.decoded.instruction.mnemonic
    if mnemonic.startswith("v"):
        return _VECTOR_BYTES
    return {"8": 1, "6": 2}.get(mnemonic[-1], 4) if mnemonic[:4] in ("lda.", "st.s") else 4


def one_address(way: Sequence[Effects]) -> bool:
    """Whether a store of the first bundle and another access of the last certainly touch a common byte.

    way: all bundles from the first to the last.  Both must use one pointer that nothing changes in between.
    """
    moved = 0
    for bundle in way[:-1]:
        moved |= bundle.written
    return any(
        first.stores
        and first.step is not second.step
        and first.pointer == second.pointer
        and first.offset < second.offset + second.size
        and second.offset < first.offset + first.size
        and not moved >> PART_BIT[first.pointer] & 1
        for first in accesses(way[0])
        for second in accesses(way[-1])
    )
