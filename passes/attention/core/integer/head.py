"""The factors of the head that an item is of: five words, which the call's parameters hold or a table has for each."""

from __future__ import annotations

from enum import IntEnum

from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.parameters import HEAD_TABLE, PARAMETER_BYTES, Word
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg


class HeadWord(IntEnum):
    """Words of a head, as `integer_factors.head_words` makes them."""

    MULTIPLIERS = 0  # of scores: for the argument of the power, and for the exponent
    SHIFTS = 1  # bytes: of scores, of the argument, of the exponent; fraction bits of exponents
    FLOOR = 2  # the least exponent
    OUTPUT = 3  # what results count, two bf16 parts
    MATMUL = 4  # the MAC's configuration: with Q's sign changed where the factor is negative


HEAD_WORDS = len(HeadWord)
PLACE = Word.FACTOR  # of the first, among a call's parameters


def choose_head(k: Context) -> None:
    """At the start of an item, whose POSITION has moved on to the next one: its head's words to their place."""
    b, table = k.b, k.b.r("has_table")
    b.add(isa.AND(table, k.word(Word.FLAGS), k.scalar(HEAD_TABLE, "flag_bit")))
    with b.if_nonzero(table):
        head, offset = k.difference(k.word(Word.POSITION), k.word(Word.STRIDE), "head"), b.r("head_offset")
        b.add(isa.MUL_mul_r_rr(offset, head, k.scalar(4 * HEAD_WORDS, "head_bytes")))
        record = k.pointer_from(k.sum(offset, k.scalar(k.address("heads"), "heads")), "p_head")
        for word in HeadWord:
            value = b.r("head_word")
            b.add(isa.LDA_dms_lda_idx_imm(value, record, 4 * word), region="heads")
            k.set_word(Word(PLACE + word), value)


def head_word(k: Context, word: HeadWord) -> Reg:
    """A word of the head in a fresh register."""
    r = k.b.r(word.name.lower())
    place = 4 * (PLACE + word) - PARAMETER_BYTES
    k.b.add(isa.LDA_dms_lda_idx_imm(r, k.registers["pool"], place), region="params")
    return r


def head_byte(k: Context, word: HeadWord, number: int) -> Reg:
    """One of the four bytes of a word."""
    r = k.b.r("head_byte")
    k.b.add(isa.AND(r, k.shifted(head_word(k, word), -8 * number, signed=False), k.scalar(0xFF, "byte")))
    return r


def shift_register(k: Context, number: int, name: str) -> Reg:
    """A byte of SHIFTS as a shift of the vector unit."""
    s = k.b.s(name)
    k.b.add(isa.MOV_mv_scl(s, head_byte(k, HeadWord.SHIFTS, number)))
    return s


def multiplier(k: Context, number: int, name: str) -> Reg:
    """A half of MULTIPLIERS in all 16-bit lanes."""
    x, word = k.b.x(name), head_word(k, HeadWord.MULTIPLIERS)
    k.b.add(isa.VBCST_16(x, k.shifted(word, -16, signed=False) if number else word))
    return x
