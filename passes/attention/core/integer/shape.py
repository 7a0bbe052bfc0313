"""Sizes of the int8 program's work, places of its own, and how exact its probabilities are."""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.attention.core.context import Shape

OCTET = 8  # queries whose scores lie side by side
SCORE_TILE = 64  # bytes of 16-bit scores of four keys and eight queries, or of their probabilities
OUTPUT_TILE = 128  # bytes of fp32 numbers of four queries and eight dimensions
QUERY_TILE = 64  # bytes of Q turned: eight dimensions of eight queries

# What an octet keeps between blocks, and of the block at hand: bytes from the start of its record.
REFERENCE = 0  # exponent that O counts in, 16 bits a lane: of octets beside each other in the record of the first
EXPONENT = 64  # of the block, the same (`exponents.group_size`); each octet has its own while references move
BIAS = 128  # of the arguments of the power, 32 bits a lane
MAGIC = 256  # bf16 1.5 * 2^(23 + exponent - reference), a row of O each eight lanes: queries 0 to 3, then 4 to 7
LOW_MAGIC = 384  # the same for the low bytes of probabilities
LARGEST = MAGIC  # before that is known: the largest scores of the block, 16 bits a lane as scores lie
RECORD = 512

BYTE = 8  # bits of probabilities that are multiplied at a time


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
        """Whether probabilities take 16 bits."""
        return self.recipe != "fast"

    @property
    def probability_bytes(self) -> int:
        return 2 if self.wide else 1

    @property
    def value_steps(self) -> int:
        """MACs of a block for a tile of the output and a byte of probabilities: of eight keys each."""
        return self.keys // 8
