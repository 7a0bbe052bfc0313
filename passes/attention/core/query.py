"""Start of a work item: Q tiles are turned for use as the right operand, accumulators and state are cleared.

A 4x8 tile of Q (four queries, eight dimensions) becomes the 8x4 tile Q^T that the MAC takes as B
(facts/semantics/vmac.md section 3), so that K needs no transposing at all.

Q may come in blocks on other streams: as K does, in whose order four queries of a half have their tiles one behind the
other's for every eight dimensions; as V does, where the tiles are of eight queries and four dimensions, so that half a
tile is a 4x4 one of four queries; or in the mask's order, which is that of Q itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, SHUFFLE_TRANSPOSE_4X4_16, TILE, Context, u32x16
from npuc.passes.attention.core.parameters import NEGATIVE, ZERO, Word
from npuc.passes.attention.core.state import STATE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

SIGN_BITS = 0x80008000  # of two bf16 numbers; adding them changes nothing else
UNSEEN = 0x7F000000
"""This query has seen no key yet, so that the reference may move down as well as up."""


def transpose_queries(k: Context) -> None:
    """Every Q tile in place, 4x8 -> 8x4; signs changed where the scale is negative, zero where it is 0."""
    turn = _Turn(k)
    load, store = k.pointer("q", name="p_q_load"), k.pointer("q", name="p_q_store")
    with k.b.hardware_loop(k.shape.groups * k.shape.depth_steps, "transpose_q"):
        turn.tile(load, "q", store)


def transpose_rows(k: Context, stream: str, block: Reg, row: Reg) -> None:
    """The same for those of the core's queries that are in a block of Q at the address `block`.

    stream: as whose blocks it came, "k" or "v".  row: number of the block's first row, counted from the core's own.
    """
    b, shape = k.b, k.shape
    first = k.maximum(row, k.scalar(0, "first_row"), "first_own")
    end = k.minimum(k.sum(row, shape.keys), k.scalar(shape.queries, "own_rows"), "end_own")
    groups = k.shifted(k.maximum(k.difference(end, first), k.scalar(0, "no_row")), -2, "own_groups")
    group_bytes = k.scalar(shape.depth_steps * TILE, "group_bytes")
    with b.if_nonzero(groups):
        turn = _Turn(k)
        group = k.shifted(k.difference(first, row), -2, "group_in_block")
        place, store = b.r("q_place"), b.p("p_q_store")
        b.add(isa.MUL_mul_r_rr(place, k.shifted(first, -2), group_bytes))
        b.add(isa.MOV_mv_scl(store, k.sum(place, k.scalar(k.address("q"), "q_address"))))
        across, halves = b.m("q_across"), k.scalar(SHUFFLE_TRANSPOSE_4X4_16, "mode_4x4")
        b.constant(across, shape.keys // 8 * TILE)
        with b.counted_loop(groups, "own_groups"):
            load = k.pointer_from((_in_keys if stream == "k" else _in_values)(k, block, group), "p_q")
            with b.hardware_loop(shape.depth_steps, "transpose_q"):
                if stream == "k":
                    turn.tile(load, "k", store, step=shape.keys // 8 * TILE - HALF)
                else:
                    turn.halves(load, "v", store, across, halves)
            b.add(isa.ADD_add_r_ri(group, group, 1))


def _in_keys(k: Context, block: Reg, group: Reg) -> Reg:
    """Where the tiles of a group begin in a block in K's order: each half has its own, groups beside each other."""
    shape = k.shape
    in_half = shape.keys // 8
    half = k.shifted(group, 1 - in_half.bit_length(), "half")
    beyond = k.b.r("half_bytes")
    k.b.add(isa.MUL_mul_r_rr(beyond, half, k.scalar(shape.keys * shape.head_dim - in_half * TILE, "half_stride")))
    return k.sum(k.sum(block, k.shifted(group, TILE.bit_length() - 1)), beyond, "group_in_keys")


def _in_values(k: Context, block: Reg, group: Reg) -> Reg:
    """The same in V's order: the halves of tiles of eight queries."""
    return k.sum(block, k.shifted(group, HALF.bit_length() - 1), "group_in_values")


