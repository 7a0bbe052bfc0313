"""O's reference of every octet moved up to the block's exponents: O and the row sums are rescaled by powers of two.

The first block that is added to O sets it.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import TILE, Context, u32x16
from npuc.passes.attention.core.integer.beside import records_apart, records_together
from npuc.passes.attention.core.integer.exponents import Magic
from npuc.passes.attention.core.integer.shape import EXPONENT, OCTET, OUTPUT_TILE, RECORD, REFERENCE, IntegerShape
from npuc.passes.attention.core.integer.spread import RowSpread, no_shift, spread_16
from npuc.passes.attention.core.rebase import MANTISSA_BITS
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

LARGEST_SHIFT = 250  # a power of two beyond which every fp32 number is zero


def move_references(k: Context, shape: IntegerShape, not_first: Reg) -> None:
    """not_first: O holds earlier blocks.  The register `unseen` is cleared."""
    b = k.b
    b.constant(k.registers["unseen"], 0)
    records_apart(k, shape, (EXPONENT, REFERENCE))
    magic = Magic(k, no_shift(k))
    state, outputs = k.pointer("state", name="p_state"), k.pointer("o", name="p_o")
    record_on, group_on = b.m("record_on"), b.m("o_group_on")
    b.constant(record_on, RECORD)
    b.constant(group_on, shape.output_tiles * OUTPUT_TILE)
    octets = k.scalar(shape.queries // OCTET, "rebase_octets")
    with b.counted_loop(octets, "rebase"):
        exponent, old, new = b.x("exponent"), b.x("reference_old"), b.x("reference")
        k.load_at(exponent, state, EXPONENT, "records")
        k.load_at(old, state, REFERENCE, "records")
        b.add(isa.VMAX_LT_S16(new, b.r("mask"), exponent, old))
        k.store_at(new, state, REFERENCE, "records")
        above, shift = b.x("above_reference"), b.x("shift")
        b.add(isa.VSUB_16(above, exponent, new))
        magic.store(above, state)
        b.add(isa.VSUB_16(shift, new, old))
        b.add(isa.VMIN_GE_S16(shift, b.r("mask"), shift, spread_16(k, LARGEST_SHIFT, "largest_shift")))
        b.barrier()
        with b.if_nonzero(not_first):
            _rescale(k, outputs, shift, group_on)
        for _ in range(2):
            b.add(isa.PADDA_lda_ptr_inc_idx(outputs, group_on))
        b.add(isa.PADDA_lda_ptr_inc_idx(state, record_on))
    records_together(k, shape, (REFERENCE,))


def _rescale(k: Context, outputs: Reg, shift: Reg, group_on: Reg) -> None:
    """O and row sums of an octet times 2^-shift, on the exponent fields; results below 2^-126 become zero."""
    b, shape = k.b, k.shape
    places, one_step, zero = (
        b.s("mantissa_bits"),
        k.constant_x(u32x16(1 << MANTISSA_BITS), "one_step"),
        k.zero_x("zero"),
    )
    b.constant(places, MANTISSA_BITS)
    magnitude = k.constant_x(u32x16(0x7FFFFFFF), "magnitude_mask")
    for number, rows in enumerate(RowSpread(k).rows(shift)):
        field, load, store = b.cm("shift_field"), b.p("p_o_load"), b.p("p_o_store")
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(field, rows, places))
        for pointer in (load, store):
            b.add(isa.MOV_mv_scl(pointer, outputs))
            for _ in range(number):
                b.add(isa.PADDA_lda_ptr_inc_idx(pointer, group_on))
        steps = []
        for half in (field.lo, field.hi):
            step, guard = b.x("step"), b.x("guard")
            k.move(step, half)
            b.add(isa.VADD_32(guard, step, one_step))
            steps.append((step, guard))
        with b.hardware_loop(shape.output_tiles, "rescale"):
            for step, guard in steps:
                o, size, smaller, kept = b.x("o"), b.x("o_magnitude"), b.x("o_smaller"), b.x("o_kept")
                underflow = b.r("underflow")
                k.load_x(o, load, "o", carried=False, bank="o")
                b.add(isa.VBAND(size, o, magnitude))
                b.add(isa.VLT_D32(underflow, size, guard))
                b.add(isa.VSUB_32(smaller, o, step))
                b.add(isa.VSEL_32(kept, smaller, zero, underflow))
                k.store_x(kept, store, "o", carried=False, bank="o")
        b.barrier()


def clear_output(k: Context, size: int) -> None:
    """The first bytes of O to zero."""
    zero, output = k.zero_x("zero"), k.pointer("o", name="p_o_clear")
    with k.b.hardware_loop(size // TILE, "clear_o"):
        k.store_x(zero, output, "o", carried=False)
