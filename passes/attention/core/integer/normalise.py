"""Results = O / row sums times the head's factor, in bf16 or int8, compacted at the start of the O buffer.

Reciprocal and products are those of the bf16 program (`core.normalise`); whole numbers are made fp32 numbers before.
Integers are rounded to nearest even and bounded to -128..127.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, TILE, Context, bf16_pair, f32x16
from npuc.passes.attention.core.integer.head import HeadWord, head_word
from npuc.passes.attention.core.integer.shape import OUTPUT_TILE, IntegerShape
from npuc.passes.attention.core.integer.spread import no_shift, spread_wide
from npuc.passes.attention.core.normalise import not_zero, quotient, reciprocal
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

UNBOUNDED, FULL, SYMMETRIC = 0, 1, 3  # crSat: low bits; integers down to -128; what the program has otherwise
CONV_FLOOR, CONV_EVEN = 0, 12  # crRnd: down; what the program has otherwise
MAGIC_LOW, MAGIC_HIGH = 0x4B000000, 0x53008000  # fp32 2^23, and 2^39 + 2^31
MAGIC_23, MAGIC_23_BITS = 1.5 * 2.0**23, 0x4B400000  # added to a number: its nearest integer in the low bits


def normalise(k: Context, shape: IntegerShape, count: int, before: Reg) -> None:
    """So many groups of four queries; before: register that says how many were done, which goes on to these."""
    b = k.b
    group_bytes, done_bytes = shape.output_tiles * OUTPUT_TILE, OUTPUT_TILE // (4 if shape.output == "i8" else 2)
    load, store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
    sums = k.pointer("o", shape.value_tiles * OUTPUT_TILE, name="p_sums")
    for pointers, size in (((load, sums), group_bytes), ((store,), shape.value_tiles * done_bytes)):
        on, done = b.m("o_done"), b.r("o_done")
        b.add(isa.MUL_mul_r_rr(done, before, k.scalar(size, "o_group")))
        b.add(isa.MOV_mv_scl(on, done))
        for pointer in pointers:
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, on))
    b.add(isa.ADD_add_r_ri(before, before, count))
    if shape.wide:
        _make_numbers(k, load, count * shape.output_tiles)
    groups, skip = k.scalar(count, "normalise_groups"), b.m("o_group")
    b.constant(skip, group_bytes)
    _set_modes(k, crSat=FULL)
    take_low = k.constant_x(bf16_pair(1.0, 0.0), "take_low")
    parts = [k.zero_x(f"o_parts{i}") for i in range(2)]
    factor = _factor(k)
    out = _Integers(k) if shape.output == "i8" else None
    with b.counted_loop(groups, "normalise"):
        inverses = []
        for half in range(2):
            row_sum = b.bm("row_sum")
            k.load_at(row_sum, sums, TILE * half, "o")
            inverses.append(_scaled(k, reciprocal(k, not_zero(k, row_sum), take_low), factor, take_low))
            b.barrier()
        b.add(isa.PADDA_lda_ptr_inc_idx(sums, skip))
        with b.hardware_loop(shape.value_tiles, "divide"):
            tiles = [b.bm(f"o{i}") for i in range(2)]
            for tile in tiles:  # all before the first store, which they must not pass
                k.load_bm(tile, load, "o", carried=False, bank="o")
            quotients = [
                quotient(k, tile, part, *inverse, take_low)
                for tile, part, inverse in zip(tiles, parts, inverses, strict=True)
            ]
            if out is not None:
                out.store(quotients, store)
            else:
                for one in quotients:
                    result = b.x("result")
                    k.to_bf16(result.lo, one)
                    b.add(
                        isa.VST_dmw_sts_w_ag_pstm_nrm_imm(result.lo, store, HALF), region="o", carried=False, bank="o"
                    )
        for _ in range(OUTPUT_TILE // TILE):
            b.add(isa.PADDA_lda_ptr_inc_idx_imm(load, TILE))
    _set_modes(k, crSat=SYMMETRIC)


def _set_modes(k: Context, **modes: int) -> None:
    k.b.barrier()
    for register, mode in modes.items():
        k.b.constant(register, mode)
    k.b.barrier()


def _make_numbers(k: Context, tiles_at: Reg, count: int) -> None:
    """Tiles of whole numbers to fp32 numbers, in place.

    The lower half of a number, and the upper one 2^15 more, are the last bits of fp32 numbers 2^23 and 2^39 more.
    """
    b = k.b
    _set_modes(k, crRnd=CONV_FLOOR, crSat=UNBOUNDED)
    low_magic, high_magic = (spread_wide(k, k.scalar(bits, "magic"), "magic") for bits in (MAGIC_LOW, MAGIC_HIGH))
    more = k.constant_bm(f32x16(2.0**39 + 2.0**31 + 2.0**23), "more")
    none, half_places = no_shift(k), b.s("half_places")
    b.constant(half_places, 16)
    load, store = (b.p(f"p_whole_{what}") for what in ("load", "store"))
    for pointer in (load, store):
        b.add(isa.MOV_mv_scl(pointer, tiles_at))
    with b.hardware_loop(count, "whole_numbers"):
        whole, low, high = b.cm("whole"), b.x("low_half"), b.x("high_half")
        for half in (whole.lo, whole.hi):
            for part in (half.lo, half.hi):
                b.add(isa.VLDA_dmw_lda_am_ag_pstm_nrm_imm(part, load, HALF), region="o", carried=False, bank="o")
        b.add(isa.VSRS_S16_S32_mv_x_srs(high, whole, half_places))
        b.add(isa.VSRS_S16_S32_mv_x_srs(low, whole, none))
        upper_bits, lower_bits, upper, lower = (b.cm(name) for name in ("upper_bits", "lower_bits", "upper", "lower"))
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(upper_bits, high, none))
        b.add(isa.VUPS_S32_D16_mv_ups_x2c(lower_bits, low, none))
        b.add(isa.VADD(upper, upper_bits, high_magic, k.registers["zero"]))
        b.add(isa.VADD(lower, lower_bits, low_magic, k.registers["zero"]))
        for high_part, low_part in ((upper.lo, lower.lo), (upper.hi, lower.hi)):
            rest, number = b.bm("number_rest"), b.bm("number")
            k.subtract(rest, high_part, more)
            k.add(number, rest, low_part)
            for part in (number.lo, number.hi):
                b.add(isa.VST_dmw_sts_am_ag_pstm_nrm_imm(part, store, HALF), region="o", carried=False, bank="o")
    _set_modes(k, crRnd=CONV_EVEN)


def _factor(k: Context) -> Reg:
    """[high | low] of the head's output factor."""
    x, high, low = k.zero_x("factor"), k.b.x("factor_high"), k.b.x("factor_low")
    word = head_word(k, HeadWord.OUTPUT)
    k.b.add(isa.VBCST_16(high, word))
    k.b.add(isa.VBCST_16(low, k.shifted(word, -16, signed=False)))
    k.b.add(isa.VBAND(high, high, k.constant_x(b"\xff" * HALF + bytes(HALF), "low_half")))
    k.b.add(isa.VBAND(low, low, k.constant_x(bytes(HALF) + b"\xff" * HALF, "high_half")))
    k.b.add(isa.VBOR(x, high, low))
    return x


