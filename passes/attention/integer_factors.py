"""What the factors of int8 tensors make of a head's scores and results, as the core program takes them.

A score s of integers counts c s in base 2, c = q_scale * k_scale * scale * log2 e.  It is kept as x = s / 2^shift in 16
bits, in a fine unit of at most 2^-9 in base 2; a block with scores beyond the range of that takes one twice as large,
and if they are beyond that one's a coarse one, in which every score is within half the range, so that hidden ones are
far below.  Of x the program makes the exponent of a block, and, less a bias that counts in the same unit, the argument
of its power (`Power`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UnsupportedError

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

DEFAULT_SCALE = 1.0 / 32.0  # what an integer of q, k and v stands for where the source does not say
FINEST_UNIT = 2.0**-9  # at most; more than half of that (`core.integer.unit`)
COARSEST_UNIT = 0.5
NEGATIVE = 1 << 7  # in a word of shifts
HEADS_LIMIT = 128  # with factors of their own, of all batch entries
LARGEST_SHIFT = 40  # with which every score is 0
MAGNITUDE_BITS = 14  # of x
PRODUCT_BITS = 14  # of two int8 numbers, -128 * -128
MATMUL_8BIT, NEGATED = 0x308, 1 << 11  # facts/semantics/vmac.md: signed int8 4x8x8; products change their sign
OUTPUT_RANGE = (2.0**-60, 2.0**14)
ABOVE = 2  # exponents above the reference of whole sums that leave it (`core.integer.references`): it stays for all of
# ordinary scores


@dataclass(frozen=True)
class Power:
    """2^t nearly: y = slope (t + reach), or 0 where that is less; then y^2 + constant for each constant, and y^2 at the
    end where the result is of 16 bits.

    highest: t up to which nothing is beyond the range of its numbers, where it is moved by at most so much, to make up
    for its scale.  largest: what 2^0 comes to.
    """

    slope: float
    reach: float
    constants: tuple[float, ...]
    highest: float
    largest: float
    most_moved: float
    wide: bool = False

    def steps(self, t: float) -> tuple[float, ...]:
        """y, what it becomes with each constant, and the last square where there is one."""
        found = [max(self.slope * (t + self.reach), 0.0)]
        for constant in (*self.constants, 0.0) if self.wide else self.constants:
            found.append(found[-1] ** 2 + constant)
        return tuple(found)


# Own fits.  8 bits: over t in [-10, 1] the error relative to 2^t + 2^-7.5 is at most 0.07 %, 0.03 % rms; farther below
# it comes to 2^-11.4, which is nothing of 8 bits.  16 bits: over t in [-15, 3.8] the error relative to 2^t + 2^-8 is at
# most 0.01 %, and from t = -16 on it comes to less than 2^-15.  The highest t is what exponents above the reference
# leave, and what rounding of the bias adds in the coarsest unit.  What 2^0 comes to leaves what the power is off.
POWER = Power(
    0.06359848578259199,
    12.123742364284656,
    (0.19388860212644982, 0.4983414866090672, -0.25364970060885317, -0.000747466069188631),
    0.5,
    255.3,
    1.0,
)
WIDE_POWER = Power(
    0.0352920610696184,
    19.41851091442467,
    (0.23763252509230495, 0.7635751251545486, -0.595369934980548, -0.0038841498987099857),
    ABOVE + 0.3,
    2.0 ** (16 - ABOVE) * 0.995,
    1.5,
    wide=True,
)
# Arguments of the power are whole numbers of the scores' unit, and that is the scale of y: it is squared with y, and
# halved as often as the square is shifted to 16 bits.  Constants are added in the scale of the square
# (`core.integer.unit`).
SQUARE_BITS = 31  # what squares stay below, with and without their constant
CONSTANT_BITS = 16  # fraction bits of constants
OFFSET_PLACES = 4  # by which the offset of the bias is shifted in its word


def has_wide_probabilities(recipe: str) -> bool:
    """Whether probabilities of the recipe have 16 bits: of fast they have 8."""
    return recipe != "fast"


def power_of(wide: bool) -> Power:
    """wide: probabilities have 16 bits."""
    return WIDE_POWER if wide else POWER


@dataclass(frozen=True)
class Quantities:
    """score: c of the module's text.  output: what a sum of V's integers over weights counts in the result.  wide: the
    recipe's probabilities have 16 bits."""

    score: float
    output: float
    wide: bool = False


