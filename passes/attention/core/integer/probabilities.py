"""Probabilities as integers of 8 or 16 bits, as the values' MAC takes them: 2^(t - E) times 2^8, or 2^16 by references.

With y = slope (t - E) + intercept, P comes of squaring y and adding a constant, four or five times (`Power` of
`integer_factors`): each time a product of 16-bit numbers, whose rounding and bounds come with the conversion to 16
bits.  Scores lie key by query and are turned to query by key: those of eight keys of four queries, or of four keys of
eight queries where probabilities have 16 bits.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, INT16_ELEMENTWISE, SHUFFLE_4X8_TO_8X4, Context
from npuc.passes.attention.core.integer.head import multiplier, shift_byte
from npuc.passes.attention.core.integer.output_walk import rows_of
from npuc.passes.attention.core.integer.shape import BIAS_BYTES, BIASES, BYTE, IntegerShape
from npuc.passes.attention.core.integer.spread import spread_wide
from npuc.passes.attention.integer_factors import ARGUMENT_BITS
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

INTERLEAVE_64 = (14, 15)  # vshuffle modes: low and high half of two registers by 64 bits
UNSIGNED_ELEMENTWISE = 0x038  # facts/semantics/vmac.md section 2: neither operand signed


def exponentiate(k: Context, shape: IntegerShape, power: Power) -> None:
    """All scores of the block to probabilities, in place."""
    b = k.b
    power.begin()
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_p")
    together = 1 if shape.wide else 2  # tiles of four keys
    passes = shape.key_tiles // together
    # One loop over all octets: a pass's share of a bias, added up, tells whose bias it needs.
    share, place = k.scalar(BIASES // passes, "bias_share"), k.scalar(0, "bias_place")
    whole, first = k.scalar(-BIASES, "whole_biases"), k.scalar(k.address("bias"), "first_bias")
    turn = k.scalar(SHUFFLE_4X8_TO_8X4, "mode_turn")
    sides = [] if shape.wide else [k.scalar(mode, "mode_side") for mode in INTERLEAVE_64]
    write = isa.VST_SRS_D16_S32_ag_pstm_nrm_imm if shape.wide else isa.VST_SRS_D8_S32_ag_pstm_nrm_imm
    with b.hardware_loop(shape.octets * passes, "probabilities"):
        octet, bias_at = b.r("octet"), b.p("p_bias")
        b.add(isa.AND(octet, place, whole))
        b.add(isa.ADD(place, place, share))
        b.add(isa.ADD(octet, octet, first))
        b.add(isa.MOV_mv_scl(bias_at, octet))
        biases = [b.cm(f"bias{number}") for number in range(together)]
        for number, bias in enumerate(biases):
            for quarter, part in enumerate(rows_of(bias)):
                offset = BIAS_BYTES * number + HALF * quarter
                b.add(isa.VLDA_dmw_lda_am_ag_idx_imm(part, bias_at, offset), region="bias")
        scores = []
        for _ in range(together):  # all before the first store, which they must not pass
            x, turned = b.x("scores"), b.x("scores_turned")
            k.load_x(x, load, "scores", port="b", carried=False, bank="scores")
            b.add(isa.VSHUFFLE(turned, x, x, turn))
            scores.append(turned)
        if sides:
            halves = [b.x("scores_side") for _ in sides]
            for half, side in zip(halves, sides, strict=True):
                b.add(isa.VSHUFFLE(half, scores[0], scores[1], side))
            scores = halves
        for x, bias in zip(scores, biases, strict=True):
            p = power.of(x, bias)
            for part in (p.lo, p.hi) if shape.wide else (p,):
                b.add(write(part, power.last, store, HALF), region="scores", carried=False, bank="scores")


class Power:
    """Vectors that may be made long before, `begin` before the loop, `of` in it."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape = k, shape
        self.slope = multiplier(k, 0, "slope")
        self.constants = [
            spread_wide(k, k.scalar(round(constant * 2.0 ** (2 * ARGUMENT_BITS)), f"constant{i}"), f"constant{i}")
            if constant
            else None
            for i, constant in enumerate(shape.power.constants)
        ]

    def begin(self) -> None:
        k, b = self.k, self.k.b
        self.int16, self.unsigned = k.scalar(INT16_ELEMENTWISE, "int16"), k.scalar(UNSIGNED_ELEMENTWISE, "uint16")
        self.argument, self.square, self.last = (b.s(name) for name in ("argument_shift", "square_shift", "last_shift"))
        b.add(isa.MOV_mv_scl(self.argument, k.sum(shift_byte(k, 1), self.shape.argument_places)))
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
            if constant is None:
                b.add(isa.VMUL_vmac_cm_core_dense(squared, y, y, self.unsigned))
            else:
                b.add(isa.VMAC_vmac_cm_core_dense(squared, constant, y, y, self.unsigned))
            wide, shift = squared, self.square
        return wide
