"""Core programs from assembly text: single instructions on a core, programs on the cores of an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.array import Array
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.core_unit import CoreUnit
from npuc.runtime.emulator.engines import core_class
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.timing import PHOENIX


def machine_code(text: str) -> bytearray:
    """16,384 bytes of program memory: a bundle a line, 16 bytes each; an empty line is an empty bundle; `.` 7 of them;
    behind the text, empty bundles of 2 bytes."""
    code = bytearray.fromhex("0100") * 8192
    position = 0
    for line in text.replace(".\n", "\n" * 7).splitlines():
        code[position : position + 16] = encode_bundle(parse_bundle(line) if line.strip() else {}, 16)
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
        unit.load_program(0, machine_code(text))
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


MEMORY = 0x200


class Bench:
    """Executes single instructions, given as text, and keeps a core for each. engine: native ones run to a `done`."""

    def __init__(self, engine: str = "interpreter") -> None:
        self.engine = engine
        self._cores: dict[str, Core] = {}

    def _core(self, text: str) -> Core:
        core = self._cores.get(text)
        if core is None:
            code = machine_code(text if self.engine == "interpreter" else text + "\n" * 15 + "done")
            core = self._cores[text] = core_class(self.engine)(code, DataMemory())
        return core

    def run(self, text: str, registers: Mapping[str, Any], memory: bytes = b"") -> Core:
        """The core after the instruction; `memory` is what p0 points to, at MEMORY."""
        core = self._core(text)
        core.reset()
        core.data_memory.data[MEMORY : MEMORY + len(memory)] = np.frombuffer(memory, dtype=np.uint8)
        core.registers.write("p0", OWN_MEMORY + MEMORY)
        for name, value in registers.items():
            core.registers.write(name, value)
        core.run(0, 14 if self.engine == "interpreter" else 200)
        return core

    def warning(self, text: str, registers: Mapping[str, Any], memory: bytes = b"") -> str:
        """What the core warns of when it executes the instruction; empty when it does not."""
        self._cores.pop(text, None)  # a core warns once
        warnings = self.run(text, registers, memory).warnings
        assert len(warnings) <= 1
        return warnings[0].text if warnings else ""


def numbers(data: Any, bits: int, signed: bool) -> list[int]:
    """Bytes as numbers of that many bits, lowest first."""
    whole = int.from_bytes(bytes(data), "little")
    return [wrapped(whole >> bits * i, bits, signed) for i in range(8 * len(bytes(data)) // bits)]


def wrapped(value: int, bits: int, signed: bool) -> int:
    """The number modulo 2^bits, in the signed or unsigned range."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def packed(values: Iterable[int], bits: int) -> bytes:
    """Numbers of that many bits as bytes, lowest first."""
    values = list(values)
    whole = sum((value & ((1 << bits) - 1)) << bits * i for i, value in enumerate(values))
    return whole.to_bytes(bits * len(values) // 8, "little")


def edgy(random: np.random.Generator, bits: int, count: int) -> list[int]:
    """Random numbers of that many bits, a third of them at or next to an edge of a range."""
    edges = [0, 1, 2, (1 << bits) - 1, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits - 1) + 1, 1 << bits // 2]
    size = bits // 8 or 1
    return [
        int(random.choice(edges))
        if random.random() < 1 / 3
        else int.from_bytes(random.bytes(size), "little") % (1 << bits)
        for _ in range(count)
    ]
