"""Output = O / row sums in bf16, compacted at the start of the O buffer.

The reciprocal is that of facts/semantics/exp_softmax.md section 3; O is split in two bf16 parts and
multiplied by both parts of the reciprocal, the most accurate form named there.
Tile n of a group is written at or before where it was read, so the buffer serves both.
"""

from __future__ import annotations

import struct

from npuc.passes.attention.core.context import HALF, TILE, Context, bf16_pair, f32x16
from npuc.passes.machine.ir import Reg

RECIPROCAL_SEED = 0x7EF0  # minus the bits of a bf16 number: its reciprocal within 12 percent


def normalise(k: Context) -> None:
    """All groups."""
    b, shape = k.b, k.shape
    load, store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
    sums = k.pointer("o", shape.value_tiles * TILE, name="p_sums")
    groups = k.scalar(shape.groups, "normalise_groups")
    take_low = k.constant_x(bf16_pair(1.0, 0.0), "take_low")
    parts = k.zero_x("o_parts")
    with b.counted_loop(groups, "normalise"):
        row_sum = b.bm("row_sum")
        b.op("VLDA_dmw_lda_am_ag_idx_imm", row_sum.lo, sums, 0, region="o")
        b.op("VLDA_dmw_lda_am_ag_idx_imm", row_sum.hi, sums, HALF, region="o")
        skip = b.m("o_group")
        b.constant(skip, shape.output_tiles * TILE)
        b.op("PADDA_lda_ptr_inc_idx", sums, skip)
        high, low = _reciprocal(k, row_sum, take_low)
        with b.hardware_loop(shape.value_tiles, "divide"):
            o, rest, quotient, result = b.bm("o"), b.bm("o_rest"), b.bm("quotient"), b.x("result")
            k.load_bm(o, load, "o", carried=False)
            k.to_bf16(parts.lo, o)
            k.multiply("VMSC", rest, o, parts, take_low)
            k.to_bf16(parts.hi, rest)
            k.multiply("VMUL", quotient, parts, high)
            k.multiply("VMAC", quotient, quotient, parts, low)
            k.to_bf16(result.lo, quotient)
            b.op("VST_dmw_sts_w_ag_pstm_nrm_imm", result.lo, store, HALF, region="o", carried=False)
        b.op("PADDA_lda_ptr_inc_idx_imm", load, TILE)


def _reciprocal(k: Context, value: Reg, take_low: Reg) -> tuple[Reg, Reg]:
    """1 / value for 16 positive fp32 lanes, as operands [rh | rh] and [rl | 0]."""
    b = k.b
    parts, rest = k.zero_x("l_parts"), b.bm("l_rest")
    k.to_bf16(parts.lo, value)
    k.multiply("VMSC", rest, value, parts, take_low)
    k.to_bf16(parts.hi, rest)
    seed, guess, error = b.x("seed"), b.x("guess"), b.bm("error")
    mask = k.constant_x(b"\xff" * HALF + b"\x00" * HALF, "low_half")
    b.op("VSUB_16", guess, k.constant_x(struct.pack("<H", RECIPROCAL_SEED) * 32, "seed"), parts)
    b.op("VBAND", seed, guess, mask)
    k.multiply("VMSC", error, k.constant_bm(f32x16(2.0), "two"), parts, seed)
    correction, better = k.zero_x("correction"), b.x("better")
    k.to_bf16(correction.lo, error)
    product = b.bm("product")
    k.multiply("VMUL", product, correction, seed)
    k.to_bf16(better.lo, product)
    k.to_bf16(better.hi, product)
    k.multiply("VMSC", error, k.constant_bm(f32x16(1.0), "unity"), parts, better)
    k.to_bf16(correction.lo, error)
    result = b.bm("reciprocal")
    b.op("VCONV_FP32_BF16", result, better.lo)
    k.multiply("VMAC", result, result, better, correction)
    high, low = b.x("r_high"), k.zero_x("r_low")
    k.to_bf16(high.lo, result)
    k.to_bf16(high.hi, result)
    k.multiply("VMSC", rest, result, high, take_low)
    k.to_bf16(low.lo, rest)
    return high, low
