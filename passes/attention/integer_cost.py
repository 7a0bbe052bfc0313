"""What the int8 core program costs, fitted to emulated runs of single columns; the rest of a plan's cost is `cost`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npuc.passes.attention.cost import Tiles

MACS_PER_CYCLE = 256  # of two 8-bit operands on one core; half as many with 16-bit probabilities
BLOCK_FIXED = 600  # lock hand-over, ramps of the loops
BLOCK_OCTET = 150  # eight queries: exponents, and loops begun anew
SCORE_MAC, VALUE_MAC = 1.5, 1.3  # bundles for one of MACs
BLOCK_VECTOR = 14.0  # 32 scores beyond their MACs
PARTIAL_OCTET, PARTIAL_TILE = 60.0, 5.0  # in a block that limits hide in part, and each 32 scores of it
MOVE_ROW, CLEAR_OUTPUT, MOVE_AGAIN = 12.0, 0.13, 0.6  # where references move: a query, and each of its outputs
ITEM_FIXED = 600
ITEM_ROW = 70.0  # a query of an item, beside its blocks: Q turned, sums divided, first references
ITEM_OUTPUT = 0.7  # and each of its outputs


def block_cycles(tiles: Tiles) -> int:
    """One key block on one core."""
    macs = tiles.query_block * tiles.key_block * tiles.head_dim / MACS_PER_CYCLE
    values = macs * (tiles.head_dim + 8) / tiles.head_dim * (2 if tiles.recipe == "accurate" else 1)
    vectors = tiles.query_block * tiles.key_block / 32 * BLOCK_VECTOR
    return round(SCORE_MAC * macs + VALUE_MAC * values + vectors + BLOCK_FIXED + BLOCK_OCTET * tiles.query_block / 8)


def item_cycles(tiles: Tiles) -> int:
    """What an item costs a core beside its blocks."""
    return round(ITEM_FIXED + tiles.query_block * (ITEM_ROW + tiles.head_dim * ITEM_OUTPUT))


def moved_cycles(tiles: Tiles, again: bool = False) -> int:
    """What a block takes longer where references move; again: O holds earlier blocks."""
    outputs = MOVE_AGAIN * (tiles.head_dim + 8) if again else 0.0
    return round(tiles.query_block * (MOVE_ROW + CLEAR_OUTPUT * (tiles.head_dim + 8) + outputs))


def partial_cycles(tiles: Tiles) -> int:
    """What a block takes longer where the core's rows see it in part."""
    return round(tiles.query_block / 8 * (PARTIAL_OCTET + tiles.key_block / 4 * PARTIAL_TILE))
