"""Probabilities as integers of 8 or 16 bits, as the values' MAC takes them: 2^(t - E) times 2^8, or 2^16 by references.

With y what a score is more than the query's bias, or 0, P comes of squaring y and adding a constant, four times
(`integer_factors.Power`); where probabilities have 16 bits a fifth square is taken.  Each time it is a product of
16-bit numbers, whose rounding and bounds come with the conversion to 16 bits.  Scores lie key by query and are turned
to query by key: those of eight keys of four queries, or of four keys of eight queries where probabilities have 16 bits.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, SHUFFLE_4X8_TO_8X4, Context
from npuc.passes.attention.core.integer.shape import BIASES, IntegerShape
from npuc.passes.attention.core.integer.unit import Factors, Head, Unit
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

INTERLEAVE_64 = (14, 15)  # vshuffle modes: low and high half of two registers by 64 bits
UNSIGNED_ELEMENTWISE = 0x038  # facts/semantics/vmac.md section 2: neither operand signed


def exponentiate(k: Context, shape: IntegerShape, power: Power) -> None:
    """All scores of the block to probabilities, in place; the power has begun."""
    b = k.b
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
        bias = b.x("bias")
        k.load_at(bias, bias_at, 0, "bias", bank="scores")
        scores = []
        for _ in range(together):  # all before the first store, which they must not pass
            x, above, turned = b.x("scores"), b.x("scores_above"), b.x("scores_turned")
            k.load_x(x, load, "scores", port="b", carried=False, bank="scores")
            b.add(isa.VMAXDIFF_LT_S16(above, b.r("mask"), x, bias))
            b.add(isa.VSHUFFLE(turned, above, above, turn))
            scores.append(turned)
        if sides:
            halves = [b.x("scores_side") for _ in sides]
            for half, side in zip(halves, sides, strict=True):
                b.add(isa.VSHUFFLE(half, scores[0], scores[1], side))
            scores = halves
        for x in scores:
            p = power.of(x)
            for part in (p.lo, p.hi) if shape.wide else (p,):
                b.add(write(part, power.last, store, HALF), region="scores", carried=False, bank="scores")


class Power:
    """Vectors that may be made long before, `begin` before the loop while the unit is the scores', `of` in it."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, self.factors = k, shape, Factors(k)
        constants = (Unit.FIRST_CONSTANT, Unit.SECOND_CONSTANT, Head.THIRD_CONSTANT, Head.FOURTH_CONSTANT)
        self.constants = [self.factors.lanes_32(word) for word in constants]

    def begin(self) -> None:
        k, factors = self.k, self.factors
        self.unsigned = k.scalar(UNSIGNED_ELEMENTWISE, "uint16")
        shifts = (Unit.FIRST_SHIFT, Unit.SECOND_SHIFT, Head.THIRD_SHIFT, Head.LAST_SHIFT)
        *self.shifts, self.last = (factors.shift(word) for word in shifts)
        k.registers["first_shift"] = self.shifts[0]

    def of(self, y: Reg) -> Reg:
        """2^(t - E) of scores that are so much above their bias; to be shifted by `last`."""
        first, *others = self.constants
        wide = self._squared(y, first)
        for constant, shift in zip(others, self.shifts, strict=True):
            wide = self._squared(self._narrow(wide, shift), constant)
        return self._squared(self._narrow(wide, self.last)) if self.shape.wide else wide

    def _squared(self, y: Reg, constant: Reg | None = None) -> Reg:
        b, wide = self.k.b, self.k.b.cm("square_wide")
        if constant is None:
            b.add(isa.VMUL_vmac_cm_core_dense(wide, y, y, self.unsigned))
        else:
            b.add(isa.VMAC_vmac_cm_core_dense(wide, constant, y, y, self.unsigned))
        return wide

    def _narrow(self, wide: Reg, shift: Reg) -> Reg:
        """Its rounded upper bits, 16 of them."""
        y = self.k.b.x("square")
        self.k.b.add(isa.VSRS_D16_S32_mv_x_srs(y, wide, shift))
        return y
