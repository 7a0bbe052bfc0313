"""Capped scores as 16-bit numbers, for softcaps up to `parameters.MOST_BOUNDED`: no reference is ever wanted.

x = round(2^places * U), places = floor(log2 of what a score counts in units of twice the softcap) + 16, so that
t = scale * U / softcap = m x / 2^15 with m in [1, 2].  With w = (x / 2^15)^2 the capped score in base 2 is x times a
polynomial of w, whose coefficients `parameters.capped_words` makes for the call (own fit of tanh for |t| <= 2, largest
error 3.4e-5, that is 2.4e-3 in base 2 with a softcap of 50):

    c0 + c1 w + w^2 (c2 + c3 w + w^2 (c4 + c5 w + c6 w^2))

Its product with x, and 127 more, is the exponent that P has as a bf16 number.  Numerators and sums are of P itself:
inside fp32's range, as the capped scores are bounded.  Blocks in which an x saturates are done again in fp32.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, INT16_ELEMENTWISE, TILE, Context, f32x16, u32x16
from npuc.passes.attention.core.fixed_probabilities import Powers
from npuc.passes.attention.core.fixed_scores import compute_again, fill_constant
from npuc.passes.attention.core.parameters import (
    CAPPED_SHIFT,
    LAST_COEFFICIENT,
    LEAST_CAPPED_SHIFT,
    Word,
)
from npuc.passes.attention.core.softcap import cap_any_scores
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

BIAS = 127  # exponent of 1
PLACES = 14  # fraction bits of exponents beyond eight
SATURATED = 32_765  # w of x at the ends of its range, and of no other
# Of each coefficient: the half of a word it is in, and places by which it moves up where products are added to it.
HALVES = [(word, place) for word in (Word.INVERSE, Word.INVERSE_REST, Word.REFINE) for place in (0, 1)]
HALVES.append((Word.FLAGS, 1))
ADDED = {0: 14, 2: 14, 4: 15}
MAGIC_15 = 1.5 * 2.0**15  # adding it leaves eight fraction bits in the low half


def prepare_capped(k: Context) -> None:
    """Fills the place of MAGIC = 1.5 * 2^(19 - places), by which fp32 patterns count x in sixteenths."""
    b = k.b
    exponent, magic, vector = b.r("factor_exponent"), b.r("magic_bits"), b.x("magic")
    first = k.shifted(k.low_half(Word.FACTOR, "factor_first"), 16, "factor_bits", signed=False)
    b.add(isa.AND(exponent, first, k.scalar(0xFF << 23, "exponent_bits")))
    b.add(isa.SUB(magic, k.scalar((273 << 23) + (1 << 22), "magic_sum"), exponent))
    b.add(isa.VBCST_32(vector, magic))
    fill_constant(k, "magic", vector)


def cap_fixed(k: Context) -> Reg:
    """x to y in place, 2^8 times the exponent that P has as a bf16 number; whether an x is saturated, and y wrong."""
    b = k.b
    polynomial = _Polynomial(k)
    first, again, store = (k.pointer("scores", name=f"p_{name}") for name in ("x", "x_again", "y"))
    largest = k.zero_x("largest")
    bias, bits = b.cm("bias"), k.constant_x(u32x16(BIAS << 8 + PLACES), "bias_bits")
    for half in (bias.lo, bias.hi):
        k.move(half, bits)
    # Two at a time, as the square is wanted long after it is made.
    with b.hardware_loop(_units(k) // 2, "cap"):
        xs = [[b.x("x") for _ in range(2)] for _ in range(2)]
        for pair, load in zip(xs, (first, again), strict=True):
            for x in pair:
                k.load_x(x, load, "scores", port="b", carried=False, bank="scores")
        for x, same in zip(*xs, strict=True):
            w, t = polynomial.square(x), b.cm("t")
            b.add(isa.VMAX_LT_S16(largest, b.r("mask"), largest, w))
            b.add(isa.VMAC_vmac_cm_core_dense(t, bias, same, polynomial.slope(w), polynomial.int16))
            upper = isa.VST_SRS_D16_S32_ag_idx_imm(t.hi, polynomial.shifts[PLACES], store, HALF)
            lower = isa.VST_SRS_D16_S32_ag_pstm_nrm_imm(t.lo, polynomial.shifts[PLACES], store, TILE)
            for stored in (upper, lower):
                b.add(stored, region="scores", carried=False, bank="scores")
    above, limit = b.r("above"), b.x("saturated")
    b.add(isa.VBCST_16(limit, k.scalar(SATURATED, "saturated")))
    b.add(isa.VGE_S16(above, largest, limit))
    b.add(isa.NEZ(above, above))
    b.barrier()  # registers are few
    return above


def exponentiate_capped(k: Context) -> None:
    """y to P in place."""
    load, store = k.pointer("scores", name="p_y"), k.pointer("scores", name="p_p")
    powers = Powers(k)
    with k.b.hardware_loop(_units(k) // 2, "probabilities"):
        ys = [k.b.x("y") for _ in range(2)]
        for y in ys:  # both before the first store, which they must not pass
            k.load_x(y, load, "scores", port="b", carried=False, bank="scores")
        for y in ys:
            powers.store(y, store)


def _units(k: Context) -> int:
    """32 scores each."""
    return k.shape.groups * k.shape.key_tiles // 2


class _Polynomial:
    """Capped scores over x: constants before the loop."""

    def __init__(self, k: Context) -> None:
        self.k, self.int16 = k, k.scalar(INT16_ELEMENTWISE, "int16")
        b = k.b
        self.shifts = {places: b.s(f"shift_{places}") for places in (14, 15)}
        for places, register in self.shifts.items():
            b.constant(register, places)
        further = k.shifted(k.word(Word.FLAGS), -CAPPED_SHIFT, "further_places", signed=False)
        self.last = b.s("slope_places")
        b.add(isa.MOV_mv_scl(self.last, k.sum(further, LEAST_CAPPED_SHIFT)))
        self.factors, self.sums = {}, {i: b.cm(f"c{i}") for i in ADDED}
        for i, (word, place) in enumerate(HALVES):
            x, bits = b.x(f"c{i}"), k.high_half(word, f"c{i}") if place else k.word(word)
            if word == Word.FLAGS:
                b.add(isa.AND(bits, bits, k.scalar(LAST_COEFFICIENT, "last_coefficient")))
            b.add(isa.VBCST_16(x, bits))
            self.factors[i] = x
        b.barrier()  # accumulators, and pointers, are in use until the block's last scores are stored
        for i, places in ADDED.items():
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(self.sums[i], self.factors[i], self.shifts[places]))

    def square(self, x: Reg) -> Reg:
        wide, result = self.k.b.cm("w_wide"), self.k.b.x("w")
        self.k.b.add(isa.VMUL_vmac_cm_core_dense(wide, x, x, self.int16))
        self.k.b.add(isa.VSRS_S16_S32_mv_x_srs(result, wide, self.shifts[15]))
        return result

    def slope(self, w: Reg) -> Reg:
        w_w = self.square(w)
        high = self._sum(4, w, w_w, self.factors[6], self.shifts[15])
        middle = self._sum(2, w, w_w, high, self.shifts[14])
        return self._sum(0, w, w_w, middle, self.last)

    def _sum(self, i: int, w: Reg, w_w: Reg, following: Reg, places: Reg) -> Reg:
        """c_i + w c_(i + 1) + w^2 * following."""
        b = self.k.b
        linear, whole, result = b.cm("linear"), b.cm("whole"), b.x("polynomial")
        b.add(isa.VMAC_vmac_cm_core_dense(linear, self.sums[i], w, self.factors[i + 1], self.int16))
        b.add(isa.VMAC_vmac_cm_core_dense(whole, linear, w_w, following, self.int16))
        b.add(isa.VSRS_S16_S32_mv_x_srs(result, whole, places))
        return result


def cap_again(k: Context, keys: Reg) -> None:
    """P of all scores of the block by way of fp32; seldom."""
    b = k.b
    b.constant("crSat", 0)  # low bits are wanted
    compute_again(k, keys)
    store = k.pointer("scores", name="p_p")

    def keep(capped: list[Reg]) -> None:
        # Pass n writes where pass n // 2 has read.
        biased, y, shift = b.cm("biased"), b.x("y"), b.s("no_shift")
        magic = k.constant_bm(f32x16(MAGIC_15 + BIAS), "magic_15")
        b.constant(shift, 0)
        for half, score in zip((biased.lo, biased.hi), capped, strict=True):
            k.add(half, score, magic)
        b.add(isa.VSRS_S16_S32_mv_x_srs(y, biased, shift))
        b.barrier()
        Powers(k).store(y, store)

    cap_any_scores(k, keep)
    b.constant("crSat", 1)
