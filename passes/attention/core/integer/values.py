"""O += P V for one block of keys: integer products of the block, added to fp32 sums.

The accumulators of a tile start from the bit pattern of 1.5 * 2^(23 + e), e the block's exponent over O's reference, in
each row: integers that are added count in units of 2^e, and the result, less than 2^22 of these, is an fp32 number.
One operation takes the start away and adds O.  The last tile of V is all ones: its column of O collects the row sums.
"""

from __future__ import annotations

from itertools import cycle, pairwise

from npuc.passes.attention.core.context import HALF, Context, bf16_pair
from npuc.passes.attention.core.integer.output_walk import GROUPS, OutputWalk
from npuc.passes.attention.core.integer.shape import MAGIC, RECORD, SCORE_TILE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

UNSIGNED_8X8 = 0x108  # facts/semantics/vmac.md: 4x8x8 with A unsigned
PATTERN_PLACES = 16  # of bf16 numbers in fp32 ones
KEPT = 3  # registers for steps of P
LOOPS = 2  # that follow each other without a jump, their ramps overlapping
AFTER_O = "ba"  # load ports in the order in which they are tried: O comes by the first one


def accumulate_values(k: Context, values: Reg, shape: IntegerShape) -> None:
    """Add the block of values whose address is in `values`."""
    work = _Values(k, shape)
    loops = shape.octets_at_once(LOOPS * work.together) // work.together
    with k.passes(shape.octets // (loops * work.together), "value_octets"):
        for _ in range(loops):
            work.begin()
            v = k.pointer_from(values, "p_v")
            with k.b.hardware_loop(shape.output_tiles, "values", thorough=True):
                work.tile(v)
            work.next_octets()


class _Values:
    """Registers of the loop over tiles of two octets, or of one, and a pass of it."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.together = shape.octets_at_once(2)
        groups = range(self.together * GROUPS)
        self.matmul = k.scalar(UNSIGNED_8X8, "values_matmul")
        self.pattern = k.registers["first_shift"]  # that of the power, whose last passes may still run: four there are
        b.constant(self.pattern, PATTERN_PLACES)
        self.take = [k.constant_x(bf16_pair(*pair), "take") for pair in ((1.0, 0.0), (0.0, 1.0))]
        # The MAC takes the lower half of these: by turns, as one is not filled anew before it was read.
        self.p = [k.zero_x(f"p{turn}") for turn in range(KEPT)]
        # The same registers for all octets: the ramps of their loops overlap as far as these are free.
        self.rows = [b.x(f"rows{g}") for g in groups]
        self.starts = [b.cm(f"start{g}") for g in groups]
        self.sums = [[b.cm(f"sum{g}_{step}") for g in groups] for step in range(shape.value_steps)]
        self.v = [b.x(f"v{step}") for step in range(shape.value_steps)]
        self.o = [[b.bm(f"o{g}_{half}") for half in range(2)] for g in groups]
        self.probabilities, self.on_p = k.pointer("scores", name="p_p"), b.m("p_on")
        b.constant(self.on_p, self.together * shape.value_steps * SCORE_TILE)
        moves = self._moves()
        beyond = {move: b.m("p_move") for move in moves if move != HALF}  # what an instruction may not hold
        for move, register in beyond.items():
            b.constant(register, move)
        self.moves = [beyond.get(move, move) for move in moves]
        self.output = OutputWalk(k, shape, len(groups))
        self.state, self.record_on = k.pointer("state", MAGIC, "p_magic"), b.m("record_on")
        b.constant(self.record_on, RECORD)

    def begin(self) -> None:
        """What sums start from."""
        for octet in range(self.together):
            for group, rows in enumerate(self.rows[GROUPS * octet : GROUPS * (octet + 1)]):
                self.k.load_at(rows, self.state, SCORE_TILE * group, "records", ports=AFTER_O)
            self.k.move_on(self.state, self.record_on)

    def next_octets(self) -> None:
        self.k.move_on(self.probabilities, self.on_p)
        self.output.next_groups()

    def tile(self, v: Reg) -> None:
        """Eight dimensions of the octets."""
        k, b = self.k, self.k.b
        for rows, start in zip(self.rows, self.starts, strict=True):
            b.add(isa.VUPS_S32_S16_mv_ups_x2c(start, rows, self.pattern))
        sums, moves, p = self.starts, iter(self.moves), cycle(self.p)
        for right, into in zip(self.v, self.sums, strict=True):
            for part in (right.lo, right.hi):
                k.load_half(part, v, "v", ports=AFTER_O, bank="v")
            for total, before in zip(into, sums, strict=True):
                left = next(p)
                k.load_half(left.lo, self.probabilities, "scores", ports=AFTER_O, step=next(moves), bank="scores")
                b.add(isa.VMAC_vmac_cm_core_dense(total, before, left, right, self.matmul))
            sums = into
        rows_of_o = [[part for half in halves for part in (half.lo, half.hi)] for halves in self.o]
        for group, parts in enumerate(rows_of_o):  # all before the first store, which they must not pass
            self.output.load(group, parts)
        for o, total, rows in zip(self.o, sums, self.rows, strict=True):
            for into_o, half, take in zip(o, (total.lo, total.hi), self.take, strict=True):
                b.add(isa.VADDMSC_F_vmac_bm_core_dense(into_o, into_o, half, rows, take, k.registers["elementwise"]))
        for group, parts in enumerate(rows_of_o):
            self.output.store(group, parts)

    def _moves(self) -> list[int]:
        """Bytes from each part of P to that of the next product, at the end to the first."""
        steps = self.shape.value_steps
        places = [
            SCORE_TILE * (octet * steps + step) + HALF * group
            for step in range(steps)
            for octet in range(self.together)
            for group in range(GROUPS)
        ]
        return [after - place for place, after in pairwise([*places, places[0]])]
