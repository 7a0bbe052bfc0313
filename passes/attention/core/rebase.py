"""Move the softmax reference of every group: the online part of the softmax.

The reference is an integer in base 2, so that O and the row sums are rescaled by exact powers of two
(facts/semantics/exp_softmax.md section 1).  It is kept beside its value in raw score units, which is
what the scores are compared with: raw = integer / factor, to 24 bits.  The first block of a work item
always moves it; later blocks only upwards, when `flag` says that a score went beyond the threshold.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from npuc.passes.attention.core.context import (
    HALF,
    SHUFFLE_EVEN_16,
    SHUFFLE_TRANSPOSE_4X4_32,
    TILE,
    Context,
    bf16_pair,
    bf16_split,
    f32x16,
    u32x16,
)
from npuc.passes.attention.core.probabilities import MAGIC_23
from npuc.passes.attention.core.query import STATE_BYTES, STATE_EXPONENT, STATE_MAXIMUM, STATE_REFERENCE
from npuc.passes.attention.core.scores import LARGEST_BF16
from npuc.passes.machine.ir import Reg

REFINE_BEYOND = 2048.0  # base 2: above, bf16's eight bits leave the maximum too coarse
LARGEST_SHIFT = 250.0  # a power of two beyond which every fp32 number is flushed to zero
MANTISSA_BITS = 23
LOWEST_BF16_PAIR = 0xFF7FFF7F  # the most negative finite bf16, twice
FLOOR_NONE = 0x80000000  # least signed number: the reference may move down


def rebase(k: Context, not_first: Reg, floor: Reg) -> None:
    """floor: FLOOR_NONE, or 0 to move references only upwards.  not_first: O holds earlier blocks."""
    b, shape = k.b, k.shape
    state = k.pointer("state", name="p_state")
    scores = k.pointer("scores", name="p_scores")
    outputs = k.pointer("o", name="p_o")
    groups = k.scalar(shape.groups, "rebase_groups")
    with b.counted_loop(groups, "rebase"):
        shift, change = _move_reference(k, state, scores, floor)
        b.op("PADDA_lda_ptr_inc_idx_imm", state, STATE_BYTES)
        _shift_scores(k, scores, change)
        with b.if_nonzero(not_first):
            _rescale(k, outputs, shift)
        skip = b.m("o_group")
        b.constant(skip, shape.output_tiles * TILE)
        b.op("PADDA_lda_ptr_inc_idx", outputs, skip)


def _move_reference(k: Context, state: Reg, scores: Reg, floor: Reg) -> tuple[Reg, Reg]:
    """Update one group's reference; returns the shift (base 2) and the change of the negated raw reference."""
    b = k.b
    maximum = _block_maximum(k, state, scores, floor)
    magic = k.constant_bm(f32x16(MAGIC_23), "magic_23")
    scaled, shift = _times_constant(k, maximum, k.shape.factor), b.bm("shift")
    k.add(scaled, scaled, magic)
    k.subtract(shift, scaled, magic)
    old_exponent, exponent = b.bm("exponent_old"), b.bm("exponent")
    old_reference, change = b.bm("reference_old"), b.bm("change")
    for register, place in ((old_exponent, STATE_EXPONENT), (old_reference, STATE_REFERENCE)):
        for half, offset in ((register.lo, 0), (register.hi, HALF)):
            b.op("VLDA_dmw_lda_am_ag_idx_imm", half, state, place + offset, region="state")
    k.add(exponent, old_exponent, shift)
    reference = _times_constant(k, exponent, -1.0 / k.shape.factor)
    k.subtract(change, reference, old_reference)
    for register, place in ((exponent, STATE_EXPONENT), (reference, STATE_REFERENCE)):
        for half, offset in ((register.lo, 0), (register.hi, HALF)):
            b.op("VST_dmw_sts_am_ag_idx_imm", half, state, place + offset, region="state")
    return shift, change


