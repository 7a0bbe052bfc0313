"""A core's registers as the tile's register map shows them (facts/platform/registers_aie2.json, module core)."""

from __future__ import annotations

import re

from npuc.compiler.target.aie2 import registers as target
from npuc.compiler.target.npu1.registers import offset_name
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.register_file import RegisterFile, is_scalar

FIRST, LAST = 0x30000, 0x31190
CONTROL = 0x31170  # Core_CR
_FILES = frozenset("R M DN DJ DC P S SP LR LS LE LC DP WL WH AMLL AMLH AMHL AMHH Q".split())
# Core_CR: register, its lowest bit in the word, how many bits.
_CONTROL = (
    ("crSat", 0, 2),
    ("crRnd", 2, 4),
    ("crFPMask", 6, 5),
    ("crMCDEn", 11, 1),
    ("crSCDEn", 12, 1),
    ("crVaddSign", 13, 1),
    ("crUnpackSign", 14, 1),
    ("crPackSign", 15, 1),
    ("crUPSSign", 16, 1),
    ("crSRSSign", 17, 1),
    ("crF2IMask", 18, 5),
    ("crF2FMask", 23, 5),
)
_UNKNOWN = {
    "SR": "facts/semantics does not say when the sticky flags among its bits are set",
    "FC": "facts/platform does not say what it counts",
}
_NAME = re.compile(r"Core_([A-Z]+)(\d*)(?:_Part(\d))?(?:\+(0x[0-9a-f]+))?")
_PART_BYTES = 16


def _place(offset: int) -> tuple[str, int] | None:
    """Register and byte in it of a word of the register map; None for what is no register of the core."""
    match = _NAME.fullmatch(offset_name("core", offset)) if FIRST <= offset <= LAST else None
    if match is None:
        return None
    letters, number, part, byte = match.groups()
    if letters in _UNKNOWN:
        raise EmulationError(f"Core_{letters} is not modelled: {_UNKNOWN[letters]}")
    if letters not in _FILES:
        return None
    return letters.lower() + number, (int(part or "1") - 1) * _PART_BYTES + int(byte or "0", 16)


def read(registers: RegisterFile, offset: int) -> int | None:
    """The word at that offset of the tile; None where no register of the core is."""
    if offset == CONTROL:
        return sum((registers.read(name) & ((1 << bits) - 1)) << first for name, first, bits in _CONTROL)
    place = _place(offset)
    if place is None:
        return None
    register, byte = place
    value = registers.read(register)
    if is_scalar(register):
        return int(value)
    return int.from_bytes(value.tobytes()[byte : byte + 4], "little")


def write(registers: RegisterFile, offset: int, value: int) -> bool:
    """Sets the word at that offset of the tile; False where no register of the core is."""
    if offset == CONTROL:
        for name, first, bits in _CONTROL:
            registers.write(name, value >> first & ((1 << bits) - 1))
        return True
    place = _place(offset)
    if place is None:
        return False
    register, byte = place
    if is_scalar(register):
        registers.write(register, value & ((1 << target.width(register)) - 1))
    else:
        content = bytearray(registers.read(register).tobytes())
        content[byte : byte + 4] = value.to_bytes(4, "little")
        registers.write(register, bytes(content))
    return True
