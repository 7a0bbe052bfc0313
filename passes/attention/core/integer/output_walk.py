"""The way through O while values are added: a tile of each group of some octets, then the next tile of these."""

from __future__ import annotations

from collections.abc import Sequence

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.shape import OUTPUT_TILE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Constructor, Reg, Register

GROUPS = 2  # of four queries: an octet


class OutputWalk:
    """Pointers by which O is loaded and stored, each of which moves on by itself.  groups: of four queries."""

    def __init__(self, k: Context, shape: IntegerShape, groups: int) -> None:
        self.k, self.groups, b = k, groups, k.b
        self._load, self._store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
        group_bytes, rest = shape.output_tiles * OUTPUT_TILE, OUTPUT_TILE - HALF  # from a tile to its last part
        self._to_group, self._to_tile, self._groups_on = b.m("o_to_group"), b.m("o_to_tile"), b.m("o_groups_on")
        b.constant(self._to_group, group_bytes - rest)
        b.constant(self._to_tile, OUTPUT_TILE - (groups - 1) * group_bytes - rest)
        b.constant(self._groups_on, (groups - 1) * group_bytes)

    def next_groups(self) -> None:
        """From behind the last tile of the first group to the groups behind these."""
        for pointer in (self._load, self._store):
            self.k.move_on(pointer, self._groups_on)

    def load(self, group: int, rows: Sequence[Register]) -> None:
        """The tile of one of the groups, in their order; rows: where its rows go."""
        self._tile(isa.VLDA_dmw_lda_am_ag_pstm_nrm, isa.VLDA_dmw_lda_am_ag_pstm_nrm_imm, self._load, group, rows)

    def store(self, group: int, rows: Sequence[Register]) -> None:
        self._tile(isa.VST_dmw_sts_am_ag_pstm_nrm, isa.VST_dmw_sts_am_ag_pstm_nrm_imm, self._store, group, rows)

    def _tile(
        self, by_register: Constructor, by_immediate: Constructor, pointer: Reg, group: int, rows: Sequence[Register]
    ) -> None:
        b = self.k.b
        for row in rows[:-1]:
            b.add(by_immediate(row, pointer, HALF), region="o", carried=False, bank="o")
        on = self._to_tile if group == self.groups - 1 else self._to_group
        b.add(by_register(rows[-1], pointer, on), region="o", carried=False, bank="o")


def rows_of(cm: Reg) -> list[Register]:
    """Those of a tile of four queries in an accumulator."""
    return [cm.lo.lo, cm.lo.hi, cm.hi.lo, cm.hi.hi]
