"""O += P V for one block of keys: integer products of the block, added to fp32 sums.

The accumulators of a tile start from the bit pattern of 1.5 * 2^(23 + e), e the block's exponent over O's reference, in
each row: integers that are added count in units of 2^e, and the result, less than 2^22 of these, is an fp32 number.
One operation takes the start away and adds O.  The last tile of V is all ones: its column of O collects the row sums.
Each byte of probabilities of 16 bits has sums of its own, the low one with starts 2^8 less; a tile of V is loaded, and
O read and written, once for both.
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
    b.constant(on, RECORD)
    unrolled = next(count for count in (2, 1) if shape.octets % count == 0)
    octets = k.scalar(shape.octets // unrolled, "value_octets")
    with b.counted_loop(octets, "value_octets"):
        for _ in range(unrolled):  # loops that follow each other without a jump, their ramps overlapping
            work.octet(state, values)
            b.add(isa.PADDA_lda_ptr_inc_idx(state, on))
            work.next_octet()


class _Values:
    """Registers of the loop over tiles, and the tile itself.

    A sum is of one byte (0 the only or the high one) of the probabilities of one group.
    """

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.matmul = k.scalar(UNSIGNED_8X8, "values_matmul")
        self.pattern = b.s("pattern_places")
        b.constant(self.pattern, PATTERN_PLACES)
        self.take = [k.constant_x(bf16_pair(*pair), "take") for pair in ((1.0, 0.0), (0.0, 1.0))]
        sums = list(product(range(shape.probability_bytes), range(GROUPS)))
        # The MAC takes the lower half of these: by turns, if there are enough, as one is not filled anew before it was
        # read.  With both bytes all x registers are taken.
        turns = 1 if shape.wide else TURNS
        self.p = {one: [k.zero_x(f"p{one}_{turn}") for turn in range(turns)] for one in sums}
        # The same registers for all octets: the ramps of their loops overlap as far as these are free.
        self.rows = {one: b.x(f"rows{one}") for one in sums}
        self.starts = {one: b.cm(f"start{one}") for one in sums}
        self.sums = {one: [b.cm(f"sum{one}_{step}") for step in range(shape.value_steps)] for one in sums}
        few = TURNS if shape.wide else shape.value_steps
        v = [b.x(f"v{number}") for number in range(few)]
        self.v = [v[step % few] for step in range(shape.value_steps)]
        self.o = [[b.bm(f"o{g}_{half}") for half in range(2)] for g in range(GROUPS)]
        self.load, self.store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
        step_bytes = shape.probability_bytes * SCORE_TILE
        octet_bytes, self.on = shape.value_steps * step_bytes, step_bytes - HALF
        self.probabilities = [
            k.pointer("scores", SCORE_TILE * byte, f"p_p{byte}") for byte in range(shape.probability_bytes)
        ]
        self.back, self.octet_on, self.group_on = b.m("p_back"), b.m("p_octet"), b.m("o_group")
        b.constant(self.back, self.on - octet_bytes)
        b.constant(self.octet_on, octet_bytes)
        b.constant(self.group_on, shape.output_tiles * OUTPUT_TILE)
        self.beside = [b.dj(f"o_beside{i}") for i in range(4)]
        for i, register in enumerate(self.beside):
            b.constant(register, shape.output_tiles * OUTPUT_TILE + HALF * i)

    def next_octet(self) -> None:
        b = self.k.b
        for pointer in self.probabilities:
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.octet_on))
        for pointer in (self.load, self.store):
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.group_on))

    def octet(self, state: Reg, values: Reg) -> None:
        """All tiles of an octet."""
        k, b = self.k, self.k.b
        for (byte, group), rows in self.rows.items():
            k.load_at(rows, state, (LOW_MAGIC - MAGIC) * byte + SCORE_TILE * group, "records")
        if not self.shape.wide:
            self._start()
        v = k.pointer_from(values, "p_v")
        with b.hardware_loop(self.shape.output_tiles, "values"):
            self.tile(v)

    def _start(self) -> None:
        for one, start in self.starts.items():
            self.k.b.add(isa.VUPS_S32_S16_mv_ups_x2c(start, self.rows[one], self.pattern))

    def tile(self, v: Reg) -> None:
        """Eight dimensions of an octet."""
        k, b, steps = self.k, self.k.b, self.shape.value_steps
        if self.shape.wide:  # the accumulators hold no start beside every sum
            self._start()
        sums = dict(self.starts)
        for step in range(steps):
            right = self._values(v, step)
            for one in sums:
                p, into = self.p[one][step % len(self.p[one])], self.sums[one][step]
                self._probabilities(p, *one, last=step == steps - 1)
                b.add(isa.VMAC_vmac_cm_core_dense(into, sums[one], p, right, self.matmul))
                sums[one] = into
        for g, half in product(range(GROUPS), range(2)):  # all before the first store, which they must not pass
            self._o(isa.VLDA_dmw_lda_am_ag_idx, isa.VLDA_dmw_lda_am_ag_idx_imm, self.load, g, half)
        for (byte, g), total in sums.items():
            for into, part, take in zip(self.o[g], (total.lo, total.hi), self.take, strict=True):
                rows = self.rows[byte, g]
                b.add(isa.VADDMSC_F_vmac_bm_core_dense(into, into, part, rows, take, k.registers["elementwise"]))
        for g, half in product(range(GROUPS), range(2)):
            self._o(isa.VST_dmw_sts_am_ag_idx, isa.VST_dmw_sts_am_ag_idx_imm, self.store, g, half)
        for pointer in (self.load, self.store):
            b.add(isa.PADDA_lda_ptr_inc_idx_imm(pointer, OUTPUT_TILE))

    def _probabilities(self, p: Reg, byte: int, group: int, last: bool) -> None:
        """The next eight keys' of a group; at the end of a tile back to the first."""
        pointer = self.probabilities[byte]
        if last and group == GROUPS - 1:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm(p.lo, pointer, self.back)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm,))
        else:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(p.lo, pointer, self.on if group else HALF)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))

    def _values(self, v: Reg, step: int) -> Reg:
        """The next eight keys of V."""
        right = self.v[step]
        for half in (right.lo, right.hi):
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(half, v, HALF)
            self.k.b.add(load, region="v", bank="v", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
        return right

    def _o(self, by_register: Constructor, by_immediate: Constructor, pointer: Reg, group: int, half: int) -> None:
        o = self.o[group][half]
        for quarter, part in enumerate((o.lo, o.hi)):
            place = 2 * half + quarter
            one = by_register(part, pointer, self.beside[place]) if group else by_immediate(part, pointer, HALF * place)
            self.k.b.add(one, region="o", carried=False, bank="o")
