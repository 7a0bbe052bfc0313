"""Cores that do not interact run on several threads; results and cycles are those of one."""

from __future__ import annotations

from typing import Any

import pytest
from core_programs import Cores

from npuc.runtime.emulator import core_unit
from npuc.runtime.emulator.core import OWN_MEMORY
from npuc.runtime.emulator.native import ahead, program

# A loop that changes memory and registers for good; each core has its own numbers.
LOOP = (
    """\
lda r2, [p0, #0]; add r3, r3, #1
mul r4, r2, r3
xor r5, r5, r4
vlda wl0, [p1, #0]; add r6, r6, r5
st r5, [p0], #4
and r7, r3, r8
jnz r7, #0
"""
    + "add r6, r6, r4\n" * 5
    + "movxm p0, #0x70000\n\n\nj #0\n"
    + "\n" * 5
)
PLACES = [(column, row) for column in range(2) for row in range(2, 6)]
SLICES = 6
CYCLES = 20_000


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many threads there are."""
    monkeypatch.setattr(core_unit, "SLICE", CYCLES)
    monkeypatch.setattr(program, "OFTEN", 0)
    return lambda count: monkeypatch.setattr(ahead, "threads", lambda: count)


def after_slices(disturb: bool = False) -> tuple[list[Any], int]:
    """What can be seen of all cores after SLICES slices, and how many runs were taken over."""
    cores = Cores(2)
    units = [
        cores.load(*place, LOOP, r8=7, r3=number, p0=OWN_MEMORY, p1=OWN_MEMORY + 64)
        for number, place in enumerate(PLACES)
    ]
    cores.start()
    clock = cores.array.clock
    while (due := clock.next_cycle()) is not None and due < SLICES * CYCLES:
        clock.step()
        if disturb and units[-1].core.bundles > 2 * CYCLES:
            # Between the turns of cores something else writes the memory of one whose next run may be made already.
            units[-1].core.data_memory.write(0x10, b"\x55\xaa\x55\xaa")
    seen = [
        (
            unit.core.cycle,
            unit.core.pc,
            unit.core.bundles,
            unit.core.stall_memory,
            list(unit.core.registers.scalar),
            unit.core.registers.plain.tobytes(),
            unit.core.data_memory.data.tobytes(),
        )
        for unit in units
    ]
    return seen, sum(unit.core.taken_over for unit in units)  # type: ignore[attr-defined]


def test_independent_cores_end_alike_on_any_number_of_threads(threads: Any) -> None:
    threads(1)
    alone, taken = after_slices()
    assert taken == 0 and all(bundles > 4 * CYCLES / 2 for _, _, bundles, *_ in alone)
    threads(2)
    together, taken = after_slices()
    assert together == alone
    assert taken > len(PLACES) * (SLICES - 2) / 2, "hardly anything was run ahead"


def test_a_run_ahead_of_a_change_is_dropped(threads: Any) -> None:
    threads(1)
    alone, _ = after_slices(disturb=True)
    threads(3)
    together, _ = after_slices(disturb=True)
    assert together == alone
    assert alone != after_slices()[0], "the change mattered"
