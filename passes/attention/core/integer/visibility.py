"""Keys that a query does not see, by causal and window limits and the end of the keys: their scores become HIDDEN.

Limits count from the block's first key here, so that 16 bits hold them.
"""

from __future__ import annotations

import struct

from npuc.passes.attention.core.context import SHUFFLE_EVEN_16, Context
from npuc.passes.attention.core.integer.shape import BIASES, OCTET, IntegerShape
from npuc.passes.attention.core.integer.spread import spread_16
from npuc.passes.attention.core.parameters import Word
from npuc.passes.attention.core.visibility import move_on, queries_of
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

HIDDEN = -0x8000
"""Below every score by half the range: its probability is zero (`integer_factors`)."""
TURNS = (2, 1, 0)  # as `core.visibility` has them, of eight rows
EMPTY = 0x4000  # beyond the width of every interval
# Scores lie key by query, eight queries side by side.
QUERY_OF_LANE = struct.pack("<16i", *(lane % OCTET for lane in range(16)))
KEY_OF_LANE = struct.pack("<32h", *(lane // OCTET for lane in range(32)))


def hide_scores(k: Context, first_key: Reg, shape: IntegerShape) -> None:
    """Of the block that begins at `first_key`, what the core's queries do not see; the rest has the largest then."""
    b = k.b
    load, store = k.pointer("scores", name="p_u_load"), k.pointer("scores", name="p_u_store")
    hidden, four = spread_16(k, HIDDEN, "hidden_score"), spread_16(k, 4, "four")
    place = k.high_half(Word.LANE, "lane_query")
    largest_at, on = k.pointer("bias", name="p_largest"), b.m("bias_on")
    b.constant(on, BIASES)
    octets = k.scalar(shape.octets, "hidden_octets")
    with b.counted_loop(octets, "hidden_octets"):
        distance, width = _interval(k, place, first_key)
        move_on(k, place, OCTET, TURNS)
        largest = spread_16(k, HIDDEN, "largest")
        with b.hardware_loop(shape.key_tiles, "hidden_tiles", max_stages=2):
            x, kept, outside = b.x("scores"), b.x("scores_kept"), b.r("outside")
            k.load_x(x, load, "scores", carried=False)
            b.add(isa.VLT_D16(outside, width, distance))
            b.add(isa.VADD_16(distance, distance, four))
            b.add(isa.VSEL_16(kept, x, hidden, outside))
            b.add(isa.VMAX_LT_S16(largest, b.r("mask"), largest, kept))
            k.store_x(kept, store, "scores", carried=False)
        k.store_at(largest, largest_at, 0, "bias")
        b.add(isa.PADDA_lda_ptr_inc_idx(largest_at, on))


def _interval(k: Context, place: Reg, first_key: Reg) -> tuple[Reg, Reg]:
    """Of each lane: how far the first tile's keys are from the first that its query sees, and how far the last is."""
    b = k.b
    last_key = k.sum(k.word(Word.KEYS), -1, "last_key")
    offset = k.difference(k.word(Word.OFFSET), first_key, "offset_in_block")

    def spread(r: Reg, name: str) -> Reg:
        x = b.x(name)
        b.add(isa.VBCST_32(x, r))
        return x

    def bounded(x: Reg, low: int, high: Reg) -> Reg:
        """Between low and the scalar high, in 16 bits by query."""
        result, narrow = b.x("bounded"), b.x("bounded_16")
        b.add(isa.VMIN_GE_S32(result, b.r("mask"), x, spread(high, "most")))
        b.add(isa.VMAX_LT_S32(result, b.r("mask"), result, spread(k.scalar(low, "least"), "least")))
        b.add(isa.VSHUFFLE(narrow, result, result, k.scalar(SHUFFLE_EVEN_16, "mode_even")))
        return narrow

    queries, first = queries_of(k, place, QUERY_OF_LANE, TURNS), b.x("first_seen")
    b.add(isa.VADD_32(queries, queries, spread(offset, "offset")))  # the last key that each sees
    window = k.sum(k.word(Word.WINDOW), -1, "before_diagonal")
    b.add(isa.VSUB_32(first, queries, spread(window, "before_diagonal")))
    first = bounded(first, 0, k.scalar(k.shape.keys, "block_keys"))
    last = bounded(queries, -1, k.minimum(k.difference(last_key, first_key), k.scalar(k.shape.keys, "block_keys")))
    b.barrier()
    width, nothing, distance = b.x("width"), b.r("sees_nothing"), b.x("distance")
    b.add(isa.VSUB_16(last, last, first))
    b.add(isa.VMAX_LT_S16(width, nothing, last, k.zero_x("no_width")))
    b.add(isa.VSUB_16(distance, k.constant_x(KEY_OF_LANE, "key_of_lane"), first))
    b.add(isa.VSEL_16(distance, distance, spread_16(k, EMPTY, "empty"), nothing))
    return distance, width
