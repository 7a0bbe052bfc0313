"""References of sums that are whole numbers: O and probabilities of all blocks count in one unit for each query.

With R the reference, a probability is 2^(t - R - ABOVE) nearly in units of 2^-16, so that a block's exponent may be up
to ABOVE more than R; it has 16 bits, whatever rounding adds.  R moves up to an exponent beyond that, by one where the
row sum comes near 2^24 (with V's integers sums are below 2^31 then), and down to the exponent of a block that is far
below, as far as the row sum leaves room: a key that outweighs all others does not leave them without bits.  Row sums
are looked at whenever as many blocks came as they have room for.
"""

from __future__ import annotations

from collections.abc import Iterator

from npuc.passes.attention.core.context import HALF, INT16_ELEMENTWISE, SHUFFLE_EVEN_16, Context, u32x16
from npuc.passes.attention.core.integer.beside import records_apart, records_together
from npuc.passes.attention.core.integer.bias import Bias
from npuc.passes.attention.core.integer.head import ROOM, own_word, set_own_word
from npuc.passes.attention.core.integer.shape import (
    BIASES,
    EXPONENT,
    LEAST,
    OCTET,
    OUTPUT_ROW,
    OUTPUT_TILE,
    RECORD,
    REFERENCE,
    SHIFTS,
    IntegerShape,
)
from npuc.passes.attention.core.integer.spread import Spread, spread_16
from npuc.passes.attention.core.integer.unit import Factors, Unit
from npuc.passes.attention.integer_factors import ABOVE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

# A reference that moves up to an ordinary exponent leaves this much above it: few blocks have an exponent beyond that
# and ABOVE then.  Scores around zero are not far below it; where it is larger all bits are for the block's others.
ORDINARY, MARGIN = 5, 1
BELOW = 5  # a block that is further below moves the reference, if by LEAST_DOWN at least
LEAST_DOWN, MOST_DOWN = 3, 8
FAR = 20  # probabilities so far below are zero
NEVER = -0x8000  # in LEAST: the row sum has no room for a finer unit
SUM_BITS, FULL_BITS = 24, 23  # of row sums; of those that move the reference
ROOM_BITS = FULL_BITS - 1  # which they do not exceed in a finer unit
PROBABILITY_BITS = 16
SUM_SHIFT = 9  # row sums as signed 16-bit numbers
LARGEST_SHIFT = 40  # to the right: nothing of O is left


def make_room(k: Context, shape: IntegerShape) -> None:
    """Row sums have room for so many blocks, before they are looked at (again)."""
    blocks = ((1 << SUM_BITS) - (1 << FULL_BITS)) // (shape.keys << PROBABILITY_BITS)
    set_own_word(k, ROOM, k.scalar(blocks, "blocks_of_room"))


def take_room(k: Context) -> None:
    """For one block."""
    set_own_word(k, ROOM, k.sum(own_word(k, ROOM, "room"), -1))


def no_room(k: Context) -> Reg:
    full = k.b.r("no_room")
    k.b.add(isa.EQZ(full, own_word(k, ROOM, "room")))
    return full


class Watch:
    """For the loop over a block's octets, so many beside each other: constants before it, the rest in it."""

    def __init__(self, k: Context, bias: Bias, lowest: Spread) -> None:
        self.k, self.lowest = k, lowest
        self.bias = _ReferenceBias(k, bias)

    def load(self, state: Reg) -> None:
        self.reference, self.least = (self.k.b.x(name) for name in ("reference", "least"))
        self.k.load_at(self.reference, state, REFERENCE, "records")
        self.k.load_at(self.least, state, LEAST, "records")

    def octets(self, exponent: Reg, _state: Reg, bias: Reg) -> Iterator[None]:
        """The bias by the reference, to the place at `bias`, which is the next octet's after each.

        `flag` where the reference has to move.
        """
        b, flag = self.k.b, self.k.registers["flag"]
        low, seen = b.r("far_below"), b.r("seen")
        distance, beyond = self.bias.distance(exponent, self.reference)
        b.add(isa.VLT_S16(low, exponent, self.least))
        b.add(isa.VLT_S16(seen, self.lowest.x(), exponent))
        b.add(isa.OR(low, low, beyond))
        b.add(isa.AND(low, low, seen))
        b.add(isa.OR(flag, flag, low))
        for of_octet in self.bias.octets(exponent, distance):
            self.bias.bias.store(of_octet, bias)
            yield


