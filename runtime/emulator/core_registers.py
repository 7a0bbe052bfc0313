"""A core's registers as the tile's register map shows them (facts/platform/registers_aie2.json, module core)."""

from __future__ import annotations

import re

from npuc.compiler.target.aie2 import registers as target
from npuc.compiler.target.npu1.registers import offset_name
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.register_file import RegisterFile, is_scalar

FIRST, LAST = 0x30000, 0x31190
_FILES = frozenset("R M DN DJ DC P S SP LR LS LE LC DP WL WH AMLL AMLH AMHL AMHH Q".split())
_NAME = re.compile(r"Core_([A-Z]+)(\d*)(?:_Part(\d))?(?:\+(0x[0-9a-f]+))?")
_PART_BYTES = 16


def _place(offset: int) -> tuple[str, int] | None:
    """Register and byte in it of a word of the register map; None for what is no register of the core."""
    match = _NAME.fullmatch(offset_name("core", offset)) if FIRST <= offset <= LAST else None
    if match is None:
        return None
    letters, number, part, byte = match.groups()
    if letters not in _FILES:
        raise EmulationError(f"Core_{letters}: facts/platform does not say what its bits are")
    return letters.lower() + number, (int(part or "1") - 1) * _PART_BYTES + int(byte or "0", 16)


def read(registers: RegisterFile, offset: int) -> int | None:
    """The word at that offset of the tile; None where no register of the core is."""
    place = _place(offset)
    if place is None:
        return None
    register, byte = place
    value = registers.read(register)
    if is_scalar(register):
        return int(value)
    return int.from_bytes(value.tobytes()[byte:byte + 4], "little")


def write(registers: RegisterFile, offset: int, value: int) -> bool:
    """Sets the word at that offset of the tile; False where no register of the core is."""
    place = _place(offset)
    if place is None:
        return False
    register, byte = place
    if is_scalar(register):
        registers.write(register, value & ((1 << target.width(register)) - 1))
    else:
        content = bytearray(registers.read(register).tobytes())
        content[byte:byte + 4] = value.to_bytes(4, "little")
        registers.write(register, bytes(content))
    return True
