"""Neighbours' data memory and locks, as a core's address space and lock numbers have them."""

from __future__ import annotations

import pytest
from core_programs import Cores

from npuc.runtime.emulator.errors import EmulationError

WINDOWS = {"south": (0x40000, (1, 2)), "west": (0x50000, (0, 3)), "north": (0x60000, (1, 4)), "own": (0x70000, (1, 3))}


@pytest.mark.parametrize("side", WINDOWS)
def test_a_window_reaches_the_neighbour_of_that_side(side: str) -> None:
    base, place = WINDOWS[side]
    cores = Cores(2)
    memory = cores.array.tiles[place].memory
    assert memory is not None
    memory.write(0x120, bytes(range(32)))
    unit = cores.load(
        1,
        3,
        "vlda wl1, [p0, #0]; st r1, [p1, #0]\nst.s8 r2, [p2, #0]\n.\n.\ndone",
        p0=base + 0x120,
        p1=base + 0x8000,
        p2=base + 0x8006,
        r1=0x11223344,
        r2=0x55,
    )
    cores.run()
    assert unit.core.registers.read("wl1").tobytes() == bytes(range(32))
    assert memory.read(0x8000, 8) == bytes.fromhex("4433221100005500")


@pytest.mark.parametrize(
    ("place", "address", "side"), [((0, 2), 0x40000, "south"), ((0, 3), 0x50000, "west"), ((0, 5), 0x60000, "north")]
)
def test_an_absent_neighbour_is_named(place: tuple[int, int], address: int, side: str) -> None:
    cores = Cores(1)
    cores.load(*place, "lda r1, [p0, #0]\n.\ndone", p0=address)
    with pytest.raises(EmulationError, match=f"no {side} neighbour"):
        cores.run()


def test_accesses_to_two_memories_do_not_meet_in_a_bank() -> None:
    cores = Cores(2)
    unit = cores.load(
        1, 3, "vlda wl1, [p0, #0]; vldb wl2, [p1, #0]; vst wl3, [p2, #0]\n.\ndone", p0=0x40000, p1=0x60000, p2=0x70000
    )
    cores.run()
    assert unit.core.stall_memory == 0


def test_buffers_passed_between_neighbours_by_locks_are_seen_in_order() -> None:
    """A producer fills its own buffer, its north neighbour reads it through the window; two locks guard it."""
    cores = Cores(1)
    rounds = 12
    producer = """
acq #48, r0
.
add r5, r5, r6
st r5, [p0, #0]
.
rel #49, r1
.
jnzd r4, r4, p1





done"""
    consumer = """
acq #1, r0
.
lda r7, [p0, #0]
.
add r5, r5, r7
rel #0, r1
.
jnzd r4, r4, p1





done"""
    one, minus = 1, 0xFFFFFFFF
    cores.array.tiles[0, 2].locks.values[0] = 1
    cores.load(0, 2, producer, r0=minus, r1=one, r4=rounds - 1, r5=0, r6=7, p0=0x70000, p1=0)
    unit = cores.load(0, 3, consumer, r0=minus, r1=one, r4=rounds - 1, r5=0, p0=0x40000, p1=0)
    cores.run()
    assert unit.done_at is not None
    assert unit.core.registers.read("r5") == 7 * sum(range(1, rounds + 1))


@pytest.mark.parametrize(("number", "place"), [(3, (1, 2)), (16 + 3, (0, 3)), (32 + 3, (1, 4)), (48 + 3, (1, 3))])
def test_lock_numbers_select_the_neighbour(number: int, place: tuple[int, int]) -> None:
    cores = Cores(2)
    unit = cores.load(1, 3, f"rel #{number}, r1\n.\ndone", r1=2)
    cores.run()
    changed = {key: tile.locks.values[3] for key, tile in cores.array.tiles.items() if any(tile.locks.values)}
    assert changed == {place: 2} and unit.stall_lock == 1


def test_a_lock_of_an_absent_neighbour_is_named() -> None:
    cores = Cores(1)
    cores.load(0, 2, "acq #3, r1", r1=1)
    with pytest.raises(EmulationError, match="lock 3, but has no south neighbour"):
        cores.run()


def test_a_lock_number_beyond_63_is_named() -> None:
    cores = Cores(1)
    cores.load(0, 2, "rel r2, r1\n.\ndone", r1=1, r2=64)
    with pytest.raises(EmulationError, match="lock 64: a core numbers its locks 0 to 63"):
        cores.run()


@pytest.mark.parametrize(("number", "bit"), [(0, 6), (16, 7), (32, 8), (48, 9)])
def test_a_core_that_waits_for_a_lock_shows_whose(number: int, bit: int) -> None:
    cores = Cores(2)
    unit = cores.load(1, 3, f"acq #{number}, r1\ndone", r1=0xFFFFFFFF)
    cores.run()
    assert unit.status() == 1 | 1 << bit


def test_a_poll_of_memory_without_a_lock_ends_soon_after_the_neighbour_writes() -> None:
    cores = Cores(1)
    poll = "lda r1, [p0, #0]\n.\njz r1, #0\n\n\n\n\n\ndone"
    unit = cores.load(0, 2, poll, p0=0x70000)
    cores.load(0, 3, ".\n" * 40 + "lda r2, [p0, #0]\n.\nst r3, [p0, #0]\n.\ndone", p0=0x40000, r3=1)
    cores.run()
    wrote = cores.unit(0, 3).done_at
    assert unit.done_at is not None and wrote is not None
    assert unit.done_at < wrote + 50_000 + 64


def test_a_core_that_acquired_a_lock_behind_what_its_neighbour_wrote_runs_far_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Emulation of a long kernel took three times as long where each run went on by 64 cycles only."""
    cores = Cores(1)
    cores.load(0, 2, "st r3, [p0, #0]\n.\nrel #32, r3\n.\ndone", p0=0x60000, r3=1)
    work = "acq #48, r0\n.\nlda r1, [p0, #0]\n" + ".\n" * 3_000 + "done"
    unit = cores.load(0, 3, work, r0=0xFFFFFFFF, p0=0x70000)
    runs, run = [], unit.core.run
    monkeypatch.setattr(unit.core, "run", lambda cycle, limit: runs.append(limit - cycle) or run(cycle, limit))
    cores.run()
    assert unit.core.registers.read("r1") == 1 and unit.done_at is not None
    assert len(runs) < 20  # twice as far each time; 47 by SHARED_SLICE