class _ReferenceBias:
    """The power's bias by exponent and reference, whose distance counts up to FAR."""

    def __init__(self, k: Context, bias: Bias) -> None:
        self.k, self.bias = k, bias
        self.above, self.far = (Spread(k, k.scalar(value, "bound")) for value in (-ABOVE, FAR))

    def distance(self, exponent: Reg, reference: Reg) -> tuple[Reg, Reg]:
        """And lanes whose exponent is beyond what the reference leaves."""
        b = self.k.b
        distance, beyond = b.x("distance"), b.r("beyond_reference")
        b.add(isa.VSUB_16(distance, reference, exponent))
        b.add(isa.VMIN_GE_S16(distance, b.r("mask"), distance, self.far.x()))
        b.add(isa.VMAX_LT_S16(distance, beyond, distance, self.above.x()))
        return distance, beyond

    def octets(self, exponent: Reg, distance: Reg) -> Iterator[Reg]:
        """By the exponent that is so far above the block's."""
        counted = self.k.b.x("exponent_counted")
        self.k.b.add(isa.VADD_16(counted, exponent, distance))
        return self.bias.octets(counted)

    def store(self, exponent: Reg, reference: Reg, place: Reg) -> None:
        """Of one octet."""
        distance, _ = self.distance(exponent, reference)
        self.bias.store(next(self.octets(exponent, distance)), place)


