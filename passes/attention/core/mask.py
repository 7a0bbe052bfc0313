"""A mask: numbers that are added to the scores, in blocks of four queries by eight keys as Q's tiles are.

A number counts `mask_unit` (two bf16 parts) in the unit of the scores; the reference is subtracted with it, before a
score comes in, so that large masks cancel against it first.  Numbers below LEAST hide their key.
"""

from __future__ import annotations

from npuc.passes.attention.core.adjust import Pair, References
from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import (
    SHUFFLE_HIGH_HALVES,
    SHUFFLE_LOW_HALVES,
    Context,
    bf16_pair,
)
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

LEAST = -(2.0**33)
"""The least number that is added: scores are within 1e9 of zero, and sums that far below them take no part."""


class Mask:
    """parts: of a mask's numbers, the address of a block for each; what is below LEAST in the first is hidden."""

    def __init__(self, k: Context, parts: list[Reg]) -> None:
        self.k = k
        self.parts = [k.pointer_from(part, "p_mask") for part in parts]
        self.references = References(k)
        self.unit = call_x(k, "mask_unit")
        self.least = k.constant_x(bf16_pair(LEAST, LEAST), "least_mask")
        self.modes = [k.scalar(mode, "mode_halves") for mode in (SHUFFLE_LOW_HALVES, SHUFFLE_HIGH_HALVES)]
        self.upper = k.scalar(-16, "upper_lanes")

    def begin_group(self) -> None:
        self.references.begin_group()

    def adjust(self, pair: Pair) -> None:
        b = self.k.b
        addends = [self.references.of_next_pair()] * 2
        for number, part in enumerate(self.parts):
            tile, turned = b.x("mask_tile"), b.x("mask_turned")
            self.k.load_x(tile, part, "mask", carried=False)
            b.add(isa.VSHUFFLE(turned, tile, tile, self.k.registers["mode_4x8_to_8x4"]))
            if number == 0:
                bounded = b.x("mask_bounded")
                below, below_upper = b.r("mask_below"), b.r("mask_below_upper")
                b.add(isa.VMAX_LT_BF16(bounded, below, turned, self.least))
                b.add(isa.LSHL(below_upper, below, self.upper))
                for hidden, bits in zip(pair.hidden, (below, below_upper), strict=True):
                    hidden.append(bits)
                turned = bounded
            for i, mode in enumerate(self.modes):
                twice, addend = b.x("mask_twice"), b.bm("addend")
                b.add(isa.VSHUFFLE(twice, turned, turned, mode))
                self.k.multiply(isa.VMAC_F_vmac_bm_core_dense, addend, addends[i], twice, self.unit)
                addends[i] = addend
        for i, score in enumerate(pair.scores):
            pair.scores[i] = b.bm("u_masked")
            self.k.add(pair.scores[i], score, addends[i])
