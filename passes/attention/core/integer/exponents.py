"""The exponents of a block of keys, and what follows from them for each octet of queries.

E = the least integer not below the largest score of a query in base 2.  Of it come the bias of the power's arguments,
and the pattern from which sums start: 1.5 * 2^(23 + E - reference), for the rows of O.  `flag` says that an exponent is
so far above O's reference that this must move, `beyond` that scores are beyond the range of their unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.integer.head import multiplier, multiplier_word, shift_byte, shift_register
from npuc.passes.attention.core.integer.shape import (
    BIAS,
    BYTE,
    EXPONENT,
    LOW_MAGIC,
    MAGIC,
    OCTET,
    RECORD,
    REFERENCE,
    SCORE_TILE,
    IntegerShape,
)
from npuc.passes.attention.integer_factors import ARGUMENT_BITS, POWER, SLOPE_PLACES
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

INT16_ELEMENTWISE = 0x338  # facts/semantics/vmac.md section 3
INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH = 18, 19  # vshuffle modes
HIGHEST, LOWEST = 0x7FFF, -0x7FFF  # where scores are cut off; a hidden one is less
LOW = -0x6000  # with lower scores a quarter of the range may not be left down to hidden ones
MOST_ABOVE = 40  # exponents above the reference: sums of all blocks stay in fp32's range
MOST_BELOW = -100  # less counts as that: it is lost in sums
MAGIC_BITS = (150 << 7) + 0x40  # bf16 1.5 * 2^23
EXPONENT_PLACES = 7  # below the exponent in a bf16 pattern


def block_exponents(k: Context, shape: IntegerShape) -> None:
    """Exponents of all octets, and their records; sets the registers `flag` and `beyond`."""
    b = k.b
    work = _Exponents(k, shape)
    for name in ("flag", "beyond"):
        b.constant(k.registers[name], 0)
    scores, state, on = k.pointer("scores", name="p_scores"), k.pointer("state", name="p_state"), b.m("record_on")
    b.constant(on, RECORD)
    with b.hardware_loop(shape.queries // OCTET, "exponents"):
        largest = _largest(k, scores)
        work.test_range(largest)
        exponent = work.exponent(largest)
        k.store_at(exponent, state, EXPONENT, "records")
        work.store_bias(exponent, state)
        reference, above, outgrown = b.x("reference"), b.x("above_reference"), b.r("outgrown")
        k.load_at(reference, state, REFERENCE, "state")
        b.add(isa.VSUB_16(above, exponent, reference))
        b.add(isa.VGE_S16(outgrown, above, work.most_above.x()))
        b.add(isa.OR(k.registers["flag"], k.registers["flag"], outgrown))
        work.magic.store(above, state)
        b.add(isa.PADDA_lda_ptr_inc_idx(state, on))


def _largest(k: Context, scores: Reg) -> Reg:
    """Of each query over all keys of the block, in every lane of the query; `scores` moves on to the next octet."""
    b = k.b
    found: Reg | None = None
    for number in range(k.shape.key_tiles):
        x = b.x("scores")
        k.load_x(x, scores, "scores", port="ba"[number % 4 == 3])
        if found is None:
            found = x
            continue
        larger = b.x("largest")
        b.add(isa.VMAX_LT_S16(larger, b.r("mask"), found, x))
        found = larger
    assert found is not None
    for distance in (32, 16):  # bytes: two keys on, one key on
        turned, larger = b.x("largest_turned"), b.x("largest")
        b.add(isa.VSHIFT(turned, found, found, k.scalar(distance, f"rotate_{distance}")))
        b.add(isa.VMAX_LT_S16(larger, b.r("mask"), found, turned))
        found = larger
    return found


def spread_16(k: Context, value: int, name: str) -> Reg:
    return Spread(k, k.scalar(value, name)).x()


@dataclass(frozen=True)
class Spread:
    """A scalar that is wanted in all 16-bit lanes, where vector registers are few: spread at each use."""

    k: Context
    value: Reg

    def x(self) -> Reg:
        x = self.k.b.x("spread")
        self.k.b.add(isa.VBCST_16(x, self.value))
        return x


def _floor(k: Context) -> Reg:
    """The exponent of the lowest scores that a query may have: hidden ones are far below."""
    scaled = k.b.r("floor_scaled")
    k.b.add(isa.MUL_mul_r_rr(scaled, multiplier_word(k, 1), k.scalar(LOW, "low")))
    floor = k.b.r("floor")
    k.b.add(isa.ASHL(floor, scaled, k.difference(k.registers["zero"], shift_byte(k, 2))))
    return floor


class _Exponents:
    """Constants before the loop over octets."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, b = k, k.b
        self.int16 = k.scalar(INT16_ELEMENTWISE, "int16")
        self.to_exponent = multiplier(k, 1, "to_exponent")
        self.shift = shift_register(k, 2, "exponent_shift")
        half = b.r("half")
        b.add(isa.ASHL(half, k.registers["one"], k.sum(shift_byte(k, 2), -1)))
        self.half = self._wide(half, "half")
        self.floor = Spread(k, _floor(k))
        self.highest = Spread(k, k.scalar(HIGHEST, "highest"))  # and as far as that from the lowest to 0
        self.low_range = Spread(k, k.scalar(LOW + 1 - LOWEST, "low_range"))
        self.fraction = shift_register(k, 3, "fraction")
        self.slope = Spread(k, k.scalar(round(POWER.slope * 2.0 ** (ARGUMENT_BITS + SLOPE_PLACES)), "slope"))
        intercept = b.r("intercept")
        fixed = k.scalar(round(POWER.intercept * 2.0**ARGUMENT_BITS), "intercept_fixed")
        b.add(isa.ASHL(intercept, fixed, shift_byte(k, 1)))
        self.intercept = self._wide(intercept, "intercept")
        self.most_above = Spread(k, k.scalar(MOST_ABOVE, "most_above"))
        self.magic = Magic(k, shape)

    def _wide(self, word: Reg, name: str) -> Reg:
        return spread_wide(self.k, word, name)

    def test_range(self, largest: Reg) -> None:
        """Whether the largest scores of a query were cut off, or are so low that hidden ones may be near."""
        b, beyond = self.k.b, self.k.registers["beyond"]
        high, low, distance = b.r("cut_off"), b.r("too_low"), b.x("from_lowest")
        b.add(isa.VGE_S16(high, largest, self.highest.x()))
        b.add(isa.VADD_16(distance, largest, self.highest.x()))  # of a query that sees nothing it is the largest
        b.add(isa.VLT_D16(low, distance, self.low_range.x()))
        b.add(isa.OR(high, high, low))
        b.add(isa.OR(beyond, beyond, high))

    def exponent(self, largest: Reg) -> Reg:
        b = self.k.b
        wide, exponent, bounded = b.cm("exponent_wide"), b.x("exponent_unbounded"), b.x("exponent")
        b.add(isa.VMAC_vmac_cm_core_dense(wide, self.half, largest, self.to_exponent, self.int16))
        b.add(isa.VSRS_S16_S32_mv_x_srs(exponent, wide, self.shift))
        b.add(isa.VMAX_LT_S16(bounded, b.r("mask"), exponent, self.floor.x()))
        return bounded

    def store_bias(self, exponent: Reg, state: Reg) -> None:
        """intercept - slope * exponent, as the power's arguments count."""
        b = self.k.b
        wide, scaled, bias = b.cm("fraction_wide"), b.x("exponent_scaled"), b.cm("bias")
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(wide, exponent, self.fraction))
        b.add(isa.VSRS_S16_S32_mv_x_srs(scaled, wide, self.magic.none))
        b.add(isa.VMSC_vmac_cm_core_dense(bias, self.intercept, scaled, self.slope.x(), self.int16))
        for place, half in enumerate((bias.lo, bias.hi)):
            for quarter, part in enumerate((half.lo, half.hi)):
                offset = BIAS + 64 * place + 32 * quarter
                b.add(isa.VST_dmw_sts_am_ag_idx_imm(part, state, offset), region="records")