def _block_maximum(k: Context, state: Reg, scores: Reg, floor: Reg) -> Reg:
    """Maximum over all keys of the block in fp32, in every lane of its query, at least `floor`."""
    b = k.b
    rough = b.x("maximum")
    b.op("VLDA_dmw_lda_w_ag_idx_imm", rough.lo, state, STATE_MAXIMUM, region="maximum")
    b.op("VLDA_dmw_lda_w_ag_idx_imm", rough.hi, state, STATE_MAXIMUM + HALF, region="maximum")
    _spread_maximum(k, rough)
    maximum = b.bm("maximum_fp32")
    b.op("VCONV_FP32_BF16", maximum, rough.lo)
    limit = min(REFINE_BEYOND / k.shape.factor, LARGEST_BF16)
    above, below, huge = b.r("above"), b.r("below"), b.r("huge")
    b.op("VGE_BF16", above, rough, k.constant_x(bf16_pair(limit, limit), "limit"))
    b.op("VLT_BF16", below, rough, k.constant_x(bf16_pair(-limit, -limit), "minus_limit"))
    b.op("OR", huge, above, below)
    with b.if_nonzero(huge):
        _refine(k, maximum, scores)
    bits, least = b.x("maximum_bits"), b.x("floor")
    b.op("VBCST_32", least, floor)
    k.move(bits, maximum)
    b.op("VMAX_LT_S32", bits, b.r("mask"), bits, least)  # negative fp32 numbers are negative integers
    k.move(maximum, bits)
    return maximum


def _spread_maximum(k: Context, x: Reg) -> None:
    """Every lane of x to the maximum over the lanes of its query."""
    for distance in (32, 16, 8):  # bytes: the other tile, two keys on, one key on
        turned = k.b.x("maximum_turned")
        k.b.op("VSHIFT", turned, x, x, k.scalar(distance, f"rotate_{distance}"))
        k.b.op("VMAX_LT_BF16", x, k.b.r("mask"), x, turned)


def _refine(k: Context, maximum: Reg, scores: Reg) -> None:
    """Twice adds the bf16 maximum of what the scores exceed `maximum` by: 24 bits after that."""
    b = k.b
    passes = k.scalar(2, "refine_passes")
    with b.counted_loop(passes, "refine"):
        load = b.p("p_refine")
        b.op("MOV_mv_scl", load, scores)
        excess, largest = b.x("excess"), b.x("largest")
        lowest = k.scalar(LOWEST_BF16_PAIR, "lowest_bf16")
        b.op("VBCST_32", excess, lowest)
        b.op("VBCST_32", largest, lowest)
        with b.hardware_loop(k.shape.key_tiles, "refine_tiles"):
            u, rest = b.bm("u"), b.bm("u_rest")
            k.load_bm(u, load, "scores", carried=False)
            k.subtract(rest, u, maximum)
            k.to_bf16(excess.lo, rest)
            b.op("VMAX_LT_BF16", largest, b.r("mask"), largest, excess)
        _spread_maximum(k, largest)
        step = b.bm("maximum_step")
        b.op("VCONV_FP32_BF16", step, largest.lo)
        k.add(maximum, maximum, step)


def _times_constant(k: Context, value: Reg, constant: float) -> Reg:
    """value * constant in fp32, from three bf16 parts of each."""
    b = k.b
    parts = bf16_split(constant, 3)
    upper, lower = k.zero_x("value_upper"), b.x("value_lower")
    rest, result = b.bm("value_rest"), b.bm("product")
    k.to_bf16(upper.lo, value)
    k.multiply("VMSC", rest, value, upper, k.constant_x(bf16_pair(1.0, 0.0), "take_low"))
    k.to_bf16(upper.hi, rest)
    k.multiply("VMSC", rest, rest, upper, k.constant_x(bf16_pair(0.0, 1.0), "take_high"))
    k.to_bf16(lower.lo, rest)
    k.to_bf16(lower.hi, value)
    k.multiply("VMUL", result, upper, k.constant_x(bf16_pair(parts[0], parts[0]), "constant_high"))
    k.multiply("VMAC", result, result, upper, k.constant_x(bf16_pair(parts[1], parts[1]), "constant_middle"))
    k.multiply("VMAC", result, result, lower, k.constant_x(bf16_pair(parts[0], parts[2]), "constant_low"))
    return result


