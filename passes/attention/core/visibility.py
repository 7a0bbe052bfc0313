"""Keys that a query does not see: those outside an interval (causal, windows, the end of the keys).

Each four queries need two vectors of limits, and each tile of scores two comparisons with its keys.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from npuc.passes.attention.core.adjust import Pair
from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.parameters import Word
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

# Scores lie key by query: 4x4 tiles, the queries side by side.
QUERY_OF_LANE = struct.pack("<16i", *(lane % 4 for lane in range(16)))
KEY_OF_LANE = struct.pack("<16i", *(lane // 4 for lane in range(16)))

# Shifts of an item's queries, at least two: from four rows further on these lead back among them.
TURNS = (1, 0)
EMPTY = 1 << 30  # beyond the width of every interval


class Limits:
    """Hides the keys of a block that begins at `first_key`: those whose distance from the first key that their query
    sees, as an unsigned number, is more than the last one's."""

    def __init__(self, k: Context, first_key: Reg) -> None:
        self.k, self.first_key = k, first_key
        self.place = k.high_half(Word.LANE, "lane_query")
        self.four = k.constant_x(struct.pack("<16i", *[4] * 16), "four")

    def begin_group(self) -> None:
        self.distance, self.width = _interval(self.k, self.place, self.first_key)
        move_on(self.k, self.place, 4, TURNS)

    def adjust(self, pair: Pair) -> None:
        b = self.k.b
        for hidden in pair.hidden:
            outside = b.r("outside")
            b.add(isa.VLT_D32(outside, self.width, self.distance))
            b.add(isa.VADD_32(self.distance, self.distance, self.four))
            hidden.append(outside)


def move_on(k: Context, place: Reg, rows: int, turns: Sequence[int]) -> None:
    """The query of an item that is so many rows further on; behind its last one it is the first again.

    turns: shifts of the span by which it may have to be taken off, largest first.
    """
    span = k.word(Word.SPAN)
    k.b.add(isa.ADD_add_r_ri(place, place, rows))
    for turn in turns:
        whole, beyond, over = k.shifted(span, turn, "whole_turns"), k.b.r("beyond"), k.b.r("over")
        k.b.add(isa.GE(beyond, place, whole))
        k.b.add(isa.MUL_mul_r_rr(over, beyond, whole))
        k.b.add(isa.SUB(place, place, over))


def queries_of(k: Context, place: Reg, lanes: bytes, turns: Sequence[int]) -> Reg:
    """By lane: the query that is `lanes` (32-bit numbers) rows behind that of `place` in an item, none beyond the last
    there is."""

    def spread(r: Reg, name: str) -> Reg:
        x = k.b.x(name)
        k.b.add(isa.VBCST_32(x, r))
        return x

    span = k.word(Word.SPAN)
    b, queries, before = k.b, k.b.x("queries"), k.b.x("queries_before")
    b.add(isa.VADD_32(queries, spread(place, "lane_query"), k.constant_x(lanes, "query_of_lane")))
    for turn in turns:  # as unsigned numbers: below the span, less it is more
        b.add(isa.VSUB_32(before, queries, spread(k.shifted(span, turn, "whole_turns"), "whole_turns")))
        b.add(isa.VMIN_GE_D32(queries, b.r("mask"), queries, before))
    b.add(isa.VADD_32(queries, queries, spread(k.word(Word.FIRST_QUERY), "first_query")))
    last_query = k.sum(k.word(Word.QUERIES), -1, "last_query")
    b.add(isa.VMIN_GE_S32(queries, b.r("mask"), queries, spread(last_query, "last_query")))
    return queries


def _interval(k: Context, place: Reg, first_key: Reg) -> tuple[Reg, Reg]:
    """Of each lane: how far the first tile's keys are from the first that its query sees, and how far the last is."""
    b = k.b
    offset = k.word(Word.OFFSET)
    to_last_key = k.difference(k.sum(k.word(Word.KEYS), -1), offset, "to_last_key")
    before_diagonal = k.sum(k.word(Word.WINDOW), -1, "before_diagonal")

    def spread(r: Reg, name: str) -> Reg:
        x = b.x(name)
        b.add(isa.VBCST_32(x, r))
        return x

    # Keys count from the diagonal of query 0 here: the last key seen is the query, or the last there is.
    last, width, distance = (b.x(name) for name in ("last_seen", "width", "distance"))
    queries = queries_of(k, place, QUERY_OF_LANE, TURNS)
    b.add(isa.VMIN_GE_S32(last, b.r("mask"), queries, spread(to_last_key, "to_last_key")))
    b.add(isa.VSUB_32(queries, queries, spread(before_diagonal, "before_diagonal")))
    b.add(isa.VSUB_32(last, last, queries))
    nothing = b.r("sees_nothing")
    b.add(isa.VMAX_LT_S32(width, nothing, last, k.zero_x("no_width")))
    first = spread(k.difference(first_key, offset), "first_key")
    b.add(isa.VADD_32(distance, first, k.constant_x(KEY_OF_LANE, "key_of_lane")))
    b.add(isa.VSUB_32(distance, distance, queries))
    b.add(isa.VSEL_32(distance, distance, spread(k.scalar(EMPTY, "empty"), "empty"), nothing))
    return distance, width
