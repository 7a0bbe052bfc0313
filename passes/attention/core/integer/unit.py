"""What a head's words make of its scores and of the power, for each unit of scores: fine, middle and coarse.

They are made at the start of an item, and lie behind the parameters of the call, where `constants` begins: a record of
the head and one of each unit.  The register `unit` has the address of that in use, `coarser_units` the number of those
behind the one in which blocks begin: the fine one until a block of the item was beyond its range, then the middle one.
"""

from __future__ import annotations

from enum import IntEnum

from npuc.passes.attention.core.context import TILE, Context
from npuc.passes.attention.core.integer.head import PLACE
from npuc.passes.attention.core.integer.shape import IntegerShape
from npuc.passes.attention.core.integer.spread import spread_wide
from npuc.passes.attention.core.parameters import PARAMETER_BYTES
from npuc.passes.attention.integer_factors import (
    CONSTANT_BITS,
    MAGNITUDE_BITS,
    MATMUL_8BIT,
    NEGATED,
    NEGATIVE,
    OFFSET_PLACES,
    power_of,
)
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Constructor, Reg

# A query whose largest score is not above this takes the next unit.  Of others the bias has 16 bits: it is less than
# the largest score by what the power reaches down, at most 23 in base 2 (`integer_factors`), in units of more than
# 2^-10, and of more than 2^-9.  In the coarse unit every score is above: -2^14 is least.
LOW = (-0x2000, -0x4B00, -0x4B00)
UNITS = len(LOW)
HEAD, FINE = 0, TILE  # places of the records; coarser units follow the fine one
HALF_RANGE = 0x8000  # of scores
WORD = 4  # bytes
SIGN_PLACES = NEGATED.bit_length() - NEGATIVE.bit_length()


class Unit(IntEnum):
    """Words of a unit's record."""

    SCORE_SHIFT = 0
    EXPONENT_SHIFT = 1  # of scores times TO_EXPONENT
    HALF = 2  # of an exponent, there
    LOWEST = 3  # exponent of LOW: a query whose exponent is that has only hidden scores
    BIAS_SHIFT = 4  # of exponents times PER_EXPONENT
    FIRST_SHIFT = 5  # of the power's squares
    SECOND_SHIFT = 6
    FIRST_CONSTANT = 7
    SECOND_CONSTANT = 8
    LOW_RANGE = 9  # scores up to LOW, counted from the lowest


class Head(IntEnum):
    """Words of the head's record."""

    MATMUL = 0  # the MAC's configuration for scores
    TO_EXPONENT = 1
    PER_EXPONENT = 2
    OFFSET = 3  # what the bias has more than the exponent, times PER_EXPONENT
    THIRD_SHIFT = 4
    LAST_SHIFT = 5
    THIRD_CONSTANT = 6
    FOURTH_CONSTANT = 7


def reserve(k: Context) -> None:
    """The places of the records, before anything else is put behind the parameters."""
    for place, name in ((HEAD, "head"), *((FINE + TILE * unit, f"unit {unit}") for unit in range(UNITS))):
        assert k.pool.slot(name) == place


def first_unit(k: Context) -> None:
    """That in which a block begins."""
    last = k.scalar(k.address("constants", FINE + TILE * (UNITS - 1)), "coarse_unit")
    address = k.difference(last, k.shifted(k.registers["coarser_units"], TILE.bit_length() - 1), "unit_address")
    k.b.add(isa.MOV_mv_scl(k.registers["unit"], address))


def next_unit(k: Context) -> None:
    """For this block; those that follow need not try the fine one."""
    k.b.add(isa.PADDA_lda_ptr_inc_idx_imm(k.registers["unit"], TILE))
    k.b.constant(k.registers["coarser_units"], UNITS - 2)


