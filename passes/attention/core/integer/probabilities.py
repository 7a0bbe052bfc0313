"""Probabilities as integers: 2^(t - E) times 2^8, or times 2^16 in two bytes, as the values' MAC takes them.

With y = slope (t - E) + intercept, P comes of squaring y and adding a constant, four times (`integer_factors.POWER`):
each time a product of 16-bit numbers, whose rounding and bounds come with the conversion to 16 bits.  Scores lie key by
query; each eight keys are turned to query by key, the high bytes first where there are two.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.exponents import INT16_ELEMENTWISE, spread_wide
from npuc.passes.attention.core.integer.head import multiplier, shift_register
from npuc.passes.attention.core.integer.query import TRANSPOSE_8X8_BYTES
from npuc.passes.attention.core.integer.shape import BIAS, BYTE, RECORD, IntegerShape
from npuc.passes.attention.integer_factors import ARGUMENT_BITS, POWER
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

EVEN_BYTES, ODD_BYTES = 0, 1  # vshuffle modes: low and high bytes of 16-bit lanes
UNSIGNED_ELEMENTWISE = 0x038  # facts/semantics/vmac.md section 2: neither operand signed


def exponentiate(k: Context, shape: IntegerShape, power: Power) -> None:
    """All scores of the block to probabilities, in place."""
    b = k.b
    power.begin()
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_p")
    pairs = shape.key_tiles // 2
    # One loop over all octets: a pair's share of a record, added up, tells whose record it needs.
    share, place = k.scalar(RECORD // pairs, "record_share"), k.scalar(0, "record_place")
    whole, records = k.scalar(-RECORD, "whole_records"), k.scalar(k.address("state", BIAS), "records")
    mode = k.scalar(TRANSPOSE_8X8_BYTES, "mode_turn")
    bytes_of = [k.scalar(one, "mode_bytes") for one in (ODD_BYTES, EVEN_BYTES)] if shape.wide else []
    with b.hardware_loop(shape.octets * pairs, "probabilities"):
        record, bias_at, bias = b.r("record"), b.p("p_bias"), b.cm("bias")
        b.add(isa.AND(record, place, whole))
        b.add(isa.ADD(place, place, share))
        b.add(isa.ADD(record, record, records))
        b.add(isa.MOV_mv_scl(bias_at, record))
        for number, part in enumerate((bias.lo.lo, bias.lo.hi, bias.hi.lo, bias.hi.hi)):
            b.add(isa.VLDA_dmw_lda_am_ag_idx_imm(part, bias_at, HALF * number), region="records", bank="scores")
        powers = []
        for _ in range(2):
            x = b.x("scores")
            k.load_x(x, load, "scores", port="b", carried=False, bank="scores")
            powers.append(power.of(x, bias))
        for packed in _packed(k, powers, power.last, bytes_of):
            turned = b.x("p_turned")
            b.add(isa.VSHUFFLE(turned, packed, packed, mode))
            k.store_x(turned, store, "scores", carried=False, bank="scores")


def _packed(k: Context, powers: list[Reg], shift: Reg, bytes_of: list[Reg]) -> list[Reg]:
    """Of eight keys: their probabilities of 8 bits, or the bytes of those of 16 by the modes that take them."""
    b = k.b
    if not bytes_of:
        packed = b.x("p")
        for half, power in zip((packed.lo, packed.hi), powers, strict=True):
            b.add(isa.VSRS_D8_S32_mv_w_srs(half, power, shift))
        return [packed]
    narrow = [b.x("p_16") for _ in powers]
    for x, power in zip(narrow, powers, strict=True):
        b.add(isa.VSRS_D16_S32_mv_x_srs(x, power, shift))
    found = []
    for mode in bytes_of:
        packed = b.x("p")
        b.add(isa.VSHUFFLE(packed, narrow[0], narrow[1], mode))
        found.append(packed)
    return found


class Power:
    """Vectors that may be made long before, `begin` before the loop, `of` in it."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape = k, shape
        self.slope = multiplier(k, 0, "slope")
        self.constants = [
            spread_wide(k, k.scalar(round(constant * 2.0 ** (2 * ARGUMENT_BITS)), f"constant{i}"), f"constant{i}")
            for i, constant in enumerate(POWER.constants)
        ]

    def begin(self) -> None:
        k, b = self.k, self.k.b
        self.int16, self.unsigned = k.scalar(INT16_ELEMENTWISE, "int16"), k.scalar(UNSIGNED_ELEMENTWISE, "uint16")
        self.argument, self.square, self.last = shift_register(k, 1, "argument_shift"), b.s("square"), b.s("last_shift")
        b.constant(self.square, ARGUMENT_BITS)
        b.constant(self.last, 2 * ARGUMENT_BITS - BYTE * self.shape.probability_bytes)

    def of(self, x: Reg, bias: Reg) -> Reg:
        """2^(t - E) of four keys' scores, with 2 * ARGUMENT_BITS fraction bits."""
        b = self.k.b
        wide, shift = b.cm("argument_wide"), self.argument
        b.add(isa.VMAC_vmac_cm_core_dense(wide, bias, x, self.slope, self.int16))
        for constant in self.constants:
            y, squared = b.x("square"), b.cm("square_wide")
            b.add(isa.VSRS_D16_S32_mv_x_srs(y, wide, shift))
            b.add(isa.VMAC_vmac_cm_core_dense(squared, constant, y, y, self.unsigned))
            wide, shift = squared, self.square
        return wide
