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
PARTS = 2
TURNS = 2


def accumulate_values(k: Context, values: Reg, shape: IntegerShape) -> None:
    """Add the block of values whose address is in `values`."""
    b = k.b
    work = _Values(k, shape)
    units = shape.octets // work.octets
    unrolled = next(count for count in (2, 1) if units % count == 0)
    turns = k.scalar(units // unrolled, "value_turns")
    with b.counted_loop(turns, "value_turns"):
        for _ in range(unrolled):  # loops that follow each other without a jump, their ramps overlapping
            work.unit(values)


class _Values:
    """Registers of the loop over tiles, and the tile itself.

    A unit of work is what each tile of V that is loaded is multiplied by: both bytes of an octet's probabilities, or
    two octets' of 8 bits; one octet's where they are odd.
    """

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.octets = 1 if shape.wide or shape.octets % 2 else 2
        self.parts = PARTS if shape.wide or self.octets == 2 else 1
        outputs = self.octets  # parts of the output: bytes of probabilities go to the same
        self.matmul = k.scalar(UNSIGNED_8X8, "values_matmul")
        self.pattern = b.s("pattern_places")
        b.constant(self.pattern, PATTERN_PLACES)
        self.take = [k.constant_x(bf16_pair(*pair), "take") for pair in ((1.0, 0.0), (0.0, 1.0))]
        # The same registers for all units: the ramps of their loops overlap as far as these are free.
        chains = list(product(range(self.parts), range(GROUPS)))
        self.p = {chain: k.zero_x(f"p{chain}") for chain in chains}  # the MAC takes the lower half
        self.rows = {chain: b.x(f"rows{chain}") for chain in chains}
        self.starts = {chain: b.cm(f"start{chain}") for chain in chains}
        self.sums = {chain: [b.cm(f"sum{chain}_{step}") for step in range(shape.value_steps)] for chain in chains}
        self.v = [b.x(f"v{turn}") for turn in range(TURNS)]
        self.o = {
            chain: [b.bm(f"o{chain}_{half}") for half in range(2)] for chain in product(range(outputs), range(GROUPS))
        }
        step_bytes = shape.probability_bytes * SCORE_TILE
        octet_bytes, self.on = shape.value_steps * step_bytes, step_bytes - HALF
        group_bytes = shape.output_tiles * OUTPUT_TILE
        apart = SCORE_TILE if shape.wide else octet_bytes
        self.probabilities = [k.pointer("scores", part * apart, f"p_p{part}") for part in range(self.parts)]
        self.output = [k.pointer("o", part * GROUPS * group_bytes, f"p_o{part}") for part in range(outputs)]
        self.state = k.scalar(k.address("state", MAGIC), "magic_place")
        self.back, self.unit_on, self.output_on = b.m("p_back"), b.m("p_unit"), b.m("o_unit")
        b.constant(self.back, self.on - octet_bytes)
        b.constant(self.unit_on, self.octets * octet_bytes)
        b.constant(self.output_on, (self.octets * GROUPS - 1) * group_bytes)
        self.beside = [b.dj(f"o_beside{i}") for i in range(4)]
        for i, register in enumerate(self.beside):
            b.constant(register, group_bytes + HALF * i)

    def unit(self, values: Reg) -> None:
        """All tiles of a unit; everything moves on to the next one."""
        k, b, apart = self.k, self.k.b, LOW_MAGIC - MAGIC if self.shape.wide else RECORD
        state = k.pointer_from(self.state, "p_magic")
        for (part, group), rows in self.rows.items():
            k.load_at(rows, state, apart * part + SCORE_TILE * group, "records")
        v = k.pointer_from(values, "p_v")
        with b.hardware_loop(self.shape.output_tiles, "values"):
            self.tile(v)
        b.add(isa.ADD(self.state, self.state, k.scalar(self.octets * RECORD, "records_on")))
        for pointer in self.probabilities:
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.unit_on))
        for pointer in self.output:
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, self.output_on))

    def tile(self, v: Reg) -> None:
        """Eight dimensions of a unit's queries."""
        k, b, steps = self.k, self.k.b, self.shape.value_steps
        sums = dict(self.starts)
        for chain, start in self.starts.items():
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(start, self.rows[chain], self.pattern))
        for step in range(steps):
            right = self._values(v, step)
            for chain in sums:
                into = self.sums[chain][step]
                self._probabilities(chain, last=step == steps - 1)
                b.add(isa.VMAC_vmac_cm_core_dense(into, sums[chain], self.p[chain], right, self.matmul))
                sums[chain] = into
        for (part, group), halves in self.o.items():  # all before the first store, which they must not pass
            for half, o in enumerate(halves):
                self._o(isa.VLDA_dmw_lda_am_ag_idx, isa.VLDA_dmw_lda_am_ag_idx_imm, o, self.output[part], group, half)
        for (part, group), total in sums.items():
            o = self.o[part % len(self.output), group]
            for into, one, take in zip(o, (total.lo, total.hi), self.take, strict=True):
                rows = self.rows[part, group]
                b.add(isa.VADDMSC_F_vmac_bm_core_dense(into, into, one, rows, take, k.registers["elementwise"]))
        for (part, group), halves in self.o.items():
            for half, o in enumerate(halves):
                self._o(isa.VST_dmw_sts_am_ag_idx, isa.VST_dmw_sts_am_ag_idx_imm, o, self.output[part], group, half)
        for pointer in self.output:
            b.add(isa.PADDA_lda_ptr_inc_idx_imm(pointer, OUTPUT_TILE))

    def _probabilities(self, chain: tuple[int, int], last: bool) -> None:
        """The next eight keys' of four queries."""
        part, group = chain
        pointer, p = self.probabilities[part], self.p[chain]
        if last and group == GROUPS - 1:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm(p.lo, pointer, self.back)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm,))
        else:
            load = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(p.lo, pointer, self.on if group else HALF)
            self.k.b.add(load, region="scores", bank="scores", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))

    def _values(self, v: Reg, step: int) -> Reg:
        """The next eight keys of V."""
        right = self.v[step % TURNS]
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
