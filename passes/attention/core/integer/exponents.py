"""The exponents of a block of keys, and what follows from them for each octet of queries.

E = the least integer not below the largest score of a query in base 2.  Of it come the bias of the power's arguments,
and the pattern from which sums start: 1.5 * 2^(23 + E - reference), for the rows of O.  `flag` says that an exponent is
so far above O's reference that this must move, `beyond` that scores are beyond the range of their unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from npuc.passes.attention.core.context import HALF, SHUFFLE_HIGH_HALVES, SHUFFLE_LOW_HALVES, Context
from npuc.passes.attention.core.integer.head import multiplier, multiplier_word, shift_byte, shift_register
from npuc.passes.attention.core.integer.shape import (
    BIAS,
    BYTE,
    EXPONENT,
    LARGEST,
    LOW_MAGIC,
    MAGIC,
    RECORD,
    REFERENCE,
    SCORE_TILE,
    IntegerShape,
)
from npuc.passes.attention.integer_factors import ARGUMENT_BITS, POWER, SLOPE_PLACES
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

INT16_ELEMENTWISE = 0x338  # facts/semantics/vmac.md section 3
INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH = 18, 19  # vshuffle modes (facts/semantics/vector_misc.md section 1)
INTERLEAVE_ROWS_LOW, INTERLEAVE_ROWS_HIGH = 12, 13  # of 128 bits
OCTETS_BESIDE = 4  # in a register of 32 lanes
HIGHEST, LOWEST = 0x7FFF, -0x7FFF  # where scores are cut off; a hidden one is less
LOW = -0x6000  # with lower scores a quarter of the range may not be left down to hidden ones
MOST_ABOVE = 40  # exponents above the reference: sums of all blocks stay in fp32's range
MOST_BELOW = -100  # less counts as that: it is lost in sums
MAGIC_BITS = (150 << 7) + 0x40  # bf16 1.5 * 2^23
EXPONENT_PLACES = 7  # below the exponent in a bf16 pattern


def group_size(shape: IntegerShape) -> int:
    """Octets whose numbers lie beside each other in a register: 16 bits of each query."""
    return next(size for size in (OCTETS_BESIDE, 2, 1) if shape.octets % size == 0)


class Beside:
    """Octets beside each other in a register, as often as they fit, and each by itself, four times.

    Rows are eight lanes of 16 bits: of an octet by itself those of four keys.
    """

    def __init__(self, k: Context, size: int) -> None:
        self.k, self.size = k, size

    def largest(self, octets: Sequence[Reg]) -> Reg:
        """Of all rows of each: rows of two octets by turns, then of all."""
        modes = self._modes(INTERLEAVE_ROWS_LOW, INTERLEAVE_ROWS_HIGH)
        pairs = [self._larger(a, b, *modes) for a, b in _pairs(octets)]
        return self._larger(pairs[0], pairs[-1], *self._modes(SHUFFLE_LOW_HALVES, SHUFFLE_HIGH_HALVES))

    def together(self, octets: Sequence[Reg]) -> Reg:
        """Of octets whose rows are all alike."""
        rows, halves = self._modes(INTERLEAVE_ROWS_LOW, SHUFFLE_LOW_HALVES)
        pairs = [self._shuffled(a, b, rows) for a, b in _pairs(octets)]
        return self._shuffled(pairs[0], pairs[-1], halves)

    def apart(self, x: Reg) -> Iterator[Reg]:
        """Each octet by itself, in registers that later ones take again."""
        if self.size == 1:
            yield x
            return
        modes = self._modes(INTERLEAVE_ROWS_LOW, INTERLEAVE_ROWS_HIGH)
        pair, octets = self.k.b.x("pair"), [self.k.b.x("octet_apart") for _ in modes]
        for of_pair in modes[: self.size // 2]:
            self.k.b.add(isa.VSHUFFLE(pair, x, x, of_pair))
            for octet, of_octet in zip(octets, modes, strict=True):
                self.k.b.add(isa.VSHUFFLE(octet, pair, pair, of_octet))
                yield octet

    def _modes(self, *modes: int) -> list[Reg]:
        """In registers that are not held longer than a step needs them."""
        return [self.k.scalar(mode, "mode_rows") for mode in modes]

    def _shuffled(self, a: Reg, b: Reg, mode: Reg) -> Reg:
        x = self.k.b.x("octets")
        self.k.b.add(isa.VSHUFFLE(x, a, b, mode))
        return x

    def _larger(self, a: Reg, b: Reg, *modes: Reg) -> Reg:
        larger = self.k.b.x("largest")
        self.k.b.add(isa.VMAX_LT_S16(larger, self.k.b.r("mask"), *(self._shuffled(a, b, mode) for mode in modes)))
        return larger


def _pairs(octets: Sequence[Reg]) -> list[tuple[Reg, Reg]]:
    """Of octets that follow each other; one alone with itself."""
    return list(zip(octets[::2], octets[1::2] or octets, strict=True))


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


class BlockExponents:
    """Exponents of all octets, and their records; sets the registers `flag` and `beyond`.

    Made before, `run` when the scores are there.
    """

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, self.size, b = k, shape, group_size(shape), k.b
        self.beside = Beside(k, self.size)
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
        self.magic = Magic(k, shape, self.size)

    def run(self) -> None:
        k, b = self.k, self.k.b
        for name in ("flag", "beyond"):
            b.constant(k.registers[name], 0)
        self.load, self.store = k.pointer("state", name="p_records"), k.pointer("state", name="p_state")
        self.on = b.m("record_on")
        b.constant(self.on, RECORD)
        with b.hardware_loop(self.shape.octets // self.size, "exponents"):
            self.group()

    def group(self) -> None:
        """The exponents of octets beside each other, to the record of the first, what follows to each one's."""
        k, b = self.k, self.k.b
        reference = b.x("reference")
        k.load_at(reference, self.store, REFERENCE, "records")
        found = self.beside.largest(self._loaded())
        self.test_range(found)
        exponent, above, outgrown = self.exponent(found), b.x("above_reference"), b.r("outgrown")
        k.store_at(exponent, self.store, EXPONENT, "records")
        b.add(isa.VSUB_16(above, exponent, reference))
        b.add(isa.VGE_S16(outgrown, above, self.most_above.x()))
        b.add(isa.OR(k.registers["flag"], k.registers["flag"], outgrown))
        for bias, rows in zip(self._biases(exponent), self.magic.rows(above), strict=True):
            for place, part in enumerate((bias.lo.lo, bias.lo.hi, bias.hi.lo, bias.hi.hi)):
                b.add(isa.VST_dmw_sts_am_ag_idx_imm(part, self.store, BIAS + HALF * place), region="records")
            self.magic.store_rows(rows, self.store)
            b.add(isa.PADDA_lda_ptr_inc_idx(self.store, self.on))

    def _loaded(self) -> list[Reg]:
        """The largest scores of each octet."""
        k, found = self.k, []
        for _ in range(self.size):
            found.append(k.b.x("octet_largest"))
            k.load_at(found[-1], self.load, LARGEST, "records")
            k.b.add(isa.PADDA_lda_ptr_inc_idx(self.load, self.on))
        return found

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

    def _biases(self, exponent: Reg) -> Iterator[Reg]:
        """Of each octet intercept - slope * exponent, as the power's arguments count."""
        b = self.k.b
        wide, scaled, slope = b.cm("fraction_wide"), b.x("exponent_scaled"), self.slope.x()
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(wide, exponent, self.fraction))
        b.add(isa.VSRS_S16_S32_mv_x_srs(scaled, wide, self.magic.none))
        for octet in self.beside.apart(scaled):
            bias = b.cm("bias")
            b.add(isa.VMSC_vmac_cm_core_dense(bias, self.intercept, octet, slope, self.int16))
            yield bias


