"""Start of a work item: Q tiles are turned for use as the right operand, accumulators and state are cleared.

A 4x8 tile of Q (four queries, eight dimensions) becomes the 8x4 tile Q^T that the MAC takes as B
(facts/semantics/vmac.md section 3), so that K needs no transposing at all.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import TILE, Context, u32x16
from npuc.passes.attention.core.parameters import NEGATIVE, ZERO, Word
from npuc.passes.attention.core.state import STATE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

SIGN_BITS = 0x80008000  # of two bf16 numbers; adding them changes nothing else
UNSEEN = 0x7F000000
"""In place of the exponent: this query has seen no key yet, so that the reference may move down as well as up."""


def transpose_queries(k: Context) -> None:
    """Every Q tile in place, 4x8 -> 8x4; signs changed where the scale is negative, zero where it is 0."""
    turn = _Turn(k)
    load, store = k.pointer("q", name="p_q_load"), k.pointer("q", name="p_q_store")
    with k.b.hardware_loop(k.shape.groups * k.shape.depth_steps, "transpose_q"):
        turn.tile(load, "q", store)


def transpose_chunk(k: Context, chunk: Reg, place: Reg) -> None:
    """The same for a chunk of Q at the address `chunk`, to columns of Q that begin `place` bytes into each group."""
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

    def tile(self, load: Reg, source: str, store: Reg) -> None:
        """The tile at `load`, in the buffer or ring `source`; both pointers move on."""
        k = self.k
        tile, masked, signed, turned = (k.b.x(f"q_{name}") for name in ("tile", "masked", "signed", "turned"))
        k.load_x(tile, load, source, carried=False)
        k.b.add(isa.VBAND(masked, tile, self.kept))
        k.b.add(isa.VADD_16(signed, masked, self.sign))
        k.b.add(isa.VSHUFFLE(turned, signed, signed, k.registers["mode_4x8_to_8x4"]))
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


def clear_accumulators(k: Context) -> None:
    """O, row sums and the softmax reference of every group to zero; no query has seen a key."""
    zero, unseen = k.zero_x("zero"), k.constant_x(u32x16(UNSEEN), "unseen")
    output = k.pointer("o", name="p_o_clear")
    with k.b.hardware_loop(k.shape.groups * k.shape.output_tiles, "clear_o"):
        k.store_x(zero, output, "o", carried=False)
    state, cleared = k.pointer("state", name="p_state_clear"), {"reference": zero, "exponent": unseen}
    with k.b.hardware_loop(k.shape.groups, "clear_state"):
        for name in STATE.fields:
            k.store_x(cleared[name], state, "state", carried=False)
