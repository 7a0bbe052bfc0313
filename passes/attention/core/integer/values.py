"""O += P V for one block of keys: integer products of the block, added to fp32 sums.

The accumulators of a tile start from the bit pattern of 1.5 * 2^(23 + e), e the block's exponent over O's reference, in
each row: integers that are added count in units of 2^e, and the result, less than 2^22 of these, is an fp32 number.
One operation takes the start away and adds O.  The last tile of V is all ones: its column of O collects the row sums.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, Context, bf16_pair
from npuc.passes.attention.core.integer.output_walk import GROUPS, OutputWalk
from npuc.passes.attention.core.integer.shape import MAGIC, RECORD, SCORE_TILE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

UNSIGNED_8X8 = 0x108  # facts/semantics/vmac.md: 4x8x8 with A unsigned
PATTERN_PLACES = 16  # of bf16 numbers in fp32 ones
TURNS = 2
BESIDE_O, AFTER_O = "ab", "ba"  # load ports in the order in which they are tried: O comes by the first one


def accumulate_values(k: Context, values: Reg, shape: IntegerShape) -> None:
    """Add the block of values whose address is in `values`."""
    b = k.b
    work = _Values(k, shape)
    unrolled = shape.octets_at_once(2)
    passes = k.scalar(shape.octets // unrolled, "value_octets")
    with b.counted_loop(passes, "value_octets"):
        for _ in range(unrolled):  # loops that follow each other without a jump, their ramps overlapping
            work.begin_octet()
            v = k.pointer_from(values, "p_v")
            with b.hardware_loop(shape.output_tiles, "values"):
                work.tile(v)
            work.next_octet()


class _Values:
    """Registers of the loop over tiles, and the tile itself."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.matmul = k.scalar(UNSIGNED_8X8, "values_matmul")
        self.pattern = k.registers["first_shift"]  # that of the power, whose last passes may still run: four there are
        b.constant(self.pattern, PATTERN_PLACES)
        self.take = [k.constant_x(bf16_pair(*pair), "take") for pair in ((1.0, 0.0), (0.0, 1.0))]
        # The MAC takes the lower half of these: by turns, as one is not filled anew before it was read.
        self.p = [[k.zero_x(f"p{g}_{turn}") for turn in range(TURNS)] for g in range(GROUPS)]
        # The same registers for all octets: the ramps of their loops overlap as far as these are free.
        self.rows = [b.x(f"rows{g}") for g in range(GROUPS)]
        self.starts = [b.cm(f"start{g}") for g in range(GROUPS)]
        self.sums = [[b.cm(f"sum{g}_{step}") for step in range(shape.value_steps)] for g in range(GROUPS)]
        self.v = [b.x(f"v{step}") for step in range(shape.value_steps)]
        self.o = [[b.bm(f"o{g}_{half}") for half in range(2)] for g in range(GROUPS)]
        self.probabilities = k.pointer("scores", name="p_p")
        octet_bytes = shape.value_steps * SCORE_TILE
        self.back, self.octet_on = b.m("p_back"), b.m("p_octet")
        b.constant(self.back, HALF - octet_bytes)
        b.constant(self.octet_on, octet_bytes)
        self.output = OutputWalk(k, shape, GROUPS)
        self.state, self.record_on = k.pointer("state", MAGIC, "p_magic"), b.m("record_on")
        b.constant(self.record_on, RECORD)

    def begin_octet(self) -> None:
        """What its sums start from."""
        k, b = self.k, self.k.b
        for group, (rows, start) in enumerate(zip(self.rows, self.starts, strict=True)):
            k.load_at(rows, self.state, SCORE_TILE * group, "records")
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(start, rows, self.pattern))
        b.add(isa.PADDA_lda_ptr_inc_idx(self.state, self.record_on))

    def next_octet(self) -> None:
        self.k.b.add(isa.PADDA_lda_ptr_inc_idx(self.probabilities, self.octet_on))
        self.output.next_groups()

    def tile(self, v: Reg) -> None:
        """Eight dimensions of an octet."""
        k, b, steps = self.k, self.k.b, self.shape.value_steps
        sums = self.starts
        for step in range(steps):
            right = self.v[step]
            for part in (right.lo, right.hi):
                k.load_half(part, v, "v", ports=AFTER_O, bank="v")
            for g, into in enumerate(self.sums):
                p, back = self.p[g][step % TURNS], step == steps - 1 and g == GROUPS - 1
                by, ports = (self.back, BESIDE_O) if back else (HALF, AFTER_O)
                k.load_half(p.lo, self.probabilities, "scores", ports=ports, step=by, bank="scores")
                b.add(isa.VMAC_vmac_cm_core_dense(into[step], sums[g], p, right, self.matmul))
            sums = [into[step] for into in self.sums]
        rows_of_o = [[part for half in halves for part in (half.lo, half.hi)] for halves in self.o]
        for group, parts in enumerate(rows_of_o):  # all before the first store, which they must not pass
            self.output.load(group, parts)
        for o, total, rows in zip(self.o, sums, self.rows, strict=True):
            for into_o, half, take in zip(o, (total.lo, total.hi), self.take, strict=True):
                b.add(isa.VADDMSC_F_vmac_bm_core_dense(into_o, into_o, half, rows, take, k.registers["elementwise"]))
        for group, parts in enumerate(rows_of_o):
            self.output.store(group, parts)
