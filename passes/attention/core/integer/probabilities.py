"""Probabilities as integers: 2^(t - E) times 2^bits, of 8 bits or of 16, as the values' MAC takes them.

With y = slope (t - E) + intercept, P comes of squaring y and adding a constant, four times (`integer_factors.POWER`):
each time a product of 16-bit numbers, whose rounding and bounds come with the conversion to 16 bits.  Scores lie key by
query; each eight keys (or four, with 16 bits) are turned to query by key.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, SHUFFLE_4X8_TO_8X4, Context
from npuc.passes.attention.core.integer.exponents import INT16_ELEMENTWISE, spread_wide
from npuc.passes.attention.core.integer.head import multiplier, shift_register
from npuc.passes.attention.core.integer.query import TRANSPOSE_8X8_BYTES
from npuc.passes.attention.core.integer.shape import BIAS, RECORD, IntegerShape
from npuc.passes.attention.integer_factors import ARGUMENT_BITS, POWER
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

UNSIGNED_ELEMENTWISE = 0x038  # facts/semantics/vmac.md section 2: neither operand signed


def exponentiate(k: Context, shape: IntegerShape) -> None:
    """All scores of the block to probabilities, in place."""
    b = k.b
    power = _Power(k, shape)
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_p")
    pairs = shape.key_tiles // 2
    octets, bias_at = k.scalar(shape.octets, "octets"), k.pointer("state", BIAS, "p_bias")
    on = b.m("record_on")
    b.constant(on, RECORD)
    mode = k.scalar(SHUFFLE_4X8_TO_8X4 if shape.wide else TRANSPOSE_8X8_BYTES, "mode_turn")
    with b.counted_loop(octets, "probability_octets"):
        bias = b.cm("bias")
        for number, part in enumerate((bias.lo.lo, bias.lo.hi, bias.hi.lo, bias.hi.hi)):
            b.add(isa.VLDA_dmw_lda_am_ag_idx_imm(part, bias_at, HALF * number), region="records")
        b.add(isa.PADDA_lda_ptr_inc_idx(bias_at, on))
        with b.hardware_loop(pairs, "probabilities"):
            packed = b.x("p")
            for half in (packed.lo, packed.hi):
                x = b.x("scores")
                k.load_x(x, load, "scores", port="b", carried=False)
                wide = power.of(x, bias)
                if shape.wide:
                    narrow, turned = b.x("p_16"), b.x("p_turned")
                    b.add(isa.VSRS_D16_S32_mv_x_srs(narrow, wide, power.last))
                    b.add(isa.VSHUFFLE(turned, narrow, narrow, mode))
                    k.store_x(turned, store, "scores", carried=False)
                else:
                    b.add(isa.VSRS_D8_S32_mv_w_srs(half, wide, power.last))
            if not shape.wide:
                turned = b.x("p_turned")
                b.add(isa.VSHUFFLE(turned, packed, packed, mode))
                k.store_x(turned, store, "scores", carried=False)


class _Power:
    """Constants before the loop, `of` in it."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, b = k, k.b
        self.int16, self.unsigned = k.scalar(INT16_ELEMENTWISE, "int16"), k.scalar(UNSIGNED_ELEMENTWISE, "uint16")
        self.slope, self.argument = multiplier(k, 0, "slope"), shift_register(k, 1, "argument_shift")
        self.square, self.last = b.s("square_shift"), b.s("last_shift")
        b.constant(self.square, ARGUMENT_BITS)
        b.constant(self.last, 2 * ARGUMENT_BITS - shape.probability_bits)
        self.constants = [
            spread_wide(k, k.scalar(round(constant * 2.0 ** (2 * ARGUMENT_BITS)), f"constant{i}"), f"constant{i}")
            for i, constant in enumerate(POWER.constants)
        ]

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