def look_at_sums(k: Context, shape: IntegerShape) -> None:
    """`flag` where a row sum is full."""
    b = k.b
    largest, full = k.zero_x("largest_sum"), b.r("full")
    sums, on = k.pointer("o", shape.value_tiles * OUTPUT_TILE, "p_sums"), b.m("o_group_on")
    b.constant(on, shape.output_tiles * OUTPUT_TILE - OUTPUT_TILE // 2 - HALF)
    with b.hardware_loop(shape.groups, "row_sums"):
        for step in (HALF, on):
            x = b.x("sums")
            k.load_x(x, sums, "o", step=step)
            b.add(isa.VMAX_LT_S32(largest, b.r("mask"), largest, x))
    b.add(isa.VGE_S32(full, largest, k.constant_x(u32x16(1 << FULL_BITS), "full_sum")))
    b.add(isa.OR(k.registers["flag"], k.registers["flag"], full))
    make_room(k, shape)


def move_references(k: Context, shape: IntegerShape, not_first: Reg) -> None:
    """not_first: O holds earlier blocks.  The register `unseen` is cleared."""
    b = k.b
    b.constant(k.registers["unseen"], 0)
    make_room(k, shape)
    records_apart(k, shape, (EXPONENT, REFERENCE, LEAST))
    factors = Factors(k)
    bias = _ReferenceBias(k, Bias(k, factors, k.scalar(INT16_ELEMENTWISE, "int16")))
    lowest = Spread(k, factors.word(Unit.LOWEST))
    state, outputs = k.pointer("state", name="p_state"), k.scalar(k.address("o"), "outputs")
    bias_at, record_on, bias_on = k.pointer("bias", name="p_bias"), b.m("record_on"), b.m("bias_on")
    octet_bytes = 2 * shape.output_tiles * OUTPUT_TILE
    b.constant(record_on, RECORD)
    b.constant(bias_on, BIASES)
    octets = k.scalar(shape.octets, "rebase_octets")
    with b.counted_loop(octets, "rebase"):
        sums = k.zero_x("row_sums")
        with b.if_nonzero(not_first):
            _row_sums(k, sums, outputs, shape)
        octet = _Octet(k, sums, state, lowest)
        with b.if_nonzero(octet.moves()):
            moved = octet.move(bias, bias_at)
            b.add(isa.AND(moved, moved, k.difference(k.registers["zero"], not_first)))
            with b.if_nonzero(moved):
                _rescale(k, state, outputs, shape)
        b.add(isa.ADD(outputs, outputs, k.scalar(octet_bytes, "octet_on")))
        b.add(isa.PADDA_lda_ptr_inc_idx(state, record_on))
        b.add(isa.PADDA_lda_ptr_inc_idx(bias_at, bias_on))
    records_together(k, shape, (REFERENCE, LEAST))


def _row_sums(k: Context, sums: Reg, outputs: Reg, shape: IntegerShape) -> None:
    """An octet's row sums without their lowest bits, by query as exponents are."""
    b, shift = k.b, k.b.s("sum_shift")
    b.constant(shift, SUM_SHIFT)
    even, rows = k.scalar(SHUFFLE_EVEN_16, "mode_even"), [b.x(f"sums_{group}") for group in range(2)]
    for group, narrow in enumerate(rows):
        place = shape.value_tiles * OUTPUT_TILE + group * shape.output_tiles * OUTPUT_TILE
        pointer, wide = k.pointer_from(k.sum(outputs, place), "p_sums"), b.cm("sums_wide")
        for half in (wide.lo, wide.hi):
            for part in (half.lo, half.hi):
                b.add(isa.VLDA_dmw_lda_am_ag_pstm_nrm_imm(part, pointer, HALF), region="o")
        b.add(isa.VSRS_S16_S32_mv_x_srs(narrow, wide, shift))
    b.add(isa.VSHUFFLE(sums, rows[0], rows[1], even))
    for _ in range(2):
        b.add(isa.VSHUFFLE(sums, sums, sums, even))


class _Octet:
    """Where an octet's references go: up to the exponent, up by one as the row sum is full, down as that allows."""

    def __init__(self, k: Context, sums: Reg, state: Reg, lowest: Spread) -> None:
        self.k, self.sums, self.state, b = k, sums, state, k.b
        self.exponent, self.old, self.least = (b.x(name) for name in ("exponent", "reference_old", "least"))
        for register, place in ((self.exponent, EXPONENT), (self.old, REFERENCE), (self.least, LEAST)):
            k.load_at(register, state, place, "records")
        self.below, seen = b.x("below"), b.r("seen")
        self.up, self.down, self.full = b.r("up"), b.r("down"), b.r("full")
        b.add(isa.VLT_S16(seen, lowest.x(), self.exponent))
        b.add(isa.VSUB_16(self.below, self.old, self.exponent))
        b.add(isa.VLT_S16(self.up, self.below, spread_16(k, -ABOVE, "above")))
        b.add(isa.VLT_S16(self.down, self.exponent, self.least))
        b.add(isa.VGE_S16(self.full, sums, spread_16(k, 1 << FULL_BITS - SUM_SHIFT, "full_sum")))
        for one in (self.up, self.down):
            b.add(isa.AND(one, one, seen))

    def moves(self) -> Reg:
        """Lanes of queries whose records change."""
        b, changes = self.k.b, self.k.b.r("changes")
        b.add(isa.OR(changes, self.up, self.down))
        b.add(isa.OR(changes, changes, self.full))
        return changes

    def move(self, bias: _ReferenceBias, bias_at: Reg) -> Reg:
        """Changes them; returns lanes of queries whose reference moved."""
        k, b = self.k, self.k.b
        distance, fine, stuck, moved = self._distance_down(), b.r("fine"), b.r("stuck"), b.r("moved")
        loud = b.r("loud")
        b.add(isa.VGE_S16(fine, distance, spread_16(k, LEAST_DOWN, "least_down")))
        b.add(isa.AND(fine, fine, self.down))
        b.add(isa.XOR(stuck, self.down, fine))
        b.add(isa.OR(stuck, stuck, self.full))
        b.add(isa.OR(moved, fine, self.full))
        b.add(isa.OR(moved, moved, self.up))
        new, other, least, shift = b.x("reference"), b.x("reference_other"), self.least, b.x("shift")
        b.add(isa.VADD_16(other, self.old, spread_16(k, 1, "one_up")))
        b.add(isa.VSEL_16(new, self.old, other, self.full))
        b.add(isa.VSUB_16(other, self.old, distance))
        b.add(isa.VSEL_16(new, new, other, fine))
        b.add(isa.VLT_S16(loud, spread_16(k, ORDINARY, "ordinary"), self.exponent))
        b.add(isa.VADD_16(other, self.exponent, spread_16(k, MARGIN, "margin")))
        b.add(isa.VSEL_16(other, other, self.exponent, loud))
        b.add(isa.VSEL_16(new, new, other, self.up))
        b.add(isa.VSUB_16(other, new, spread_16(k, BELOW, "below_reference")))
        b.add(isa.VSEL_16(least, least, other, moved))
        b.add(isa.VSEL_16(least, least, spread_16(k, NEVER, "never"), stuck))
        b.add(isa.VSUB_16(shift, new, self.old))
        b.add(isa.VMIN_GE_S16(shift, b.r("mask"), shift, spread_16(k, LARGEST_SHIFT, "largest_shift")))
        b.add(isa.VADD_16(shift, shift, spread_16(k, MOST_DOWN, "most_down")))
        for register, place in ((new, REFERENCE), (least, LEAST), (shift, SHIFTS)):
            k.store_at(register, self.state, place, "records")
        bias.store(self.exponent, new, bias_at)
        return moved

    def _distance_down(self) -> Reg:
        """How far references may move down towards exponents, in the lanes of `down`."""
        k, b, distance = self.k, self.k.b, self.k.zero_x("distance")
        with b.if_nonzero(self.down):
            one, room = spread_16(k, 1, "one_down"), spread_16(k, 1 << ROOM_BITS - 1 - SUM_SHIFT, "room")
            wanted, left, scaled = b.x("wanted"), b.x("left"), b.x("sums_scaled")
            b.add(isa.VSEL_16(wanted, distance, self.below, self.down))
            k.move(left, wanted)
            k.move(scaled, self.sums)
            with b.hardware_loop(MOST_DOWN, "room_below"):
                more, fits, less, twice = b.r("more"), b.r("fits"), b.x("less"), b.x("twice")
                b.add(isa.VGE_S16(more, left, one))
                b.add(isa.VLT_S16(fits, scaled, room))
                b.add(isa.AND(more, more, fits))
                b.add(isa.VSUB_16(less, left, one))
                b.add(isa.VADD_16(twice, scaled, scaled))
                b.add(isa.VSEL_16(left, left, less, more))
                b.add(isa.VSEL_16(scaled, scaled, twice, more))
            b.add(isa.VSUB_16(distance, wanted, left))
        return distance


def _rescale(k: Context, state: Reg, outputs: Reg, shape: IntegerShape) -> None:
    """O and the row sum of each query of an octet by its shift, rounded to nearest even."""
    b = k.b
    shifts, address = b.p("p_shifts"), b.r("shifts_at")
    b.add(isa.MOV_mv_scl(address, state))
    b.add(isa.MOV_mv_scl(shifts, k.sum(address, SHIFTS)))
    up = b.s("shift_up")
    b.constant(up, MOST_DOWN)
    number, rows = k.scalar(0, "row"), k.scalar(OCTET, "rows")
    group_on = k.scalar(shape.output_tiles * OUTPUT_TILE - OUTPUT_TILE, "o_group_on")
    with b.counted_loop(rows, "rescale_rows"):
        shift, moves, place = b.r("shift"), b.r("moves"), b.r("row_place")
        b.add(isa.LDA_S16_ag_pstm_nrm_imm(shift, shifts, 2), region="records")
        b.add(isa.NE(moves, shift, k.scalar(MOST_DOWN, "unmoved")))
        b.add(isa.MUL_mul_r_rr(place, k.shifted(number, -2), group_on))
        b.add(isa.ADD(place, place, k.shifted(number, OUTPUT_ROW.bit_length() - 1)))
        b.add(isa.ADD(place, place, outputs))
        b.add(isa.ADD_add_r_ri(number, number, 1))
        with b.if_nonzero(moves):
            load, store, down = k.pointer_from(place, "p_o_load"), k.pointer_from(place, "p_o_store"), b.s("shift_down")
            b.add(isa.MOV_mv_scl(down, shift))
            with b.hardware_loop(shape.output_tiles, "rescale"):
                row, wide = b.x("o_row"), b.bm("o_row_wide")
                b.add(
                    isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(row.lo, load, OUTPUT_TILE), region="o", carried=False, bank="o"
                )
                b.add(isa.VUPS_S64_S32_mv_ups_w2b(wide, row.lo, up))
                b.add(
                    isa.VST_SRS_S32_S64_ag_pstm_nrm_imm(wide, down, store, OUTPUT_TILE),
                    region="o",
                    carried=False,
                    bank="o",
                )