def spread_wide(k: Context, word: Reg, name: str) -> Reg:
    """A word in all lanes of a cm register."""
    x, cm = k.b.x(f"{name}_word"), k.b.cm(name)
    k.b.add(isa.VBCST_32(x, word))
    for half in (cm.lo, cm.hi):
        k.move(half, x)
    return cm


class Magic:
    """Patterns from which sums start; made before a loop over octets, or so many beside each other."""

    def __init__(self, k: Context, shape: IntegerShape, size: int = 1) -> None:
        self.k, b = k, k.b
        self.lows = b.x("low_magic0"), b.x("low_magic1")
        self.low = Spread(k, k.scalar(-BYTE << EXPONENT_PLACES, "low_byte")) if shape.wide else None
        self.none = b.s("no_shift")
        b.constant(self.none, 0)
        self.base = spread_wide(k, k.scalar(MAGIC_BITS, "magic_bits"), "magic_base")
        self.places = b.s("exponent_places")
        b.constant(self.places, EXPONENT_PLACES)
        self.most_below = Spread(k, k.scalar(MOST_BELOW, "most_below"))
        self.spread = RowSpread(k, size)

    def store(self, above: Reg, state: Reg) -> None:
        """above: exponents less the reference, of one octet."""
        self.store_rows(next(self.rows(above)), state)

    def rows(self, above: Reg) -> Iterator[tuple[Reg, Reg]]:
        """The patterns of each octet."""
        b, k = self.k.b, self.k
        bounded, scaled, wide, pattern = b.x("above_bounded"), b.cm("above_wide"), b.cm("magic_wide"), b.x("magic")
        b.add(isa.VMAX_LT_S16(bounded, b.r("mask"), above, self.most_below.x()))
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(scaled, bounded, self.places))
        b.add(isa.VADD(wide, self.base, scaled, k.registers["zero"]))
        b.add(isa.VSRS_S16_S32_mv_x_srs(pattern, wide, self.none))
        return self.spread.octets(pattern)

    def store_rows(self, patterns: tuple[Reg, Reg], state: Reg) -> None:
        for group, (rows, low) in enumerate(zip(patterns, self.lows, strict=True)):
            self.k.store_at(rows, state, MAGIC + SCORE_TILE * group, "records")
            if self.low is not None:
                self.k.b.add(isa.VADD_16(low, rows, self.low.x()))
                self.k.store_at(low, state, LOW_MAGIC + SCORE_TILE * group, "records")


