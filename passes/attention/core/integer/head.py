"""The factors of the head that an item is of: five words, which the call's parameters hold or a table has for each."""

from __future__ import annotations

from enum import IntEnum

from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.parameters import HEAD_TABLE, PARAMETER_BYTES, Word
from npuc.passes.attention.integer_factors import MATMUL_8BIT, NEGATED, NEGATIVE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg


class HeadWord(IntEnum):
    """Words of a head, as `integer_factors.head_words` makes them."""

    MULTIPLIERS = 0  # of scores in the fine unit: for the argument of the power, and for the exponent
    SHIFTS = 1  # bytes: of scores, of the argument, of the exponent; fraction bits of exponents
    COARSE_MULTIPLIERS = 2  # the same in the coarse unit
    COARSE_SHIFTS = 3
    OUTPUT = 4  # what results count, two bf16 parts


HEAD_WORDS = len(HeadWord)
PLACE = Word.FACTOR  # of the first, among a call's parameters
NEGATIVE_BIT = NEGATIVE.bit_length() - 1  # of SHIFTS: the factor of scores is negative
# The core's own: those of the unit in use, and for how many blocks row sums have room (`references`).
MULTIPLIERS, SHIFTS, ROOM = range(len(Word), len(Word) + 3)
assert 4 * ROOM < PARAMETER_BYTES
LOW = -0x5000  # with lower scores three eighths of the range may not be left down to hidden ones


def use_unit(k: Context, coarse: bool) -> None:
    """The fine unit of scores, or the coarse one, in which every score is in range."""
    words = (HeadWord.COARSE_MULTIPLIERS, HeadWord.COARSE_SHIFTS) if coarse else (HeadWord.MULTIPLIERS, HeadWord.SHIFTS)
    values = [head_word(k, word) for word in words]
    for place, value in zip((MULTIPLIERS, SHIFTS), values, strict=True):
        set_own_word(k, place, value)


def own_word(k: Context, word: int, name: str) -> Reg:
    """One of the core's own words, or of a call's parameters."""
    r = k.b.r(name)
    k.b.add(isa.LDA_dms_lda_idx_imm(r, k.registers["pool"], 4 * word - PARAMETER_BYTES), region="params")
    return r


def set_own_word(k: Context, word: int, value: Reg) -> None:
    k.b.add(isa.ST_dms_sts_idx_imm(value, k.registers["pool"], 4 * word - PARAMETER_BYTES), region="params")


def choose_head(k: Context) -> None:
    """At the start of an item, whose POSITION has moved on to the next one: its head's words to their place."""
    b, table = k.b, k.b.r("has_table")
    b.add(isa.AND(table, k.word(Word.FLAGS), k.scalar(HEAD_TABLE, "flag_bit")))
    with b.if_nonzero(table):
        position, offset = k.word(Word.POSITION), b.r("head_offset")
        head = k.difference(position, k.high_half(Word.STEPS, "stride"), "head")
        b.add(isa.MUL_mul_r_rr(offset, head, k.scalar(4 * HEAD_WORDS, "head_bytes")))
        record = k.pointer_from(k.sum(offset, k.scalar(k.address("heads"), "heads")), "p_head")
        for word in HeadWord:
            value = b.r("head_word")
            b.add(isa.LDA_dms_lda_idx_imm(value, record, 4 * word), region="heads")
            k.set_word(Word(PLACE + word), value)


def head_word(k: Context, word: HeadWord) -> Reg:
    """A word of the head in a fresh register."""
    return own_word(k, PLACE + word, word.name.lower())


def matmul_word(k: Context) -> Reg:
    """The MAC's configuration for scores: products change their sign where the factor is negative."""
    sign, word = k.b.r("negative"), k.b.r("scores_matmul")
    k.b.add(isa.AND(sign, head_word(k, HeadWord.SHIFTS), k.scalar(1 << NEGATIVE_BIT, "negative_bit")))
    k.b.add(isa.OR(word, k.shifted(sign, NEGATED.bit_length() - 1 - NEGATIVE_BIT), k.scalar(MATMUL_8BIT, "matmul_8")))
    return word


def shift_byte(k: Context, number: int) -> Reg:
    """One of the shifts in use."""
    r = k.b.r("shift_byte")
    k.b.add(
        isa.AND(r, k.shifted(own_word(k, SHIFTS, "shifts"), -8 * number, signed=False), k.scalar(0x3F, "shift_bits"))
    )
    return r


def shift_register(k: Context, number: int, name: str) -> Reg:
    """The same for the vector unit."""
    s = k.b.s(name)
    k.b.add(isa.MOV_mv_scl(s, shift_byte(k, number)))
    return s


def multiplier(k: Context, number: int, name: str) -> Reg:
    """One of the multipliers in use, in all 16-bit lanes."""
    x = k.b.x(name)
    k.b.add(isa.VBCST_16(x, multiplier_word(k, number)))
    return x


def multiplier_word(k: Context, number: int) -> Reg:
    """The same as a scalar; of the first only the low 16 bits count."""
    word = own_word(k, MULTIPLIERS, "multipliers")
    return k.shifted(word, -16, signed=False) if number else word


def lowest_exponent(k: Context) -> Reg:
    """The exponent of the lowest scores that a query may have: hidden ones are far below."""
    scaled = k.b.r("lowest_scaled")
    k.b.add(isa.MUL_mul_r_rr(scaled, multiplier_word(k, 1), k.scalar(LOW, "low")))
    lowest = k.b.r("lowest")
    k.b.add(isa.ASHL(lowest, scaled, k.difference(k.registers["zero"], shift_byte(k, 2))))
    return lowest
