"""The bias of the power's arguments for each query of an octet: intercept - slope * exponent, as arguments count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.head import shift_byte, shift_register
from npuc.passes.attention.core.integer.output_walk import rows_of
from npuc.passes.attention.core.integer.shape import BIAS_BYTES, IntegerShape
from npuc.passes.attention.core.integer.spread import RowSpread, Spread, no_shift, spread_wide
from npuc.passes.attention.integer_factors import ARGUMENT_BITS, SLOPE_PLACES
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg


class Bias:
    """Constants before a loop over octets, or so many beside each other; `octets` and `store` in it.

    int16: the MAC's configuration for products of lanes.  places_less: probabilities are so many places less.
    """

    def __init__(self, k: Context, shape: IntegerShape, int16: Reg, size: int = 1, places_less: int = 0) -> None:
        self.k, self.int16, b = k, int16, k.b
        self.fraction, self.none = shift_register(k, 3, "fraction"), no_shift(k)
        power, places = shape.power, ARGUMENT_BITS + shape.argument_places
        self.slope = Spread(k, k.scalar(round(power.slope * 2.0 ** (places + SLOPE_PLACES)), "slope"))
        self.spread = RowSpread(k, size, lanes=4 if shape.wide else 8)
        intercept = b.r("intercept")
        fixed = k.scalar(round((power.intercept - power.slope * places_less) * 2.0**places), "intercept_fixed")
        b.add(isa.ASHL(intercept, fixed, shift_byte(k, 1)))
        self.intercept = spread_wide(k, intercept, "intercept")

    def octets(self, exponents: Sequence[Reg]) -> Iterator[list[Reg]]:
        """Of each octet; exponents: those of each lane are added up."""
        b, turned = self.k.b, []
        for exponent in exponents:
            wide, scaled = b.cm("fraction_wide"), b.x("exponent_scaled")
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(wide, exponent, self.fraction))
            b.add(isa.VSRS_S16_S32_mv_x_srs(scaled, wide, self.none))
            turned.append(self.spread.octets(scaled))
        slope = self.slope.x()
        for of_octet in zip(*turned, strict=True):
            totals = [self.intercept] * len(of_octet[0])
            for rows in of_octet:
                totals = [self._less(total, x, slope) for total, x in zip(totals, rows, strict=True)]
            yield totals

    def store(self, biases: Sequence[Reg], place: Reg) -> None:
        """To the octet's place."""
        for number, total in enumerate(biases):
            for quarter, part in enumerate(rows_of(total)):
                offset = BIAS_BYTES * number + HALF * quarter
                self.k.b.add(isa.VST_dmw_sts_am_ag_idx_imm(part, place, offset), region="bias")

    def _less(self, total: Reg, exponents: Reg, slope: Reg) -> Reg:
        bias = self.k.b.cm("bias")
        self.k.b.add(isa.VMSC_vmac_cm_core_dense(bias, total, exponents, slope, self.int16))
        return bias
