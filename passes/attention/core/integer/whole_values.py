"""O += P V for one block of keys where O is of whole numbers: products with probabilities of 16 bits, added in int32.

All blocks count in the unit of O (`references`), so that accumulators start from O itself.  The last tile of V is all
ones: its column of O collects the row sums.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.output_walk import GROUPS, OutputWalk, rows_of
from npuc.passes.attention.core.integer.shape import SCORE_TILE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

UNSIGNED_16X8 = 0x110  # facts/semantics/vmac.md: 4x4x8 with A unsigned
STEP_KEYS = 4
KEPT = 3  # registers for steps of V, and as many for those of each group of P


def accumulate_whole_values(k: Context, values: Reg, shape: IntegerShape) -> None:
    """Add the block of values whose address is in `values`."""
    b = k.b
    work = _Values(k, shape)
    unrolled = next(count for count in (2, 1) if shape.octets % count == 0)
    octets = k.scalar(shape.octets // unrolled, "value_octets")
    with b.counted_loop(octets, "value_octets"):
        for _ in range(unrolled):  # loops that follow each other without a jump, their ramps overlapping
            v = k.pointer_from(values, "p_v")
            with b.hardware_loop(shape.output_tiles, "values"):
                work.tile(v)
            work.next_octet()


class _Values:
    """Registers of the loop over tiles, and the tile itself."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.matmul = k.scalar(UNSIGNED_16X8, "values_matmul")
        self.steps = shape.keys // STEP_KEYS
        # The MAC takes the lower half of these.
        self.v = [k.zero_x(f"v{number}") for number in range(KEPT)]
        self.p = [[k.zero_x(f"p{g}_{number}") for number in range(KEPT)] for g in range(GROUPS)]
        self.sums = [[b.cm(f"sum{g}_{step}") for step in range(self.steps + 1)] for g in range(GROUPS)]
        self.probabilities = k.pointer("scores", name="p_p")
        octet_bytes = self.steps * SCORE_TILE
        self.back, self.octet_on = b.m("p_back"), b.m("p_octet")
        b.constant(self.back, HALF - octet_bytes)
        b.constant(self.octet_on, octet_bytes)
        self.output = OutputWalk(k, shape)

    def next_octet(self) -> None:
        self.k.b.add(isa.PADDA_lda_ptr_inc_idx(self.probabilities, self.octet_on))
        self.output.next_octet()

    def tile(self, v: Reg) -> None:
        """Eight dimensions of an octet."""
        b = self.k.b
        self.output.load([rows_of(sums[0]) for sums in self.sums])
        for step in range(self.steps):
            right = self.v[step % KEPT]
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(right.lo, v, HALF)
            b.add(load, region="v", bank="v", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
            for g, sums in enumerate(self.sums):
                left = self.p[g][step % KEPT]
                self._probabilities(left, last=step == self.steps - 1 and g == GROUPS - 1)
                b.add(isa.VMAC_vmac_cm_core_dense(sums[step + 1], sums[step], left, right, self.matmul))
        self.output.store([rows_of(sums[-1]) for sums in self.sums])

    def _probabilities(self, p: Reg, last: bool) -> None:
        """The next four keys' of a group; at the end of a tile back to the first."""
        if last:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm(p.lo, self.probabilities, self.back)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm,))
        else:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(p.lo, self.probabilities, HALF)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
