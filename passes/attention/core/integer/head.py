"""The words of the head that an item is of: five, which the call's parameters hold or a table has for each."""

from __future__ import annotations

from enum import IntEnum

from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.parameters import HEAD_TABLE, PARAMETER_BYTES, Word
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg


class HeadWord(IntEnum):
    """Words of a head, as `integer_factors.head_words` makes them."""

    MULTIPLIERS = 0  # halves: of scores in the fine unit for their exponent, and of exponents for the bias
    SHIFTS = 1  # bytes: of scores, with NEGATIVE; more in the coarse unit; bits of exponents; of the first square
    POWER_SHIFTS = 2  # bytes: of the other squares
    POWER = 3  # halves: what the first square counts in; what the bias has less than the exponent
    OUTPUT = 4  # what results count, two bf16 parts


HEAD_WORDS = len(HeadWord)
PLACE = Word.FACTOR  # of the first, among a call's parameters
ROOM = len(Word)  # the core's own: for how many blocks row sums have room (`references`)
assert 4 * ROOM < PARAMETER_BYTES


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
