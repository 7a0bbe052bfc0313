"""Proof that a core computes for ever: its state repeats while nothing else in the array moves.

A core between two suspensions depends on its registers, its pipeline and memory alone.  When the array is quiet the
core is run bundle by bundle.  If program counter and registers come back after p bundles, stay equal for longer than a
result is under way, and memory is the same one period later, then everything is, and the core never leaves the loop.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.target.npu1.geometry import CORE_ROWS
from npuc.runtime.emulator.suspension import Limit, SharedAccess, Suspension

if TYPE_CHECKING:
    from npuc.runtime.emulator.core import Core
    from npuc.runtime.emulator.core_unit import CoreUnit

UNDER_WAY = 32  # bundles; beyond every result latency (facts/schedule: at most 9 stages) and delay slot
LONGEST_LOOP = 2048  # bundles of the longest loop that is looked for
BUDGET = 2 * LONGEST_LOOP + UNDER_WAY


def find_loop(unit: CoreUnit, alone: bool) -> str | None:
    """Run the core on, up to BUDGET bundles; one line on the loop it is proved to be in, else None.

    alone: no other core computes, so that accesses to neighbours' memories meet nothing on the way.  What runs counts:
    the core goes on from where this leaves it, what it asks for is passed to the array as usual.
    """
    core = unit.core
    search = _Search(unit)
    suspension: Suspension = Limit(core.cycle)
    for _ in range(BUDGET):
        loop = search.look()
        if loop is not None:
            places = f"{min(loop):#x}..{max(loop):#x}"
            unit.carry_on(suspension)
            return (
                f"repeats the {len(loop)} bundles {places} for ever: neither its registers nor memory change from "
                "one round to the next"
            )
        suspension = core.run(core.cycle, core.cycle + 1)
        if alone and isinstance(suspension, SharedAccess) and not suspension.registers:
            suspension = core.run(suspension.cycle, suspension.cycle + 1)
        if not isinstance(suspension, Limit):
            break
    unit.carry_on(suspension)
    return None


class _Search:
    """The states a core went through, looked at before every bundle."""

    def __init__(self, unit: CoreUnit) -> None:
        self.unit = unit
        self.places: list[int] = []
        self._seen: dict[Hashable, int] = {}
        self._period = self._equal = self._anchor = 0
        self._memories: list[np.ndarray] = []

    def look(self) -> list[int] | None:
        """The addresses of one round once the core is proved to loop."""
        step = len(self.places)
        state = _registers(self.unit.core)
        previous = self._seen.get(state)
        self._seen[state] = step
        self.places.append(self.unit.core.pc)
        if previous is None or (self._period and step - previous != self._period):
            self._period = self._equal = 0
            self._memories = []
            return None
        self._period, self._equal = step - previous, self._equal + 1
        if self._equal < UNDER_WAY:
            return None
        if not self._memories:
            self._memories, self._anchor = _memories(self.unit), step
        elif step == self._anchor + self._period:
            if all(np.array_equal(a, b) for a, b in zip(self._memories, _memories(self.unit), strict=True)):
                return self.places[-self._period :]
            self._memories = []
        return None


def _registers(core: Core) -> Hashable:
    registers = core.registers
    return core.pc, tuple(registers.scalar), registers.plain.tobytes()


def _memories(unit: CoreUnit) -> list[np.ndarray]:
    """All data memory that the core reaches: its own and its neighbours'."""
    tiles = unit.array.tiles
    column, row = unit.tile.column, unit.tile.row
    places = [(column, row), (column, row + 1), (column - 1, row), (column, row - 1)]
    memories = [tiles[place].memory for place in places if place in tiles and place[1] in CORE_ROWS]
    return [memory.data.copy() for memory in memories if memory is not None]