def spread_wide(k: Context, word: Reg, name: str) -> Reg:
    """A word in all lanes of a cm register."""
    x, cm = k.b.x(f"{name}_word"), k.b.cm(name)
    k.b.add(isa.VBCST_32(x, word))
    for half in (cm.lo, cm.hi):
        k.move(half, x)
    return cm


class Magic:
    """Patterns from which sums start; made before a loop over octets, `store` in it."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, b = k, k.b
        self.low = Spread(k, k.scalar(-BYTE << EXPONENT_PLACES, "low_byte")) if shape.wide else None
        self.none = b.s("no_shift")
        b.constant(self.none, 0)
        self.base = spread_wide(k, k.scalar(MAGIC_BITS, "magic_bits"), "magic_base")
        self.places = b.s("exponent_places")
        b.constant(self.places, EXPONENT_PLACES)
        self.most_below = Spread(k, k.scalar(MOST_BELOW, "most_below"))
        self.spread = RowSpread(k)

    def store(self, above: Reg, state: Reg) -> None:
        """above: exponents less the reference."""
        b, k = self.k.b, self.k
        bounded, scaled, wide, pattern = b.x("above_bounded"), b.cm("above_wide"), b.cm("magic_wide"), b.x("magic")
        b.add(isa.VMAX_LT_S16(bounded, b.r("mask"), above, self.most_below.x()))
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(scaled, bounded, self.places))
        b.add(isa.VADD(wide, self.base, scaled, k.registers["zero"]))
        b.add(isa.VSRS_S16_S32_mv_x_srs(pattern, wide, self.none))
        for group, rows in enumerate(self.spread.rows(pattern)):
            k.store_at(rows, state, MAGIC + SCORE_TILE * group, "records")
            if self.low is not None:
                low = b.x("low_magic")
                b.add(isa.VADD_16(low, rows, self.low.x()))
                k.store_at(low, state, LOW_MAGIC + SCORE_TILE * group, "records")


class RowSpread:
    """16-bit numbers by query, in each eight lanes those of all eight, to the layout of O: eight lanes a query."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.low, self.high = (k.scalar(mode, "mode_spread") for mode in (INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH))

    def rows(self, x: Reg) -> tuple[Reg, Reg]:
        """Of queries 0 to 3, and 4 to 7."""
        twice = self._doubled(x, self.low)
        four = self._doubled(twice, self.low)
        return self._doubled(four, self.low), self._doubled(four, self.high)

    def _doubled(self, x: Reg, mode: Reg) -> Reg:
        doubled = self.k.b.x("spread")
        self.k.b.add(isa.VSHUFFLE(doubled, x, x, mode))
        return doubled
