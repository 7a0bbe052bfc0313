"""Sizes of the int8 program's work, places of its own, and how exact its probabilities are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from npuc.passes.attention.core.context import Shape
from npuc.passes.attention.integer_factors import has_wide_probabilities

OCTET = 8  # queries whose scores lie side by side
SCORE_TILE = 64  # bytes of 16-bit scores of four keys and eight queries, or of their probabilities
OUTPUT_TILE = 128  # bytes of 32-bit numbers of four queries and eight dimensions
OUTPUT_ROW = 32  # of them a query's
QUERY_TILE = 64  # bytes of Q turned: eight dimensions of eight queries

# What an octet keeps between blocks, and of the block at hand: bytes from the start of its record.  Numbers of octets
# beside each other (`beside`) lie in the record of the first; while references move, each octet has its own.
REFERENCE = 0  # exponent that O counts in, 16 bits a lane: of octets beside each other
EXPONENT = 64  # of the block, the same
MAGIC = 128  # bf16 1.5 * 2^(23 + exponent - reference), a row of O each eight lanes: queries 0 to 3, then 4 to 7
# Where sums are whole, in place of that:
LEAST = 128  # the reference moves down for a block below this exponent: of octets beside each other
SHIFTS = 192  # by how much it moves, where it does
RECORD = 256

# What an octet's scores are less by in the arguments of the power, 16 bits a lane as scores lie.  Before that is known:
# the largest scores of the block.
BIASES = 64  # bytes, from one octet's to the next one's


@dataclass(frozen=True)
class IntegerShape(Shape):
    """output: element type of the result.  Q comes in blocks of K and V."""

    output: str = "bf16"
    split: bool = True

    @property
    def fixed(self) -> bool:
        return False

    @property
    def octets(self) -> int:
        return self.queries // OCTET

    def octets_at_once(self, most: int) -> int:
        """So many octets that the others come in groups of as many: a power of two, as `most` is."""
        return math.gcd(self.octets, most)

    @property
    def value_tiles(self) -> int:
        """Output tiles of eight dimensions in a group of four queries."""
        return self.head_dim // 8

    @property
    def score_passes(self) -> int:
        """Of K Q^T for an octet, each of sixteen keys."""
        return self.keys // 16

    @property
    def wide(self) -> bool:
        """Whether probabilities take 16 bits, and sums are whole numbers in the unit of O's reference."""
        return has_wide_probabilities(self.recipe)

    @property
    def value_steps(self) -> int:
        """MACs of a block for a tile of the output where probabilities have 8 bits: of eight keys each."""
        return self.keys // 8
