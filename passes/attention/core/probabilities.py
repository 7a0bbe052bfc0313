"""P = 2^(c U) in bf16, tile by tile as the scores lie (key by query).

Two 4x4 tiles (eight keys, four queries) a pass.  U is split in two bf16 parts, so that the factor
c = scale * log2(e) is applied with about 16 bits and never folded into Q; t = c U is split in an integer, which goes to
the exponent, and a fraction, whose power of two is the mantissa (`mantissas`).  P overwrites the scores: pass n writes
where pass n // 2 has read.
"""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.attention.core.context import Context, f32x16
from npuc.passes.attention.core.mantissas import MANTISSAS
from npuc.passes.machine.ir import Operand, Reg

MAGIC_23 = 1.5 * 2.0**23  # adding it rounds to integers (facts/semantics/exp_softmax.md section 1)
MAGIC_16 = 1.5 * 2.0**16  # adding it leaves seven fraction bits (the same section)
LOWEST_EXPONENT = -127.0
"""2^t with this t is the bf16 pattern of 1, less 127 exponent steps: exactly zero.  Just above it bf16 is subnormal."""


@dataclass(frozen=True)
class _Constants:
    split: Reg  # [1 | -d] with c = ch (1 + d), ch = bf16(c)
    factor: Reg  # [ch | ch]
    lowest: Reg
    magic_23: Reg
    magic_16: Reg


def exponentiate(k: Context) -> None:
    """All scores of the block to probabilities, tile pair by tile pair."""
    b, shape = k.b, k.shape
    constants = _Constants(
        split=k.call_x("split"),
        factor=k.call_x("factor_high"),
        lowest=k.constant_x(f32x16(LOWEST_EXPONENT), "lowest"),
        magic_23=k.constant_bm(f32x16(MAGIC_23), "magic_23"),
        magic_16=k.constant_bm(f32x16(MAGIC_16), "magic_16"),
    )
    mantissas = MANTISSAS[shape.recipe](k, 2)
    shift = b.s("no_shift")
    b.constant(shift, 0)
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_p")
    with b.hardware_loop(shape.groups * shape.key_tiles // 2, "probabilities"):
        mantissa, exponent = b.x("mantissa"), b.cm("exponent")
        for i, (half, place) in enumerate(((mantissa.lo, exponent.lo), (mantissa.hi, exponent.hi))):
            u = b.bm("u")
            k.load_bm(u, load, "scores", carried=False)
            mantissas.power(i, _fraction(k, constants, u, place), half)
        steps, p = b.x("steps"), b.x("p")
        b.op("VSRS_S16_S32_mv_x_srs", steps, exponent, shift)
        b.op("VADD_16", p, mantissa, steps)
        k.store_x(p, store, "scores", carried=False)


def _fraction(k: Context, c: _Constants, u: Reg, exponent: Operand) -> Reg:
    """The fraction of c u in [-1/2, 1/2], and in `exponent` its integer as k * 128 in the low 16 bits."""
    b = k.b
    parts, rest, t = b.x("u_parts"), b.bm("u_rest"), b.bm("t")
    k.to_bf16(parts.lo, u)
    k.to_bf16(parts.hi, u)
    k.multiply("VMSC", rest, u, parts, c.split)  # u - uh + d uh
    k.to_bf16(parts.hi, rest)
    k.multiply("VMUL", t, parts, c.factor)
    # t <= 0 but for less than the rebase threshold; as unsigned numbers larger patterns are more negative.
    raw, clamped, bounded = b.x("t_bits"), b.x("t_clamped"), b.bm("t_bounded")
    k.move(raw, t)
    b.op("VMIN_GE_D32", clamped, b.r("mask"), raw, c.lowest)
    k.move(bounded, clamped)
    shifted, whole, f = b.bm("t_shifted"), b.bm("t_whole"), b.bm("t_fraction")
    k.add(shifted, bounded, c.magic_23)
    k.subtract(whole, shifted, c.magic_23)
    k.subtract(f, bounded, whole)
    k.add(exponent, whole, c.magic_16)
    return f
