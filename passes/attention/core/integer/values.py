"""O += P V for one block of keys: integer products of the block, added to fp32 sums.

The accumulators of a tile start from the bit pattern of 1.5 * 2^(23 + e), e the block's exponent over O's reference, in
each row: integers that are added count in units of 2^e, and the result, less than 2^22 of these, is an fp32 number.
One operation takes the start away and adds O.  The last tile of V is all ones: its column of O collects the row sums.
Probabilities of 16 bits are multiplied byte by byte, the low ones with starts 2^8 less.
"""

from __future__ import annotations

from itertools import product

from npuc.passes.attention.core.context import HALF, Context, bf16_pair
from npuc.passes.attention.core.integer.shape import LOW_MAGIC, MAGIC, OUTPUT_TILE, RECORD, SCORE_TILE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Constructor, Reg

UNSIGNED_8X8 = 0x108  # facts/semantics/vmac.md: 4x8x8 with A unsigned
PATTERN_PLACES = 16  # of bf16 numbers in fp32 ones
GROUPS = 2  # of four queries: an octet
TURNS = 2


def accumulate_values(k: Context, values: Reg, shape: IntegerShape) -> None:
    """Add the block of values whose address is in `values`."""
    b = k.b
    work = _Values(k, shape)
    state, on = k.pointer("state", MAGIC, "p_magic"), b.m("record_on")
    b.constant(on, RECORD - (shape.probability_bytes * (LOW_MAGIC - MAGIC) if shape.wide else 0))
    unrolled = next(count for count in (2, 1) if shape.octets % count == 0)
    octets = k.scalar(shape.octets // unrolled, "value_octets")
    with b.counted_loop(octets, "value_octets"):
        for _ in range(unrolled):  # loops that follow each other without a jump, their ramps overlapping
            for _ in range(shape.probability_bytes):
                work.octet(state, values)
                if shape.wide:
                    work.next_byte(state)
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
        self.v, self.o = (
            [b.x("v") for _ in range(shape.value_steps)],
            [[b.bm(f"o{g}_{half}") for half in range(2)] for g in range(GROUPS)],
        )
        self.probabilities = k.pointer("scores", name="p_p")
        self.load, self.store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
        step_bytes = shape.probability_bytes * SCORE_TILE
        octet_bytes, self.on = shape.value_steps * step_bytes, step_bytes - HALF
        self.back, self.octet_on, self.group_on = b.m("p_back"), b.m("p_octet"), b.m("o_group")
        self.tiles_back = b.m("o_back")
        b.constant(self.back, self.on - octet_bytes)
        b.constant(self.octet_on, octet_bytes - (shape.probability_bytes * SCORE_TILE if shape.wide else 0))
        b.constant(self.tiles_back, -shape.output_tiles * OUTPUT_TILE)
        b.constant(self.group_on, shape.output_tiles * OUTPUT_TILE)
        self.beside = [b.dj(f"o_beside{i}") for i in range(4)]
        for i, register in enumerate(self.beside):
            b.constant(register, shape.output_tiles * OUTPUT_TILE + HALF * i)

    def next_octet(self) -> None:
        b = self.k.b
        b.add(isa.PADDA_lda_ptr_inc_idx(self.probabilities, self.octet_on))
        for pointer in (self.load, self.store):
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.group_on))
            if self.shape.wide:
                b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.group_on))

    def next_byte(self, state: Reg) -> None:
        """On to the low bytes, with the same tiles of O again."""
        b = self.k.b
        b.add(isa.PADDA_lda_ptr_inc_idx_imm(state, LOW_MAGIC - MAGIC))
        b.add(isa.PADDA_lda_ptr_inc_idx_imm(self.probabilities, SCORE_TILE))
        for pointer in (self.load, self.store):
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.tiles_back))

    def octet(self, state: Reg, values: Reg) -> None:
        """All tiles of an octet, of one byte of its probabilities."""
        k, b = self.k, self.k.b
        rows, starts = self.rows, self.starts
        for g in range(GROUPS):
            k.load_at(rows[g], state, SCORE_TILE * g, "records")
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(starts[g], rows[g], self.pattern))
        v = k.pointer_from(values, "p_v")
        with b.hardware_loop(self.shape.output_tiles, "values"):
            self.tile(rows, starts, v)

    def tile(self, rows: list[Reg], starts: list[Reg], v: Reg) -> None:
        """Eight dimensions of an octet."""
        k, b, steps = self.k, self.k.b, self.shape.value_steps
        sums = list(starts)
        for step in range(steps):
            right = self._values(v, step)
            for g in range(GROUPS):
                p, last = self.p[g][step % TURNS], step == steps - 1 and g == GROUPS - 1
                if last:
                    load = isa.VLDA_dmw_lda_w_ag_pstm_nrm(p.lo, self.probabilities, self.back)
                    b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm,))
                else:
                    load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(p.lo, self.probabilities, self.on if g else HALF)
                    b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
                into = self.sums[g][step]
                b.add(isa.VMAC_vmac_cm_core_dense(into, sums[g], p, right, self.matmul))
                sums[g] = into
        o = self.o
        for g, half in product(range(GROUPS), range(2)):  # all before the first store, which they must not pass
            self._o(isa.VLDA_dmw_lda_am_ag_idx, isa.VLDA_dmw_lda_am_ag_idx_imm, o[g][half], self.load, g, half)
        for g in range(GROUPS):
            for into, total, take in zip(o[g], (sums[g].lo, sums[g].hi), self.take, strict=True):
                b.add(isa.VADDMSC_F_vmac_bm_core_dense(into, into, total, rows[g], take, k.registers["elementwise"]))
        for g, half in product(range(GROUPS), range(2)):
            self._o(isa.VST_dmw_sts_am_ag_idx, isa.VST_dmw_sts_am_ag_idx_imm, o[g][half], self.store, g, half)
        for pointer in (self.load, self.store):
            b.add(isa.PADDA_lda_ptr_inc_idx_imm(pointer, OUTPUT_TILE))

    def _values(self, v: Reg, step: int) -> Reg:
        """The next eight keys of V."""
        right = self.v[step]
        for half in (right.lo, right.hi):
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(half, v, HALF)
            self.k.b.add(load, region="v", bank="v", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
        return right

    def _o(
        self, by_register: Constructor, by_immediate: Constructor, o: Reg, pointer: Reg, group: int, half: int
    ) -> None:
        for quarter, part in enumerate((o.lo, o.hi)):
            place = 2 * half + quarter
            one = by_register(part, pointer, self.beside[place]) if group else by_immediate(part, pointer, HALF * place)
            self.k.b.add(one, region="o", carried=False, bank="o")
