"""Q of an item out of the blocks on the streams of K and V: tiles of eight queries turned to be the right operand.

In K's order eight queries of a half have eight dimensions one behind the other; in V's a tile is just that.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.shape import LEAST, OCTET, QUERY_TILE, RECORD, REFERENCE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

TRANSPOSE_8X8_BYTES = 35  # vshuffle mode (facts/semantics/vector_misc.md section 1)
UNSEEN = -10_000
"""Reference of a query that has seen no key: below every exponent (`integer_factors`)."""


def turn_rows(k: Context, stream: str, block: Reg, row: Reg) -> None:
    """Those of the core's queries that are in a block of Q at the address `block`, to their places in `q`.

    stream: as whose blocks it came, "k" or "v".  row: number of the block's first row, counted from the core's own.
    """
    b, shape = k.b, k.shape
    first = k.maximum(row, k.scalar(0, "first_row"), "first_own")
    end = k.minimum(k.sum(row, shape.keys), k.scalar(shape.queries, "own_rows"), "end_own")
    octets = k.shifted(k.maximum(k.difference(end, first), k.scalar(0, "no_row")), -3, "own_octets")
    with b.if_nonzero(octets):
        octet = k.shifted(k.difference(first, row), -3, "octet_in_block")
        place, store = b.r("q_place"), b.p("p_q_store")
        octet_bytes = k.scalar(shape.depth_steps * QUERY_TILE, "octet_bytes")
        b.add(isa.MUL_mul_r_rr(place, k.shifted(first, -3), octet_bytes))
        b.add(isa.MOV_mv_scl(store, k.sum(place, k.scalar(k.address("q"), "q_address"))))
        mode = k.scalar(TRANSPOSE_8X8_BYTES, "mode_8x8")
        across = b.m("q_across")
        rows = shape.keys // 2 if stream == "k" else shape.keys  # that have eight dimensions before the next ones come
        b.constant(across, rows * OCTET - HALF)
        with b.counted_loop(octets, "own_octets"):
            load = k.pointer_from((_in_keys if stream == "k" else _in_values)(k, block, octet), "p_q")
            with b.hardware_loop(shape.depth_steps, "turn_q"):
                tile, turned = b.x("q_tile"), b.x("q_turned")
                k.load_x(tile, load, stream, step=across, carried=False)
                b.add(isa.VSHUFFLE(turned, tile, tile, mode))
                k.store_x(turned, store, "q", carried=False)
            b.add(isa.ADD_add_r_ri(octet, octet, 1))


def _in_keys(k: Context, block: Reg, octet: Reg) -> Reg:
    """Where the tiles of an octet begin in a block in K's order: each half has its own, octets beside each other."""
    shape = k.shape
    in_half = shape.keys // 2 // OCTET
    half = k.shifted(octet, 1 - in_half.bit_length(), "half")
    beyond = k.b.r("half_bytes")
    half_stride = shape.keys // 2 * shape.head_dim - in_half * QUERY_TILE
    k.b.add(isa.MUL_mul_r_rr(beyond, half, k.scalar(half_stride, "half_stride")))
    return k.sum(k.sum(block, k.shifted(octet, QUERY_TILE.bit_length() - 1)), beyond, "octet_in_keys")


def _in_values(k: Context, block: Reg, octet: Reg) -> Reg:
    """The same in V's order."""
    return k.sum(block, k.shifted(octet, QUERY_TILE.bit_length() - 1), "octet_in_values")


def clear_state(k: Context, shape: IntegerShape) -> None:
    """No query has seen a key."""
    b, unseen = k.b, k.b.x("unseen")
    b.add(isa.VBCST_16(unseen, k.scalar(UNSEEN, "unseen_exponent")))
    state, on = k.pointer("state", name="p_state_clear"), b.m("record_on")
    b.constant(on, RECORD)
    for _ in range(shape.octets):
        for place in (REFERENCE, LEAST) if shape.wide else (REFERENCE,):
            k.store_at(unseen, state, place, "records")
        b.add(isa.PADDA_lda_ptr_inc_idx(state, on))
