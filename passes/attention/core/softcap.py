"""Scores capped: U -> softcap * tanh(scale * U / softcap) in base 2.

With X = scale U / (2 softcap), tanh(2 X) = 2 X - X w h(w), w = X^2: the first term in fp32, the second, where |X| is
below NARROW, in 16-bit fixed point with h of degree five (own fit: largest error of the product 4.8e-5; with the
rounding of all steps 4.2e-4, rms 5.1e-5, over all X).  Beyond, in a slower loop that blocks with a large score take,
tanh(2 X) = 1 - 2 e + 2 e^2 with e = 2^(-4 log2(e) |X|) (error 1.3e-5) by the most accurate recipe of `mantissas`.
Fixed-point numbers: X and X w h with 15 fraction bits, so that X_FP32 = 2^16 X is 2 X in units of 2^-15.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, Context, bf16_pair, f32x16, u32x16
from npuc.passes.attention.core.mantissas import CubicInParts
from npuc.passes.attention.core.parameters import NARROW, bf16_split
from npuc.passes.attention.core.probabilities import Powers
from npuc.passes.machine.ir import Reg

# h, lowest power first; fraction bits of each.
COEFFICIENTS = (2.654306590, -4.034925002, 5.260595906, -4.922863564, 2.740935189, -0.662124172)
FRACTION_BITS = (13, 12, 12, 12, 12, 12)
INT16_ELEMENTWISE = 0x338  # facts/semantics/vmac.md section 3
MAGIC_24 = 1.5 * 2.0**24  # adding it leaves halves: X_FP32 / 2 = X with 15 fraction bits in the low half
MAGIC_23_BITS = 0x4B400000  # fp32 1.5 * 2^23, whose low bits count ones
UNIT = 2.0**15
EXPONENT = 4 * math.log2(math.e) / 2.0**16  # of e, for X_FP32


@dataclass(frozen=True)
class _Constants:
    inner_split: Reg
    inner: Reg
    magic_24: Reg
    magic_23: Reg
    integer_magic: Reg  # cm
    shifts: dict[int, Reg]
    words: dict[str, Reg]


def cap_scores(k: Context) -> None:
    """All scores of the block; `flag` says that one is beyond NARROW."""
    b, flag = k.b, k.registers["flag"]
    wide, narrow = b.r("wide"), b.r("all_narrow")
    b.op("NEZ", wide, flag)
    b.op("EQZ", narrow, flag)
    with b.if_nonzero(narrow):
        _cap(k)
    with b.if_nonzero(wide):
        cap_any_scores(k)


def _constants(k: Context) -> _Constants:
    b = k.b
    magic = b.cm("integer_magic")
    bits = k.constant_x(u32x16(MAGIC_23_BITS), "magic_23_bits")
    k.move(magic.lo, bits)
    k.move(magic.hi, bits)
    shifts = {}
    for places in (0, 14, 15):
        shifts[places] = b.s(f"shift_{places}")
        b.constant(shifts[places], places)
    words = {
        f"h{i}": k.scalar(round(c * 2.0**bits) & 0xFFFF, f"h{i}")
        for i, (c, bits) in enumerate(zip(COEFFICIENTS, FRACTION_BITS, strict=True))
    }
    words["int16"] = k.scalar(INT16_ELEMENTWISE, "int16")
    magic_23 = b.bm("magic_23")
    k.move(magic_23, bits)
    return _Constants(
        inner_split=call_x(k, "inner_split"),
        inner=call_x(k, "inner"),
        magic_24=k.constant_bm(f32x16(MAGIC_24), "magic_24"),
        magic_23=magic_23,
        integer_magic=magic,
        shifts=shifts,
        words=words,
    )


def _cap(k: Context) -> None:
    """Every pair of tiles, all |X| below NARROW: U -> softcap * tanh in base 2."""
    b, shape = k.b, k.shape
    c = _constants(k)
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_capped")
    with b.hardware_loop(shape.groups * shape.key_tiles // 2, "cap", pipelined=False):
        xs = _arguments(k, c, load)
        _store(k, _narrow(k, c, xs), store)


def cap_any_scores(k: Context) -> None:
    """Every pair of tiles, whatever X: seldom, so that few registers count more than time."""
    b, shape = k.b, k.shape
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_capped")
    pairs = k.scalar(shape.groups * shape.key_tiles // 2, "wide_pairs")
    with b.counted_loop(pairs, "cap_wide"):
        c = _constants(k)
        xs = _arguments(k, c, load)
        b.barrier()
        narrow = _narrow(k, c, xs)
        b.barrier()
        _store(k, _wide(k, xs, narrow), store)


def _arguments(k: Context, c: _Constants, load: Reg) -> list[Reg]:
    xs = []
    for _ in range(2):
        u = k.b.bm("u")
        k.load_bm(u, load, "scores", carried=False)
        xs.append(k.scale(u, c.inner_split, c.inner, "x_fp32"))
    return xs


def _store(k: Context, tanhs: list[Reg], store: Reg) -> None:
    split, factor = call_x(k, "outer_split"), call_x(k, "outer")
    for tanh in tanhs:
        k.store_bm(k.scale(tanh, split, factor, "capped"), store, "scores", carried=False)


def _narrow(k: Context, c: _Constants, xs: list[Reg]) -> list[Reg]:
    """tanh(2 X) * 2^15 of two tiles by the polynomial."""
    b = k.b
    fixed, x = b.cm("x_fixed"), b.x("x")
    for half, value in zip((fixed.lo, fixed.hi), xs, strict=True):
        k.add(half, value, c.magic_24)
    b.op("VSRS_S16_S32_mv_x_srs", x, fixed, c.shifts[0])

    def product(left: Reg, right: Reg, places: int, name: str) -> Reg:
        wide, result = b.cm(f"{name}_wide"), b.x(name)
        b.op("VMUL_vmac_cm_core_dense", wide, left, right, c.words["int16"])
        b.op("VSRS_S16_S32_mv_x_srs", result, wide, c.shifts[places])
        return result

    w = product(x, x, 15, "w")
    h = b.x("h")
    b.op("VBCST_16", h, c.words[f"h{len(COEFFICIENTS) - 1}"])
    for i in reversed(range(len(COEFFICIENTS) - 1)):
        places = 15 + FRACTION_BITS[i + 1] - FRACTION_BITS[i]
        partial, coefficient, h_next = product(h, w, places, "h_w"), b.x("coefficient"), b.x("h")
        b.op("VBCST_16", coefficient, c.words[f"h{i}"])
        b.op("VADD_16", h_next, partial, coefficient)
        h = h_next
    correction = product(product(h, w, 14, "w_h"), x, 14, "correction")
    counted, shown = b.cm("counted"), b.cm("shown")
    b.op("VUPS_S32_S16_mv_ups_x2c", counted, correction, c.shifts[0])
    b.op("VADD", shown, counted, c.integer_magic, k.registers["zero"])
    tanhs = []
    for half, value in zip((shown.lo, shown.hi), xs, strict=True):
        fp32, tanh = b.bm("correction_fp32"), b.bm("tanh")
        k.subtract(fp32, half, c.magic_23)
        k.subtract(tanh, value, fp32)
        tanhs.append(tanh)
    return tanhs


def _wide(k: Context, xs: list[Reg], narrow: list[Reg]) -> list[Reg]:
    """tanh(2 X) * 2^15 of two tiles by the exponential, where |X| is NARROW or more; `narrow` elsewhere."""
    b = k.b
    powers = Powers(k, CubicInParts)
    high, rest = bf16_split(EXPONENT, 2)
    exponents, signs, large = [], [], []
    for x in xs:
        bits, magnitude, sign, above = b.x("x_bits"), b.x("x_magnitude"), b.x("x_sign"), b.r("x_large")
        k.move(bits, x)
        b.op("VBAND", magnitude, bits, k.constant_x(u32x16(0x7FFFFFFF), "magnitude_bits"))
        b.op("VBAND", sign, bits, k.constant_x(u32x16(0x80000000), "sign_bit"))
        b.op("VGE_S32", above, magnitude, k.constant_x(f32x16(2.0**16 * NARROW), "narrow_limit"))
        positive = b.bm("x_positive")
        k.move(positive, magnitude)
        split = k.constant_x(bf16_pair(1.0, -rest / high), "exponent_split")
        exponents.append(k.scale(positive, split, k.constant_x(bf16_pair(-high, -high), "exponent"), "power"))
        signs.append(sign)
        large.append(above)
        b.barrier()
    e = powers.of(exponents)
    b.barrier()
    tanhs = []
    for i in range(2):
        kept, square, parts = b.x("e_half"), b.bm("e_square"), k.zero_x("e_parts")
        half = struct.pack("<I", 0xFFFFFFFF) * 8
        b.op("VBAND", kept, e, k.constant_x(half + bytes(HALF) if i == 0 else bytes(HALF) + half, f"half{i}"))
        k.multiply("VMUL", square, kept, kept)
        k.to_bf16(parts.lo, square)
        value, twice = b.bm("tanh_wide"), k.constant_x(bf16_pair(2 * UNIT, 2 * UNIT), "twice")
        k.multiply("VMSC", value, k.constant_bm(f32x16(UNIT), "unit"), kept, twice)
        k.multiply("VMAC", value, value, parts, twice)
        bits, signed, other, chosen = b.x("tanh_bits"), b.x("tanh_signed"), b.x("tanh_narrow"), b.x("tanh_chosen")
        k.move(bits, value)
        b.op("VBOR", signed, bits, signs[i])
        k.move(other, narrow[i])
        b.op("VSEL_32", chosen, other, signed, large[i])
        tanh = b.bm("tanh")
        k.move(tanh, chosen)
        tanhs.append(tanh)
    return tanhs