class RowSpread:
    """16-bit numbers by query, of so many octets beside each other, to the layout of O: eight lanes a query."""

    def __init__(self, k: Context, size: int = 1) -> None:
        self.k, self.size = k, size
        self.low, self.high = (k.scalar(mode, "mode_spread") for mode in (INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH))

    def rows(self, x: Reg) -> tuple[Reg, Reg]:
        """Of queries 0 to 3, and 4 to 7 of the first octet."""
        return next(self.octets(x))

    def octets(self, x: Reg) -> Iterator[tuple[Reg, Reg]]:
        """The same of every octet, in registers that later ones take again."""
        b, modes = self.k.b, (self.low, self.high)
        pair, octet, rows = b.x("spread_pair"), b.x("spread_octet"), (b.x("rows_low"), b.x("rows_high"))
        for of_pair in modes[: max(1, self.size // 2)]:
            b.add(isa.VSHUFFLE(pair, x, x, of_pair))
            for of_octet in modes[: min(2, self.size)]:
                b.add(isa.VSHUFFLE(octet, pair, pair, of_octet))
                for group, of_group in zip(rows, modes, strict=True):
                    b.add(isa.VSHUFFLE(group, octet, octet, of_group))
                yield rows


def records_apart(k: Context, shape: IntegerShape) -> None:
    """Exponents and references of octets beside each other to the octets' own records."""
    b, size = k.b, group_size(shape)
    if size > 1:
        beside, state, on = Beside(k, size), k.pointer("state", name="p_apart"), b.m("record_on")
        b.constant(on, RECORD)
        with b.hardware_loop(shape.octets // size, "records_apart"):
            numbers = []
            for place in (EXPONENT, REFERENCE):
                x = b.x("beside")
                k.load_at(x, state, place, "records")
                numbers.append(beside.apart(x))
            for octet in zip(*numbers, strict=True):
                for x, place in zip(octet, (EXPONENT, REFERENCE), strict=True):
                    k.store_at(x, state, place, "records")
                b.add(isa.PADDA_lda_ptr_inc_idx(state, on))


def references_together(k: Context, shape: IntegerShape) -> None:
    """References out of the octets' own records beside each other, to the first record of each group."""
    b, size = k.b, group_size(shape)
    if size > 1:
        beside, load, store = Beside(k, size), k.pointer("state", name="p_apart"), k.pointer("state", name="p_beside")
        on = b.m("records_on")
        b.constant(on, RECORD)
        with b.hardware_loop(shape.octets // size, "references_together"):
            octets = []
            for _ in range(size):
                octets.append(b.x("octet"))
                k.load_at(octets[-1], load, REFERENCE, "records")
                b.add(isa.PADDA_lda_ptr_inc_idx(load, on))
            k.store_at(beside.together(octets), store, REFERENCE, "records")
            for _ in range(size):
                b.add(isa.PADDA_lda_ptr_inc_idx(store, on))
