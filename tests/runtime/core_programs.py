"""Core programs from assembly text, on cores in an array without DMA or streams."""

from __future__ import annotations

from typing import Any

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.array import Array
from npuc.runtime.emulator.core_unit import CoreUnit
from npuc.runtime.emulator.timing import PHOENIX


def machine_code(text: str) -> bytearray:
    """16,384 bytes of program memory: a bundle a line, 16 bytes each; an empty line is an empty bundle; `.` 7 of them;
    behind the text, empty bundles of 2 bytes."""
    code = bytearray.fromhex("0100") * 8192
    position = 0
    for line in text.replace(".\n", "\n" * 7).splitlines():
        code[position:position + 16] = encode_bundle(parse_bundle(line) if line.strip() else {}, 16)
        position += 16
    return code


class Cores:
    """An array of `columns` columns whose cores run programs."""

    def __init__(self, columns: int = 2, strict: bool = False) -> None:
        self.array = Array(columns, PHOENIX, strict)

    def unit(self, column: int, row: int) -> CoreUnit:
        unit = self.array.tiles[column, row].core
        assert unit is not None
        return unit

    def load(self, column: int, row: int, text: str, **registers: Any) -> CoreUnit:
        """A program and first register values; `CR_name` sets a register whose name is no keyword."""
        unit = self.unit(column, row)
        unit.program[:] = machine_code(text)
        unit.core.program_changed()
        unit.write_control(geometry.CORE_CONTROL_RESET)
        unit.write_control(0)
        for name, value in registers.items():
            unit.core.registers.write(name, value)
        return unit

    def start(self) -> None:
        """Enables every core that has a program loaded."""
        for tile in self.array.tiles.values():
            if tile.core is not None and not tile.core.control & geometry.CORE_CONTROL_RESET:
                tile.core.write_control(geometry.CORE_CONTROL_ENABLE)

    def run(self, until: int = 100_000) -> int:
        """Starts, and steps the clock until nothing is left to do or `until`; the last cycle."""
        self.start()
        clock = self.array.clock
        while (due := clock.next_cycle()) is not None and due < until:
            clock.step()
        return clock.cycle
