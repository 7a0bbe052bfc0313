"""What the factors of int8 tensors make of a head's scores and results, as the core program takes them.

A score s of integers counts c s in base 2, c = q_scale * k_scale * scale * log2 e.  It is kept as x = s / 2^shift in 16
bits, in a fine unit of at most 2^-8 in base 2; a block with scores beyond the range of that takes a coarse one, in
which every score is within half the range, so that hidden ones are far below.  Of x the program makes the argument of
its power (`Power`) and the exponent of a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UnsupportedError

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

DEFAULT_SCALE = 1.0 / 32.0  # what an integer of q, k and v stands for where the source does not say
FINEST_UNIT = 2.0**-8
COARSEST_UNIT = 0.5
NEGATIVE = 1 << 7  # in a word of shifts
HEADS_LIMIT = 128  # with factors of their own, of all batch entries
LARGEST_SHIFT = 40  # with which every score is 0
MAGNITUDE_BITS = 14  # of x
PRODUCT_BITS = 14  # of two int8 numbers, -128 * -128
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


# Own fit over t in [-10, 0]: error relative to 2^t + 2^-8 at most 0.38 %, 0.09 % rms, and 0 wherever t is far less.
POWER = Power(
    0.05839796217891613,
    0.8377922358709571,
    (0.11427459314672739, 0.4040723457329546, -0.1526395073334622, -0.00045817103669332937),
)
# The same with another square, for probabilities of 16 bits: over t in [-13, 0] the error relative to 2^t + 2^-12 is at
# most 0.16 %, 0.08 % rms; from t = -17 on less than half of 2^-16.  Its slope is half of the other's, so that the same
# multipliers make its arguments with one fraction bit more.
FINE_POWER = Power(
    POWER.slope / 2,
    0.8611579826196939,
    (0.04500218154793164, 0.4708241703776286, -0.18662392230037073, -0.0017736621946568734, 0.0),
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


def quantities_of_scales(
    attention: Attention, q: Sequence[float], k: Sequence[float], v: Sequence[float]
) -> tuple[Quantities, ...]:
    """Of every head of all batches, from the scales of the heads of all batches of q, k and v."""
    group = attention.heads // attention.kv_heads
    per_scale = attention.scale * math.log2(math.e)
    return tuple(
        Quantities(per_scale * float(one) * float(k[head // group]), float(v[head // group]))
        for head, one in enumerate(q)
    )


def _shifts(score: float, head_dim: int) -> tuple[int, int]:
    """Places by which scores are shifted to the right, in the fine and in the coarse unit."""
    wanted = math.floor(math.log2(FINEST_UNIT / abs(score))) if score else LARGEST_SHIFT
    fine = min(max(0, wanted), LARGEST_SHIFT)
    return fine, max(fine, math.ceil(math.log2(head_dim)) + PRODUCT_BITS - MAGNITUDE_BITS)


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
    units = (word for shift in _shifts(quantities.score, head_dim) for word in _unit_words(quantities.score, shift))
    high, low = (bf16_bits(part) for part in bf16_split(quantities.output, 2))
    return (*units, high | low << 16)


def _unit_words(score: float, shift: int) -> tuple[int, int]:
    """Multipliers and shifts where scores are shifted so far; what is shifted to nothing counts as the finest unit."""
    unit = max(abs(score) * 2.0**shift, FINEST_UNIT / 2)
    places = -math.ceil(math.log2(unit))  # so many bits more than those of whole exponents
    argument, exponent = places + SLOPE_PLACES, places + MAGNITUDE_BITS
    multiplier = round(unit * POWER.slope * 2.0 ** (ARGUMENT_BITS + argument))
    to_exponent = round(unit * 2.0**exponent)
    negative = NEGATIVE if score < 0 else 0
    return multiplier | to_exponent << 16, shift | negative | argument << 8 | exponent << 16 | places << 24
