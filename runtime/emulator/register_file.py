"""The registers of one core as the interpreter stores them.

Scalar registers are Python ints in a list. Vector, accumulator and mask registers lie in one byte buffer, which exists
twice: `plain`, and `bypassed`, in which a result with a bypass appears one cycle earlier. A bypass forwards to readers
of the same bypass name only, and each file has one: MOV for vectors, VEC for accumulators (facts/schedule/README.md:
RAW distance = D - b - U + 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npuc.compiler.target.aie2 import registers as target

_WORDS = (
    *target.R,
    *target.P,
    *target.M,
    *target.DN,
    *target.DJ,
    *target.DC,
    *target.S,
    *target.CONTROL,
    *target.STATUS,
    *target.SPECIAL,
)
SCALAR_INDEX: dict[str, int] = {name: index for index, name in enumerate(_WORDS)}
LC, LS, LE, SP = (SCALAR_INDEX[name] for name in ("lc", "ls", "le", "sp"))
# Known at reset: control and status registers and the loop registers (facts/semantics/convert.md section 1).
# Reset values other than 0 of Core_CR and Core_LE, facts/platform/registers_aie2.json.
_RESET = {"crMCDEn": 1, "crSCDEn": 1, "le": 0xFFFFF}
_DEFINED_AT_RESET = (*target.CONTROL, *target.STATUS, "lc", "ls", "le", "CORE_ID")

_ACCUMULATORS = 64 * len(target.X)
_MASKS = _ACCUMULATORS + 128 * len(target.CM)
VECTOR_BYTES = _MASKS + 16 * len(target.Q)
_QUARTERS = {"amll": 0, "amlh": 32, "amhl": 64, "amhh": 96}


def _part_place(part: str) -> tuple[int, int]:
    """(byte offset, bytes) of a smallest vector part."""
    letters = target.file(part)
    number = int(part[len(letters) :])
    if letters in ("wl", "wh"):
        return 64 * number + 32 * (letters == "wh"), 32
    if letters in _QUARTERS:
        return _ACCUMULATORS + 128 * number + _QUARTERS[letters], 32
    return _MASKS + 16 * number + 8 * (letters == "qh"), 8


def is_scalar(register: str) -> bool:
    """Whether the register, or both of a pair, hold scalars."""
    return target.parts(register)[0] in SCALAR_INDEX


def vector_place(register: str) -> tuple[int, int]:
    """(byte offset, bytes) of a vector register whose parts lie next to each other."""
    places = [_part_place(part) for part in target.parts(register)]
    return places[0][0], sum(size for _, size in places)


def bypass_of(register: str) -> str | None:
    """The one bypass name whose readers look into the bypassed copy of this register's file."""
    offset, _ = vector_place(register)
    return "MOV" if offset < _ACCUMULATORS else "VEC" if offset < _MASKS else None


_FORWARDED = "forwarded "


def forwarded_parts(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Names in `RegisterFile.defined` of what readers of forwarded values see of these parts."""
    return tuple(_FORWARDED + part for part in parts)


def part_of(name: str) -> str:
    """The register part that a name in `RegisterFile.defined` stands for."""
    return name.removeprefix(_FORWARDED)


class RegisterFile:
    """`scalar`: ints by SCALAR_INDEX. `plain`, `bypassed`: VECTOR_BYTES bytes each. `defined`: parts ever written, and
    forwarded parts."""

    def __init__(self) -> None:
        self.scalar: list[Any] = [0] * len(_WORDS)
        self.plain = np.zeros(VECTOR_BYTES, dtype=np.uint8)
        self.bypassed = np.zeros(VECTOR_BYTES, dtype=np.uint8)
        self.defined: set[str] = set(_DEFINED_AT_RESET)

    def reset(self) -> None:
        """All zero but the cascade's enables and the loop end; only control, status and loop registers count as
        written."""
        self.scalar[:] = [0] * len(self.scalar)
        for register, value in _RESET.items():
            self.scalar[SCALAR_INDEX[register]] = value
        self.plain[:] = 0
        self.bypassed[:] = 0
        self.defined.clear()
        self.defined.update(_DEFINED_AT_RESET)

    def read(self, register: str) -> Any:
        """The register's present value: an int (pairs: 64 bits) or a copy of its bytes as numpy uint8."""
        if is_scalar(register):
            value = 0
            for position, part in enumerate(target.parts(register)):
                value |= self.scalar[SCALAR_INDEX[part]] << (32 * position)
            return value
        offset, size = vector_place(register)
        return self.plain[offset : offset + size].copy()

    def write(self, register: str, value: Any) -> None:
        """Sets a register at once: an int, or bytes (bytes or numpy uint8) of its width."""
        parts = target.parts(register)
        self.defined.update(parts)
        self.defined.update(forwarded_parts(parts))
        if is_scalar(register):
            for position, part in enumerate(parts):
                self.scalar[SCALAR_INDEX[part]] = (value >> (32 * position)) & ((1 << target.width(part)) - 1)
            return
        offset, size = vector_place(register)
        data = np.frombuffer(bytes(value), dtype=np.uint8)
        for buffer in (self.plain, self.bypassed):
            buffer[offset : offset + size] = data
