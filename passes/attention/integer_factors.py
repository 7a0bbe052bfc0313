"""What the factors of int8 tensors make of a head's scores and results, as the core program takes them.

A score s of integers counts c s in base 2, c = q_scale * k_scale * scale * log2 e.  It is kept as x = s / 2^shift in 16
bits: no finer than the unit 2^-8 in base 2, and coarse enough for every score to be within half the range, so that
HIDDEN is far below.  Of x the program makes the argument of its power (`Power`) and the exponent of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UnsupportedError

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

DEFAULT_SCALE = 1.0 / 32.0  # what an integer of q, k and v stands for where the source does not say
FINEST_UNIT = 2.0**-8
COARSEST_UNIT = 0.5
HEADS_LIMIT = 128  # with factors of their own, of all batch entries
LARGEST_SHIFT = 40  # with which every score is 0
MAGNITUDE_BITS = 14  # of x
PRODUCT_BITS = 14  # of two int8 numbers, -128 * -128
FLOOR_MARGIN = 8  # exponents below that of the least score, for blocks in which a query sees nothing
MATMUL_8BIT, NEGATED = 0x308, 1 << 11  # facts/semantics/vmac.md: signed int8 4x8x8; products change their sign
OUTPUT_RANGE = (2.0**-60, 2.0**14)


@dataclass(frozen=True)
class Power:
    """2^t nearly, for t <= 0: y = slope t + intercept, then y^2 + constant for each constant, none of them below 0.

    At t = 0 it is a little below 1, so that nothing exceeds the range of the probabilities.
    """

    slope: float
    intercept: float
    constants: tuple[float, ...]


# Own fit over t in [-9, 0]: error relative to 2^t + 2^-7 at most 0.27 %, 0.16 % rms, and 2^-11 wherever t is less.
POWER = Power(
    0.059604424249596395,
    0.6929474208875357,
    (0.5395603045034587, -0.029913569885852895, -0.026893389721470522, -0.001254032559016644),
)
ARGUMENT_BITS = 15  # fraction bits of y and of its squares
SLOPE_PLACES = 4  # the slope has so many fraction bits more, as a 16-bit number


@dataclass(frozen=True)
class Quantities:
    """score: c of the module's text.  output: what a sum of V's integers over weights counts in the result."""

    score: float
    output: float


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
        )
        for head in range(attention.heads)
    ]
    return tuple(found[:1] if len(set(found)) == 1 else found)


def unit_shift(score: float, head_dim: int) -> int:
    """Places by which scores are shifted to the right."""
    least = max(0, math.ceil(math.log2(head_dim)) + PRODUCT_BITS - MAGNITUDE_BITS)
    wanted = math.ceil(math.log2(FINEST_UNIT / abs(score))) if score else LARGEST_SHIFT
    return min(max(least, wanted), LARGEST_SHIFT)


def representable(quantities: Quantities, head_dim: int) -> bool:
    """Whether scores of all integers keep a unit that is fine enough, and the output's factor is a normal number."""
    unit = abs(quantities.score) * 2.0 ** unit_shift(quantities.score, head_dim)
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
    score = quantities.score
    shift = unit_shift(score, head_dim)
    unit = max(abs(score) * 2.0**shift, FINEST_UNIT)
    coarse = max(0, math.ceil(math.log2(unit)) + 5)  # units above 2^-5 leave fewer fraction bits
    fraction = 5 - coarse  # of exponents, as they are multiplied by the slope
    argument = fraction + SLOPE_PLACES
    exponent = 19 - coarse
    multiplier = round(unit * POWER.slope * 2.0 ** (ARGUMENT_BITS + argument))
    to_exponent = round(unit * 2.0**exponent)
    floor = -math.floor(unit * 2.0**MAGNITUDE_BITS) - FLOOR_MARGIN
    high, low = (bf16_bits(part) for part in bf16_split(quantities.output, 2))
    return (
        multiplier | to_exponent << 16,
        shift | argument << 8 | exponent << 16 | fraction << 24,
        floor & 0xFFFFFFFF,
        high | low << 16,
        MATMUL_8BIT | (NEGATED if score < 0 else 0),
    )
