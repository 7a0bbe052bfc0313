"""Start of a work item: Q tiles are turned for use as the right operand, accumulators and state are cleared.

A 4x8 tile of Q (four queries, eight dimensions) becomes the 8x4 tile Q^T that the MAC takes as B
(facts/semantics/vmac.md section 3), so that K needs no transposing at all.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, TILE, Context

STATE_BYTES = 3 * TILE  # of a group: reference (negated, raw score units), reference (base 2), block maximum
STATE_REFERENCE = 0
STATE_EXPONENT = TILE
STATE_MAXIMUM = 2 * TILE


def transpose_queries(k: Context) -> None:
    """Every Q tile in place, 4x8 -> 8x4."""
    load, store = k.pointer("q", name="p_q_load"), k.pointer("q", name="p_q_store")
    with k.b.hardware_loop(k.shape.groups * k.shape.depth_steps, "transpose_q"):
        tile, turned = k.b.x("q_tile"), k.b.x("q_turned")
        k.load_x(tile, load, "q", carried=False)
        k.b.op("VSHUFFLE", turned, tile, tile, k.registers["mode_4x8_to_8x4"])
        k.store_x(turned, store, "q", carried=False)


def clear_accumulators(k: Context) -> None:
    """O, row sums and the softmax reference of every group to zero."""
    zero = k.zero_x("zero")
    output = k.pointer("o", name="p_o_clear")
    with k.b.hardware_loop(k.shape.groups * k.shape.output_tiles, "clear_o"):
        k.store_x(zero, output, "o", carried=False)
    state = k.pointer("state", name="p_state_clear")
    with k.b.hardware_loop(k.shape.groups, "clear_state"):
        k.store_x(zero, state, "state", carried=False)
        k.store_x(zero, state, "state", step=STATE_BYTES - STATE_EXPONENT - HALF, carried=False)
