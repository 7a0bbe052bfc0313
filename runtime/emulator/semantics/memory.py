"""Plain loads and stores: what is moved between a register and data memory (facts/semantics/vector_misc.md).

The conversions fused with loads and stores stand in `convert.py`.
"""

from __future__ import annotations

from typing import Any

from npuc.runtime.emulator.semantics.registry import rule

_DIMENSIONS = r"(\.[23]d)?"


@rule(rf"lda{_DIMENSIONS}", syntax=r"\$mLdaScl", access="load", bytes=4)
def load_word(v: Any, word: int) -> int:
    """A register narrower than the word keeps its low bits."""
    return word


@rule(rf"lda{_DIMENSIONS}\.(?P<sign>[su])8", access="load", bytes=1)
def load_byte(v: Any, value: int, *, sign: str) -> int:
    return v.u32(v.signed(value, 8)) if sign == "s" else value


@rule(rf"lda{_DIMENSIONS}\.(?P<sign>[su])16", access="load", bytes=2)
def load_half(v: Any, value: int, *, sign: str) -> int:
    return v.u32(v.signed(value, 16)) if sign == "s" else value


@rule(rf"st{_DIMENSIONS}", syntax=r"\$mSclSt", access="store", bytes=4)
def store_word(v: Any, value: int) -> int:
    return value


@rule(rf"st{_DIMENSIONS}\.s8", access="load+store", bytes=1)
def store_byte(v: Any, value: int) -> int:
    return v.unsigned(value, 8)


@rule(rf"st{_DIMENSIONS}\.s16", access="load+store", bytes=2)
def store_half(v: Any, value: int) -> int:
    return v.unsigned(value, 16)


@rule(rf"lda{_DIMENSIONS}", syntax=r"\$dst", access="load", bytes=16)
@rule(rf"vld[ab]{_DIMENSIONS}", access="load", bytes=32)
def load_vector(v: Any, bits: Any) -> Any:
    return bits


@rule(rf"vld[ab]{_DIMENSIONS}\.128", access="load", bytes=16, unknown=True)
def load_half_vector(v: Any, bits: Any) -> Any:
    """What the upper half of the register holds then is in no fact sheet."""
    return v.concat(bits, v.unknown(128))


@rule(rf"st{_DIMENSIONS}", syntax=r"\$src", access="store", bytes=16)
@rule(rf"vst{_DIMENSIONS}", access="store", bytes=32)
def store_vector(v: Any, bits: Any) -> Any:
    return bits


@rule(rf"vst{_DIMENSIONS}\.128", access="store", bytes=16)
def store_half_vector(v: Any, bits: Any) -> Any:
    return v.part(bits, 0, 16)


@rule(r"vldb\.4x(?P<width>16|32|64)\.(?P<half>lo|hi)", access="gather", bytes=8)
def gather(v: Any, addresses: Any, *, width: int, half: str) -> list[int]:
    """The byte addresses that lanes 0..3 fetch 8 bytes from, row copies included."""
    first = 0 if half == "lo" else 4
    lanes = v.lanes(addresses, 32)
    return [gather_address(v.extract(lanes, first + lane), lane, width // 8) for lane in range(4)]


def gather_address(address: int, lane: int, element: int) -> int:
    """A 32-byte row holds the same 16 bytes twice; odd lanes use the second copy (vector_misc.md section 5)."""
    return (address & ~31) + 16 * (lane & 1) + (((address >> 1) & 15) & -element)
