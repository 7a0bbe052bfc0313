"""The exponentials of int8 attention in numpy, bit for bit: from the words of a head to exponents and probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npuc.passes.attention.core.integer.shape import ABOVE
from npuc.passes.attention.integer_factors import (
    CONSTANT_BITS,
    MAGNITUDE_BITS,
    NEGATIVE,
    OFFSET_PLACES,
    POWER,
    Quantities,
    head_words,
)

SIGNED_16 = 0x7FFF  # symmetric


def rounded(number: np.ndarray, places: int) -> np.ndarray:
    """number / 2^places to the nearest, ties to even."""
    return np.rint(number.astype(np.float64) / 2.0**places).astype(np.int64)  # 32-bit numbers: exact


@dataclass(frozen=True)
class Model:
    """A head in one of the units of scores."""

    score: float
    head_dim: int
    wide: bool = False
    coarse: bool = False

    def __post_init__(self) -> None:
        words = head_words(Quantities(self.score, 1.0), self.head_dim)
        multipliers, shifts, more_shifts, power, _ = words
        score_shift, coarser, places, first = ((shifts >> at) & 0xFF for at in (0, 8, 16, 24))
        second, third, last, last_two = ((more_shifts >> at) & 0xFF for at in (0, 8, 16, 24))
        first -= (first & 0x80) << 1
        to_exponent, per_exponent, scale, offset = multipliers & 0xFFFF, multipliers >> 16, power & 0xFFFF, power >> 16
        offset <<= OFFSET_PLACES
        if self.wide:
            first, beyond = first + 2, 3 * last_two - 2 * last
            offset, last = 2 * offset + (beyond - ABOVE) * per_exponent, last_two
        constants, scales = self._constants(scale, (second, third))
        away = coarser * self.coarse
        places, first = places - away, first - 2 * away
        missing = min(first, 0)
        constants[0] = shifted(constants[0], first - CONSTANT_BITS)
        constants[1] = shifted(constants[1], 2 * missing)
        found = dict(
            shift=(score_shift & ~NEGATIVE) + away,
            sign=-1 if score_shift & NEGATIVE else 1,
            unit_places=places,
            to_exponent=to_exponent,
            per_exponent=per_exponent,
            offset=offset,
            constants=constants,
            shifts=(first - missing, second + 2 * missing, third, last),
        )
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @staticmethod
    def _constants(scale: int, shifts: tuple[int, int]) -> tuple[list[int], list[int]]:
        first, *others = (round(constant * 2.0**CONSTANT_BITS) for constant in POWER.constants)
        found, scales = [scale * first], [scale]
        for constant, shift in zip(others, (*shifts, 0), strict=True):
            square = scales[-1] ** 2
            found.append((square >> CONSTANT_BITS - 1) * (constant >> 1))
            scales.append(square >> shift)
        assert all(abs(number) < 1 << 31 for number in (*found, scales[0] ** 2))
        return found, scales

    @property
    def unit(self) -> float:
        """What a score counts, in base 2."""
        return abs(self.score) * 2.0**self.shift

    def scores(self, products: np.ndarray) -> np.ndarray:
        """Of sums of products."""
        return np.clip(rounded(self.sign * products, self.shift), -SIGNED_16, SIGNED_16)

    def exponents(self, scores: np.ndarray) -> np.ndarray:
        """Of the largest of some scores."""
        shift = MAGNITUDE_BITS + self.unit_places
        return rounded(scores * self.to_exponent + (1 << shift - 1), shift)

    def probabilities(self, scores: np.ndarray, exponents: np.ndarray) -> np.ndarray:
        """Where probabilities have 16 bits exponents are those of references."""
        bias = rounded(exponents * self.per_exponent - self.offset, MAGNITUDE_BITS - self.unit_places)
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


def shifted(number: int, places: int) -> int:
    return number << places if places >= 0 else number >> -places
