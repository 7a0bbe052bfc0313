"""Stacks that have grown into buffers: what the stack pointers say when a run goes wrong.

A core's stack grows upwards from where its program first sets sp; nothing stops it at the buffers that channels write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import interpret
from npuc.runtime.emulator.errors import EmulationError

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.core_unit import CoreUnit
    from npuc.runtime.emulator.tile import Tile


def stack_notes(array: Array) -> list[str]:
    """One line for each core whose stack lies in a buffer of one of its tile's descriptors."""
    return [
        note
        for tile in array.tiles.values()
        if tile.core is not None and tile.core.core.bundles
        for note in _notes(tile, tile.core)
    ]


def _notes(tile: Tile, unit: CoreUnit) -> Iterator[str]:
    bottom = first_stack_pointer(unit.program)
    top = int(unit.core.registers.read("sp"))
    own = geometry.CORE_VIEW_OWN
    if bottom is None or not own <= bottom <= top < own + geometry.DATA_MEMORY_SIZE["core"]:
        return
    for number, (first, end) in buffers(tile).items():
        if top > own + first and bottom < own + end:
            inside = top <= own + end
            where = "is in" if inside else "has passed over"
            yield (
                f"the stack pointer of {tile.name}, {top:#x}, {where} the buffer of descriptor {number} "
                f"({own + first:#x}..{own + end - 1:#x}); its stack begins at {bottom:#x}"
            )
            return


def first_stack_pointer(program: bytes | bytearray) -> int | None:
    """The first constant that a program puts into sp; None where there is none."""
    address = 0
    while address < len(program):
        try:
            bundle = decode_bundle(program, address)
        except DecodeError:
            return None
        for each in bundle.instructions:
            if each.operands and each.operands[0] == "sp" and len(each.operands) > 1:
                value = each.operands[1]
                if isinstance(value, int) and each.instruction.mnemonic.startswith("mov"):
                    return value & 0xFFFFF
        address += bundle.size
    return None


def buffers(tile: Tile) -> dict[int, tuple[int, int]]:
    """By number of a valid descriptor of a core tile, the first byte of its buffer and the one behind the last."""
    found = {}
    for number, words in enumerate(tile.descriptors):
        if not geometry.unpack_bd(tile.kind, words)["valid"]:
            continue
        try:
            descriptor, _ = interpret(tile.kind, words, "")
        except EmulationError:
            continue
        found[number] = 4 * descriptor.base, 4 * (descriptor.base + descriptor.pattern.reach + 1)
    return found
