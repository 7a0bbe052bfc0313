"""The number types of constants: rounding to floats, wrapping of integers, exactly, one operation at a time."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class FloatFormat:
    """A binary float of IEEE 754's kind. precision: significand bits with the leading one; exponents of normals."""

    precision: int
    least_exponent: int
    greatest_exponent: int

    @property
    def largest(self) -> float:
        return float((2 - Fraction(2) ** (1 - self.precision)) * Fraction(2) ** self.greatest_exponent)


FLOAT_FORMATS = {
    "f16": FloatFormat(11, -14, 15),
    "bf16": FloatFormat(8, -126, 127),
    "f32": FloatFormat(24, -126, 127),
    "f64": FloatFormat(53, -1022, 1023),
}
INDEX_WIDTH = 64
WIDEST = 64  # integers beyond it have no part in attention


def integer_width(type_: str) -> int | None:
    """Bits of a signless integer type or of index; None for other types."""
    if type_ == "index":
        return INDEX_WIDTH
    if type_.startswith("i") and type_[1:].isdecimal() and 0 < int(type_[1:]) <= WIDEST:
        return int(type_[1:])
    return None


def wrapped(value: int, width: int) -> int:
    """The signed number that the low `width` bits of `value` are."""
    return ((value + (1 << width - 1)) & ((1 << width) - 1)) - (1 << width - 1)


def unsigned(value: int, width: int) -> int:
    """The number that the bits of a signed one are without a sign."""
    return value & ((1 << width) - 1)


def rounded(value: float | int | Fraction, type_: str) -> float:
    """`value` to the nearest number of a float type, ties to even, in one rounding; beyond the largest: infinity."""
    if isinstance(value, float) and (not math.isfinite(value) or value == 0):
        return value
    exact = Fraction(value)
    if exact == 0:
        return 0.0
    format_ = FLOAT_FORMATS[type_]
    exponent = max(_exponent(abs(exact)), format_.least_exponent)
    step = Fraction(2) ** (exponent - format_.precision + 1)
    nearest = round(exact / step) * step  # Python rounds ties to even
    if abs(nearest) >= Fraction(2) ** (format_.greatest_exponent + 1):
        return math.copysign(math.inf, nearest)
    return float(nearest) if nearest else math.copysign(0.0, exact)


def _exponent(value: Fraction) -> int:
    """e with 2^e <= value < 2^(e+1)."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def lowest(type_: str) -> float:
    """The most negative finite number of a float type."""
    return -FLOAT_FORMATS[type_].largest


def bits_of(value: float | int, type_: str) -> tuple[int, int]:
    """The bits of a number of that type, and how many."""
    width = integer_width(type_)
    if width is not None:
        return unsigned(int(value), width), width
    if type_ == "bf16":
        return struct.unpack("<I", struct.pack("<f", value))[0] >> 16, 16
    code, width = _STRUCT[type_]
    return int.from_bytes(struct.pack("<" + code, value), "little"), width


def of_bits(bits: int, type_: str) -> float | int:
    """The number of that type whose bits these are."""
    width = integer_width(type_)
    if width is not None:
        return wrapped(bits, width)
    if type_ == "bf16":
        return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    code, width = _STRUCT[type_]
    return float(struct.unpack("<" + code, bits.to_bytes(width // 8, "little"))[0])


_STRUCT = {"f16": ("e", 16), "f32": ("f", 32), "f64": ("d", 64)}
