"""Conversions on plain integers and exact fractions, written from facts/semantics/convert.md alone."""

from __future__ import annotations

from fractions import Fraction
from math import floor

ROUNDING = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13)
"""Section 1: crRnd values with a meaning; 4 to 7, 14 and 15 have none."""
SATURATION = (0, 1, 3)


def rounded(value: Fraction, mode: int) -> int:
    """The table of section 1, on the exact value."""
    q = floor(value)
    r = value - q
    half = Fraction(1, 2)
    up = {
        0: False,
        1: r > 0,
        2: r > 0 and value < 0,
        3: r > 0 and value > 0,
        8: r > half,
        9: r >= half,
        10: r > half or (r == half and value < 0),
        11: r > half or (r == half and value > 0),
        12: r > half or (r == half and q % 2 == 1),
        13: r > half or (r == half and q % 2 == 0),
    }[mode]
    return q + up


def limits(bits: int, signed: bool, saturation: int) -> tuple[int, int]:
    """The range of section 2: crSat 3 leaves out the signed minimum, the unsigned range stays."""
    if not signed:
        return 0, (1 << bits) - 1
    return -(1 << bits - 1) + (saturation == 3), (1 << bits - 1) - 1


def clamped(value: int, bits: int, signed: bool, saturation: int) -> int:
    """Clamped when crSat bit 0 is set."""
    if not saturation & 1:
        return value
    low, high = limits(bits, signed, saturation)
    return min(max(value, low), high)


def shift_of_srs(register: int) -> int:
    """Section 2: the low six bits as the range -4..59."""
    shift = register % 64
    return shift - 64 if shift >= 60 else shift


def srs(value: int, register: int, mode: int, bits: int, signed: bool, saturation: int) -> int:
    """Section 2: a lane of vsrs, before its low bits are taken."""
    shift = shift_of_srs(register)
    whole = value << -shift if shift < 0 else rounded(Fraction(value, 1 << shift), mode)
    return clamped(whole, bits, signed, saturation)


def srs_documented(value: int, register: int, bits: int, signed: bool, saturation: int) -> bool:
    """Section 2: with saturation, products with 4, 8, 16 only in range, and negative ones for the unsigned range."""
    shift = shift_of_srs(register)
    if shift > -2 or not saturation & 1:
        return True
    low, high = limits(bits, signed, saturation)
    return (value << -shift) <= high and (low <= value << -shift or not signed)


def ups(value: int, register: int, lane: int, saturation: int) -> int:
    """Section 3: shifts 0..63, clamped to the signed range of the lane (one of its two sources)."""
    return clamped(value << register % 64, lane, True, saturation & 1)


def ups_documented(value: int, register: int, lane: int, saturation: int) -> bool:
    """Section 3: the sources differ where a saturating vups overflows."""
    return not saturation & 1 or ups(value, register, lane, 0) == ups(value, register, lane, 1)


def bf16_value(pattern: int) -> Fraction:
    """The exact value of a finite bf16 pattern."""
    field, mantissa = pattern >> 7 & 255, pattern & 127
    magnitude = Fraction(mantissa | (128 if field else 0)) * Fraction(2) ** (max(field, 1) - 134)
    return -magnitude if pattern >> 15 else magnitude


def narrowed_fp32(word: int, mode: int) -> int:
    """Section 5: fp32 to bf16 on sign and magnitude; in units of a bf16 step the magnitude is a number, and the sign
    gives the direction. NaN keeps its top 16 bits, bit 0 is set where the mantissa would be 0."""
    sign, magnitude = word >> 31, word & 0x7FFFFFFF
    if magnitude > 0x7F800000:
        top = word >> 16
        return top if top & 0x7F else top | 1
    return sign << 15 | abs(rounded((-1 if sign else 1) * Fraction(magnitude, 1 << 16), mode))


def floored_bf16(pattern: int, register: int) -> int:
    """Section 5: floor(value * 2^shift) in 32 bits; the shift is a signed six-bit number; NaN gives 0x7fffffff."""
    if pattern & 0x7FFF > 0x7F80:
        return 0x7FFFFFFF
    if pattern & 0x7FFF == 0x7F80:
        return -(1 << 31) if pattern >> 15 else 0x7FFFFFFF
    shift = (register % 64 + 32) % 64 - 32
    return clamped(floor(bf16_value(pattern) * Fraction(2) ** shift), 32, True, 1)
