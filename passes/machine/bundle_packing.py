"""Scheduled operations with their registers -> machine code."""

from __future__ import annotations

from collections.abc import Mapping

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.target.aie2.instructions import Instruction
from npuc.passes.machine.emission import Emission
from npuc.passes.machine.ir import Label, Operand, Part, Reg
from npuc.passes.machine.list_schedule import Placed
from npuc.passes.machine.nodes import part_name

_SLOT_ORDER = ("lda", "ldb", "alu", "mv", "lng", "st", "vec", "nop")


def pack(
    emission: Emission, registers: Mapping[Reg, str], addresses: list[int]
) -> tuple[bytes, list[tuple[int, int, str]]]:
    """The program's bytes, and (address, size, comment) of every bundle."""
    labels = {name: addresses[position] for name, position in emission.labels.items()}
    code = bytearray()
    bundles = []
    for position, bundle in enumerate(emission.bundles):
        size = addresses[position + 1] - addresses[position]
        slots = {}
        comments: dict[str, None] = {}
        for slot in _SLOT_ORDER:
            if slot in bundle:
                instruction, operands = bound(bundle[slot], registers, labels)
                slots[slot] = (instruction, operands)
                comments[bundle[slot].node.op.comment] = None
        code += encode_bundle(slots, size=size)
        bundles.append((addresses[position], size, "; ".join(comment for comment in comments if comment)))
    return bytes(code), bundles


def bound(
    placed: Placed, registers: Mapping[Reg, str], labels: Mapping[str, int]
) -> tuple[Instruction, tuple[str | int, ...]]:
    """The instruction with physical registers and addresses."""
    return placed.choice.instruction, tuple(_value(o, registers, labels) for o in placed.node.op.operands)


def _value(operand: Operand, registers: Mapping[Reg, str], labels: Mapping[str, int]) -> str | int:
    if isinstance(operand, Label):
        return labels[operand.name]
    if isinstance(operand, Reg):
        return operand.fixed or registers[operand]
    if isinstance(operand, Part):
        return part_name(operand.reg.file, operand.reg.fixed or registers[operand.reg], operand.which)
    return operand
