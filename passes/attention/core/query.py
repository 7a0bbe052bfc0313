"""Start of a work item: Q tiles are turned for use as the right operand, accumulators and state are cleared.

A 4x8 tile of Q (four queries, eight dimensions) becomes the 8x4 tile Q^T that the MAC takes as B
(facts/semantics/vmac.md section 3), so that K needs no transposing at all.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, TILE, Context, u32x16
from npuc.passes.attention.core.parameters import NEGATIVE, ZERO, Word
from npuc.passes.machine.ir import Reg

SIGN_BITS = 0x80008000  # of two bf16 numbers; adding them changes nothing else
UNSEEN = 0x7F000000
"""In place of the exponent: this query has seen no key yet, so that the reference may move down as well as up."""
STATE_BYTES = 3 * TILE  # of a group: reference (negated, raw score units), reference (base 2), block maximum
STATE_REFERENCE = 0
STATE_EXPONENT = TILE
STATE_MAXIMUM = 2 * TILE


def transpose_queries(k: Context) -> None:
    """Every Q tile in place, 4x8 -> 8x4; signs changed where the scale is negative, zero where it is 0."""
    kept, sign = _sign(k)
    load, store = k.pointer("q", name="p_q_load"), k.pointer("q", name="p_q_store")
    with k.b.hardware_loop(k.shape.groups * k.shape.depth_steps, "transpose_q"):
        tile, masked, signed, turned = (k.b.x(f"q_{name}") for name in ("tile", "masked", "signed", "turned"))
        k.load_x(tile, load, "q", carried=False)
        k.b.op("VBAND", masked, tile, kept)
        k.b.op("VADD_16", signed, masked, sign)
        k.b.op("VSHUFFLE", turned, signed, signed, k.registers["mode_4x8_to_8x4"])
        k.store_x(turned, store, "q", carried=False)


def _sign(k: Context) -> tuple[Reg, Reg]:
    """What to AND and then to add to the bit patterns of Q's pairs."""
    flags = k.word(Word.FLAGS)
    words = []
    for flag, name, value in ((ZERO, "kept_bits", -1), (NEGATIVE, "sign_bits", SIGN_BITS)):
        found, word, x = k.b.r("flag"), k.b.r(name), k.b.x(name)
        k.b.op("AND", found, flags, k.scalar(flag, "flag_bit"))
        k.b.op("EQZ" if flag == ZERO else "NEZ", found, found)
        k.b.op("MUL_mul_r_rr", word, found, k.scalar(value, name))
        k.b.op("VBCST_32", x, word)
        words.append(x)
    return words[0], words[1]


def clear_accumulators(k: Context) -> None:
    """O, row sums and the softmax reference of every group to zero; no query has seen a key."""
    zero, unseen = k.zero_x("zero"), k.constant_x(u32x16(UNSEEN), "unseen")
    output = k.pointer("o", name="p_o_clear")
    with k.b.hardware_loop(k.shape.groups * k.shape.output_tiles, "clear_o"):
        k.store_x(zero, output, "o", carried=False)
    state = k.pointer("state", name="p_state_clear")
    with k.b.hardware_loop(k.shape.groups, "clear_state"):
        k.store_x(zero, state, "state", carried=False)
        k.store_x(unseen, state, "state", step=STATE_BYTES - STATE_EXPONENT - HALF, carried=False)
