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
KEPT = 3  # registers for steps of P
LOOPS = 2
BESIDE_O, AFTER_O = "ab", "ba"  # load ports in the order in which they are tried: O comes by the first one


class AccumulateValues:
    """Made before the block of values is there, `run` when it is."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, self.work = k, shape, _Values(k, shape)
        self.unrolled = shape.octets_at_once(LOOPS * self.work.together) // self.work.together
        self.passes = shape.octets // self.work.together // self.unrolled
        if self.passes == 1:
            self.work.begin_octets()

    def run(self, values: Reg) -> None:
        """Add the block whose address is in `values`."""
        with self.k.passes(self.passes, "value_octets"):
            for number in range(self.unrolled):  # loops that follow each other without a jump, their ramps overlapping
                if number or self.passes > 1:
                    self.work.begin_octets()
                v = self.k.pointer_from(values, "p_v")
                with self.k.b.hardware_loop(self.shape.output_tiles, "values", thorough=True):
                    self.work.tile(v)
                self.work.next_octets()


class _Values:
    """Registers of the loop over tiles, and the tile itself."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.together = shape.octets_at_once(2)
        self.groups = self.together * GROUPS
        self.matmul = k.scalar(UNSIGNED_8X8, "values_matmul")
        self.pattern = k.registers["first_shift"]  # that of the power, whose last passes may still run: four there are
        b.constant(self.pattern, PATTERN_PLACES)
        self.take = [k.constant_x(bf16_pair(*pair), "take") for pair in ((1.0, 0.0), (0.0, 1.0))]
        # The MAC takes the lower half of these: by turns, as one is not filled anew before it was read.
        self.p = [k.zero_x(f"p{turn}") for turn in range(KEPT)]
        # The same registers for all octets: the ramps of their loops overlap as far as these are free.
        self.rows = [b.x(f"rows{g}") for g in range(self.groups)]
        self.starts = [b.cm(f"start{g}") for g in range(self.groups)]
        self.sums = [[b.cm(f"sum{g}_{step}") for step in range(shape.value_steps)] for g in range(self.groups)]
        self.v = [b.x(f"v{step}") for step in range(shape.value_steps)]
        self.o = [[b.bm(f"o{g}_{half}") for half in range(2)] for g in range(self.groups)]
        self.probabilities = k.pointer("scores", name="p_p")
        octet_bytes = shape.value_steps * SCORE_TILE
        self.back, self.octet_on = b.m("p_back"), b.m("p_octet")
        self.other, self.again = b.m("p_other"), b.m("p_again")
        b.constant(self.octet_on, self.together * octet_bytes)
        if self.together == 2:
            b.constant(self.other, octet_bytes - HALF)
            b.constant(self.again, HALF - octet_bytes)
            b.constant(self.back, HALF - 2 * octet_bytes)
        else:
            b.constant(self.back, HALF - octet_bytes)
        self.output = OutputWalk(k, shape, self.groups)
        self.state, self.record_on = k.pointer("state", MAGIC, "p_magic"), b.m("record_on")
        b.constant(self.record_on, RECORD)

    def begin_octets(self) -> None:
        """What its sums start from."""
        k, b = self.k, self.k.b
        for group, rows in enumerate(self.rows):
            k.load_at(rows, self.state, SCORE_TILE * (group % GROUPS), "records", ports="ba")
            if group % GROUPS == GROUPS - 1:
                k.move_on(self.state, self.record_on)

    def next_octets(self) -> None:
        self.k.move_on(self.probabilities, self.octet_on)
        self.output.next_groups()

    def tile(self, v: Reg) -> None:
        """Eight dimensions of the octets."""
        k, b, steps = self.k, self.k.b, self.shape.value_steps
        for rows, start in zip(self.rows, self.starts, strict=True):
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(start, rows, self.pattern))
        sums = self.starts
        turn = 0
        for step in range(steps):
            right = self.v[step]
            for part in (right.lo, right.hi):
                k.load_half(part, v, "v", ports=AFTER_O, bank="v")
            for g, into in enumerate(self.sums):
                p = self.p[turn % KEPT]
                turn += 1
                by = self._next_p(step, g)
                k.load_half(p.lo, self.probabilities, "scores", ports=AFTER_O, step=by, bank="scores")
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

    def _next_p(self, step: int, g: int):
        last = step == self.shape.value_steps - 1 and g == self.groups - 1
        if last:
            return self.back
        if g % GROUPS < GROUPS - 1:
            return HALF
        if self.together == 1:
            return HALF
        return self.again if g == self.groups - 1 else self.other