class Factors:
    """Words of the head and of the unit in use, in fresh registers: scalars, shifts, in all lanes of vectors."""

    def __init__(self, k: Context) -> None:
        self.k, self.unit = k, k.registers["unit"]

    def word(self, which: Unit | Head) -> Reg:
        r = self.k.b.r(which.name.lower())
        pointer = self.unit if isinstance(which, Unit) else self.k.registers["pool"]
        place = WORD * which + (0 if isinstance(which, Unit) else HEAD)
        self.k.b.add(isa.LDA_dms_lda_idx_imm(r, pointer, place), region="units")
        return r

    def shift(self, which: Unit | Head) -> Reg:
        s = self.k.b.s(which.name.lower())
        self.k.b.add(isa.MOV_mv_scl(s, self.word(which)))
        return s

    def lanes_16(self, which: Unit | Head) -> Reg:
        x = self.k.b.x(which.name.lower())
        self.k.b.add(isa.VBCST_16(x, self.word(which)))
        return x

    def lanes_32(self, which: Unit | Head) -> Reg:
        return spread_wide(self.k, self.word(which), which.name.lower())


def make_units(k: Context, shape: IntegerShape) -> None:
    """The records of the head whose words are in their place among the parameters."""
    make = _Make(k, shape)
    make.head()
    make.power()
    b, record, units = k.b, k.b.p("p_unit_made"), k.scalar(UNITS, "units")
    b.add(isa.MOV_mv_scl(record, k.registers["pool"]))
    b.add(isa.PADDA_lda_ptr_inc_idx_imm(record, FINE))
    with b.counted_loop(units, "units"):
        make.unit(record)