def _shift_scores(k: Context, scores: Reg, change: Reg) -> None:
    """Scores of one group relative to the new reference; `scores` moves on to the next group."""
    store = k.b.p("p_scores_store")
    k.b.op("MOV_mv_scl", store, scores)
    with k.b.hardware_loop(k.shape.key_tiles, "shift_scores"):
        u, moved = k.b.bm("u"), k.b.bm("u_moved")
        k.load_bm(u, scores, "scores", carried=False)
        k.add(moved, u, change)
        k.store_bm(moved, store, "scores", carried=False)


@dataclass(frozen=True)
class _Rescale:
    step: Reg  # shift in the exponent field, by query of the output tile
    guard: Reg  # magnitudes below it fall out of the normal range
    magnitude: Reg
    zero: Reg


def _rescale(k: Context, outputs: Reg, shift: Reg) -> None:
    """O and row sums of one group times 2^-shift, on the exponent fields; results below 2^-126 become zero."""
    b = k.b
    c = _exponent_step(k, shift)
    load, store = b.p("p_o_load"), b.p("p_o_store")
    b.op("MOV_mv_scl", load, outputs)
    b.op("MOV_mv_scl", store, outputs)
    with b.hardware_loop(k.shape.output_tiles, "rescale"):
        o, magnitude, smaller, kept = b.x("o"), b.x("o_magnitude"), b.x("o_smaller"), b.x("o_kept")
        underflow = b.r("underflow")
        k.load_x(o, load, "o", carried=False)
        b.op("VBAND", magnitude, o, c.magnitude)
        b.op("VLT_D32", underflow, magnitude, c.guard)
        b.op("VSUB_32", smaller, o, c.step)
        b.op("VSEL_32", kept, smaller, c.zero, underflow)
        k.store_x(kept, store, "o", carried=False)


def _exponent_step(k: Context, shift: Reg) -> _Rescale:
    b = k.b
    magic = k.constant_bm(f32x16(MAGIC_23), "magic_23")
    bits, bounded, integer = b.x("shift_bits"), b.bm("shift_bounded"), b.x("shift_integer")
    k.move(bits, shift)
    largest = k.constant_x(f32x16(LARGEST_SHIFT), "largest_shift")
    b.op("VMIN_GE_D32", bits, b.r("mask"), bits, largest)  # shift >= 0, so patterns order like numbers
    k.move(bounded, bits)
    k.add(bounded, bounded, magic)  # the low 16 bits are the integer
    k.move(integer, bounded)
    narrow, field, step, guard = b.x("shift_16"), b.bm("shift_field"), b.x("step"), b.x("guard")
    b.op("VSHUFFLE", narrow, integer, integer, k.scalar(SHUFFLE_EVEN_16, "mode_even"))
    places = b.s("mantissa_bits")
    b.constant(places, MANTISSA_BITS)
    b.op("VUPS_S32_S16_mv_ups_w2b", field, narrow.lo, places)
    k.move(step, field)
    # Scores are stored key by query, O query by dimension: turn the 4x4 tile.
    b.op("VSHUFFLE", step, step, step, k.scalar(SHUFFLE_TRANSPOSE_4X4_32, "mode_turn"))
    b.op("VADD_32", guard, step, k.constant_x(u32x16(1 << MANTISSA_BITS), "one_step"))
    magnitude = k.constant_x(struct.pack("<I", 0x7FFFFFFF) * 16, "magnitude_mask")
    return _Rescale(step, guard, magnitude, k.zero_x("zero"))
