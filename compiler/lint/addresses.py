"""Whether two memory accesses certainly touch a common byte, as far as code tells without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from npuc.compiler.lint.constants import KEPT_BY_CALLEES, constants
from npuc.compiler.lint.effects import PART_BIT, Effects, Step
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import Flow
from npuc.compiler.target.aie2.registers import file, width
from npuc.compiler.target.npu1.geometry import CORE_VIEW

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
    pointer, offset = step.pointer, 0
    if pointer is None or any(operand.register_class == "eDJ" for operand in instruction.operands):
        return None
    for value in operands:
        if isinstance(value, int) and not instruction.post_modify:
            offset = value
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


def misplaced(flow: Flow, findings: Findings) -> None:
    """Accesses through pointers that hold constants which are not aligned to what is accessed, or in no data memory."""
    for number, node in enumerate(flow.nodes):
        for access in accesses(node.effects):
            name = access.step.decoded.instruction.mnemonic
            places = _places(flow, number, access)
            wrong = [place for place in places if place % access.alignment]
            if wrong:
                text = f"{name} accesses {wrong[0]:#x}, not aligned to {access.alignment} bytes"
                findings.add("misaligned-access", node.address, text)
            outside = [p for p in places if not CORE_VIEW.start <= p <= p + access.size <= CORE_VIEW.stop]
            if outside:
                text = f"{name} accesses {outside[0]:#x}, which is in no memory that a core sees"
                findings.add("outside-memory", node.address, text)


def _places(flow: Flow, number: int, access: Access) -> list[int]:
    """The addresses of an access of a node whose pointer only holds constants; none where it may hold others."""
    if access.pointer == "sp":
        return []
    kept = access.pointer in KEPT_BY_CALLEES

    def before(node: int) -> list[int]:
        return [edge.call if kept and edge.kind == "return" else edge.node for edge in flow.predecessors[node]]

    return [value + access.offset for value in constants(flow, number, access.pointer, before) or ()]


def accessed_by(flow: Flow, number: int, pointer: str) -> tuple[tuple[int, int], ...]:
    """(first byte, byte behind the last) of what the bundle of a node accesses through a pointer that only holds
    constants; empty where it may hold others."""
    through = [access for access in accesses(flow.nodes[number].effects) if access.pointer == pointer]
    return tuple((place, place + each.size) for each in through for place in _places(flow, number, each))


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
