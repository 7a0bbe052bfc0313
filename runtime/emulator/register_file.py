"""The registers of one core as the interpreter stores them.

Scalar registers are Python ints in a list. Vector, accumulator and mask registers lie in one byte buffer, which exists
twice: `plain`, and `bypassed`, in which a result with a bypass appears one cycle earlier. A bypass forwards to readers
of the same bypass name only, and each file has one: MOV for vectors, VEC for accumulators (facts/schedule/README.md:
RAW distance = D - b - U + 1).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from npuc.compiler.target.aie2 import registers as target
from npuc.runtime.emulator.semantics.definedness import Origin, Partial

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


@cache
def is_scalar(register: str) -> bool:
    """Whether the register, or both of a pair, hold scalars."""
    return target.parts(register)[0] in SCALAR_INDEX


@cache
def vector_place(register: str) -> tuple[int, int]:
    """(byte offset, bytes) of a vector register whose parts lie next to each other."""
    places = [_part_place(part) for part in target.parts(register)]
    return places[0][0], sum(size for _, size in places)


def bypass_of(register: str) -> str | None:
    """The one bypass name whose readers look into the bypassed copy of this register's file."""
    offset, _ = vector_place(register)
    return "MOV" if offset < _ACCUMULATORS else "VEC" if offset < _MASKS else None


class RegisterFile:
    """`scalar`: ints by SCALAR_INDEX. `plain`, `bypassed`: VECTOR_BYTES bytes each."""

    def __init__(self) -> None:
        self.scalar: list[Any] = [0] * len(_WORDS)
        self.plain = np.zeros(VECTOR_BYTES, dtype=np.uint8)
        self.bypassed = np.zeros(VECTOR_BYTES, dtype=np.uint8)

    def reset(self) -> None:
        """All zero but the cascade's enables and the loop end."""
        self.scalar[:] = [0] * len(self.scalar)
        for register, value in _RESET.items():
            self.scalar[SCALAR_INDEX[register]] = value
        self.plain[:] = 0
        self.bypassed[:] = 0

    def place(self, register: str, bypassed: bool) -> Any:
        """Where a vector register lies in one of the two buffers; it changes with `place[...] = value`."""
        offset, size = vector_place(register)
        return (self.bypassed if bypassed else self.plain)[offset : offset + size]

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
        if is_scalar(register):
            for position, part in enumerate(parts):
                self.scalar[SCALAR_INDEX[part]] = (value >> (32 * position)) & ((1 << target.width(part)) - 1)
            return
        offset, size = vector_place(register)
        data = np.frombuffer(bytes(value), dtype=np.uint8)
        for buffer in (self.plain, self.bypassed):
            buffer[offset : offset + size] = data


class TrackedPlace:
    """A vector register in one of the two buffers of a `TrackedFile`, with its undefined bits and why they are.

    value, undefined: bytes.
    """

    __slots__ = ("file", "number", "offset", "size", "undefined", "value")

    def __init__(self, file: TrackedFile, number: int, offset: int, size: int) -> None:
        """number: 0 of the plain buffer, 1 of the bypassed one."""
        self.file, self.number, self.offset, self.size = file, number, offset, size
        self.value = (file.plain, file.bypassed)[number][offset : offset + size]
        self.undefined = file.undefined[number][offset : offset + size]

    def copy(self) -> Any:
        """What the register holds, a Partial where bits of it are undefined."""
        if not self.undefined.any():
            return self.value.copy()
        first = self.offset + int(np.argmax(self.undefined != 0))
        return Partial(self.value.copy(), self.undefined.copy(), self.file.vector_origins[self.number].get(first & ~7))

    def __setitem__(self, _: Any, value: Any) -> None:
        if isinstance(value, Partial):
            self.value[...], self.undefined[...] = value.value, value.undefined
            if value.origin is not None:
                origins = self.file.vector_origins[self.number]
                origins.update(dict.fromkeys(range(self.offset, self.offset + self.size, 8), value.origin))
        else:
            self.value[...] = value
            self.undefined[...] = 0


class TrackedFile(RegisterFile):
    """A register file that keeps which bits were never defined, for strict mode.

    undefined_scalar: masks by SCALAR_INDEX; undefined: like plain and bypassed. scalar_origins, vector_origins: why, by
    index and by offset in steps of 8 bytes, where it is not that the register was never written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.undefined_scalar: list[int] = [0] * len(_WORDS)
        self.undefined = (np.zeros(VECTOR_BYTES, dtype=np.uint8), np.zeros(VECTOR_BYTES, dtype=np.uint8))
        self.scalar_origins: dict[int, Origin] = {}
        self.vector_origins: tuple[dict[int, Origin], dict[int, Origin]] = ({}, {})

    def reset(self) -> None:
        """As RegisterFile; all but control, status and loop registers are undefined."""
        super().reset()
        self.undefined_scalar[:] = [
            0 if name in _DEFINED_AT_RESET else (1 << target.width(name)) - 1 for name in SCALAR_INDEX
        ]
        self.scalar_origins.clear()
        for bits, origins in zip(self.undefined, self.vector_origins, strict=True):
            bits[:] = 0xFF
            origins.clear()

    def place(self, register: str, bypassed: bool) -> Any:
        return TrackedPlace(self, int(bypassed), *vector_place(register))

    def get(self, index: int) -> Any:
        """A scalar by its index, a Partial where bits of it are undefined."""
        undefined = self.undefined_scalar[index]
        if not undefined:
            return self.scalar[index]
        return Partial(self.scalar[index], undefined, self.scalar_origins.get(index))

    def set(self, index: int, value: Any) -> None:
        """Sets a scalar by its index; a Partial leaves it undefined."""
        if isinstance(value, Partial):
            self.scalar[index], self.undefined_scalar[index] = value.value, value.undefined
            if value.origin is not None:
                self.scalar_origins[index] = value.origin
        else:
            self.scalar[index], self.undefined_scalar[index] = value, 0

    def write(self, register: str, value: Any) -> None:
        super().write(register, value)
        if is_scalar(register):
            for part in target.parts(register):
                self.undefined_scalar[SCALAR_INDEX[part]] = 0
        else:
            for number in (0, 1):
                TrackedPlace(self, number, *vector_place(register)).undefined[...] = 0
