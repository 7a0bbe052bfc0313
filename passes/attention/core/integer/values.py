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


def accumulate_values(k: Context, values: Reg, shape: IntegerShape) -> None:
    """Add the block of values whose address is in `values`."""
    b = k.b
    work = _Values(k, shape)
    state, on = k.pointer("state", MAGIC, "p_magic"), b.m("record_on")
    b.constant(on, RECORD)
    unrolled = next(count for count in (2, 1) if shape.octets % count == 0)
    octets = k.scalar(shape.octets // unrolled, "value_octets")
    with b.counted_loop(octets, "value_octets"):
        for _ in range(unrolled):  # loops that follow each other without a jump, their ramps overlapping
            work.octet(state, values)
            b.add(isa.PADDA_lda_ptr_inc_idx(state, on))
            work.next_octet()


class _Values:
    """Registers of the loop over tiles, and the tile itself."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.matmul = k.scalar(UNSIGNED_8X8, "values_matmul")
        self.pattern = b.s("pattern_places")
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
        self.output = OutputWalk(k, shape)

    def next_octet(self) -> None:
        self.k.b.add(isa.PADDA_lda_ptr_inc_idx(self.probabilities, self.octet_on))
        self.output.next_octet()

    def octet(self, state: Reg, values: Reg) -> None:
        """All tiles of an octet."""
        k, b = self.k, self.k.b
        for group, (rows, start) in enumerate(zip(self.rows, self.starts, strict=True)):
            k.load_at(rows, state, SCORE_TILE * group, "records")
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(start, rows, self.pattern))
        v = k.pointer_from(values, "p_v")
        with b.hardware_loop(self.shape.output_tiles, "values"):
            self.tile(v)

    def tile(self, v: Reg) -> None:
        """Eight dimensions of an octet."""
        k, b, steps = self.k, self.k.b, self.shape.value_steps
        sums = list(self.starts)
        for step in range(steps):
            right = self._values(v, step)
            for g in range(GROUPS):
                p, into = self.p[g][step % TURNS], self.sums[g][step]
                self._probabilities(p, last=step == steps - 1 and g == GROUPS - 1)
                b.add(isa.VMAC_vmac_cm_core_dense(into, sums[g], p, right, self.matmul))
                sums[g] = into
        rows_of_o = [[part for half in halves for part in (half.lo, half.hi)] for halves in self.o]
        self.output.load(rows_of_o)  # all before the first store, which they must not pass
        for o, total, rows in zip(self.o, sums, self.rows, strict=True):
            for into, part, take in zip(o, (total.lo, total.hi), self.take, strict=True):
                b.add(isa.VADDMSC_F_vmac_bm_core_dense(into, into, part, rows, take, k.registers["elementwise"]))
        self.output.store(rows_of_o)

    def _probabilities(self, p: Reg, last: bool) -> None:
        """The next eight keys' of a group; at the end of a tile back to the first."""
        if last:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm(p.lo, self.probabilities, self.back)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm,))
        else:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(p.lo, self.probabilities, HALF)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))

    def _values(self, v: Reg, step: int) -> Reg:
        """The next eight keys of V."""
        right = self.v[step]
        for half in (right.lo, right.hi):
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(half, v, HALF)
            self.k.b.add(load, region="v", bank="v", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
        return right
