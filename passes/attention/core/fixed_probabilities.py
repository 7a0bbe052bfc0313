"""P = 2^t in bf16 from scores as 16-bit numbers (own forms of facts/semantics/exp_softmax.md, recipe I, steps 3 and 4).

32 scores a pass: t + BIAS with eight fraction bits, whose high byte is bf16's exponent and whose low byte f becomes the
mantissa, by recipe: fast f + CURVE f (f - 1), largest error 3.2e-3 before rounding; balanced
f + (K + f) f (f - 1) / 16, largest error 6e-4.  At the lowest x the number is zero, and so is P; a common factor of all
P does not count.
"""

from __future__ import annotations

import struct

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, INT16_ELEMENTWISE, TILE, Context, u32x16
from npuc.passes.attention.core.fixed_scores import HIGHEST, ZERO
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

PLACES = 15  # fraction bits beyond those eight
BIAS = 112  # 127 less 15, in whose place t has as many more values below
CURVE, CURVE_PLACES = 0.3435, 9  # and fraction bits of what f is multiplied by
CUBIC, CUBIC_PLACES = 1278, 5  # K in units of 2^-8; what f (K + f) has more than h
CUBIC_INTERVAL = 11  # bundles two units of 32 take, as registers do not suffice for 10


def _lanes(value: int) -> bytes:
    return struct.pack("<H", value) * 32


def exponentiate_fixed(k: Context) -> Reg:
    """All scores of the block to probabilities, in place; whether one was above HIGHEST, and P wrong."""
    b, shape = k.b, k.shape
    cubic = shape.recipe != "fast"
    load, store = k.pointer("scores", name="p_x"), k.pointer("scores", name="p_p")
    unit, largest = call_x(k, "unit"), k.constant_x(_lanes(ZERO), "largest")
    powers = Powers(k)
    bias, bits = b.cm("bias"), k.constant_x(u32x16(BIAS << 8 + PLACES), "bias_bits")
    for half in (bias.lo, bias.hi):
        k.move(half, bits)
    b.add(isa.VMSC_vmac_cm_core_dense(bias, bias, largest, unit, powers.int16))  # x counts from below ZERO
    # Two at a time, as what is made of y waits for the slope.
    count, least = shape.groups * shape.key_tiles // 4, CUBIC_INTERVAL if cubic else 1
    with b.hardware_loop(count, "probabilities", least_interval=least):
        xs = [b.x("x") for _ in range(2)]
        for x in xs:  # both before the first store, which they must not pass
            k.load_x(x, load, "scores", port="b", carried=False, bank="scores")
        for x in xs:
            y, t = b.x("y"), b.cm("t")
            b.add(isa.VMAX_LT_S16(largest, b.r("mask"), largest, x))
            b.add(isa.VMAC_vmac_cm_core_dense(t, bias, x, unit, powers.int16))
            b.add(isa.VSRS_D16_S32_mv_x_srs(y, t, powers.shifts[PLACES]))
            powers.store(y, store)
    above, limit = b.r("above"), b.x("upper_limit")
    b.add(isa.VBCST_16(limit, k.scalar(HIGHEST, "upper_limit")))
    b.add(isa.VGE_S16(above, largest, limit))
    b.add(isa.NEZ(above, above))
    return above


class Powers:
    """P from y, 2^8 times the exponent it has as a bf16 number: constants before the loop, `store` in it."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.cubic = k.shape.recipe != "fast"
        self.low, self.high = k.constant_x(_lanes(0x00FF), "low_byte"), k.constant_x(_lanes(0xFF00), "high_byte")
        curve = CUBIC if self.cubic else round(CURVE * 2.0 ** (PLACES - 8 + CURVE_PLACES))
        self.curve = k.constant_x(_lanes(curve), "curve")
        self.int16 = k.scalar(INT16_ELEMENTWISE, "int16")
        self.slope_places = CUBIC_PLACES if self.cubic else CURVE_PLACES
        self.shifts = {places: k.b.s(f"shift_{places}") for places in (self.slope_places, PLACES, PLACES + 1)}
        for places, register in self.shifts.items():
            k.b.constant(register, places)

    def store(self, y: Reg, store: Reg) -> None:
        """P of 32 y, where `store` points; it moves on."""
        b = self.k.b
        f, g, h = (b.x(name) for name in ("f", "f_less_one", "slope"))
        wide, whole, p = (b.cm(name) for name in ("slope_wide", "whole", "p"))
        b.add(isa.VBAND(f, y, self.low))
        b.add(isa.VBOR(g, y, self.high))  # f - 1, signed
        factor = self.curve
        if self.cubic:
            factor = b.x("f_and_k")
            b.add(isa.VADD_16(factor, f, self.curve))
        b.add(isa.VMUL_vmac_cm_core_dense(wide, f, factor, self.int16))
        b.add(isa.VSRS_S16_S32_mv_x_srs(h, wide, self.shifts[self.slope_places]))
        b.add(isa.VUPS_S32_D16_mv_ups_x2c(whole, y, self.shifts[PLACES]))
        b.add(isa.VMAC_vmac_cm_core_dense(p, whole, h, g, self.int16))
        upper = isa.VST_SRS_S16_S32_ag_idx_imm(p.hi, self.shifts[PLACES + 1], store, HALF)
        lower = isa.VST_SRS_S16_S32_ag_pstm_nrm_imm(p.lo, self.shifts[PLACES + 1], store, TILE)
        for stored in (upper, lower):
            b.add(stored, region="scores", carried=False, bank="scores")
