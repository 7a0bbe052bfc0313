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
    with k.passes(shape.octets // work.together, "value_passes"):
        v = k.pointer_from(values, "p_v")
        with b.hardware_loop(shape.output_tiles, "values"):
            work.tiles(v)
        work.next_octets()


class _Values:
    """Registers of the loop over tiles, and the tile itself."""

    def __init__(self, k: Context, shape: IntegerShape) -> None:
        self.k, self.shape, b = k, shape, k.b
        self.together = shape.octets_at_once(2)
        self.matmul = k.scalar(UNSIGNED_16X8, "values_matmul")
        self.steps = shape.keys // STEP_KEYS
        # The MAC takes the lower half of these.
        self.v = [k.zero_x(f"v{number}") for number in range(KEPT)]
        self.p = [[k.zero_x(f"p{g}_{number}") for number in range(KEPT)] for g in range(GROUPS)]
        self.probabilities = k.pointer("scores", name="p_p")
        pass_bytes = self.together * self.steps * SCORE_TILE
        self.back, self.pass_on, self.again = b.m("p_back"), b.m("p_pass"), b.m("v_again")
        b.constant(self.back, HALF - pass_bytes)
        b.constant(self.pass_on, pass_bytes)
        b.constant(self.again, HALF - self.steps * HALF)
        self.output = OutputWalk(k, shape, self.together * GROUPS)

    def next_octets(self) -> None:
        self.k.move_on(self.probabilities, self.pass_on)
        self.output.next_groups()

    def tiles(self, v: Reg) -> None:
        """Eight dimensions of all octets of a pass."""
        sums = [self.k.b.cm(f"o{group}") for group in range(self.output.groups)]
        for group, total in enumerate(sums):  # all before the first store, which they must not pass
            self.output.load(group, rows_of(total))
        for octet in range(self.together):
            first = octet * GROUPS
            sums[first : first + GROUPS] = self._products(v, sums[first : first + GROUPS], octet == self.together - 1)
        for group, total in enumerate(sums):
            self.output.store(group, rows_of(total))

    def _products(self, v: Reg, sums: list[Reg], last_octet: bool) -> list[Reg]:
        """O of an octet with its products added."""
        b = self.k.b
        for step in range(self.steps):
            right, last = self.v[step % KEPT], step == self.steps - 1
            by = self.again if last and not last_octet else HALF
            self.k.load_half(right.lo, v, "v", step=by, bank="v")  # rather by the port that loads O
            into = [b.cm(f"sum{g}_{step}") for g in range(GROUPS)]
            for g in range(GROUPS):
                left = self.p[g][step % KEPT]
                back = last and last_octet and g == GROUPS - 1
                by = self.back if back else HALF
                self.k.load_half(left.lo, self.probabilities, "scores", ports="ba", step=by, bank="scores")
                b.add(isa.VMAC_vmac_cm_core_dense(into[g], sums[g], left, right, self.matmul))
            sums = into
        return sums
