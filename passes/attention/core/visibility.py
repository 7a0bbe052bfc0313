"""Scores of hidden keys, in blocks that are seen in part, become HIDDEN: their probability is exactly zero.

A query sees the keys of an interval (causal, windows, the end of the keys), so each four queries need two vectors of
limits, and each tile of scores two comparisons with its keys.
"""

from __future__ import annotations

import struct

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.parameters import Word
from npuc.passes.attention.core.query import STATE_BYTES, STATE_MAXIMUM
from npuc.passes.machine.ir import Reg

HIDDEN = 0xFF000000
"""fp32 -2^127, also a bf16 number: below all scores, and no shift of the reference brings it near them."""
LOWEST_BF16_PAIR = 0xFF7FFF7F  # the most negative finite bf16, twice
# Scores lie key by query: 4x4 tiles, the queries side by side.
QUERY_OF_LANE = struct.pack("<16i", *(lane % 4 for lane in range(16)))
KEY_OF_LANE = struct.pack("<16i", *(lane // 4 for lane in range(16)))


def hide_scores(k: Context, first_key: Reg) -> None:
    """Every score of the block whose key its query does not see; the maxima of the block are found anew."""
    b, shape = k.b, k.shape
    load, store = k.pointer("scores", name="p_u_load"), k.pointer("scores", name="p_u_store")
    maxima = k.pointer("state", STATE_MAXIMUM, name="p_maxima")
    query = k.word(Word.FIRST_QUERY)
    query_of_lane = k.constant_x(QUERY_OF_LANE, "query_of_lane")
    key_of_lane = k.constant_x(KEY_OF_LANE, "key_of_lane")
    four = k.constant_x(struct.pack("<16i", *[4] * 16), "four")
    groups = k.scalar(shape.groups, "hide_groups")
    with b.counted_loop(groups, "hide_groups"):
        above, below = _limits(k, query, query_of_lane, first_key)
        b.op("ADD_add_r_ri", query, query, 4)
        hidden, keys = b.x("hidden_score"), b.x("keys")
        b.op("VBCST_32", hidden, k.scalar(HIDDEN, "hidden_bits"))
        b.op("VBCST_32", keys, k.registers["zero"])
        b.op("VADD_32", keys, keys, key_of_lane)
        rounded, largest = b.x("rounded"), b.x("largest")
        lowest = k.scalar(LOWEST_BF16_PAIR, "lowest_bf16")
        b.op("VBCST_32", rounded, lowest)
        b.op("VBCST_32", largest, lowest)
        with b.hardware_loop(shape.key_tiles, "hide_tiles"):
            u, kept, fp32 = b.x("u"), b.x("u_kept"), b.bm("u_fp32")
            beyond, before, either = b.r("beyond"), b.r("before"), b.r("either")
            k.load_x(u, load, "scores", carried=False)
            b.op("VLT_S32", beyond, above, keys)
            b.op("VLT_S32", before, keys, below)
            b.op("OR", either, beyond, before)
            b.op("VSEL_32", kept, u, hidden, either)
            k.store_x(kept, store, "scores", carried=False)
            k.move(fp32, kept)
            k.to_bf16(rounded.lo, fp32)
            b.op("VMAX_LT_BF16", largest, b.r("mask"), largest, rounded)
            b.op("VADD_32", keys, keys, four)
        k.store_x(largest, maxima, "maximum", step=STATE_BYTES - HALF)


def _limits(k: Context, query: Reg, query_of_lane: Reg, first_key: Reg) -> tuple[Reg, Reg]:
    """The last and the first key that each lane's query sees, relative to the block's first."""
    b = k.b
    last_query = k.sum(k.word(Word.QUERIES), -1, "last_query")
    to_diagonal = k.difference(k.word(Word.OFFSET), first_key, "to_diagonal")
    to_last_key = k.difference(k.sum(k.word(Word.KEYS), -1), first_key, "to_last_key")
    to_window = k.difference(k.sum(to_diagonal, 1), k.word(Word.WINDOW), "to_window")

    def spread(r: Reg, name: str) -> Reg:
        x = b.x(name)
        b.op("VBCST_32", x, r)
        return x

    queries, diagonal, above, below = b.x("queries"), b.x("diagonal"), b.x("above"), b.x("below")
    b.op("VADD_32", queries, spread(query, "first_query"), query_of_lane)
    b.op("VMIN_GE_S32", queries, b.r("mask"), queries, spread(last_query, "last_query"))
    b.op("VADD_32", diagonal, queries, spread(to_diagonal, "to_diagonal"))
    b.op("VMIN_GE_S32", above, b.r("mask"), diagonal, spread(to_last_key, "to_last_key"))
    b.op("VADD_32", below, queries, spread(to_window, "to_window"))
    return above, below