class _Make:
    """Halves and bytes of the head's words, as they follow each other, and what is made of them."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.words = b.p("p_head_words")
        b.add(isa.MOV_mv_scl(self.words, k.registers["pool"]))
        b.add(isa.PADDA_lda_ptr_inc_idx_imm(self.words, WORD * PLACE - PARAMETER_BYTES))
        half, byte, signed = isa.LDA_U16_ag_pstm_nrm_imm, isa.LDA_U8_ag_pstm_nrm_imm, isa.LDA_S8_ag_pstm_nrm_imm
        self.to_exponent, self.per_exponent = self._next(half, "to_exponent", 2), self._next(half, "per_exponent", 2)
        self.score_shift, self.coarser = self._next(byte, "score_shift"), self._next(byte, "coarser")
        self.places, self.first_shift = self._next(byte, "places"), self._next(signed, "first_shift")
        self.second_shift, self.third_shift = self._next(byte, "second_shift"), self._next(byte, "third_shift")
        self.last_shift = self._next(byte, "last_shift", 2)  # nothing is behind it
        self.scale, self.offset = self._next(half, "scale", 2), self._next(half, "offset", 2)
        self.step, self.low = k.scalar(1, "unit_step"), k.scalar(LOW[0], "low")
        b.add(isa.ADD_add_r_ri(self.coarser, self.coarser, -1))

    def _next(self, load: Constructor, name: str, size: int = 1) -> Reg:
        """size: bytes to what follows it."""
        r = self.k.b.r(name)
        self.k.b.add(load(r, self.words, size), region="params")
        return r

    def head(self) -> None:
        """What of its record has nothing to do with the power's constants."""
        k, b = self.k, self.k.b
        sign, matmul = b.r("negative"), b.r("scores_matmul")
        b.add(isa.AND(sign, self.score_shift, k.scalar(NEGATIVE, "negative_bit")))
        b.add(isa.XOR(self.score_shift, self.score_shift, sign))
        b.add(isa.OR(matmul, k.scalar(MATMUL_8BIT, "matmul_8"), k.shifted(sign, SIGN_PLACES, "negated")))
        for word, value in (
            (Head.MATMUL, matmul),
            (Head.TO_EXPONENT, self.to_exponent),
            (Head.PER_EXPONENT, self.per_exponent),
            (Head.OFFSET, k.difference(k.registers["zero"], k.shifted(self.offset, OFFSET_PLACES))),
            (Head.THIRD_SHIFT, self.third_shift),
            (Head.LAST_SHIFT, self.last_shift),
        ):
            self._store(k.registers["pool"], HEAD, word, value)

    def power(self) -> None:
        """The constants, times the square of the scale of what is squared before they are added."""
        k, scale = self.k, self.scale
        first, *others = (round(constant * 2.0**CONSTANT_BITS) for constant in power_of(self.shape.wide).constants)
        self.first_constant = self._product(scale, k.scalar(first, "constant"), "first_constant")
        made = []
        for constant, shift in zip(others, (self.second_shift, self.third_shift, None), strict=True):
            square = self._product(scale, scale, "scale_squared")
            upper = k.shifted(square, 1 - CONSTANT_BITS, signed=False)
            made.append(self._product(upper, k.scalar(constant >> 1, "constant"), "constant"))
            if shift is not None:
                scale = k.b.r("scale")
                k.b.add(isa.LSHL(scale, square, k.difference(k.registers["zero"], shift)))
        self.second_constant = made[0]
        for word, value in zip((Head.THIRD_CONSTANT, Head.FOURTH_CONSTANT), made[1:], strict=True):
            self._store(k.registers["pool"], HEAD, word, value)

    def unit(self, record: Reg) -> None:
        """A unit's record; on to the next one, twice as large, and from there to the coarse one."""
        k, b, zero = self.k, self.k.b, self.k.registers["zero"]
        missing = k.minimum(self.first_shift, zero, "missing")
        exponent_shift, half = k.sum(self.places, MAGNITUDE_BITS), b.r("half")
        b.add(isa.ASHL(half, k.registers["one"], k.sum(exponent_shift, -1)))
        lowest = self._product(self.to_exponent, self.low, "lowest")
        values = {
            Unit.SCORE_SHIFT: self.score_shift,
            Unit.EXPONENT_SHIFT: exponent_shift,
            Unit.HALF: half,
            Unit.LOWEST: self._shifted(lowest, k.difference(zero, exponent_shift)),
            Unit.BIAS_SHIFT: k.difference(k.scalar(MAGNITUDE_BITS, "magnitude_bits"), self.places),
            Unit.FIRST_SHIFT: k.difference(self.first_shift, missing),
            Unit.SECOND_SHIFT: k.sum(self.second_shift, k.sum(missing, missing)),
            Unit.FIRST_CONSTANT: self._shifted(self.first_constant, k.sum(self.first_shift, -CONSTANT_BITS)),
            Unit.SECOND_CONSTANT: self._shifted(self.second_constant, k.sum(missing, missing)),
            Unit.LOW_RANGE: k.difference(self.low, k.scalar(-HALF_RANGE, "lowest_score")),
        }
        for word, value in values.items():
            self._store(record, 0, word, value)
        b.add(isa.ADD(self.score_shift, self.score_shift, self.step))
        b.add(isa.SUB(self.places, self.places, self.step))
        b.add(isa.SUB(self.first_shift, self.first_shift, k.sum(self.step, self.step)))
        b.add(isa.PADDA_lda_ptr_inc_idx_imm(record, TILE))
        b.add(isa.MOV_mv_scl(self.step, self.coarser))
        b.constant(self.low, LOW[-1])

    def _product(self, a: Reg, factor: Reg, name: str) -> Reg:
        r = self.k.b.r(name)
        self.k.b.add(isa.MUL_mul_r_rr(r, a, factor))
        return r

    def _shifted(self, value: Reg, places: Reg) -> Reg:
        r = self.k.b.r("shifted")
        self.k.b.add(isa.ASHL(r, value, places))
        return r

    def _store(self, pointer: Reg, place: int, word: IntEnum, value: Reg) -> None:
        self.k.b.add(isa.ST_dms_sts_idx_imm(value, pointer, place + WORD * word), region="units")