def transpose_chunk(k: Context, chunk: Reg, place: Reg) -> None:
    """The same for a chunk of Q's columns, in the mask's order, that begin `place` bytes into each group."""
    turn, shape = _Turn(k), k.shape
    tiles = shape.keys // 8
    load, store = k.pointer_from(chunk, "p_chunk"), k.b.p("p_q_store")
    k.b.add(isa.MOV_mv_scl(store, k.sum(place, k.scalar(k.address("q"), "q_address"))))
    beside = k.b.m("q_beside")
    k.b.constant(beside, TILE * (shape.depth_steps - tiles))
    groups = k.scalar(shape.groups, "chunk_groups")
    with k.b.counted_loop(groups, "chunk_groups"):
        for _ in range(tiles):
            turn.tile(load, "mask", store)
        k.b.add(isa.PADDA_lda_ptr_inc_idx(store, beside))


class _Turn:
    """Constants first, then tile by tile."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.kept, self.sign = _sign(k)

    def tile(self, load: Reg, source: str, store: Reg, step: int = HALF) -> None:
        """The tile at `load`, in the ring `source`; both pointers move on, `load` by a half and `step` bytes."""
        tile = self.k.b.x("q_tile")
        self.k.load_x(tile, load, source, step=step, carried=False)
        self._store(tile, store, self.k.registers["mode_4x8_to_8x4"])

    def halves(self, load: Reg, source: str, store: Reg, across: Reg, mode: Reg) -> None:
        """The two 4x4 tiles that are one, `across` bytes apart; mode: of transposing both."""
        tile = self.k.b.x("q_tile")
        for half in (tile.lo, tile.hi):
            self.k.b.add(isa.VLDA_dmw_lda_w_ag_pstm_nrm(half, load, across), region=source, carried=False)
        self._store(tile, store, mode)

    def _store(self, tile: Reg, store: Reg, mode: Reg) -> None:
        k = self.k
        masked, signed, turned = (k.b.x(f"q_{name}") for name in ("masked", "signed", "turned"))
        k.b.add(isa.VBAND(masked, tile, self.kept))
        k.b.add(isa.VADD_16(signed, masked, self.sign))
        k.b.add(isa.VSHUFFLE(turned, signed, signed, mode))
        k.store_x(turned, store, "q", carried=False)


def _sign(k: Context) -> tuple[Reg, Reg]:
    """What to AND and then to add to the bit patterns of Q's pairs."""
    flags = k.word(Word.FLAGS)
    words = []
    for flag, name, value in ((ZERO, "kept_bits", -1), (NEGATIVE, "sign_bits", SIGN_BITS)):
        found, word, x = k.b.r("flag"), k.b.r(name), k.b.x(name)
        k.b.add(isa.AND(found, flags, k.scalar(flag, "flag_bit")))
        test = isa.EQZ if flag == ZERO else isa.NEZ
        k.b.add(test(found, found))
        k.b.add(isa.MUL_mul_r_rr(word, found, k.scalar(value, name)))
        k.b.add(isa.VBCST_32(x, word))
        words.append(x)
    return words[0], words[1]


def clear_output(k: Context) -> None:
    """O and row sums of every group to zero."""
    zero, output = k.zero_x("zero"), k.pointer("o", name="p_o_clear")
    with k.b.hardware_loop(k.shape.groups * k.shape.output_tiles, "clear_o"):
        k.store_x(zero, output, "o", carried=False)


def clear_state(k: Context) -> None:
    """The softmax reference of every group to zero."""
    zero = k.zero_x("zero")
    reference = call_x(k, "magic") if k.shape.fixed else zero
    _set_state(k, {"reference": reference, "unseen": zero if k.shape.fixed else _unseen(k)})


def mark_unseen(k: Context) -> None:
    """Before an item's first reference moves: no query has seen a key."""
    _set_state(k, {"reference": call_x(k, "magic"), "unseen": _unseen(k)})


def _unseen(k: Context) -> Reg:
    return k.constant_x(u32x16(UNSEEN), "unseen")


def _set_state(k: Context, fields: Mapping[str, Reg]) -> None:
    state = k.pointer("state", name="p_state_clear")
    with k.b.hardware_loop(k.shape.groups, "clear_state"):
        for name in STATE.fields:
            k.store_x(fields[name], state, "state", carried=False)
