"""What the int8 core program costs, fitted to emulated runs of single columns; the rest of a plan's cost is `cost`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npuc.passes.attention.cost import Tiles

MACS_PER_CYCLE = 256  # on one core
BLOCK_FIXED = 238  # lock hand-over, what the rows see, ramps of scores and exponentials, most of the exponents
BLOCK_OCTET = 11  # eight queries: exponents
SCORE_PASS, LEAST_PASS = 3, 16  # sixteen keys and eight queries: bundles beside the products, and with few of these
VALUE_TILE, VALUE_OCTET = 2, 45  # bundles beside a tile's products and sums; ramps for eight queries
BLOCK_VECTOR, BLOCK_BYTES = 6.0, 1.0  # 32 scores: exponentials; more where probabilities have two bytes
PARTIAL_OCTET, PARTIAL_TILE = 60.0, 6.0  # in a block that limits hide in part, and each 32 scores of it
MOVE_ROW, CLEAR_OUTPUT, MOVE_AGAIN = 12.0, 0.13, 0.6  # where references move: a query, and each of its outputs
ITEM_FIXED = 600
ITEM_ROW = 85.0  # a query of an item, beside its blocks: Q turned, sums divided
ITEM_OUTPUT = 0.42  # and each of its outputs


def block_cycles(tiles: Tiles) -> int:
    """One key block on one core."""
    octets, wide = tiles.query_block / 8, tiles.recipe != "fast"
    macs = 8 * 16 * tiles.head_dim / MACS_PER_CYCLE
    scores = octets * tiles.key_block / 16 * max(macs + SCORE_PASS, LEAST_PASS)
    steps = tiles.key_block / 8 + 2  # of eight keys; what is added to O takes two more
    tile = 2 * (1 + wide) * steps + VALUE_TILE
    values = octets * (tile * (tiles.head_dim / 8 + 1) + VALUE_OCTET)
    vectors = tiles.query_block * tiles.key_block / 32 * (BLOCK_VECTOR + BLOCK_BYTES * wide)
    return round(scores + values + vectors + BLOCK_FIXED + BLOCK_OCTET * octets)


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
