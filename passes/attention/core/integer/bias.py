"""The bias of each query of octets: of scores less by it the power is taken, so that it comes to 2^(t - exponent).

It counts in the unit of the scores, exponent / unit - offset: bounded to 16 bits it is above every score that the unit
holds, where the power is zero, or below none (`unit.LOW`).
"""

from __future__ import annotations

from collections.abc import Iterator

from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.integer.beside import Beside
from npuc.passes.attention.core.integer.unit import Factors, Head, Unit
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg


class Bias:
    """Constants before a loop over octets, or so many beside each other; `octets` in it.

    int16: the MAC's configuration for products of lanes.
    """

    def __init__(self, k: Context, factors: Factors, int16: Reg, size: int = 1) -> None:
        self.k, self.int16, self.beside = k, int16, Beside(k, size)
        self.per_exponent, self.offset = factors.lanes_16(Head.PER_EXPONENT), factors.lanes_32(Head.OFFSET)
        self.shift = factors.shift(Unit.BIAS_SHIFT)

    def octets(self, exponents: Reg) -> Iterator[Reg]:
        """Of each octet, as scores lie; in registers that later ones take again."""
        wide, bias = self.k.b.cm("bias_wide"), self.k.b.x("bias")
        self.k.b.add(isa.VMAC_vmac_cm_core_dense(wide, self.offset, exponents, self.per_exponent, self.int16))
        self.k.b.add(isa.VSRS_S16_S32_mv_x_srs(bias, wide, self.shift))
        return self.beside.apart(bias)

    def store(self, bias: Reg, place: Reg) -> None:
        """To the octet's place."""
        self.k.store_at(bias, place, 0, "bias")
