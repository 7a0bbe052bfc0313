"""The exponents of a block of keys, and what follows from them for each octet of queries.

E = the least integer not below the largest score of a query in base 2.  Of it come the bias of the power's arguments,
and the pattern from which sums start: 1.5 * 2^(23 + E - reference), for the rows of O; where sums are whole numbers,
the bias is that of the reference (`references`).  `flag` says that an exponent is so far from O's reference that this
must move, `beyond` that scores are beyond the range of their unit.
"""

from __future__ import annotations

from collections.abc import Iterator

from npuc.passes.attention.core.context import INT16_ELEMENTWISE, Context
from npuc.passes.attention.core.integer.beside import Beside, group_size
from npuc.passes.attention.core.integer.bias import Bias
from npuc.passes.attention.core.integer.references import Watch
from npuc.passes.attention.core.integer.shape import (
    BIASES,
    EXPONENT,
    MAGIC,
    RECORD,
    REFERENCE,
    SCORE_TILE,
    IntegerShape,
)
from npuc.passes.attention.core.integer.spread import RowSpread, Spread, no_shift, spread_wide
from npuc.passes.attention.core.integer.unit import Factors, Head, Unit
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

HIGHEST = 0x7FFF  # where scores are cut off, as their opposites are; a hidden one is less
MOST_ABOVE = 40  # exponents above the reference: sums of all blocks stay in fp32's range
MOST_BELOW = -100  # less counts as that: it is lost in sums
MAGIC_BITS = (150 << 7) + 0x40  # bf16 1.5 * 2^23
EXPONENT_PLACES = 7  # below the exponent in a bf16 pattern


class BlockExponents:
    """Exponents of all octets, and their records; sets the registers `flag` and `beyond`.

    Made before, `run` when the scores are there.
    """

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, self.size = k, shape, group_size(shape)
        self.beside = Beside(k, self.size)
        self.int16 = k.scalar(INT16_ELEMENTWISE, "int16")
        factors = Factors(k)
        self.to_exponent, self.half = factors.lanes_16(Head.TO_EXPONENT), factors.lanes_32(Unit.HALF)
        self.shift = factors.shift(Unit.EXPONENT_SHIFT)
        self.floor = Spread(k, factors.word(Unit.LOWEST))
        self.highest = Spread(k, k.scalar(HIGHEST, "highest"))  # and as far as that from the lowest to 0
        self.low_range = Spread(k, factors.word(Unit.LOW_RANGE))
        self.follow = (
            Watch(k, Bias(k, factors, self.int16, self.size), self.floor)
            if shape.wide
            else _Fresh(k, Bias(k, factors, self.int16, self.size), self.size)
        )

    def run(self) -> None:
        k, b = self.k, self.k.b
        for name in ("flag", "beyond"):
            b.constant(k.registers[name], 0)
        self.largest, self.bias = k.pointer("bias", name="p_largest"), k.pointer("bias", name="p_bias")
        self.state, self.on, self.bias_on = k.pointer("state", name="p_state"), b.m("record_on"), b.m("bias_on")
        b.constant(self.on, RECORD)
        b.constant(self.bias_on, BIASES)
        with b.hardware_loop(self.shape.octets // self.size, "exponents"):
            self.group()

    def group(self) -> None:
        """The exponents of octets beside each other, to the record of the first, what follows to each one's."""
        k = self.k
        self.follow.load(self.state)
        found = self.beside.largest(self._loaded())
        self.test_range(found)
        exponent = self.exponent(found)
        k.store_at(exponent, self.state, EXPONENT, "records")
        for _ in self.follow.octets(exponent, self.state, self.bias):
            k.b.add(isa.PADDA_lda_ptr_inc_idx(self.state, self.on))
            k.b.add(isa.PADDA_lda_ptr_inc_idx(self.bias, self.bias_on))

    def _loaded(self) -> list[Reg]:
        """The largest scores of each octet."""
        k, found = self.k, []
        for _ in range(self.size):
            found.append(k.b.x("octet_largest"))
            k.load_at(found[-1], self.largest, 0, "bias")
            k.b.add(isa.PADDA_lda_ptr_inc_idx(self.largest, self.bias_on))
        return found

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
    """What follows from exponents of octets beside each other where each block of keys has its own."""

    def __init__(self, k: Context, bias: Bias, size: int) -> None:
        self.k, self.bias = k, bias
        self.most_above = Spread(k, k.scalar(MOST_ABOVE, "most_above"))
        self.magic = Magic(k, no_shift(k), size)

    def load(self, state: Reg) -> None:
        self.reference = self.k.b.x("reference")
        self.k.load_at(self.reference, state, REFERENCE, "records")

    def octets(self, exponent: Reg, state: Reg, bias: Reg) -> Iterator[None]:
        """To the record at `state` and the place at `bias`, which are the next octet's after each."""
        b, flag = self.k.b, self.k.registers["flag"]
        above, outgrown = b.x("above_reference"), b.r("outgrown")
        b.add(isa.VSUB_16(above, exponent, self.reference))
        b.add(isa.VGE_S16(outgrown, above, self.most_above.x()))
        b.add(isa.OR(flag, flag, outgrown))
        for of_octet, rows in zip(self.bias.octets(exponent), self.magic.rows(above), strict=True):
            self.bias.store(of_octet, bias)
            self.magic.store_rows(rows, state)
            yield


class Magic:
    """Patterns from which sums start; made before a loop over octets."""

    def __init__(self, k: Context, none: Reg, size: int = 1) -> None:
        """none: a shift by nothing.  size: octets beside each other."""
        self.k, b, self.none = k, k.b, none
        self.spread = RowSpread(k, size)
        self.base = spread_wide(k, k.scalar(MAGIC_BITS, "magic_bits"), "magic_base")
        self.places = b.s("exponent_places")
        b.constant(self.places, EXPONENT_PLACES)
        self.most_below = Spread(k, k.scalar(MOST_BELOW, "most_below"))

    def store(self, above: Reg, state: Reg) -> None:
        """above: exponents less the reference, of one octet."""
        self.store_rows(next(self.rows(above)), state)

    def rows(self, above: Reg) -> Iterator[tuple[Reg, ...]]:
        """The patterns of each octet."""
        b, k = self.k.b, self.k
        bounded, scaled, wide, pattern = b.x("above_bounded"), b.cm("above_wide"), b.cm("magic_wide"), b.x("magic")
        b.add(isa.VMAX_LT_S16(bounded, b.r("mask"), above, self.most_below.x()))
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(scaled, bounded, self.places))
        b.add(isa.VADD(wide, self.base, scaled, k.registers["zero"]))
        b.add(isa.VSRS_S16_S32_mv_x_srs(pattern, wide, self.none))
        return self.spread.octets(pattern)

    def store_rows(self, patterns: tuple[Reg, ...], state: Reg) -> None:
        for group, rows in enumerate(patterns):
            self.k.store_at(rows, state, MAGIC + SCORE_TILE * group, "records")
