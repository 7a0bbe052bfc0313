"""What the int8 core program costs, fitted to emulated runs of single columns; the rest of a plan's cost is `cost`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.passes.attention.integer_factors import has_wide_probabilities

if TYPE_CHECKING:
    from npuc.passes.attention.cost import Tiles

MACS_PER_CYCLE = 256  # on one core
BLOCK_FIXED = 205  # lock hand-over, what the rows see, ramps of the loops over scores, most of the exponents
# Eight queries: exponents; more where sums are whole, whose references scores move now and then.
BLOCK_OCTET, BLOCK_WHOLE = 3, 5
BLOCK_VECTOR, BLOCK_WIDE = 4.0, 2.0  # 32 scores: exponentials; more where probabilities have 16 bits
SCORE_PASS, LEAST_PASS = 1.5, 17  # sixteen keys and eight queries: bundles beside the products, and with few of these
# Products and sums for eight dimensions of eight queries: bundles, and more for each eight keys; the same where sums
# are whole; and ramps for eight queries.
VALUE_TILE, VALUE_STEP, VALUE_OCTET = 11.5, 1.15, 22
WHOLE_TILE, WHOLE_STEP, WHOLE_OCTET = 4, 3.5, 36
PARTIAL_OCTET, PARTIAL_TILE = 60.0, 6.0  # in a block that limits hide in part, and each 32 scores of it
MOVE_ROW, CLEAR_OUTPUT, MOVE_AGAIN = 12.0, 0.03, 0.6  # where references move: a query, and each of its outputs
MOVE_WHOLE_AGAIN = 0.3  # the same of whole sums
ITEM_FIXED = 700
ITEM_ROW = 30.0  # a query of an item, beside its blocks: Q turned, sums divided
ITEM_OUTPUT = 0.31  # and each of its outputs
ITEM_WHOLE_ROW, ITEM_WHOLE_OUTPUT = 2.0, 0.29  # more where sums are whole: references that scores move, fp32 numbers


def block_cycles(tiles: Tiles) -> int:
    """One key block on one core."""
    octets, wide = tiles.query_block / 8, has_wide_probabilities(tiles.recipe)
    macs = 8 * 16 * tiles.head_dim / MACS_PER_CYCLE
    scores = octets * tiles.key_block / 16 * max(macs + SCORE_PASS, LEAST_PASS)
    costs = (WHOLE_TILE, WHOLE_STEP, WHOLE_OCTET) if wide else (VALUE_TILE, VALUE_STEP, VALUE_OCTET)
    tile = costs[0] + costs[1] * tiles.key_block / 8
    values = octets * (tile * (tiles.head_dim / 8 + 1) + costs[2])
    vectors = tiles.query_block * tiles.key_block / 32 * (BLOCK_VECTOR + BLOCK_WIDE * wide)
    return round(scores + values + vectors + BLOCK_FIXED + (BLOCK_OCTET + BLOCK_WHOLE * wide) * octets)


def item_cycles(tiles: Tiles) -> int:
    """What an item costs a core beside its blocks."""
    row = ITEM_ROW + tiles.head_dim * ITEM_OUTPUT
    if has_wide_probabilities(tiles.recipe):
        row += ITEM_WHOLE_ROW + (tiles.head_dim + 8) * ITEM_WHOLE_OUTPUT
    return round(ITEM_FIXED + tiles.query_block * row)


def moved_cycles(tiles: Tiles, again: bool = False) -> int:
    """What a block takes longer where references move; again: O holds earlier blocks."""
    output = CLEAR_OUTPUT
    if again:
        output += MOVE_WHOLE_AGAIN if has_wide_probabilities(tiles.recipe) else MOVE_AGAIN
    return round(tiles.query_block * (MOVE_ROW + output * (tiles.head_dim + 8)))


def partial_cycles(tiles: Tiles) -> int:
    """What a block takes longer where the core's rows see it in part."""
    return round(tiles.query_block / 8 * (PARTIAL_OCTET + tiles.key_block / 4 * PARTIAL_TILE))