def _scaled(k: Context, inverse: tuple[Reg, Reg], factor: Reg, take_low: Reg) -> tuple[Reg, Reg]:
    """[rh | rh], [rl | 0] times the factor, in the same form."""
    high, low = inverse
    product, rest = k.b.bm("scaled"), k.b.bm("scaled_rest")
    k.multiply(isa.VMUL_F_vmac_bm_core_dense, product, high, factor)
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, product, product, low, factor)
    above, below = k.b.x("scaled_high"), k.zero_x("scaled_low")
    k.to_bf16(above.lo, product)
    k.to_bf16(above.hi, product)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, product, above, take_low)
    k.to_bf16(below.lo, rest)
    return above, below


class _Integers:
    """Constants before the loop over tiles, `store` in it."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.magic = k.constant_bm(f32x16(MAGIC_23), "magic_23")
        self.bits = spread_wide(k, k.scalar(MAGIC_23_BITS, "magic_bits"), "magic_bits")
        self.none = k.b.s("no_shift")
        k.b.constant(self.none, 0)

    def store(self, quotients: list[Reg], store: Reg) -> None:
        """Two registers of fp32 numbers as 32 integers; the pointer moves on."""
        k, b = self.k, self.k.b
        shown, counted = b.cm("shown"), b.cm("counted")
        for half, one in zip((shown.lo, shown.hi), quotients, strict=True):
            k.add(half, one, self.magic)
        b.add(isa.VSUB(counted, shown, self.bits, k.registers["zero"]))
        b.add(isa.VST_SRS_S8_S32_ag_pstm_nrm_imm(counted, self.none, store, HALF), region="o", carried=False, bank="o")