def quantities_of(attention: Attention) -> tuple[Quantities, ...]:
    """Of each query head, or one for all where they are alike."""
    group = attention.heads // attention.kv_heads

    def factor(role: str, head: int) -> float:
        factors = getattr(attention, f"{role}_scale") or ((1.0,) if role == "o" else (DEFAULT_SCALE,))
        return float(factors[head if len(factors) > 1 else 0])

    found = [
        Quantities(
            attention.scale * math.log2(math.e) * factor("q", head) * factor("k", head // group),
            factor("v", head // group) / factor("o", head),
            has_wide_probabilities(attention.recipe),
        )
        for head in range(attention.heads)
    ]
    return tuple(found[:1] if len(set(found)) == 1 else found)


def quantities_of_scales(
    attention: Attention, q: Sequence[float], k: Sequence[float], v: Sequence[float]
) -> tuple[Quantities, ...]:
    """Of every head of all batches, from the scales of the heads of all batches of q, k and v."""
    group = attention.heads // attention.kv_heads
    per_scale, wide = attention.scale * math.log2(math.e), has_wide_probabilities(attention.recipe)
    return tuple(
        Quantities(per_scale * float(one) * float(k[head // group]), float(v[head // group]), wide)
        for head, one in enumerate(q)
    )


def _shifts(score: float, head_dim: int) -> tuple[int, int]:
    """Places by which scores are shifted to the right, in the fine and in the coarse unit; one is between them."""
    wanted = math.floor(math.log2(FINEST_UNIT / abs(score))) if score else LARGEST_SHIFT
    fine = min(max(0, wanted), LARGEST_SHIFT)
    return fine, max(fine + 1, math.ceil(math.log2(head_dim)) + PRODUCT_BITS - MAGNITUDE_BITS)


def representable(quantities: Quantities, head_dim: int) -> bool:
    """Whether scores of all integers keep a unit that is fine enough, and the output's factor is a normal number."""
    unit = abs(quantities.score) * 2.0 ** _shifts(quantities.score, head_dim)[1]
    return unit <= COARSEST_UNIT and OUTPUT_RANGE[0] <= quantities.output <= OUTPUT_RANGE[1]


def head_words(quantities: Quantities, head_dim: int) -> tuple[int, ...]:
    """The words of a head, in the order of `core.integer.head.HeadWord`.  Raises UnsupportedError."""
    from npuc.passes.attention.core.parameters import bf16_bits, bf16_split  # which takes words from here

    if not representable(quantities, head_dim):
        raise UnsupportedError(
            f"factors of int8 ({quantities.score:g} a score in base 2, {quantities.output:g} a result) are outside "
            "what the kernel represents",
            remedy="use the reference backend",
        )
    high, low = (bf16_bits(part) for part in bf16_split(quantities.output, 2))
    power, shifts = power_of(quantities.wide), _shifts(quantities.score, head_dim)
    return (*_score_words(quantities.score, power, *shifts), high | low << 16)


def _score_words(score: float, power: Power, fine: int, coarse: int) -> tuple[int, int, int, int]:
    """Of the fine unit; what is shifted to nothing counts as the finest one."""
    unit = max(abs(score) * 2.0**fine, FINEST_UNIT / 2)
    places = -math.ceil(math.log2(unit))  # so many bits more than those of whole exponents
    mantissa = unit * 2.0**places  # in (1/2, 1]
    to_exponent = round(mantissa * 2.0**MAGNITUDE_BITS)
    per_exponent = min(round(2.0**MAGNITUDE_BITS / mantissa), 0x7FFF)
    scale, shifts, more = power_scale(unit, power)
    offset = round((power.reach + more) / mantissa * 2.0 ** (MAGNITUDE_BITS - OFFSET_PLACES))
    negative = NEGATIVE if score < 0 else 0
    return (
        to_exponent | per_exponent << 16,
        fine | negative | (coarse - fine) << 8 | places << 16 | (shifts[0] & 0xFF) << 24,
        shifts[1] | shifts[2] << 8 | shifts[3] << 16,
        scale | offset << 16,
    )


def power_scale(unit: float, power: Power) -> tuple[int, tuple[int, ...], float]:
    """The scale of the first square after its shift, the shifts of all squares, and what is added to t.

    unit: of t.  That sum makes up for a scale that shifts bring only near the one that is wanted.  The first shift may
    be negative: the next one is less by twice what is missing there.
    """
    steps = power.steps(power.highest + power.most_moved)[1:]
    scales = [-math.log2(power.slope * unit)]  # binary logarithms, as all scales here
    shifts: list[int] = []
    for y, squared in islice(pairwise(steps), 3):
        limit = SQUARE_BITS / 2 - math.log2(max(y, math.sqrt(squared)))
        shifts.append(math.ceil(2.0 * scales[-1] - limit))
        scales.append(2.0 * scales[-1] - shifts[-1])
    wanted = math.log2(power.largest)
    beyond = 2.0 * scales[-1] - wanted
    if not power.wide:
        last = math.ceil(beyond)
        return round(2.0 ** scales[1]), (*shifts, last), last - beyond
    beyond += 2.0 * scales[-1]  # the last shift, that of the last square as well, counts three times
    while (last := round(beyond / 3.0)) > SQUARE_BITS - power.highest - wanted:
        shifts[-1], beyond = shifts[-1] + 1, beyond - 4.0
    return round(2.0 ** scales[1]), (*shifts, last), 3.0 * last - beyond
