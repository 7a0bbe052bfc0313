"""Move the softmax reference of every group: the online part of the softmax.

The reference is a score, in raw units.  The first block of a work item in which a query sees a key moves it to the
largest score there; later ones only upwards, when `flag` says that a score went beyond the threshold, and by an integer
in base 2, so that O and the row sums are rescaled by exact powers of two (facts/semantics/exp_softmax.md section 1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from npuc.passes.attention.core.adjust import HIDDEN
from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import (
    SHUFFLE_EVEN_16,
    SHUFFLE_TRANSPOSE_4X4_32,
    TILE,
    Context,
    bf16_pair,
    f32x16,
    u32x16,
)
from npuc.passes.attention.core.fixed_scores import HIGHEST, ZERO
from npuc.passes.attention.core.probabilities import MAGIC_23
from npuc.passes.attention.core.query import UNSEEN
from npuc.passes.attention.core.state import STATE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

LARGEST_SHIFT = 250.0  # a power of two beyond which every fp32 number is flushed to zero
MANTISSA_BITS = 23
LOWEST_BF16_PAIR = 0xFF7FFF7F  # the most negative finite bf16, twice
LEAST_SHIFT = (HIGHEST - ZERO) * 2.0**-9  # a unit of x at least
"""14 in base 2: what scores may exceed their reference by where that need not move.  Moving it by less than one unit of
fp32 at its size would change O and not the scores that come."""


def rebase(k: Context, not_first: Reg) -> None:
    """not_first: O holds earlier blocks.  Sets the register `unseen` when a query has still seen no key.

    Scores with a mask stay as they were: their sum lost what is small beside the change, and they are made anew.
    """
    b, shape = k.b, k.shape
    state = k.pointer("state", name="p_state")
    scores = k.pointer("scores", name="p_scores")
    outputs = k.pointer("o", name="p_o")
    b.constant(k.registers["unseen"], 0)
    groups = k.scalar(shape.groups, "rebase_groups")
    with b.counted_loop(groups, "rebase"):
        shift, change = _move_reference(k, state, scores)
        b.add(isa.PADDA_lda_ptr_inc_idx_imm(state, STATE.nbytes))
        if shape.mask_parts:
            b.add(isa.PADDA_lda_ptr_inc_idx(scores, _m(k, shape.key_tiles * TILE, "score_group")))
        else:
            _shift_scores(k, scores, change)
        with b.if_nonzero(not_first):
            _rescale(k, outputs, shift)
        b.add(isa.PADDA_lda_ptr_inc_idx(outputs, _m(k, shape.output_tiles * TILE, "o_group")))


def _m(k: Context, step: int, name: str) -> Reg:
    m = k.b.m(name)
    k.b.constant(m, step)
    return m


def _move_reference(k: Context, state: Reg, scores: Reg) -> tuple[Reg, Reg]:
    """Update one group's reference; returns the shift (base 2) and the change of the negated raw reference.

    It moves by the shift over the factor, so that O, rescaled by the shift, stays what it was.  Where nothing remains
    of O it becomes the maximum itself, as a quotient's rounding may be many units in base 2 there.
    """
    b = k.b
    fp32 = _block_maximum(k, scores)
    unseen = _unseen(k, state)
    maximum, hidden = _unless_hidden(k, fp32)
    b.barrier()  # here and below: few registers at a time
    magic = k.constant_bm(f32x16(MAGIC_23), "magic_23")
    scaled, rounded, bits = _times(k, maximum, "factor"), b.bm("shift_rounded"), b.x("shift_bits")
    k.add(scaled, scaled, magic)
    k.subtract(rounded, scaled, magic)
    k.move(bits, rounded)
    moves, exact, shift = b.r("moves"), b.r("exact"), b.bm("shift")
    b.add(isa.VGE_S32(moves, bits, k.constant_x(f32x16(LEAST_SHIFT), "least_shift")))  # negative fp32: negative integer
    b.add(isa.VGE_S32(exact, bits, k.constant_x(f32x16(LARGEST_SHIFT), "largest_shift")))
    b.add(isa.OR(moves, moves, unseen))
    b.add(isa.OR(exact, exact, unseen))
    b.add(isa.VSEL_32(bits, k.zero_x("zero"), bits, moves))
    k.move(shift, bits)
    b.barrier()
    quotient, negated, step = _times(k, shift, "inverse"), b.bm("maximum_negated"), b.x("reference_step")
    k.move(negated, k.zero_x("zero"))
    k.subtract(negated, negated, maximum)
    change, whole = b.bm("change"), b.x("whole_step")
    k.move(step, quotient)
    k.move(whole, negated)
    b.add(isa.VSEL_32(step, step, whole, exact))
    k.move(change, step)
    b.barrier()
    old_reference, reference = b.bm("reference_old"), b.bm("reference")
    k.load_at(old_reference, state, STATE.offset("reference"), "state")
    k.add(reference, old_reference, change)
    k.subtract(change, reference, old_reference)
    still_unseen, marked = b.r("still_unseen"), b.x("unseen_marked")
    b.add(isa.AND(still_unseen, unseen, hidden))
    b.add(isa.OR(k.registers["unseen"], k.registers["unseen"], still_unseen))
    b.add(isa.VSEL_32(marked, k.zero_x("zero"), k.constant_x(u32x16(UNSEEN), "unseen"), still_unseen))
    k.store_at(marked, state, STATE.offset("unseen"), "state")
    k.store_at(reference, state, STATE.offset("reference"), "state")
    return shift, change


def _unseen(k: Context, state: Reg) -> Reg:
    """Which queries have seen no key."""
    b = k.b
    stored, distance, unseen = b.x("unseen_stored"), b.x("from_unseen"), b.r("unseen_before")
    k.load_at(stored, state, STATE.offset("unseen"), "state")
    b.add(isa.VSUB_32(distance, stored, k.constant_x(u32x16(UNSEEN), "unseen")))
    b.add(isa.VEQZ_32(unseen, distance))
    return unseen


def _unless_hidden(k: Context, maximum: Reg) -> tuple[Reg, Reg]:
    """The maximum to move to, relative to the reference, 0 where the block hides all keys of a query; and where it
    does."""
    b = k.b
    bits, distance, hidden, result = b.x("maximum_bits"), b.x("from_hidden"), b.r("all_hidden"), b.bm("maximum_bounded")
    k.move(bits, maximum)
    b.add(isa.VSUB_32(distance, bits, k.constant_x(u32x16(HIDDEN), "hidden")))
    b.add(isa.VEQZ_32(hidden, distance))
    b.add(isa.VSEL_32(bits, bits, k.zero_x("zero"), hidden))
    k.move(result, bits)
    return result, hidden


def _block_maximum(k: Context, scores: Reg) -> Reg:
    """Maximum over all keys of the block in fp32, in every lane of its query: a bf16 number, and where that is coarse
    twice the bf16 maximum of what the scores exceed it by, 24 bits in all."""
    b = k.b
    maximum, magnitude, huge = b.bm("maximum_fp32"), b.x("maximum_magnitude"), b.r("huge")
    k.move(maximum, k.zero_x("no_maximum"))
    rough = _raise_maximum(k, maximum, scores)
    b.add(isa.VBAND(magnitude, rough, k.constant_x(u32x16(0x7FFF7FFF), "magnitude_bits")))
    b.add(isa.VGE_BF16(huge, magnitude, call_x(k, "refine")))
    with b.if_nonzero(huge):
        passes = k.scalar(2, "refine_passes")
        with b.counted_loop(passes, "refine"):
            _raise_maximum(k, maximum, scores)
    return maximum


def _raise_maximum(k: Context, maximum: Reg, scores: Reg) -> Reg:
    """maximum += the bf16 maximum of what the scores exceed it by, which is returned."""
    b = k.b
    load = k.pointer_from(scores, "p_maximum")
    excess, largest = b.x("excess"), b.x("largest")
    lowest = k.scalar(LOWEST_BF16_PAIR, "lowest_bf16")
    b.add(isa.VBCST_32(excess, lowest))
    b.add(isa.VBCST_32(largest, lowest))
    with b.hardware_loop(k.shape.key_tiles, "maximum_tiles"):
        u, rest = b.bm("u"), b.bm("u_rest")
        k.load_bm(u, load, "scores", carried=False)
        k.subtract(rest, u, maximum)
        k.to_bf16(excess.lo, rest)
        b.add(isa.VMAX_LT_BF16(largest, b.r("mask"), largest, excess))
    _spread_maximum(k, largest)
    step = b.bm("maximum_step")
    b.add(isa.VCONV_FP32_BF16(step, largest.lo))
    k.add(maximum, maximum, step)
    return largest


def _spread_maximum(k: Context, x: Reg) -> None:
    """Every lane of x to the maximum over the lanes of its query."""
    for distance in (32, 16, 8):  # bytes: the other tile, two keys on, one key on
        turned = k.b.x("maximum_turned")
        k.b.add(isa.VSHIFT(turned, x, x, k.scalar(distance, f"rotate_{distance}")))
        k.b.add(isa.VMAX_LT_BF16(x, k.b.r("mask"), x, turned))


def _times(k: Context, value: Reg, factor: str) -> Reg:
    """value times a factor of the call in fp32, from three bf16 parts of each."""
    b = k.b
    upper, lower = k.zero_x("value_upper"), b.x("value_lower")
    rest, result = b.bm("value_rest"), b.bm("product")
    k.to_bf16(upper.lo, value)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, value, upper, k.constant_x(bf16_pair(1.0, 0.0), "take_low"))
    k.to_bf16(upper.hi, rest)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, rest, upper, k.constant_x(bf16_pair(0.0, 1.0), "take_high"))
    k.to_bf16(lower.lo, rest)
    k.to_bf16(lower.hi, value)
    k.multiply(isa.VMUL_F_vmac_bm_core_dense, result, upper, call_x(k, f"{factor}_high"))
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, result, result, upper, call_x(k, f"{factor}_middle"))
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, result, result, lower, call_x(k, f"{factor}_low"))
    return result


def _shift_scores(k: Context, scores: Reg, change: Reg) -> None:
    """Scores of one group relative to the new reference; `scores` moves on to the next group."""
    store = k.b.p("p_scores_store")
    k.b.add(isa.MOV_mv_scl(store, scores))
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
    b.add(isa.MOV_mv_scl(load, outputs))
    b.add(isa.MOV_mv_scl(store, outputs))
    with b.hardware_loop(k.shape.output_tiles, "rescale"):
        o, magnitude, smaller, kept = b.x("o"), b.x("o_magnitude"), b.x("o_smaller"), b.x("o_kept")
        underflow = b.r("underflow")
        k.load_x(o, load, "o", carried=False)
        b.add(isa.VBAND(magnitude, o, c.magnitude))
        b.add(isa.VLT_D32(underflow, magnitude, c.guard))
        b.add(isa.VSUB_32(smaller, o, c.step))
        b.add(isa.VSEL_32(kept, smaller, c.zero, underflow))
        k.store_x(kept, store, "o", carried=False)


def _exponent_step(k: Context, shift: Reg) -> _Rescale:
    b = k.b
    magic = k.constant_bm(f32x16(MAGIC_23), "magic_23")
    bits, bounded, integer = b.x("shift_bits"), b.bm("shift_bounded"), b.x("shift_integer")
    k.move(bits, shift)
    largest = k.constant_x(f32x16(LARGEST_SHIFT), "largest_shift")
    b.add(isa.VMIN_GE_D32(bits, b.r("mask"), bits, largest))  # shift >= 0, so patterns order like numbers
    k.move(bounded, bits)
    k.add(bounded, bounded, magic)  # the low 16 bits are the integer
    k.move(integer, bounded)
    narrow, field, step, guard = b.x("shift_16"), b.bm("shift_field"), b.x("step"), b.x("guard")
    b.add(isa.VSHUFFLE(narrow, integer, integer, k.scalar(SHUFFLE_EVEN_16, "mode_even")))
    places = b.s("mantissa_bits")
    b.constant(places, MANTISSA_BITS)
    b.add(isa.VUPS_S32_S16_mv_ups_w2b(field, narrow.lo, places))
    k.move(step, field)
    # Scores are stored key by query, O query by dimension: turn the 4x4 tile.
    b.add(isa.VSHUFFLE(step, step, step, k.scalar(SHUFFLE_TRANSPOSE_4X4_32, "mode_turn")))
    b.add(isa.VADD_32(guard, step, k.constant_x(u32x16(1 << MANTISSA_BITS), "one_step")))
    magnitude = k.constant_x(struct.pack("<I", 0x7FFFFFFF) * 16, "magnitude_mask")
    return _Rescale(step, guard, magnitude, k.zero_x("zero"))
