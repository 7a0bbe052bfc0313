"""Scores capped: U -> softcap * tanh(scale * U / softcap) in base 2, less the reference where there is no mask.

With X = scale U / (2 softcap), tanh(2 X) = 2 X - X w h(w), w = X^2: the first term in fp32, the second, where |X| is
below NARROW, in 16-bit fixed point with h of degree five (own fits).  Beyond, in a slower loop that blocks with a large
score take, tanh(2 X) = 1 - 2 e + 2 e^2 with e = 2^(-4 log2(e) |X|) (error 1.3e-5) by the most accurate recipe of
`mantissas`.

Fixed-point numbers: X and X w h with 15 fraction bits, so that X_FP32 = 2^16 X is 2 X in units of 2^-15: with the
rounding of all steps the largest error is 3.3e-4, rms 5.0e-5.  In a block whose |X| are all below SMALL everything is
that of 2 X, whose bits count an eighth: 2.3e-5, rms 5e-6.  So small scores do not lose the few bits that their cubes
have (a softcap of 50 multiplies the errors by 50).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from npuc.passes.attention.core.adjust import Reference, References, Threshold, adjust_scores
from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, INT16_ELEMENTWISE, Context, bf16_pair, f32x16, u32x16
from npuc.passes.attention.core.mantissas import CubicInParts
from npuc.passes.attention.core.parameters import NARROW, bf16_split
from npuc.passes.attention.core.probabilities import Powers
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

# h, lowest power first, for all X, and for those below SMALL: of w, and of 4 w; fraction bits of each.
COEFFICIENTS = (2.654306590, -4.034925002, 5.260595906, -4.922863564, 2.740935189, -0.662124172)
COEFFICIENTS_SMALL = (2.666664100, -1.066592849, 0.430980099, -0.171092885, 0.060470126, -0.013447070)
FRACTION_BITS = (13, 12, 12, 12, 12, 12)
CAP_INTERVAL = 31  # bundles a pair of tiles that the search comes to; it need not try fewer
PAIRS = ((0, 14), (2, 15), (4, 15))  # h_i + w h_(i + 1): i, and to how many places less the product comes
MAGIC_24 = 1.5 * 2.0**24  # adding it leaves halves: X_FP32 / 2 = X with 15 fraction bits in the low half
MAGIC_23 = 1.5 * 2.0**23  # its low bits count ones; of 1.5 * 2^20 eighths
UNIT = 2.0**15
MAGIC_IN, MAGIC_OUT = 6, 7  # places in a row of the table, behind h
ROW_SHIFT = 5  # log2 of its bytes
EXPONENT = 4 * math.log2(math.e) / 2.0**16  # of e, for X_FP32


def _table() -> bytes:
    """What the polynomial is made of: a row of words for all X, and one for small ones."""
    rows = (COEFFICIENTS, MAGIC_24, MAGIC_23), (COEFFICIENTS_SMALL, MAGIC_24 / 2, MAGIC_23 / 8)
    return b"".join(
        struct.pack(
            "<6I2f", *(round(c * 2.0**bits) & 0xFFFF for c, bits in zip(h, FRACTION_BITS, strict=True)), *magics
        )
        for h, *magics in rows
    )


def cap_scores(k: Context) -> None:
    """All scores of the block, of which `flag` says that one is beyond NARROW; less the reference where there is no
    mask, and `flag` says then that one outgrows it."""
    b, flag = k.b, k.registers["flag"]
    wide, narrow = b.r("wide"), b.r("all_narrow")
    b.add(isa.NEZ(wide, flag))
    b.add(isa.EQZ(narrow, flag))
    with b.if_nonzero(narrow):
        _scale_arguments(k)
        _cap(k)
    with b.if_nonzero(wide):
        cap_any_scores(k)
        if not k.shape.mask_parts:
            adjust_scores(k, [Reference(k), Threshold(k)])


def cap_any_scores(k: Context, keep: Callable[[list[Reg]], None] | None = None) -> None:
    """Every pair of tiles, whatever X: seldom, so that few registers count more than time.

    keep: adds what is done with two tiles of capped scores, where they are not to take the place of the scores.
    """
    b, shape = k.b, k.shape
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_capped")
    pairs = k.scalar(shape.groups * shape.key_tiles // 2, "wide_pairs")
    with b.counted_loop(pairs, "cap_wide"):
        split, factor = call_x(k, "inner_split"), call_x(k, "inner")
        xs = []
        for _ in range(2):
            u = b.bm("u")
            k.load_bm(u, load, "scores", carried=False)
            xs.append(k.scale(u, split, factor, "x_fp32"))
        b.barrier()
        narrow = _Polynomial(k).tanhs(xs, xs)
        b.barrier()
        tanhs = _wide(k, xs, narrow)
        split, factor = call_x(k, "outer_split"), call_x(k, "outer")
        capped = [k.scale(tanh, split, factor, "capped") for tanh in tanhs]
        if keep is not None:
            keep(capped)
        else:
            for score in capped:
                k.store_bm(score, store, "scores", carried=False)


def _scale_arguments(k: Context) -> None:
    """U -> X_FP32, a loop of its own as what comes of it is wanted twice, long after one another."""
    b, shape = k.b, k.shape
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_x")
    split, factor = call_x(k, "inner_split"), call_x(k, "inner")
    with b.hardware_loop(shape.groups * shape.key_tiles // 2, "cap_arguments"):
        us = [b.bm(f"u{i}") for i in range(2)]
        for u in us:
            k.load_bm(u, load, "scores", carried=False, bank="scores")
        for u in us:
            k.store_bm(k.scale(u, split, factor, "x_fp32"), store, "scores", carried=False, bank="scores")


def _cap(k: Context) -> None:
    """Every pair of tiles, all |X| below NARROW: X_FP32 -> softcap * tanh in base 2, less the reference."""
    b, shape = k.b, k.shape
    polynomial = _Polynomial(k)
    first, again = k.pointer("scores", name="p_x"), k.pointer("scores", name="p_x_again")
    store = k.pointer("scores", name="p_capped")
    split, factor = call_x(k, "outer_split"), call_x(k, "outer")
    reference = None if shape.mask_parts else _LessReference(k)
    with b.hardware_loop(shape.groups * shape.key_tiles // 2, "cap", least_interval=CAP_INTERVAL):
        xs = [[b.bm(f"x{i}") for i in range(2)] for _ in range(2)]
        for pair, load in zip(xs, (first, again), strict=True):
            for x in pair:
                k.load_bm(x, load, "scores", carried=False, bank="scores")
        capped = [k.scale(tanh, split, factor, "capped") for tanh in polynomial.tanhs(*xs)]
        if reference is not None:
            capped = reference.applied(capped)
        for score in capped:
            k.store_bm(score, store, "scores", carried=False, bank="scores")
    if reference is not None:
        reference.test()


class _LessReference:
    """Takes the reference from scores, and keeps the largest that results.

    Scores are compared as integers: wrong between negative numbers only, and the threshold is positive.
    """

    def __init__(self, k: Context) -> None:
        self.k, self.references = k, References(k)
        self.largest = k.constant_x(f32x16(-1.0), "largest")

    def applied(self, scores: list[Reg]) -> list[Reg]:
        k, b = self.k, self.k.b
        reference, moved = self.references.of_next_pair(), []
        for score in scores:
            less, bits = b.bm("u_moved"), b.x("u_bits")
            k.add(less, score, reference)
            k.move(bits, less)
            b.add(isa.VMAX_LT_S32(self.largest, b.r("mask"), self.largest, bits))
            moved.append(less)
        return moved

    def test(self) -> None:
        self.k.b.add(isa.VGE_S32(self.k.registers["flag"], self.largest, call_x(self.k, "threshold")))


class _Polynomial:
    """tanh(2 X) * 2^15 = X_FP32 - X w h(w), w = X^2, for |X| below NARROW: constants before the loop, `tanhs` in it."""

    def __init__(self, k: Context) -> None:
        self.k = k
        b = k.b
        self.row = self._row()
        self.h = [self._word(i, f"h{i}") for i in range(len(COEFFICIENTS))]
        self.magic_24, self.magic = b.bm("magic_24"), b.cm("integer_magic")
        for half, place in ((self.magic_24, MAGIC_IN), (self.magic.lo, MAGIC_OUT), (self.magic.hi, MAGIC_OUT)):
            bits = b.x("magic_bits")
            b.add(isa.VBCST_32(bits, self._word(place, "magic_word")))
            k.move(half, bits)
        self.shifts = {places: b.s(f"shift_{places}") for places in (0, 13, 14, 15)}
        for places, register in self.shifts.items():
            b.constant(register, places)
        self.int16 = k.scalar(INT16_ELEMENTWISE, "int16")

    def _row(self) -> Reg:
        """Pointer to that of the table which serves the block."""
        k = self.k
        if k.shape.bounded:  # others have their own
            return k.pointer_from(k.scalar(k.pool.address + k.pool.offset(_table()), "row"), "p_polynomial")
        small = k.b.r("small")
        k.b.add(isa.EQZ(small, k.registers["large"]))
        row = k.shifted(small, ROW_SHIFT, "polynomial_row")
        return k.pointer_from(k.sum(row, k.pool.address + k.pool.offset(_table())), "p_polynomial")

    def _word(self, place: int, name: str) -> Reg:
        word = self.k.b.r(name)
        self.k.b.add(isa.LDA_dms_lda_idx_imm(word, self.row, 4 * place), region="constants")
        return word

    def tanhs(self, xs: list[Reg], again: list[Reg]) -> list[Reg]:
        """Of two tiles of X_FP32; `again`: the same once more, for the end."""
        k, b = self.k, self.k.b
        fixed, x = b.cm("x_fixed"), b.x("x")
        for half, value in zip((fixed.lo, fixed.hi), xs, strict=True):
            k.add(half, value, self.magic_24)
        b.add(isa.VSRS_S16_S32_mv_x_srs(x, fixed, self.shifts[0]))
        w = self._product(x, x, 15, "w")
        cube, square = self._product(x, w, 15, "x_w"), self._product(w, w, 15, "w_w")
        # h = (h0 + h1 w) + w^2 ((h2 + h3 w) + w^2 (h4 + h5 w)): short chains, short lives.
        low, middle, high = (self._sum(i, self._product(self._spread(i + 1), w, places, "h_w")) for i, places in PAIRS)
        inner, outer = b.x("h_inner"), b.x("h")
        b.add(isa.VADD_16(inner, middle, self._product(square, high, 15, "w_w_h")))
        b.add(isa.VADD_16(outer, low, self._product(square, inner, 14, "w_w_h")))
        correction = self._product(outer, cube, 13, "correction")
        counted, shown = b.cm("counted"), b.cm("shown")
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(counted, correction, self.shifts[0]))
        b.add(isa.VADD(shown, counted, self.magic, k.registers["zero"]))
        tanhs = []
        for half, value in zip((shown.lo, shown.hi), again, strict=True):
            fp32, tanh = b.bm("correction_fp32"), b.bm("tanh")
            k.subtract(fp32, half, self.magic.lo)
            k.subtract(tanh, value, fp32)
            tanhs.append(tanh)
        return tanhs

    def _product(self, left: Reg, right: Reg, places: int, name: str) -> Reg:
        wide, result = self.k.b.cm(f"{name}_wide"), self.k.b.x(name)
        self.k.b.add(isa.VMUL_vmac_cm_core_dense(wide, left, right, self.int16))
        self.k.b.add(isa.VSRS_S16_S32_mv_x_srs(result, wide, self.shifts[places]))
        return result

    def _spread(self, i: int) -> Reg:
        x = self.k.b.x(f"h{i}")
        self.k.b.add(isa.VBCST_16(x, self.h[i]))
        return x

    def _sum(self, i: int, product: Reg) -> Reg:
        result = self.k.b.x("h_pair")
        self.k.b.add(isa.VADD_16(result, product, self._spread(i)))
        return result


def _wide(k: Context, xs: list[Reg], narrow: list[Reg]) -> list[Reg]:
    """tanh(2 X) * 2^15 of two tiles by the exponential, where |X| is NARROW or more; `narrow` elsewhere."""
    b = k.b
    powers = Powers(k, CubicInParts)
    high, rest = bf16_split(EXPONENT, 2)
    exponents, signs, large = [], [], []
    for x in xs:
        bits, magnitude, sign, above = b.x("x_bits"), b.x("x_magnitude"), b.x("x_sign"), b.r("x_large")
        k.move(bits, x)
        b.add(isa.VBAND(magnitude, bits, k.constant_x(u32x16(0x7FFFFFFF), "magnitude_bits")))
        b.add(isa.VBAND(sign, bits, k.constant_x(u32x16(0x80000000), "sign_bit")))
        b.add(isa.VGE_S32(above, magnitude, k.constant_x(f32x16(2.0**16 * NARROW), "narrow_limit")))
        positive = b.bm("x_positive")
        k.move(positive, magnitude)
        split = k.constant_x(bf16_pair(1.0, -rest / high), "exponent_split")
        exponents.append(k.scale(positive, split, k.constant_x(bf16_pair(-high, -high), "exponent"), "power"))
        signs.append(sign)
        large.append(above)
        b.barrier()
    (e,) = powers.of(exponents)
    b.barrier()
    tanhs = []
    for i in range(2):
        kept, square, parts = b.x("e_half"), b.bm("e_square"), k.zero_x("e_parts")
        half = struct.pack("<I", 0xFFFFFFFF) * 8
        b.add(isa.VBAND(kept, e, k.constant_x(half + bytes(HALF) if i == 0 else bytes(HALF) + half, f"half{i}")))
        k.multiply(isa.VMUL_F_vmac_bm_core_dense, square, kept, kept)
        k.to_bf16(parts.lo, square)
        value, twice = b.bm("tanh_wide"), k.constant_x(bf16_pair(2 * UNIT, 2 * UNIT), "twice")
        k.multiply(isa.VMSC_F_vmac_bm_core_dense, value, k.constant_bm(f32x16(UNIT), "unit"), kept, twice)
        k.multiply(isa.VMAC_F_vmac_bm_core_dense, value, value, parts, twice)
        bits, signed, other, chosen = b.x("tanh_bits"), b.x("tanh_signed"), b.x("tanh_narrow"), b.x("tanh_chosen")
        k.move(bits, value)
        b.add(isa.VBOR(signed, bits, signs[i]))
        k.move(other, narrow[i])
        b.add(isa.VSEL_32(chosen, other, signed, large[i]))
        tanh = b.bm("tanh")
        k.move(tanh, chosen)
        tanhs.append(tanh)
    return tanhs
