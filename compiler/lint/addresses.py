"""Whether two memory accesses certainly touch a common byte, as far as code tells without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from npuc.compiler.lint.constants import constants
from npuc.compiler.lint.effects import PART_BIT, Effects, Step
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import Flow
from npuc.compiler.target.aie2.registers import file, width

_LEAST_VECTOR_BYTES = 16
_VECTOR_FILES = ("wl", "wh", "amll", "amlh", "amhl", "amhh")


class Access(NamedTuple):
    """At least the bytes offset .. offset + size - 1 counted from what the pointer register holds at issue."""

    step: Step
    pointer: str
    offset: int
    size: int
    alignment: int
    stores: bool


def accesses(effects: Effects) -> list[Access]:
    """The accesses of a bundle at constant offsets from a pointer or the stack pointer."""
    found = [_access(step) for step in effects.steps if step.timing.memory is not None and not step.timing.memory.bus]
    return [access for access in found if access is not None]


def _access(step: Step) -> Access | None:
    instruction, operands = step.decoded.instruction, step.decoded.operands
    pointer = "sp" if step.is_stack_access else None
    offset = 0
    for operand, value in zip(instruction.operands, operands, strict=True):
        if operand.register_class == "eP":
            pointer = str(value)
        elif isinstance(value, int) and not instruction.post_modify:
            offset = value
        elif operand.register_class == "eDJ":
            return None
    if pointer is None:
        return None
    return Access(step, pointer, offset, *_extent(step), instruction.may_store)


def _extent(step: Step) -> tuple[int, int]:
    """The least number of bytes accessed, and the alignment needed (facts/schedule/aie2_hazards.md section 3)."""
    instruction, operands = step.decoded.instruction, step.decoded.operands
    mnemonic = instruction.mnemonic
    if mnemonic.startswith("v"):
        plain = mnemonic.partition(".")[0] == mnemonic or mnemonic.endswith((".2d", ".3d"))
        widths = [
            width(value)
            for o, value in zip(instruction.operands, operands, strict=True)
            if isinstance(value, str) and file(value) in _VECTOR_FILES
        ]
        return _LEAST_VECTOR_BYTES, widths[0] // 8 if plain and widths else _LEAST_VECTOR_BYTES
    suffix = mnemonic.partition(".")[2]
    size = 1 if suffix.endswith("8") else 2 if suffix.endswith("16") else 4
    return size, size


def misaligned(flow: Flow, findings: Findings) -> None:
    """Accesses through pointers that hold constants which are not aligned to what is accessed."""
    for number, node in enumerate(flow.nodes):
        for access in accesses(node.effects):
            if access.pointer == "sp":
                continue
            values = constants(flow, number, access.pointer, lambda at: [e.node for e in flow.predecessors[at]])
            wrong = [value for value in values or () if (value + access.offset) % access.alignment]
            if wrong:
                name = access.step.decoded.instruction.mnemonic
                where = f"{wrong[0] + access.offset:#x}"
                text = f"{name} accesses {where}, not aligned to {access.alignment} bytes"
                findings.add("misaligned-access", node.address, text)


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
