"""The exponentials of int8 attention in numpy, bit for bit: from the words of a head to exponents and probabilities."""

from __future__ import annotations

import numpy as np

from npuc.passes.attention.integer_factors import (
    CONSTANT_BITS,
    MAGNITUDE_BITS,
    NEGATIVE,
    OFFSET_PLACES,
    Quantities,
    head_words,
    power_of,
)

SIGNED_16 = 0x7FFF  # symmetric


def rounded(number: np.ndarray, places: int) -> np.ndarray:
    """number / 2^places to the nearest, ties to even."""
    return np.rint(number.astype(np.float64) / 2.0**places).astype(np.int64)  # 32-bit numbers: exact


class Model:
    """A head in one of the units of scores, of which there are three.  wide: probabilities have 16 bits."""

    def __init__(self, score: float, head_dim: int, wide: bool = False, unit: int = 0) -> None:
        self.score, self.wide = score, wide
        multipliers, shifts, further_shifts, power, _ = head_words(Quantities(score, 1.0, wide), head_dim)
        score_shift, coarser, places, first = shifts.to_bytes(4, "little")
        second, third, last, _ = further_shifts.to_bytes(4, "little")
        first -= (first & 0x80) << 1  # signed
        self.to_exponent, self.per_exponent = multipliers & 0xFFFF, multipliers >> 16
        self.offset = power >> 16 << OFFSET_PLACES
        away = (0, 1, coarser)[unit]
        first -= 2 * away
        missing = min(first, 0)
        self.shift, self.sign = (score_shift & ~NEGATIVE) + away, -1 if score_shift & NEGATIVE else 1
        self.places = places - away
        self.constants = _constants(power & 0xFFFF, second, third, wide=wide)
        self.constants[0] = _shifted(self.constants[0], first - CONSTANT_BITS)
        self.constants[1] = _shifted(self.constants[1], 2 * missing)
        self.shifts = first - missing, second + 2 * missing, third, last

    @property
    def unit(self) -> float:
        """What a score counts, in base 2."""
        return abs(self.score) * 2.0**self.shift

    def scores(self, products: np.ndarray) -> np.ndarray:
        """Of sums of products."""
        return np.clip(rounded(self.sign * products, self.shift), -SIGNED_16, SIGNED_16)

    def exponents(self, scores: np.ndarray) -> np.ndarray:
        """Of the largest of some scores."""
        shift = MAGNITUDE_BITS + self.places
        return rounded(scores * self.to_exponent + (1 << shift - 1), shift)

    def probabilities(self, scores: np.ndarray, exponents: np.ndarray) -> np.ndarray:
        """Where probabilities have 16 bits exponents are those of references."""
        bias = rounded(exponents * self.per_exponent - self.offset, MAGNITUDE_BITS - self.places)
        y = np.maximum(scores - np.clip(bias, -SIGNED_16, SIGNED_16), 0)
        assert y.max(initial=0) <= SIGNED_16
        for number, (constant, shift) in enumerate(zip(self.constants, self.shifts, strict=True)):
            wide = y * y + constant
            assert -(1 << 31) <= wide.min() and max(wide.max(), (y * y).max()) < 1 << 31, (number, wide.max())
            bits = 16 if self.wide or number < 3 else 8
            y = np.clip(rounded(wide, shift), 0, (1 << bits) - 1)
        if self.wide:
            y = np.clip(rounded(y * y, self.shifts[-1]), 0, (1 << 16) - 1)
        return y


def _constants(scale: int, *shifts: int, wide: bool) -> list[int]:
    """Of the power, of which the first is to be shifted by how far its square is; 32-bit numbers."""
    first, *others = (round(constant * 2.0**CONSTANT_BITS) for constant in power_of(wide).constants)
    found = [scale * first]
    for constant, shift in zip(others, (*shifts, 0), strict=True):
        square = scale * scale
        found.append((square >> CONSTANT_BITS - 1) * (constant >> 1))
        scale = square >> shift
        assert square < 1 << 32
    assert all(abs(number) < 1 << 31 for number in found)
    return found


def _shifted(number: int, places: int) -> int:
    return number << places if places >= 0 else number >> -places
