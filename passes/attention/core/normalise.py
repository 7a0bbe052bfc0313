"""Output = O / row sums in bf16, compacted at the start of the O buffer.

The reciprocal is that of facts/semantics/exp_softmax.md section 3; O is split in two bf16 parts and
multiplied by both parts of the reciprocal, the most accurate form named there.
Tile n of a group is written at or before where it was read, so the buffer serves both.
"""

from __future__ import annotations

import struct

from npuc.passes.attention.core.context import HALF, TILE, Context, bf16_pair, f32x16
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

SMALLEST_SUM = 2.0**-100  # positive fp32 patterns order like integers
UNROLLED = 4  # tiles a pass: each waits for its own parts only
RECIPROCAL_SEED = 0x7EF0  # minus the bits of a bf16 number: its reciprocal within 12 percent


def normalise(k: Context, count: int, before: Reg | None = None) -> None:
    """So many groups; before: register that says how many were done, which goes on to these."""
    b, shape = k.b, k.shape
    load, store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
    sums = k.pointer("o", shape.value_tiles * TILE, name="p_sums")
    if before is not None:
        for pointers, group_bytes in (((load, sums), shape.output_tiles * TILE), ((store,), shape.value_tiles * HALF)):
            on, done = b.m("o_done"), b.r("o_done")
            b.add(isa.MUL_mul_r_rr(done, before, k.scalar(group_bytes, "o_group")))
            b.add(isa.MOV_mv_scl(on, done))
            for pointer in pointers:
                b.add(isa.PADDA_lda_ptr_inc_idx(pointer, on))
        b.add(isa.ADD_add_r_ri(before, before, count))
    groups = k.scalar(count, "normalise_groups")
    take_low = k.constant_x(bf16_pair(1.0, 0.0), "take_low")
    unrolled = UNROLLED if shape.value_tiles % UNROLLED == 0 else 2  # the head size is a multiple of eight
    parts = [k.zero_x(f"o_parts{i}") for i in range(unrolled)]
    with b.counted_loop(groups, "normalise"):
        row_sum = b.bm("row_sum")
        b.add(isa.VLDA_dmw_lda_am_ag_idx_imm(row_sum.lo, sums, 0), region="o")
        b.add(isa.VLDA_dmw_lda_am_ag_idx_imm(row_sum.hi, sums, HALF), region="o")
        skip = b.m("o_group")
        b.constant(skip, shape.output_tiles * TILE)
        b.add(isa.PADDA_lda_ptr_inc_idx(sums, skip))
        high, low = reciprocal(k, not_zero(k, row_sum), take_low)
        with b.hardware_loop(shape.value_tiles // unrolled, "divide"):
            tiles = [b.bm(f"o{i}") for i in range(unrolled)]
            for tile in tiles:  # all before the first store, which they must not pass
                k.load_bm(tile, load, "o", carried=False)
            for tile, part in zip(tiles, parts, strict=True):
                _divide(k, tile, store, part, high, low, take_low)
        b.add(isa.PADDA_lda_ptr_inc_idx_imm(load, TILE))


def _divide(k: Context, o: Reg, store: Reg, parts: Reg, high: Reg, low: Reg, take_low: Reg) -> None:
    """One tile of O times the reciprocal, in bf16; parts: a register whose upper half is finite."""
    result = k.b.x("result")
    k.to_bf16(result.lo, quotient(k, o, parts, high, low, take_low))
    k.b.add(isa.VST_dmw_sts_w_ag_pstm_nrm_imm(result.lo, store, HALF), region="o", carried=False)


def quotient(k: Context, o: Reg, parts: Reg, high: Reg, low: Reg, take_low: Reg) -> Reg:
    """16 numbers of O times the reciprocal in fp32."""
    rest, product = k.b.bm("o_rest"), k.b.bm("quotient")
    k.to_bf16(parts.lo, o)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, o, parts, take_low)
    k.to_bf16(parts.hi, rest)
    k.multiply(isa.VMUL_F_vmac_bm_core_dense, product, parts, high)
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, product, product, parts, low)
    return product


def not_zero(k: Context, value: Reg) -> Reg:
    """Sums of no probability at all (every key hidden) become SMALLEST_SUM, so that zero stays zero when divided."""
    bits, result = k.b.x("sum_bits"), k.b.bm("row_sum_bounded")
    k.move(bits, value)
    k.b.add(isa.VMAX_LT_S32(bits, k.b.r("mask"), bits, k.constant_x(f32x16(SMALLEST_SUM), "smallest_sum")))
    k.move(result, bits)
    return result


def reciprocal(k: Context, value: Reg, take_low: Reg) -> tuple[Reg, Reg]:
    """1 / value for 16 positive fp32 lanes, as operands [rh | rh] and [rl | 0]."""
    b = k.b
    parts, rest = k.zero_x("l_parts"), b.bm("l_rest")
    k.to_bf16(parts.lo, value)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, value, parts, take_low)
    k.to_bf16(parts.hi, rest)
    seed, guess, error = b.x("seed"), b.x("guess"), b.bm("error")
    mask = k.constant_x(b"\xff" * HALF + b"\x00" * HALF, "low_half")
    b.add(isa.VSUB_16(guess, k.constant_x(struct.pack("<H", RECIPROCAL_SEED) * 32, "seed"), parts))
    b.add(isa.VBAND(seed, guess, mask))
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, error, k.constant_bm(f32x16(2.0), "two"), parts, seed)
    correction, better = k.zero_x("correction"), b.x("better")
    k.to_bf16(correction.lo, error)
    product = b.bm("product")
    k.multiply(isa.VMUL_F_vmac_bm_core_dense, product, correction, seed)
    k.to_bf16(better.lo, product)
    k.to_bf16(better.hi, product)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, error, k.constant_bm(f32x16(1.0), "unity"), parts, better)
    k.to_bf16(correction.lo, error)
    result = b.bm("reciprocal")
    b.add(isa.VCONV_FP32_BF16(result, better.lo))
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, result, result, better, correction)
    high, low = b.x("r_high"), k.zero_x("r_low")
    k.to_bf16(high.lo, result)
    k.to_bf16(high.hi, result)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, result, high, take_low)
    k.to_bf16(low.lo, rest)
    return high, low
