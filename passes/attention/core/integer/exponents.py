"""The exponents of a block of keys, and what follows from them for each octet of queries.

E = the least integer not below the largest score of a query in base 2.  Of it come the bias of the power's arguments,
and the pattern from which sums start: 1.5 * 2^(23 + E - reference), for the rows of O; where sums are whole numbers,
the bias is that of the reference (`references`).  `flag` says that an exponent is so far from O's reference that this
must move, `beyond` that scores are beyond the range of their unit.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import INT16_ELEMENTWISE, Context
from npuc.passes.attention.core.integer.bias import Bias
from npuc.passes.attention.core.integer.head import LOW, lowest_exponent, multiplier, shift_byte, shift_register
from npuc.passes.attention.core.integer.references import Watch
from npuc.passes.attention.core.integer.shape import (
    EXPONENT,
    MAGIC,
    OCTET,
    RECORD,
    REFERENCE,
    SCORE_TILE,
    IntegerShape,
)
from npuc.passes.attention.core.integer.spread import RowSpread, Spread, spread_wide
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

HIGHEST, LOWEST = 0x7FFF, -0x7FFF  # where scores are cut off; a hidden one is less
MOST_ABOVE = 40  # exponents above the reference: sums of all blocks stay in fp32's range
MOST_BELOW = -100  # less counts as that: it is lost in sums
MAGIC_BITS = (150 << 7) + 0x40  # bf16 1.5 * 2^23
EXPONENT_PLACES = 7  # below the exponent in a bf16 pattern


def block_exponents(k: Context, shape: IntegerShape) -> None:
    """Exponents of all octets, and their records; sets the registers `flag` and `beyond`."""
    b = k.b
    work = _Exponents(k)
    follow = Watch(k, shape, work.floor, work.int16) if shape.wide else _Fresh(k, shape, work.int16)
    for name in ("flag", "beyond"):
        b.constant(k.registers[name], 0)
    scores, state, on = k.pointer("scores", name="p_scores"), k.pointer("state", name="p_state"), b.m("record_on")
    b.constant(on, RECORD)
    with b.hardware_loop(shape.queries // OCTET, "exponents"):
        largest = _largest(k, scores)
        work.test_range(largest)
        exponent = work.exponent(largest)
        k.store_at(exponent, state, EXPONENT, "records")
        follow.octet(exponent, state)
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


class _Exponents:
    """Constants before the loop over octets."""

    def __init__(self, k: Context) -> None:
        self.k, b = k, k.b
        self.int16 = k.scalar(INT16_ELEMENTWISE, "int16")
        self.to_exponent = multiplier(k, 1, "to_exponent")
        self.shift = shift_register(k, 2, "exponent_shift")
        half = b.r("half")
        b.add(isa.ASHL(half, k.registers["one"], k.sum(shift_byte(k, 2), -1)))
        self.half = spread_wide(k, half, "half")
        self.floor = Spread(k, lowest_exponent(k))
        self.highest = Spread(k, k.scalar(HIGHEST, "highest"))  # and as far as that from the lowest to 0
        self.low_range = Spread(k, k.scalar(LOW + 1 - LOWEST, "low_range"))

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


class _Fresh:
    """What follows from an octet's exponents where each block of keys has its own."""

    def __init__(self, k: Context, shape: IntegerShape, int16: Reg) -> None:
        self.k = k
        self.bias = Bias(k, shape, int16)
        self.most_above = Spread(k, k.scalar(MOST_ABOVE, "most_above"))
        assert isinstance(self.bias.turn, RowSpread)
        self.magic = Magic(k, self.bias.none, self.bias.turn)

    def octet(self, exponent: Reg, state: Reg) -> None:
        b, flag = self.k.b, self.k.registers["flag"]
        self.bias.store((exponent,), state)
        reference, above, outgrown = b.x("reference"), b.x("above_reference"), b.r("outgrown")
        self.k.load_at(reference, state, REFERENCE, "state")
        b.add(isa.VSUB_16(above, exponent, reference))
        b.add(isa.VGE_S16(outgrown, above, self.most_above.x()))
        b.add(isa.OR(flag, flag, outgrown))
        self.magic.store(above, state)


class Magic:
    """Patterns from which sums start; made before a loop over octets, `store` in it."""

    def __init__(self, k: Context, none: Reg, spread: RowSpread) -> None:
        """none: a shift by nothing."""
        self.k, b, self.none, self.spread = k, k.b, none, spread
        self.base = spread_wide(k, k.scalar(MAGIC_BITS, "magic_bits"), "magic_base")
        self.places = b.s("exponent_places")
        b.constant(self.places, EXPONENT_PLACES)
        self.most_below = Spread(k, k.scalar(MOST_BELOW, "most_below"))

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
